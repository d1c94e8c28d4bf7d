"""Decoded frames and the time each of them is shown.

Time travels with pixels: whoever holds frames also knows when they were on the screen, so features
made from them can say which stretch of the video they describe. The two classes carry the field
names of torchcodec's `Frame` and `FrameBatch`, so code written for those runs on these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import (
    DtypeError,
    FrameIndexError,
    InputError,
    ShapeError,
    checked_integer,
    checked_number,
    in_digits,
)


@dataclass(frozen=True, eq=False, repr=False)
class Frame:
    """One decoded frame.

    Attributes:
        data: uint8 [C, H, W], RGB, 0..255.
        pts_seconds: when the frame appears, in seconds of the file's own clock.
        duration_seconds: how long it stays.

    Raises:
        ShapeError, DtypeError: `data` is not a uint8 tensor of rank 3.
        InputError: a time is not a finite number.
    """

    data: UInt8[Tensor, "C H W"]
    pts_seconds: float
    duration_seconds: float

    def __post_init__(self) -> None:
        _check_pixels(self.data, owner="Frame", layout="[C, H, W]", rank=3)
        for name in ("pts_seconds", "duration_seconds"):
            checked_number(f"Frame.{name}", getattr(self, name), error=InputError)

    def __repr__(self) -> str:
        return (
            f"Frame(data: uint8 {list(self.data.shape)}, pts_seconds={self.pts_seconds:.6g}, "
            f"duration_seconds={self.duration_seconds:.6g})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Frames:
    """T decoded frames of one size.

    Attributes:
        data: uint8 [T, C, H, W], RGB, 0..255. Decoders write T, H, W, C; `data` may be a permuted
            view of such memory, so call `.contiguous()` where the memory order matters.
        pts_seconds: float64 [T], when each frame appears, in seconds of the file's own clock,
            which need not start at 0.
        duration_seconds: float64 [T], how long each stays.

    Iterating gives one `Frame` after the other; an integer index gives a `Frame`; a slice, a list
    or a tensor of positions, or one of true and false for each frame, gives `Frames`.

    Raises:
        ShapeError, DtypeError: a tensor has another rank, length or element type.
        FrameIndexError: (indexing) no frame has that position.
        InputError: (indexing) a position is not an integer.
    """

    data: UInt8[Tensor, "T C H W"]
    pts_seconds: Tensor
    duration_seconds: Tensor

    def __post_init__(self) -> None:
        _check_pixels(self.data, owner="Frames", layout="[T, C, H, W]", rank=4)
        num_frames = self.data.shape[0]
        for name in ("pts_seconds", "duration_seconds"):
            times = getattr(self, name)
            if not isinstance(times, Tensor) or times.dtype != torch.float64:
                got = times.dtype if isinstance(times, Tensor) else type(times).__name__
                raise DtypeError(f"Frames.{name} must be a float64 tensor, got {got}.")
            if times.shape != (num_frames,):
                raise ShapeError(
                    f"Frames.{name} must hold one number for each of the {num_frames} frames, "
                    f"shape [{num_frames}], got {list(times.shape)}."
                )

    def __len__(self) -> int:
        return self.data.shape[0]

    def __iter__(self) -> Iterator[Frame]:
        for position in range(len(self)):
            yield self[position]

    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | Tensor) -> "Frames": ...
    def __getitem__(self, key: int | slice | Sequence[int] | Tensor) -> "Frame | Frames":
        at: slice | Tensor
        if isinstance(key, slice):
            at = self._rising(key)
        elif isinstance(key, Tensor | np.ndarray | list | tuple | range):
            at = self._positions(key)
        else:
            position = self._position(key)
            return Frame(
                data=self.data[position],
                pts_seconds=float(self.pts_seconds[position]),
                duration_seconds=float(self.duration_seconds[position]),
            )
        return Frames(
            data=self.data[at],
            pts_seconds=self.pts_seconds[at],
            duration_seconds=self.duration_seconds[at],
        )

    def _rising(self, key: slice) -> slice | Tensor:
        """A slice that torch can show without a copy; it has no negative steps."""
        positions = slice_range(key, length=len(self))
        if positions.step < 0:
            return torch.tensor(list(positions), dtype=torch.int64)
        return slice(positions.start, positions.stop, positions.step)

    def _positions(self, key: Sequence[int] | Tensor | NDArray[Any]) -> Tensor:
        if isinstance(key, Tensor | np.ndarray):
            if key.ndim != 1:
                raise ShapeError(
                    f"Positions of frames must be one row [n], got shape {list(key.shape)}."
                )
            if str(key.dtype).endswith("bool") and len(key) == len(self):
                return torch.as_tensor(key).nonzero()[:, 0].cpu()
            key = key.tolist()
        return torch.tensor([self._position(item) for item in key], dtype=torch.int64)

    def _position(self, key: object) -> int:
        at = checked_integer("The position of a frame", key, error=InputError)
        if not -len(self) <= at < len(self):
            raise FrameIndexError(
                f"There is no frame {in_digits(at)}: these {len(self)} have the positions 0 to "
                f"{len(self) - 1} (or -{len(self)} to -1 from the end)."
            )
        return at

    def __repr__(self) -> str:
        span = ""
        if len(self):
            end = float(self.pts_seconds[-1] + self.duration_seconds[-1])
            span = f", {float(self.pts_seconds[0]):.6g} to {end:.6g} s"
        return f"Frames(data: uint8 {list(self.data.shape)}{span})"


def slice_range(key: slice, *, length: int) -> range:
    """Positions that a slice takes of `length` frames.

    Raises:
        InputError: a number in it is not an integer, or its step is 0.
    """
    try:
        return range(*key.indices(length))
    except (TypeError, ValueError) as error:
        raise InputError(f"Cannot take the frames {key}: {error}.") from error


def _check_pixels(data: object, *, owner: str, layout: str, rank: int) -> None:
    if not isinstance(data, Tensor):
        raise DtypeError(
            f"{owner}.data must be a uint8 tensor {layout}, got {type(data).__name__}."
        )
    if data.dtype != torch.uint8:
        raise DtypeError(f"{owner}.data must be uint8 (0..255), got {data.dtype}.")
    if data.dim() != rank:
        raise ShapeError(f"{owner}.data must have shape {layout}, got {list(data.shape)}.")
