"""What comes next in a video, asked again and again along it, for several horizons.

    second 5 of the file: the frames that are over by then -> probabilities of what begins
    1 s, 2 s and 4 s later

Nothing later than the moment is looked at, so the answers are those that a camera running live
would have had.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from vjepa2.data.event_clips import MOST_SECONDS, context_frames, frame_ends
from vjepa2.data.event_loader import context_pixels
from vjepa2.data.item_frames import open_item
from vjepa2.data.labelled import LabelledItem
from vjepa2.errors import ConfigError, VideoTooShortError, check_path, checked_integer
from vjepa2.errors import checked_number as checked
from vjepa2.progress import track
from vjepa2.tasks.anticipate_scores import probabilities
from vjepa2.tasks.anticipate_trainer import as_heads
from vjepa2.tasks.anticipator_folder import LoadedAnticipator

HORIZONS = (1.0, 2.0, 4.0)
MOMENTS_AT_A_TIME = 8
MOST_MOMENTS = 10**6


@dataclass(frozen=True)
class NextLabel:
    """A class and its probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Forecast:
    """What is expected at one moment for one horizon.

    Attributes:
        seconds: the moment, on the clock of the file; frames after it were not looked at.
        sees_until: when the last frame that was looked at was over.
        horizon: seconds from the moment to the event.
        heads: of each head the most probable classes, the best first.
    """

    seconds: float
    sees_until: float
    horizon: float
    heads: dict[str, tuple[NextLabel, ...]]


@dataclass(frozen=True)
class VideoForecast:
    """All forecasts of one file.

    Attributes:
        source: the file.
        model: name of the model.
        forecasts: by moment, and for each by horizon.
    """

    source: str
    model: str
    forecasts: tuple[Forecast, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.source]
        for forecast in self.forecasts:
            best = ", ".join(
                f"{labels[0].label} {labels[0].probability:.0%}"
                for labels in forecast.heads.values()
            )
            lines.append(f"{forecast.seconds:8.2f} s  +{forecast.horizon:g} s  {best}")
        return "\n".join(lines)


def anticipate_video(
    source: str | os.PathLike[str],
    model: LoadedAnticipator,
    *,
    every: float = 1.0,
    horizons: Sequence[float] = HORIZONS,
    top_k: int = 5,
    quiet: bool = True,
) -> VideoForecast:
    """Ask what comes next at every `every` seconds of a file.

    Args:
        source: path of a video.
        model: of `load_anticipator` or `join_published_probe`.
        every: seconds from one moment to the next; the first one is `every` after the beginning.
        horizons: seconds into the future.
        top_k: classes to give of each head.
        quiet: no progress.

    Raises:
        ConfigError: `every`, `horizons` or `top_k` is out of range.
        VideoError: the file cannot be read.
        VideoTooShortError: it ends before the first moment.
        InputError, DtypeError: the scores are not finite.
    """
    check_path("The video", source)
    every = checked("every", every, above=0)
    top_k = checked_integer("top_k", top_k, least=1)
    wanted = [checked("A horizon", horizon, most=MOST_SECONDS) for horizon in horizons]
    if not wanted or min(wanted) < 0:
        raise ConfigError(f"horizons must be seconds from 0 on, at least one, got {wanted}.")
    name = os.fspath(source)
    found: list[Forecast] = []
    with open_item(LabelledItem(name, (0,))) as file:
        clock = file.clock
        ends = frame_ends(clock)
        moments = _moments(float(clock.pts_seconds[0]), float(ends[-1]), every, name=name)
        portions = [
            moments[at : at + MOMENTS_AT_A_TIME] for at in range(0, len(moments), MOMENTS_AT_A_TIME)
        ]
        for portion in track(portions, total=len(portions), description="Anticipate", quiet=quiet):
            chosen = [
                np.array(context_frames(clock, moment, model.settings.clips, name=name))
                for moment in portion
            ]
            pixels = [context_pixels(file, ids, model.settings.views) for ids in chosen]
            until = [float(ends[ids.max()]) for ids in chosen]
            found += _ask(model, torch.stack(pixels), portion, until, wanted, top_k=top_k)
    return VideoForecast(name, model.name, tuple(found))


def _moments(begin: float, end: float, every: float, *, name: str) -> list[float]:
    """Moments of a file, on its own clock."""
    count = int((end - begin) / every + 1e-6)
    if count < 1:
        raise VideoTooShortError(
            f"{name} lasts {end - begin:.3g} s, less than every={every:g}. Ask more often."
        )
    if count > MOST_MOMENTS:
        raise ConfigError(
            f"every={every:g} asks {count:,} times of {name}; at most {MOST_MOMENTS:,}. Ask less "
            "often."
        )
    return [begin + every * (number + 1) for number in range(count)]


@torch.no_grad()
def _ask(
    model: LoadedAnticipator,
    pixels: torch.Tensor,
    moments: Sequence[float],
    until: Sequence[float],
    horizons: Sequence[float],
    *,
    top_k: int,
) -> list[Forecast]:
    """Forecasts of some contexts, by moment and then by horizon."""
    by_horizon = model.network.at_horizons(pixels.to(model.device), horizons)
    sizes = {head: len(names) for head, names in model.label_map.heads.items()}
    found = []
    for place, moment in enumerate(moments):
        for horizon, logits in zip(horizons, by_horizon, strict=True):
            heads = {}
            # A probe with one head calls it "label", whatever the label map does.
            own = logits if len(sizes) > 1 else as_heads(next(iter(logits.values())), sizes)
            for head, scores in own.items():
                chances = probabilities(scores[place], loss=model.settings.loss)
                best = chances.topk(min(top_k, sizes[head]))
                names = model.label_map.class_names(head)
                heads[head] = tuple(
                    NextLabel(names[index], index, value)
                    for value, index in zip(
                        best.values.tolist(), best.indices.tolist(), strict=True
                    )
                )
            found.append(Forecast(moment, until[place], horizon, heads))
    return found
