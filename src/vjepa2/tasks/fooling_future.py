"""The look that no recorded time can deceive: change the future, and see whether the answer moves.

Of every video two copies are written without loss: one as it is, and one whose frames after the
context are noise. A model that only saw the context answers both alike, to the last bit or nearly.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vjepa2.errors import ConfigError, checked_number
from vjepa2.tasks.fooling import Finding
from vjepa2.video.reader import VideoReader
from vjepa2.video.writer import H264, write_video

TOLERANCE = 1e-5
LOSSLESS = 0  # CRF


def future_findings(
    answer: Callable[[Path, float], Tensor],
    cases: Sequence[tuple[str, float]],
    *,
    folder: Path,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    seconds_after: float | None = None,
) -> list[Finding]:
    """Disturb everything after a moment, and compare the answers.

    Args:
        answer: scores for a path and the moment (seconds) after which nothing may be seen.
        cases: videos of constant rate, and that moment of each.
        folder: for the copies; they are removed again.
        seed: of the noise.
        tolerance: largest difference of a score that is not counted.
        seconds_after: how much of a video after its moment the copies keep; None: all of it.

    Raises:
        ConfigError: a moment leaves no frame before it, or none after it.
        VideoError: a video cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    moved = []
    for number, (path, moment) in enumerate(cases):
        copies = [folder / f"{number}-{name}.mp4" for name in ("as-it-is", "disturbed")]
        try:
            for copy, is_disturbed in zip(copies, (False, True), strict=True):
                _write(
                    path,
                    moment,
                    copy,
                    is_disturbed=is_disturbed,
                    seed=seed + number,
                    seconds_after=seconds_after,
                )
            plain, disturbed = (answer(copy, moment).double().flatten() for copy in copies)
        finally:
            for copy in copies:
                copy.unlink(missing_ok=True)
        difference = float((plain - disturbed).abs().max())
        if not difference <= tolerance:
            moved.append(f"{path}, after {moment:g} s: scores move by {difference:.2g}")
    if not moved:
        return []
    return [
        Finding.of(
            "future_changes_answer",
            "error",
            f"In {len(moved)} of {len(cases)} videos the answer changes when only what comes after "
            "the context is changed: the model sees the future, whatever times are recorded. Look "
            "at how its frames are chosen, and at attention over frames that come later.",
            moved,
        )
    ]


def _write(
    path: str,
    moment: float,
    target: Path,
    *,
    is_disturbed: bool,
    seed: int,
    seconds_after: float | None,
) -> None:
    moment = checked_number("moment", moment)
    with VideoReader(path) as reader:
        times, facts = reader.pts_seconds, reader.metadata
        # A frame that is still shown at the moment was seen only in part: it is left as it is.
        first = int((times < moment - 1e-9).sum())
        if not 0 < first < len(times):
            raise ConfigError(
                f"{path}: nothing is before or after {moment:g} s; its frames are shown from "
                f"{float(times[0]):g} to {float(times[-1]):g} s. Choose a moment inside."
            )

        count = len(times)
        if seconds_after is not None:
            count = min(count, first + math.ceil(seconds_after * facts.average_fps) + 1)

        def frames() -> Iterator[Tensor]:
            generator = torch.Generator().manual_seed(seed)
            number = 0
            for chunk in reader.iter_frames_at(range(count)):
                for frame in chunk.data:
                    if is_disturbed and number >= first:
                        frame = torch.randint(
                            256, frame.shape, generator=generator, dtype=torch.uint8
                        )
                    yield frame
                    number += 1

        codec = H264(fps=facts.average_fps, crf=LOSSLESS)
        write_video(target, frames(), codec=codec)
