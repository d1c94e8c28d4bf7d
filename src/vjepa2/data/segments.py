"""Which frames of a labelled stretch of video make its clips: several segments, one clip each.

A stretch is cut into `num_segments` equal parts, and a clip is taken from each. Where a part is
shorter than a clip, clips overlap: they begin at even distances from the beginning of the stretch
on, the last one ending with it.

Source: V-JEPA 2, `src/datasets/video_dataset.py` (`frame_step`; clips may overlap, as in all of
its evaluations). The rate `fps` is counted on real time stamps.
"""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator

from vjepa2.data.moments import Clock, ShortVideo
from vjepa2.errors import ConfigError, VideoTooShortError
from vjepa2.strict_config import StrictConfig
from vjepa2.video.sampling import (
    MAX_CLIP_FRAMES,
    MIN_FPS,
    STAMP_TOLERANCE_SECONDS,
    ClipSampling,
    sample_indices,
)

MIDDLE = 0.5


class SegmentConfig(StrictConfig):
    """From a stretch of video to frames. Neither rate: a clip is spread over all of its part.

    Attributes:
        num_frames: T, frames of a clip.
        fps: clip frames per second, by the times that are stored in the file.
        frame_step: from one clip frame to the next in frames of the file, whatever its rate: the
            published rule, by which T frames are spread evenly over T * frame_step frames of the
            file, both ends included.
        num_segments: clips of a stretch.
        moment: where in its part a clip lies when nothing is trained: in the "middle", or, as in
            the published evaluations, whose results differ from run to run, at a "random" place.
            Training clips are at random places in any case.
        short_video: of a stretch shorter than a clip, "repeat_last" repeats its last frame,
            "loop" starts again at its beginning, "skip" counts the file among the bad ones.
    """

    num_frames: int = Field(16, ge=1, le=MAX_CLIP_FRAMES)
    fps: float | None = Field(None, ge=MIN_FPS)
    frame_step: int | None = Field(None, ge=1)
    num_segments: int = Field(1, ge=1, le=1024)
    moment: Literal["middle", "random"] = "middle"
    short_video: ShortVideo = "repeat_last"

    @model_validator(mode="after")
    def _has_one_rate(self) -> Self:
        if self.fps is not None and self.frame_step is not None:
            raise ConfigError(
                f"fps={self.fps:g} and frame_step={self.frame_step} both say how frames are taken: "
                "give one of them, or neither to spread a clip over the whole stretch"
            )
        if self.moment == "random" and self.fps is None and self.frame_step is None:
            raise ConfigError(
                "moment='random' has no effect on clips that are spread over the whole stretch: "
                "set fps or frame_step (frame_step=4 is the published choice), or leave it out"
            )
        return self


def segment_frames(
    config: SegmentConfig,
    clock: Clock,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    moments: Sequence[float] | None = None,
) -> Int[np.ndarray, "segments T"]:
    """Return the numbers of the frames of all clips of a stretch.

    Args:
        config: how.
        clock: of the file.
        start_seconds, end_seconds: the stretch on the file's own clock; its first frame is the
            one on the screen at the start, its last one that which is there just before the end.
            None: from the first frame, to the end of the last.
        moments: one number in [0, 1) for each segment, which chooses where in its part a clip
            lies; None puts it in the middle.

    Returns:
        int64 [num_segments, T], numbers in 0 .. n-1 of the file.

    Raises:
        VideoTooShortError: a clip does not fit and `short_video` is "skip".
    """
    raise NotImplementedError
