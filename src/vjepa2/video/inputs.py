"""The forms in which people hold videos, brought to one: a list of clips of uint8 or float frames.

One video: an array or tensor [T, H, W, C] or [T, C, H, W], a list of frames (arrays or Pillow
images), `Frames`, a reader, or a path, URL or bytes to open. One image is a video of one frame.
Several videos: a list of those, nested lists, or one 5-D batch; every video may have its own size
and its own axis order.

Nothing is copied here that a view can show, and nothing is converted: frames keep their element
type and their memory order, and a list of frames stays a list.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from vjepa2.errors import DtypeError, InputError, ShapeError
from vjepa2.video.metadata import FrameChoice, VideoMetadata

Layout = Literal["channels_first", "channels_last"]
LAYOUTS = ("channels_first", "channels_last")

CHANNEL_COUNTS = (1, 3, 4)
PIXEL_DTYPES = (
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames of one video, channels first.

    Attributes:
        frames: [T, C, H, W], any strides, or one [C, H, W] a frame.
        metadata: their origin.
    """

    frames: Num[Tensor, "T C H W"] | list[Num[Tensor, "C H W"]]
    metadata: VideoMetadata

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """T, C, H, W."""
        C, H, W = self.frames[0].shape
        return len(self.frames), C, H, W

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the frames."""
        return self.frames[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the frames are."""
        return self.frames[0].device

    def groups(self, size: int) -> Iterator[Num[Tensor, "T C H W"] | list[Num[Tensor, "C H W"]]]:
        """Yield the frames in order, at most `size` at a time."""
        for start in range(0, len(self.frames), size):
            yield self.frames[start : start + size]


def is_source(value: object) -> bool:
    """True for what has to be opened: a path, a URL or bytes."""
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview)


def is_reader(value: object) -> bool:
    """True for an open video, ours or torchcodec's, or chosen frames of one (`ReaderFrames`)."""
    is_picked = hasattr(value, "reader") and hasattr(value, "indices")
    return is_picked or (hasattr(value, "get_frames_at") and hasattr(value, "metadata"))


def is_frames(value: object) -> bool:
    """True for decoded frames with times: `Frames` or torchcodec's `FrameBatch`."""
    return hasattr(value, "pts_seconds") and hasattr(value, "data")


def is_image(value: object) -> bool:
    """True for a Pillow image (recognised without importing Pillow)."""
    return hasattr(value, "getbands") and hasattr(value, "convert")


def is_frame(value: object) -> bool:
    """True for one frame: a Pillow image or an array of rank 3."""
    return is_image(value) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 3)


def split_videos(videos: object) -> list[object]:
    """Flatten any nesting to a list of single videos (see the module docstring).

    Raises:
        InputError: an empty list or a type that is no video.
        ShapeError: an array of a rank other than 3, 4 or 5; frames and videos mixed in a list.
    """
    if isinstance(videos, np.ndarray | Tensor):
        if videos.ndim == 5:
            return [videos[index] for index in range(len(videos))]
        if videos.ndim in (3, 4):
            return [videos]
        raise ShapeError(
            f"A video has 4 axes, [T, H, W, C] or [T, C, H, W]; an image 3; a batch 5. "
            f"Got shape {list(videos.shape)}."
        )
    if any(is_one(videos) for is_one in (is_source, is_reader, is_frames, is_image)):
        return [videos]
    if not isinstance(videos, list | tuple):
        raise InputError(
            f"Cannot read a video from {type(videos).__name__}. Allowed: NumPy array, torch "
            "tensor, list of frames, list of videos, Frames, VideoReader, path, URL, bytes."
        )
    if not videos:
        raise InputError("Got an empty list; expected at least one video or frame.")
    if all(is_frame(item) for item in videos):
        return [list(videos)]
    if any(is_frame(item) for item in videos):
        raise ShapeError(
            "The list mixes single frames and whole videos. Pass either the frames of one video, "
            "or a list of videos; a single image among videos needs a time axis: image[None]."
        )
    return [video for item in videos for video in split_videos(item)]


def open_video(
    video: object, *, layout: Layout | None, choice: FrameChoice | None, known: VideoMetadata | None
) -> Clip:
    """Turn an array, a list of frames or `Frames` into a clip (`streams` opens the rest).

    Args:
        video: one element of `split_videos` that needs no decoding.
        layout: axis order of arrays; None infers it from the shape.
        choice: which frames; None takes all.
        known: what the caller knows about the video's origin (`fps`, ...).

    Raises:
        ShapeError, DtypeError: not a video; the message names what was expected.
        InputError, VideoTooShortError: `choice` cannot be met.
    """
    clip = _decoded_clip(video) if is_frames(video) else _array_clip(video, layout=layout)
    if known is not None:
        indices = known.frames_indices or clip.metadata.frames_indices
        clip = replace(clip, metadata=replace(known, frames_indices=indices))
    return clip if choice is None else _choose(clip, choice)


