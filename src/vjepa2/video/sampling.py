"""Which frames of a video make up a clip: arithmetic on frame numbers, nothing else.

A model sees a fixed number of frames. Where they are taken from decides how much time one clip
covers and how fast motion looks, so each strategy states exactly which frames it takes.

Source: "uniform" takes the frames of the published video processor (transformers,
`BaseVideoProcessor.sample_frames`); "fps" and "stride" are those of the V-JEPA 2 training data
(paper, section 2: clips of 16 or 64 frames at 4 frames a second).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    InputError,
    VideoTooShortError,
    check_choice,
    check_kind,
    checked_integer,
    checked_number,
)
from vjepa2.video.frames import Frames
from vjepa2.video.reader import VideoReader

Strategy = Literal["uniform", "fps", "stride", "consecutive"]
ShortVideo = Literal["repeat_last", "loop", "error"]
STRATEGIES = ("uniform", "fps", "stride", "consecutive")
SHORT_VIDEO = ("repeat_last", "loop", "error")
# Matroska rounds times to milliseconds, so the frame due at 66.67 ms may be stamped 67 ms.
STAMP_TOLERANCE_SECONDS = 1e-3
MIN_FPS = 1e-6  # a frame every eleven days; no video is that long
MAX_CLIP_FRAMES = 1 << 16  # a clip is in memory at once; a misplaced zero must not fill it


@dataclass(frozen=True, kw_only=True)
class ClipSampling:
    """How a clip is taken from a video of n frames; s stands for `start_frame`.

    Attributes:
        num_frames: T, frames in the clip, 1 to `MAX_CLIP_FRAMES`.
        strategy: which frames; k counts 0 .. T-1.
            "uniform": s + floor(k * (n - s) / T), spread over the video, the first always there.
            "fps": the frame on the screen at (time of s) + k / `fps` seconds. Real time stamps
                are used, so a variable frame rate is sampled evenly in time. A rate above the
                video's own repeats frames.
            "stride": s + k * `stride`.
            "consecutive": s + k.
        fps: clip frames per second, `MIN_FPS` or more, only for "fps".
        stride: frames from one clip frame to the next, only for "stride".
        start_frame: s, the number of the first frame.
        short_video: when the clip reaches past the end of the video ("uniform": when the video
            has fewer than T frames from s on; with a very low rate or a wide stride that can be
            the case for every frame but the first)
            "repeat_last": the last frame fills up (a still picture at the end),
            "loop": go on again at s,
            "error": raise `VideoTooShortError`.

    Raises:
        ConfigError: a value is missing, not allowed, or has no effect with this strategy.
    """

    num_frames: int = 64
    strategy: Strategy = "uniform"
    fps: float | None = None
    stride: int | None = None
    start_frame: int = 0
    short_video: ShortVideo = "repeat_last"

    def __post_init__(self) -> None:
        check_choice("Sampling strategy", self.strategy, STRATEGIES)
        check_choice("short_video", self.short_video, SHORT_VIDEO)
        checked_integer("num_frames", self.num_frames, least=1, most=MAX_CLIP_FRAMES)
        checked_integer("start_frame", self.start_frame, least=0)
        for name in ("fps", "stride"):
            value = getattr(self, name)
            if self.strategy == name and value is None:
                raise ConfigError(f"Strategy {name!r} needs {name} above 0, got None.")
            if self.strategy == "fps" == name:
                if checked_number("fps", value, above=0) < MIN_FPS:
                    raise ConfigError(
                        f"fps={value:g} is a frame every {1 / value:.3g} s, longer than any video: "
                        f"allowed are {MIN_FPS:g} or more. fps is frames per second."
                    )
            elif self.strategy == "stride" == name:
                checked_integer("stride", value, least=1)
            elif value is not None:
                raise ConfigError(
                    f"{name}={value} has no effect with strategy {self.strategy!r}. Leave it out, "
                    f"or choose strategy={name!r}."
                )


def sample_indices(
    sampling: ClipSampling,
    *,
    num_video_frames: int,
    pts_seconds: Tensor | None = None,
    end_seconds: float | None = None,
) -> list[int]:
    """Return the frame numbers of a clip.

    Args:
        sampling: how.
        num_video_frames: n, frames of the video.
        pts_seconds: float64 [n], when each frame appears; needed for "fps" only.
        end_seconds: when the last frame ends, on the same clock; needed for "fps" only.

    Returns:
        `sampling.num_frames` integers in 0 .. n-1.

    Raises:
        VideoTooShortError: the clip does not fit and `short_video` is "error", or `start_frame`
            is past the end.
        InputError: "fps" without times, or times of another length; a number is none.
        ConfigError: `sampling` is no `ClipSampling`.
    """
    check_kind("sampling", sampling, ClipSampling, words="a ClipSampling")
    num_video_frames = checked_integer(
        "num_video_frames", num_video_frames, least=0, error=InputError
    )
    start = sampling.start_frame
    available = num_video_frames - start
    if available < 1:
        raise VideoTooShortError(
            f"The clip starts at frame {start}, but the video has {num_video_frames} frames "
            f"(0 to {num_video_frames - 1}). Choose an earlier start_frame."
        )
    if sampling.strategy == "fps":
        if pts_seconds is None or end_seconds is None:
            raise InputError("Strategy 'fps' needs pts_seconds and end_seconds of the video.")
        check_kind("pts_seconds", pts_seconds, Tensor, words="a tensor", error=InputError)
        if not pts_seconds.is_floating_point():
            raise InputError(f"pts_seconds must be seconds (float64), got {pts_seconds.dtype}.")
        end_seconds = checked_number("end_seconds", end_seconds, error=InputError)
        if pts_seconds.shape != (num_video_frames,):
            raise InputError(
                f"pts_seconds must hold one time for each of {num_video_frames} frames, shape "
                f"[{num_video_frames}], got {list(pts_seconds.shape)}."
            )
        return _at_rate(sampling, pts_seconds, end_seconds)
    length = sampling.num_frames
    if sampling.strategy == "uniform" and available >= length:
        return [start + k * available // length for k in range(length)]
    step = sampling.stride if sampling.stride is not None else 1
    offsets = [k * step for k in range(length)]
    if offsets[-1] >= available:
        _refuse_if_asked(sampling, f"{num_video_frames} frames", f"{start + offsets[-1] + 1}")
        if sampling.short_video == "loop":
            offsets = [offset % available for offset in offsets]
        else:
            offsets = [min(offset, available - 1) for offset in offsets]
    return [start + offset for offset in offsets]


def _at_rate(sampling: ClipSampling, pts_seconds: Tensor, end_seconds: float) -> list[int]:
    assert sampling.fps is not None  # checked by ClipSampling
    start = sampling.start_frame
    begin = float(pts_seconds[start])
    offsets = torch.arange(sampling.num_frames, dtype=torch.float64) / sampling.fps
    seconds = end_seconds - begin
    is_past = offsets >= seconds - STAMP_TOLERANCE_SECONDS
    if bool(is_past.any()):
        _refuse_if_asked(
            sampling, f"{seconds:.3f} s from frame {start} on", f"{float(offsets[-1]):.3f} s"
        )
        if sampling.short_video == "loop":
            offsets = torch.where(is_past, offsets % seconds, offsets)
    shown = begin + offsets + STAMP_TOLERANCE_SECONDS
    indices = torch.searchsorted(pts_seconds.double().contiguous(), shown, right=True) - 1
    found: list[int] = indices.clamp(start, len(pts_seconds) - 1).tolist()
    return found


def _refuse_if_asked(sampling: ClipSampling, has: str, needs: str) -> None:
    if sampling.short_video == "error":
        raise VideoTooShortError(
            f"A clip of {sampling.num_frames} frames (strategy {sampling.strategy!r}, start_frame "
            f"{sampling.start_frame}) needs at least {needs}, the video has {has}. Take fewer "
            "frames, or set short_video to 'repeat_last' or 'loop'."
        )


def clip_indices(reader: VideoReader, sampling: ClipSampling) -> list[int]:
    """Return the frame numbers that `sampling` chooses from an open video.

    Raises:
        VideoTooShortError, ConfigError: see `sample_indices`.
        InputError: `reader` is no `VideoReader`.
    """
    check_kind("sampling", sampling, ClipSampling, words="a ClipSampling")
    check_kind(
        "reader", reader, VideoReader, words="an open VideoReader (not a path)", error=InputError
    )
    if sampling.strategy == "fps":
        return sample_indices(
            sampling,
            num_video_frames=len(reader),
            pts_seconds=reader.pts_seconds,
            end_seconds=reader.metadata.end_stream_seconds,
        )
    return sample_indices(sampling, num_video_frames=len(reader))


def sample_clip(reader: VideoReader, sampling: ClipSampling) -> Frames:
    """Decode the frames that `sampling` chooses from an open video.

    Returns:
        `Frames` with `sampling.num_frames` frames; repeated ones carry their own true time.

    Raises:
        VideoTooShortError, ConfigError, InputError: see `clip_indices`.
        VideoError: the video cannot be decoded.
    """
    indices = clip_indices(reader, sampling)
    return reader.get_frames_at(indices)
