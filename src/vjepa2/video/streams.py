"""Frames of an open video, decoded while they are processed.

Sixty-four decoded frames of 1080p are 400 MB, their pixels for a model 50 MB. A streamed clip
decodes a few frames at a time, so memory beyond the result stays constant.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import InputError, ShapeError, check_kind, checked_integer
from vjepa2.video.inputs import Clip, Layout, is_reader, is_source, open_video
from vjepa2.video.metadata import FrameChoice, VideoMetadata

_FACTS = ("average_fps", "width", "height", "duration_seconds")
_GROUP_BYTES = 8 << 20
"""Decoded frames held at a time: 5 of 1080p, 12 of 720p."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReaderFrames:
    """Chosen frames of an open reader, for `processor(ReaderFrames(reader=..., indices=...))`.

    Attributes:
        reader: a `VideoReader`, or another object with its `get_frames_at` and `metadata`.
        indices: positions of the frames, in the order of the clip; rising ones are read in one
            pass.
    """

    reader: Any
    indices: Sequence[int]


class StreamedClip:
    """A clip whose frames are decoded when `groups` is walked through, which works once.

    Args:
        reader: open until the frames have been taken.
        indices: positions of the frames in the video.
        metadata: their origin; `pts_seconds` is filled in while frames are decoded.

    Raises:
        InputError: no frame was chosen.
        ShapeError: the reader gives frames that are not uint8 [3, H, W].
        VideoError: a frame cannot be decoded (here for the first ones).
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    def __init__(self, reader: Any, *, indices: list[int], metadata: VideoMetadata) -> None:
        if not indices:
            raise InputError("No frame was chosen from the video; choose at least one.")
        self.metadata = metadata
        self._reader = reader
        self._indices = indices
        self._times: list[float] = []
        pixels = (metadata.width or 1920) * (metadata.height or 1080)
        self._step = max(1, _GROUP_BYTES // (pixels * 3))
        self._first: Tensor | None = self._decode(0, self._step)
        got = self._first
        if got.ndim != 4 or got.shape[1] != 3 or got.dtype != torch.uint8:
            raise ShapeError(
                f"The reader gives {got.dtype} frames of shape {list(got.shape)}, expected uint8 "
                "[T, 3, H, W]. Open the video with dimension_order='NCHW'."
            )
        self.shape = (len(indices), *self._first.shape[1:])

    def _decode(self, start: int, count: int) -> Tensor:
        frames = self._reader.get_frames_at(self._indices[start : start + count])
        checked_batch(self._reader, frames)
        self._times += [float(time) for time in frames.pts_seconds]
        pixels: Tensor = frames.data
        return pixels

    def groups(self, size: int) -> Iterator[UInt8[Tensor, "T C H W"]]:
        """Yield the frames in order, at most `size` at a time."""
        first, self._first = self._first, None
        assert first is not None, "a streamed clip is read once"
        step, done = min(size, self._step), len(first)
        yield from first.split(step)
        del first
        for start in range(done, len(self._indices), step):
            yield self._decode(start, step)
        self.metadata.pts_seconds = self._times


@contextlib.contextmanager
def opened_clip(
    video: object, *, layout: Layout | None, choice: FrameChoice | None, known: VideoMetadata | None
) -> Iterator[Clip | StreamedClip]:
    """Open one element of `inputs.split_videos` as a clip of the chosen frames.

    Args:
        video: one video in any form.
        layout: axis order of arrays; None infers it from the shape.
        choice: which frames; None takes all.
        known: what the caller knows about an array's origin (`fps`, ...).

    Raises:
        ShapeError, DtypeError, InputError: not a video; the message names what was expected.
        VideoError: a file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        if is_source(video):
            from vjepa2.video.reader import VideoReader  # loads FFmpeg, which arrays do not need

            video = stack.enter_context(VideoReader(video))  # type: ignore[arg-type]
        if isinstance(video, ReaderFrames):
            check_kind(
                "indices", video.indices, Iterable, words="a list of numbers", error=InputError
            )
            picked = [
                checked_integer("A frame index", index, error=InputError) for index in video.indices
            ]
            yield StreamedClip(video.reader, indices=picked, metadata=_origin(video.reader, picked))
        elif is_reader(video):
            origin = _origin(video, [])
            indices = (choice or FrameChoice()).indices(origin)
            yield StreamedClip(video, indices=indices, metadata=_origin(video, indices))
        else:
            yield open_video(video, layout=layout, choice=choice, known=known)


def checked_reader(reader: Any) -> Any:
    """Return `reader` if it has what is used of one: ours, torchcodec's, or somebody's own.

    Raises:
        InputError: it only looks like a reader; the message says what it lacks.
    """
    facts = getattr(reader, "metadata", None)
    lacks = [] if callable(getattr(reader, "get_frames_at", None)) else ["get_frames_at()"]
    if isinstance(reader, type) or not hasattr(type(reader), "__len__"):
        lacks.append("len()")
    lacks += [f"metadata.{name}" for name in _FACTS if not hasattr(facts, name)]
    if lacks:
        raise InputError(
            f"A {type(reader).__name__} is no open video: it lacks {', '.join(lacks)}. Pass a "
            "path, a VideoReader, or an object with its methods."
        )
    for name in ("width", "height"):
        value = getattr(facts, name)
        if value is not None:
            checked_integer(f"metadata.{name} of the reader", value, least=1, error=InputError)
    return reader


def checked_batch(reader: Any, frames: Any, *, times: Sequence[str] = ("pts_seconds",)) -> Any:
    """Return what `get_frames_at` gave if it holds frames with the named times.

    Raises:
        InputError: it does not.
    """
    has_data = isinstance(getattr(frames, "data", None), Tensor)
    if not has_data or not all(hasattr(frames, name) for name in times):
        raise InputError(
            f"get_frames_at() of a {type(reader).__name__} gives a {type(frames).__name__}, "
            f"expected frames with the tensor data and {' and '.join(times)}."
        )
    return frames


def _origin(reader: Any, indices: list[int]) -> VideoMetadata:
    facts = checked_reader(reader).metadata
    return VideoMetadata(
        total_num_frames=len(reader),
        fps=facts.average_fps,
        width=facts.width,
        height=facts.height,
        duration=facts.duration_seconds,
        video_backend=type(reader).__name__,
        frames_indices=indices,
    )