def _choose(clip: Clip, choice: FrameChoice) -> Clip:
    total = len(clip.frames)
    indices = choice.indices(replace(clip.metadata, total_num_frames=total))
    times = clip.metadata.pts_seconds
    metadata = replace(
        clip.metadata,
        frames_indices=indices,
        pts_seconds=None if times is None else [times[index] for index in indices],
    )
    # One view a frame: choosing frames must not copy them.
    return Clip(frames=[clip.frames[index] for index in indices], metadata=metadata)


def _decoded_clip(frames: Any) -> Clip:
    data, times = frames.data, torch.as_tensor(frames.pts_seconds, dtype=torch.float64)
    if not isinstance(data, Tensor) or data.ndim != 4:
        shape = list(getattr(data, "shape", []))
        raise ShapeError(f"Frames.data must be a tensor [T, C, H, W], got shape {shape}.")
    clip = _clip(data, "channels_first")
    clip.metadata.pts_seconds = times.tolist()
    return clip


def _array_clip(video: Any, *, layout: Layout | None) -> Clip:
    if isinstance(video, list):
        frames = [_tensor(frame) for frame in video]
        shapes = {tuple(frame.shape) for frame in frames}
        kinds = {frame.dtype for frame in frames}
        if len(shapes) > 1 or len(kinds) > 1:
            raise ShapeError(
                "The frames of one video must have one shape and one element type, got shapes "
                f"{sorted(list(shape) for shape in shapes)} of {sorted(map(str, kinds))}. "
                "For several videos pass a list of 4-axis arrays."
            )
        return _clip(frames, layout)
    pixels = _tensor(video)
    return _clip(pixels[None] if pixels.ndim == 3 else pixels, layout)


def _clip(frames: Tensor | list[Tensor], layout: Layout | None) -> Clip:
    shape = tuple(frames[0].shape) if len(frames) else ()
    if not shape or 0 in shape:
        got = list(frames.shape) if isinstance(frames, Tensor) else [0]
        raise ShapeError(f"A video needs at least one frame with at least one pixel, got {got}.")
    if frames[0].dtype not in PIXEL_DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in PIXEL_DTYPES)
        raise DtypeError(f"Frames of {frames[0].dtype} are not supported; allowed: {allowed}.")
    if (layout or _infer_layout(shape, len(frames))) == "channels_last":
        if isinstance(frames, Tensor):
            frames = frames.permute(0, 3, 1, 2)
        else:
            frames = [frame.permute(2, 0, 1) for frame in frames]
    _, H, W = frames[0].shape
    metadata = VideoMetadata(
        total_num_frames=len(frames), width=W, height=H, frames_indices=list(range(len(frames)))
    )
    return Clip(frames=frames, metadata=metadata)


def _infer_layout(shape: Sequence[int], num_frames: int) -> Layout:
    """Find the channel axis of a frame: the one of 1, 3 or 4 entries."""
    first, last = shape[0] in CHANNEL_COUNTS, shape[-1] in CHANNEL_COUNTS
    if first != last:
        return "channels_first" if first else "channels_last"
    got = f"Got a video of shape {[num_frames, *shape]}"
    if first:
        raise ShapeError(
            f"{got}: both orders, [T, C, H, W] and [T, H, W, C], are possible. "
            "Pass input_data_format='channels_first' or 'channels_last'."
        )
    hint = "Permute it to [T, C, H, W]"
    if num_frames in CHANNEL_COUNTS:
        hint = f"It looks like [C, T, H, W] with C={num_frames}: pass video.transpose(0, 1)"
    raise ShapeError(
        f"{got}: expected [T, C, H, W] or [T, H, W, C] with C = 3 (or 1 or 4 with "
        f"do_convert_rgb=True). {hint}."
    )


def _tensor(value: Any) -> Tensor:
    """View an array, a tensor or a Pillow image as a tensor; copies only what torch cannot view."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            raise DtypeError(f"A video must be a dense tensor, got one stored as {value.layout}.")
        return value.detach()
    if is_image(value):
        has_alpha = "A" in value.getbands() or "transparency" in value.info
        value = np.asarray(value.convert("RGBA" if has_alpha else "RGB"))
    array = np.asarray(value)
    if array.dtype.kind not in "uif" or not array.dtype.isnative:
        raise DtypeError(
            f"Cannot read pixels of NumPy type {array.dtype}; expected uint8 (0..255) or floats."
        )
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        array = np.asarray(_Unlocked(array))
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise DtypeError(
            f"Cannot read pixels of NumPy type {array.dtype}; expected uint8 (0..255) or floats."
        ) from error


class _Unlocked:
    """A read-only array (a memory map, a decoded image) as torch wants it, without a copy.

    torch warns about read-only memory because a tensor could be written to; videos never are.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array  # keeps the memory alive
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
