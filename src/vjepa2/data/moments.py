"""Which frames of a file make a clip, given one number in [0, 1) that chooses the moment."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.settings import SourceConfig
from vjepa2.errors import VideoTooShortError
from vjepa2.video.sampling import STAMP_TOLERANCE_SECONDS, ClipSampling, sample_indices

ShortVideo = Literal["repeat_last", "loop", "skip"]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """When the frames of a file are on the screen.

    Attributes:
        pts_seconds: float64 [n], when each frame appears.
        end_seconds: when the last one ends.
        average_fps: frames over time.
    """

    pts_seconds: Tensor
    end_seconds: float
    average_fps: float

    def __len__(self) -> int:
        return len(self.pts_seconds)


def clip_frames(
    source: SourceConfig, clock: Clock, *, num_frames: int, short_video: ShortVideo, moment: float
) -> list[int]:
    """Return the numbers of the frames of one clip.

    Of all beginnings from which the clip fits, each is chosen in proportion to the time that its
    frame is on the screen. A file in which the clip does not fit is taken from its beginning.

    Args:
        source: how frames are taken: its rate and its rule.
        clock: of the file.
        num_frames: T.
        short_video: what happens to a file shorter than the clip.
        moment: chooses the beginning, in [0, 1).

    Returns:
        T numbers in 0 .. n-1.

    Raises:
        VideoTooShortError: the clip does not fit and `short_video` is "skip", or the rate of the
            file is below the one that rule "published" is asked for.
    """
    if source.rule == "published":
        assert source.fps is not None  # checked by SourceConfig
        return published_frames(
            len(clock),
            average_fps=clock.average_fps,
            fps=int(source.fps),
            num_frames=num_frames,
            moment=moment,
            short_video=short_video,
        )
    rest: Literal["repeat_last", "loop", "error"] = (
        "error" if short_video == "skip" else short_video
    )
    if source.frame_step is not None:
        num_starts = len(clock) - (num_frames - 1) * source.frame_step
        sampling = ClipSampling(
            num_frames=num_frames,
            strategy="stride",
            stride=source.frame_step,
            start_frame=max(0, int(moment * num_starts)),
            short_video=rest,
        )
        return sample_indices(sampling, num_video_frames=len(clock))
    fps = source.fps
    if fps is None:
        assert source.duration_seconds is not None  # exactly one of the three is given
        fps = num_frames / source.duration_seconds
    sampling = ClipSampling(
        num_frames=num_frames,
        strategy="fps",
        fps=fps,
        start_frame=_start_in_time(clock, seconds=(num_frames - 1) / fps, moment=moment),
        short_video=rest,
    )
    return sample_indices(
        sampling,
        num_video_frames=len(clock),
        pts_seconds=clock.pts_seconds,
        end_seconds=clock.end_seconds,
    )


def _start_in_time(clock: Clock, *, seconds: float, moment: float) -> int:
    """Number of the frame at which a clip begins whose last frame is due `seconds` later."""
    times: NDArray[np.float64] = clock.pts_seconds.numpy()
    # `sample_indices` calls a clip too long by the same rule.
    latest = clock.end_seconds - STAMP_TOLERANCE_SECONDS - seconds
    num_starts = int(np.searchsorted(times, latest, side="left"))
    if num_starts < 1:
        return 0
    end = times[num_starts] if num_starts < len(times) else clock.end_seconds
    chosen = times[0] + moment * (end - times[0])
    return min(max(int(np.searchsorted(times, chosen, side="right")) - 1, 0), num_starts - 1)


def published_frames(
    length: int,
    *,
    average_fps: float,
    fps: int,
    num_frames: int,
    moment: float,
    short_video: ShortVideo = "repeat_last",
) -> list[int]:
    """Return the frames that the original data loader takes for pretraining.

    The step is ceil(average fps) // fps. A clip covers T * step frames, and its T frames are
    spread over them evenly, both ends included, so that the distance is a little above the step.
    A file that is not longer than that gives every step-th frame, and its last one repeated.

    Args:
        length: n, frames of the file.
        average_fps: of the file, above 0.
        fps: of the clip.
        num_frames: T.
        moment: chooses the end of the clip, in [0, 1).
        short_video: "repeat_last" is the published rule; "loop" has no meaning here and counts as
            the same; "skip" refuses short files.

    Source: V-JEPA 2, `src/datasets/video_dataset.py`.

    Raises:
        VideoTooShortError: the step is 0, or the file is short and `short_video` is "skip".
    """
    step = math.ceil(average_fps) // fps
    if step < 1:
        raise VideoTooShortError(
            f"The file has {average_fps:g} frames a second, fewer than fps={fps}. Ask for a lower "
            "fps, or set rule='time', which repeats frames."
        )
    span = num_frames * step
    if length > span:
        end = span + int(moment * (length - span))
        spread = np.linspace(end - span, end, num=num_frames)
        return [int(index) for index in np.clip(spread, end - span, end - 1)]
    if short_video == "skip":
        raise VideoTooShortError(
            f"The file has {length} frames, a clip of {num_frames} with step {step} needs more "
            f"than {span}. Set short_video to 'repeat_last'."
        )
    own = np.linspace(0, length, num=length // step)
    filled = np.concatenate([own, np.full(num_frames - len(own), length)])
    return [int(index) for index in np.clip(filled, 0, length - 1)]
