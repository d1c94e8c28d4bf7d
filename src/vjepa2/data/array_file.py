"""Clips stored as arrays: any number of channels, 8 or 16 bits or floats, no codec.

Satellite bands, ultrasound, microscopes: what no video format holds. Files are `.npy`, `.npz` and
`.safetensors`; none of them can run code, because pickled arrays are refused.
"""

import io
import math
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Num
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.crop import Box
from vjepa2.data.moments import Clock
from vjepa2.data.sample import FileRef
from vjepa2.data.shards import read_section
from vjepa2.data.suffixes import suffix_of
from vjepa2.errors import (
    DtypeError,
    ShapeError,
    VideoDecodeError,
    VideoNotFoundError,
    VideoOpenError,
    VideoTooLargeError,
)
from vjepa2.video.limits import ReadLimits

ARRAY_KEY = "frames"
# What NumPy and zipfile raise for damaged files (found by changing bytes of good ones).
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,  # also NotImplementedError: encrypted, packed in an unknown way
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
MAX_UNPACKED_BYTES = ReadLimits.max_output_bytes
# torch computes with these; wider or unsigned types are stored in the next one that holds them.
_STORED_AS = {
    "uint8": np.uint8,
    "int8": np.int16,
    "int16": np.int16,
    "uint16": np.int32,
    "int32": np.int32,
    "float16": np.float32,
    "float32": np.float32,
    "float64": np.float32,
}


class ArrayFile:
    """An array as an opened file.

    Args:
        frames: [T, H, W, C].
        frames_per_second: arrays have no clock; frame i is shown at i / frames_per_second.
    """

    is_image = False

    def __init__(self, frames: NDArray[Any], *, frames_per_second: float) -> None:
        self._frames = frames
        self._fps = frames_per_second

    @property
    def clock(self) -> Clock:
        """Evenly spaced frames."""
        count = len(self._frames)
        return Clock(
            pts_seconds=torch.arange(count, dtype=torch.float64) / self._fps,
            end_seconds=count / self._fps,
            average_fps=self._fps,
        )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width."""
        return self._frames.shape[1], self._frames.shape[2]

    def take(
        self, ids: list[int], box: Box, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> Num[Tensor, "U C h w"]:
        """Return a part of some frames; only these are read from the disk."""
        kind = _STORED_AS[self._frames.dtype.name]
        shape = (len(ids), len(rows), len(columns), self._frames.shape[3])
        pixels = np.empty(shape, dtype=kind)
        at_rows, at_columns = box.top + rows, box.left + columns
        for place, index in enumerate(ids):
            pixels[place] = self._frames[index][at_rows][:, at_columns]
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def read_array(ref: FileRef, *, num_channels: int) -> NDArray[Any]:
    """Open an array file as [T, H, W, C], as little of it in memory as its format allows.

    Which axis holds the channels follows from their number: the second or the last one. An array
    of rank 3 is [T, H, W], one channel.

    Raises:
        VideoNotFoundError, VideoOpenError, VideoDecodeError: no such file, or not such a file.
        VideoTooLargeError: a packed array is larger than `MAX_UNPACKED_BYTES`.
        DtypeError: the elements are no numbers of a known kind.
        ShapeError: no axis has `num_channels`, or both have.
    """
    try:
        array = _load(ref)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoNotFoundError(f"There is no array file at {ref.name}.") from error
    except UNREADABLE as error:
        if isinstance(error, VideoOpenError | VideoTooLargeError):
            raise
        raise VideoDecodeError(f"{ref.name} cannot be read as an array: {error}.") from error
    if not isinstance(array, np.ndarray):  # NumPy gives the bytes of a member that is no array
        raise VideoDecodeError(f"{ref.name} cannot be read as an array: it holds other data.")
    if array.dtype.name not in _STORED_AS:
        raise DtypeError(
            f"{ref.name} holds {array.dtype.name}; allowed are {', '.join(_STORED_AS)}."
        )
    return _channels_last(array, name=ref.name, num_channels=num_channels)


def _load(ref: FileRef) -> Any:
    suffix = suffix_of(ref.member or ref.path)
    data = io.BytesIO(read_section(ref)) if ref.member else None
    if suffix == ".npz":
        return _from_npz(data if data is not None else ref.path, name=ref.name)
    if suffix == ".safetensors":
        return _from_safetensors(data, ref)
    if data is not None:
        return np.load(data, allow_pickle=False)
    return np.load(ref.path, mmap_mode="r", allow_pickle=False)


def _from_npz(file: io.BytesIO | str, *, name: str) -> Any:
    with zipfile.ZipFile(file) as archive:
        declared = sum(item.file_size for item in archive.infolist())
    if declared > MAX_UNPACKED_BYTES:
        raise VideoTooLargeError(
            f"{name} unpacks to {declared} bytes, more than {MAX_UNPACKED_BYTES}. Store it as "
            ".npy, of which only the frames in use are read."
        )
    if isinstance(file, io.BytesIO):
        file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return arrays[_only_key(arrays.files, name=name)]


def _from_safetensors(data: io.BytesIO | None, ref: FileRef) -> Any:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load

    try:
        if data is not None:
            arrays = load(data.getvalue())
            return arrays[_only_key(list(arrays), name=ref.name)]
        with safe_open(ref.path, framework="numpy") as file:
            return file.get_tensor(_only_key(list(file.keys()), name=ref.name))
    except (SafetensorError, TypeError, KeyError) as error:  # the latter two: bfloat16
        raise VideoDecodeError(f"{ref.name} cannot be read as an array: {error}.") from error


def _only_key(keys: list[str], *, name: str) -> str:
    """The array to read: `frames`, or the only one."""
    if ARRAY_KEY in keys:
        return ARRAY_KEY
    if len(keys) == 1:
        return keys[0]
    raise VideoOpenError(
        f"{name} holds {len(keys)} arrays ({', '.join(sorted(keys)[:8])}). Name the one with the "
        f"clip {ARRAY_KEY!r}, or store it alone."
    )


def _channels_last(array: NDArray[Any], *, name: str, num_channels: int) -> NDArray[Any]:
    shape = array.shape
    if math.prod(shape) == 0 or array.ndim not in (3, 4):
        raise ShapeError(
            f"{name} has shape {list(shape)}; a clip is [T, C, H, W], [T, H, W, C] or [T, H, W], "
            "and not empty."
        )
    if array.ndim == 3:
        array = array[..., None]
    is_first = len(shape) == 4 and shape[1] == num_channels
    is_last = array.shape[-1] == num_channels
    if is_first == is_last:
        problem = "both the second and the last axis have" if is_first else "no axis has"
        raise ShapeError(
            f"{name} has shape {list(shape)}: {problem} {num_channels} channels (the length of "
            "augment.mean). A clip is [T, C, H, W] or [T, H, W, C]."
        )
    return array.transpose(0, 2, 3, 1) if is_first else array
