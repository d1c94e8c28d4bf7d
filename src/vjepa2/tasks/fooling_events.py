"""The looks for contexts that saw their event, at what a model that anticipates has answered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa2.data.labelled import LabelledItem, LabelledSet
from vjepa2.errors import VJEPAError
from vjepa2.tasks.anticipate_answers import score_events
from vjepa2.tasks.anticipator_folder import LoadedAnticipator
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.fooling_future import future_findings
from vjepa2.tasks.fooling_times import time_findings
from vjepa2.tasks.scored import ScoredItem
from vjepa2.video.reader import VideoReader

# Copies are written from the beginning of a file on: of long ones only early events are taken.
MOST_SECONDS_BEFORE = 60.0
SECONDS_OF_EVENT = 1.0  # that a copy keeps
NUM_DISTURBED = 2
NOT_DISTURBED = (
    "Whether the future changes the answer was not tried: no event lies within the first minute of "
    "a video of constant rate that can be copied."
)


def all_time_findings(
    items: Mapping[float, Sequence[ScoredItem]], *, durations: Mapping[str, float] | None = None
) -> list[Finding]:
    """`time_findings` of all anticipation times, each kind once, of the first time that shows it.

    Args:
        items: by anticipation time, seconds.
        durations: seconds of each path, where they are known.
    """
    found: dict[str, Finding] = {}
    for seconds, scored in items.items():
        for one in time_findings(scored, anticipation_seconds=seconds, durations=durations):
            found.setdefault(one.kind, one)
    return list(found.values())


class DisturbedFuture(NamedTuple):
    """What came of replacing the future by noise.

    Attributes:
        findings: of `future_findings`.
        tried: videos that were asked about again.
        note: why none was tried, "" otherwise.
    """

    findings: list[Finding]
    tried: int
    note: str


def disturbed_future(
    model: LoadedAnticipator,
    items: Sequence[ScoredItem],
    *,
    seconds: float,
    folder: Path,
    count: int = NUM_DISTURBED,
) -> DisturbedFuture:
    """Ask a model again about a few events, with everything that it may not see replaced by noise.

    The earliest event of each of the first few videos is taken whose copy keeps its time stamps.

    Args:
        model: on its device.
        items: answered events with their times.
        seconds: anticipation time.
        folder: for copies of the videos; they are removed again.
        count: of videos that are tried; 0 tries none.
    """
    chosen = _cases(items, seconds, count) if count else {}
    cases = [(path, (item.event_start_seconds or 0.0) - seconds) for path, item in chosen.items()]

    def answer(path: Path, moment: float) -> Tensor:
        event = LabelledItem(
            str(path),
            tuple(0 for _ in model.label_map.heads),
            start_seconds=moment + seconds,
        )
        scored = score_events(
            model, LabelledSet((event,), model.label_map), seconds=seconds, quiet=True
        )
        return torch.cat([scored.scores(head)[0] for head in model.label_map.heads])

    found = []
    if cases:
        found = future_findings(
            answer, cases, folder=folder, seconds_after=seconds + SECONDS_OF_EVENT
        )
        if not any(folder.iterdir()):
            folder.rmdir()
    return DisturbedFuture(found, len(cases), NOT_DISTURBED if count and not cases else "")


def _cases(items: Sequence[ScoredItem], seconds: float, count: int) -> dict[str, ScoredItem]:
    """By path, the earliest usable event of a few videos."""
    found: dict[str, ScoredItem] = {}
    tried: set[str] = set()
    for item in sorted(items, key=lambda one: one.event_start_seconds or 0.0):
        moment = (item.event_start_seconds or 0.0) - seconds
        if moment > MOST_SECONDS_BEFORE or len(found) == count or len(tried) > 4 * count:
            break
        path = item.item.path
        if path in found or moment <= 0:
            continue
        tried.add(path)
        if _keeps_its_times(path, moment):
            found[path] = item
    return found


def _keeps_its_times(path: str, moment: float) -> bool:
    """Whether a copy at constant rate shows at every time what the video shows."""
    try:
        with VideoReader(path) as reader:
            times, fps = reader.pts_seconds, reader.metadata.average_fps
    except (VJEPAError, OSError):
        return False
    first = int((times < moment - 1e-9).sum())
    even = torch.arange(len(times), dtype=torch.float64) / fps
    part = slice(0, min(len(times), first + 1))
    return 0 < first < len(times) and bool(((times - even)[part].abs() < 0.01 / fps).all())
