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
# A beginning that is a frame's very time must not be rounded to the frame before.
_EPSILON = 1e-9


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
        images: a still image becomes a "clip" of T equal frames, or one "frame" (for encoders
            with an image tokenizer).
    """

    num_frames: int = Field(16, ge=1, le=MAX_CLIP_FRAMES)
    fps: float | None = Field(None, ge=MIN_FPS)
    frame_step: int | None = Field(None, ge=1)
    num_segments: int = Field(1, ge=1, le=1024)
    moment: Literal["middle", "random"] = "middle"
    short_video: ShortVideo = "repeat_last"
    images: Literal["clip", "frame"] = "clip"

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
    first, stop = _frame_range(clock, start_seconds, end_seconds)
    chosen: Sequence[float] = [MIDDLE] * config.num_segments if moments is None else moments
    if config.frame_step is not None:
        return _by_step(config, stop - first, chosen) + first
    times = clock.pts_seconds[first:stop]
    end = clock.end_seconds if stop == len(clock) else float(clock.pts_seconds[stop])
    if end_seconds is not None:
        end = min(end, end_seconds)
    part = Clock(pts_seconds=times, end_seconds=end, average_fps=clock.average_fps)
    if config.fps is not None:
        return _by_rate(config, config.fps, part, chosen) + first
    return _spread(config, stop - first) + first


def _frame_range(clock: Clock, start: float | None, end: float | None) -> tuple[int, int]:
    """First frame of a stretch and the one after its last; at least one frame."""
    times = clock.pts_seconds.numpy()
    tolerance = min(STAMP_TOLERANCE_SECONDS, 0.25 / clock.average_fps)
    first, stop = 0, len(times)
    if start is not None:
        first = max(0, int(np.searchsorted(times, start + tolerance, side="right")) - 1)
    if end is not None:
        stop = int(np.searchsorted(times, end - tolerance, side="left"))
    return first, max(stop, first + 1)


def _by_step(
    config: SegmentConfig, length: int, moments: Sequence[float]
) -> Int[np.ndarray, "segments T"]:
    """The published rule, counted from the first of `length` frames."""
    assert config.frame_step is not None
    T, step, count = config.num_frames, config.frame_step, config.num_segments
    span, part = T * step, length // count
    if part > span:
        # One of span .. part-1, as published.
        ends = [span + int(moment * (part - span)) for moment in moments]
        own = [np.clip(np.linspace(end - span, end, T), end - span, end - 1) for end in ends]
        return np.stack(own).astype(np.int64) + part * np.arange(count)[:, None]
    if length <= span and config.short_video != "repeat_last":
        if config.short_video == "skip":
            raise _too_short(config, f"{length} frames", f"more than {span}")
        return np.tile(np.arange(T) * step % length, (count, 1))
    # Compatibility: a clip that fits into the stretch but not into its part also loses its last
    # frames, as the original's does.
    most = min(span, length) - 1
    filled = np.full(T, float(most))
    filled[: most // step] = np.linspace(0, most, most // step)
    ids: Int[np.ndarray, " T"] = np.clip(filled, 0, max(most - 1, 0)).astype(np.int64)
    shift = (length - span) // (count - 1) if length > span else 0
    shifted: Int[np.ndarray, "segments T"] = ids + shift * np.arange(count)[:, None]
    return shifted


def _by_rate(
    config: SegmentConfig, fps: float, part: Clock, moments: Sequence[float]
) -> Int[np.ndarray, "segments T"]:
    """Frames on the screen at even times, counted from the first of the stretch."""
    times, count = part.pts_seconds.numpy(), config.num_segments
    length = part.end_seconds - float(times[0])
    seconds = (config.num_frames - 1) / fps
    # `sample_indices` asks that the last frame be due a little before the end.
    spare = 2 * STAMP_TOLERANCE_SECONDS
    each = length / count
    clips = []
    for number, moment in enumerate(moments):
        if each > seconds + spare:
            room = each - seconds
            offset = number * each + min(moment * room, room - spare)
        elif length > seconds + spare and count > 1:
            offset = number * (length - seconds - spare) / (count - 1)
        else:
            offset = 0.0
        begin = int(np.searchsorted(times, times[0] + offset + _EPSILON, side="right")) - 1
        sampling = ClipSampling(
            num_frames=config.num_frames,
            strategy="fps",
            fps=fps,
            start_frame=max(begin, 0),
            short_video="error" if config.short_video == "skip" else config.short_video,
        )
        clips.append(
            sample_indices(
                sampling,
                num_video_frames=len(times),
                pts_seconds=part.pts_seconds,
                end_seconds=part.end_seconds,
            )
        )
    return np.array(clips, dtype=np.int64)


def _spread(config: SegmentConfig, length: int) -> Int[np.ndarray, "segments T"]:
    """Clips that cover their parts, counted from the first of `length` frames."""
    T, count = config.num_frames, config.num_segments
    window = max(length // count, min(T, length))
    sampling = ClipSampling(
        num_frames=T, short_video="error" if config.short_video == "skip" else config.short_video
    )
    own = np.array(sample_indices(sampling, num_video_frames=window), dtype=np.int64)
    starts = [number * (length - window) // max(count - 1, 1) for number in range(count)]
    if window == length // count:
        starts = [number * window for number in range(count)]
    return own + np.array(starts, dtype=np.int64)[:, None]


def _too_short(config: SegmentConfig, has: str, needs: str) -> VideoTooShortError:
    return VideoTooShortError(
        f"A clip of {config.num_frames} frames (frame_step {config.frame_step}) needs {needs} "
        f"frames, the stretch has {has}. Take fewer frames or a smaller step, or set short_video "
        "to 'repeat_last' or 'loop'."
    )
