"""Antialiased resizing of frames that computes only the part which a later crop keeps.

A 16:9 frame that is resized and then cropped to a square loses more than half of the pixels that
were just computed. PyTorch's antialiased kernels take the scale as a separate argument, so they
can be asked for the first rows and columns of a result and leave out the others. Every weight is
then computed from the same numbers as in the whole resize. One thing couples the outputs: the
uint8 kernel stores its weights as int16 with a number of fraction bits that follows from the
largest weight of all outputs. `_fraction_bits` repeats that rule, and an axis on which it would
differ is computed whole, so the result is bit-identical to resizing everything.

`"fast"` resizes vertically before horizontally, the other way round than the kernel. That leaves
far less to interleave and to resize along the rows, and rounds to grey levels at another place:
with the bilinear filter the result differs from the exact one by at most one level.

The rules of the reference processor for element types (uint8 stays uint8 where the CPU has the
vector kernel, other integers go through float32 and are rounded) are in `resize_frames`.

Source: PyTorch's `aten/src/ATen/native/cpu/UpSampleKernel.cpp` and torchvision's
`transforms/v2/functional/_geometry.py` for the behaviour that is matched.
"""

import functools
import math
import platform
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Num, UInt8
from torch import Tensor

from vjepa2.errors import ConfigError, checked_integer, nearest_hint

ResizeMode = Literal["exact", "fast"]
RESIZE_MODES = ("exact", "fast")

NEAREST, BILINEAR, BICUBIC = 0, 2, 3
"""Resampling filters by Pillow's numbers, which the processor files use."""


class _Filter(NamedTuple):
    """One antialiased filter: its PyTorch name, half width in pixels, kernel and weight curve."""

    mode: str
    half_width: float
    kernel: "torch._ops.OpOverloadPacket"
    curve: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def _triangle(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_FILTERS = {
    BILINEAR: _Filter("bilinear", 1.0, torch.ops.aten._upsample_bilinear2d_aa, _triangle),
    BICUBIC: _Filter("bicubic", 2.0, torch.ops.aten._upsample_bicubic2d_aa, _cubic),
}
_NAMES = {"nearest": NEAREST, "bilinear": BILINEAR, "bicubic": BICUBIC}


def resample_number(resample: int | str) -> int:
    """Return Pillow's number of a filter given by number or name.

    Raises:
        ConfigError: the filter is not nearest (0), bilinear (2) or bicubic (3).
    """
    number = (
        _NAMES.get(resample, -1)
        if isinstance(resample, str)
        else checked_integer("resample", resample)
    )
    if number not in _NAMES.values():
        hint = nearest_hint(resample, _NAMES) if isinstance(resample, str) else ""
        raise ConfigError(
            f"resample={resample!r} is not available; allowed: 0 (nearest), 2 (bilinear), "
            f"3 (bicubic). {hint}".rstrip()
        )
    return number


class AxisWindow(NamedTuple):
    """The part of one axis that the kernel reads and computes.

    Attributes:
        length: number of outputs to compute, from the first one on.
        extent: number of input pixels handed to the kernel, from the first one on.
        read_start, read_stop: half-open range of the input pixels that matter for the outputs
            which are kept; the others may hold anything.
        scale: outputs per input pixel, handed to the kernel; None lets it use the sizes, which are
            then those of the whole axis.
    """

    length: int
    extent: int
    read_start: int
    read_stop: int
    scale: float | None

    @property
    def read(self) -> slice:
        """Input pixels that matter."""
        return slice(self.read_start, self.read_stop)


def whole_axis(num_in: int, num_out: int) -> AxisWindow:
    """The window that reads and computes everything."""
    return AxisWindow(num_out, num_in, 0, num_in, None)


def _kernel_scale(num_in: int, num_out: int) -> float | None:
    """Scale whose reciprocal, which the kernel takes, is exactly num_in / num_out, if any."""
    wanted, guess = num_in / num_out, num_out / num_in
    for scale in (guess, math.nextafter(guess, 0.0), math.nextafter(guess, math.inf)):
        if 1.0 / scale == wanted:
            return scale
    return None


def _fraction_bits(num_in: int, num_out: int, length: int, resample: int) -> int:
    """Fraction bits of the uint8 kernel's int16 weights when it computes `length` outputs."""
    kind = _FILTERS[resample]
    scale = num_in / num_out
    stretch = max(scale, 1.0)
    support = kind.half_width * stretch
    center = scale * (np.arange(length) + 0.5)
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    last = np.minimum((center + support + 0.5).astype(np.int64), num_in)
    tap = np.arange(math.ceil(support) * 2 + 1)
    weights = kind.curve((tap + (first - center)[:, None] + 0.5) / stretch)
    weights[tap >= (last - first)[:, None]] = 0.0
    largest = float((weights / weights.sum(axis=1, keepdims=True)).max())
    bits = 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    return bits


@functools.lru_cache(maxsize=256)
def axis_window(
    num_in: int, num_out: int, *, start: int, stop: int, resample: int, mode: ResizeMode
) -> AxisWindow:
    """Plan one axis: num_in pixels become num_out, of which [start, stop) are kept.

    Args:
        num_in, num_out: length of the axis before and after the whole resize.
        start, stop: half-open range of output pixels that the crop keeps.
        resample: `BILINEAR` or `BICUBIC`.
        mode: `"fast"` does without the exact scale and the equal number of fraction bits.
    """
    if num_in == num_out:
        return AxisWindow(num_out, num_in, start, stop, None)
    ratio = num_in / num_out
    support = _FILTERS[resample].half_width * max(ratio, 1.0)
    # One pixel more than the filter can reach on either side, so that no rounding matters.
    read_start = max(0, math.floor((start + 0.5) * ratio - support) - 1)
    read_stop = min(num_in, math.ceil((stop - 0.5) * ratio + support) + 1)
    whole = AxisWindow(num_out, num_in, read_start, read_stop, None)
    length = max(stop, 2)  # results of one pixel have no definite memory layout
    scale = num_out / num_in if mode == "fast" else _kernel_scale(num_in, num_out)
    # The kernel copies an axis whose input and output have one length.
    if scale is None or length >= num_out or length in (read_stop, num_in):
        return whole
    if mode == "exact":
        bits = [_fraction_bits(num_in, num_out, n, resample) for n in (length, num_out)]
        if bits[0] != bits[1]:
            return whole
    return AxisWindow(length, read_stop, read_start, read_stop, scale)


def has_vector_kernel(dtype: torch.dtype, *, num_channels: int) -> bool:
    """True where PyTorch resizes such CPU frames with its uint8 vector kernel (x86, C = 3)."""
    has_vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return dtype == torch.uint8 and num_channels == 3 and has_vectors


class WindowResizer:
    """Resizes a window of one frame after the other with the vector kernel, on one thread.

    The kernel reads rows of interleaved pixels. Frames stored that way, as decoders deliver them,
    are read in place. Planes are interleaved here, only where it matters: the kernel would do the
    same for everything, at a third of the speed.

    Args:
        rows, columns: what to read and compute.
        resample: `BILINEAR` or `BICUBIC`.
        vertical_first: resize along the columns of pixels first (see the module docstring).
    """

    def __init__(
        self, *, rows: AxisWindow, columns: AxisWindow, resample: int, vertical_first: bool
    ) -> None:
        self._rows, self._columns = rows, columns
        self._kernel = _FILTERS[resample].kernel.out
        self._vertical_first = vertical_first
        self._result = torch.empty(rows.length, columns.length, 3, dtype=torch.uint8)
        # Working memory, made once at the first frame that needs it.
        self._buffers: dict[str, UInt8[Tensor, "..."]] = {}

    def __call__(self, frame: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "h w 3"]:
        """Return rows.length x columns.length pixels; valid until the next call."""
        pixels = frame.permute(1, 2, 0)
        in_place = pixels.is_contiguous()
        if self._vertical_first:
            pixels = self._shrink_rows(pixels) if in_place else self._shrink_planes(frame)
            rows_scale = None
        else:
            pixels = pixels[: self._rows.extent] if in_place else self._interleave(frame)
            rows_scale = self._rows.scale
        self._run(pixels, self._result, rows_scale, self._columns.scale)
        return self._result

    def _run(
        self, source: Tensor, out: Tensor, rows_scale: float | None, columns_scale: float | None
    ) -> None:
        """Resize pixels [..., h, w, C] to the size of `out`."""
        if source.ndim == 3:
            source, out = source[None], out[None]
        size = list(out.shape[1:3])
        source, out = source.permute(0, 3, 1, 2), out.permute(0, 3, 1, 2)
        self._kernel(source, size, False, rows_scale, columns_scale, out=out)

    def _buffer(self, name: str, *shape: int) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = torch.zeros(shape, dtype=torch.uint8)
        return self._buffers[name]

    def _interleave(self, frame: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "h w 3"]:
        rows, columns = self._rows, self._columns
        pixels = self._buffer("pixels", rows.extent, columns.extent, 3)
        _interleave(frame[:, rows.read, columns.read], out=pixels[rows.read, columns.read])
        return pixels

    def _shrink_rows(self, pixels: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "h W 3"]:
        shrunk = self._buffer("shrunk", self._rows.length, pixels.shape[1], 3)
        self._run(pixels[: self._rows.extent], shrunk, self._rows.scale, None)
        return shrunk

    def _shrink_planes(self, frame: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "h w 3"]:
        """Resize planes vertically, where interleaving does not matter, and interleave the rest."""
        rows, columns = self._rows, self._columns
        width = columns.read_stop - columns.read_start
        quads = -(-width // 4)  # four neighbouring bytes pose as the channels of one pixel
        planes = self._buffer("planes", 3, rows.extent, quads * 4)
        shrunk = self._buffer("shrunk", 3, rows.length, quads * 4)
        planes.numpy()[:, rows.read, :width] = frame[:, rows.read, columns.read].numpy()
        self._run(
            planes.unflatten(2, (quads, 4)), shrunk.unflatten(2, (quads, 4)), rows.scale, None
        )
        pixels = self._buffer("pixels", rows.length, columns.extent, 3)
        _interleave(shrunk[:, :, :width], out=pixels[:, columns.read])
        return pixels


def _interleave(planes: UInt8[Tensor, "3 h w"], *, out: UInt8[Tensor, "h w 3"]) -> None:
    """Copy planes into pixels with NumPy: torch would start threads inside each of our own."""
    target = out.numpy()
    for channel, plane in enumerate(planes.numpy()):
        target[..., channel] = plane


def resize_frames(
    frames: Num[Tensor, "T C H W"], *, rows: AxisWindow, columns: AxisWindow, resample: int
) -> Num[Tensor, "T C h w"]:
    """Resize frames as the reference does, any element type, any device.

    float32 and float64 are resized as they are, uint8 too where the CPU has a kernel for it;
    every other type goes through float32, integers are rounded, and the type is restored.

    Args:
        frames: pixels of any range.
        rows, columns: what to read and compute; `whole_axis` for everything. `NEAREST` knows
            whole axes only.
        resample: `NEAREST`, `BILINEAR` or `BICUBIC`.

    Returns:
        rows.length x columns.length pixels in the element type of `frames`.
    """
    native = {torch.float32, torch.float64}
    if resample == NEAREST or (frames.device.type == "cpu" and _resizes_uint8(resample)):
        native.add(torch.uint8)
    dtype = frames.dtype
    pixels = frames if dtype in native else frames.to(torch.float32)
    size = [rows.length, columns.length]
    if resample == NEAREST:
        pixels = torch.nn.functional.interpolate(pixels, size=size, mode="nearest-exact")
    else:
        pixels = pixels[..., : rows.extent, : columns.extent]
        pixels = _FILTERS[resample].kernel(pixels, size, False, rows.scale, columns.scale)
    if pixels.dtype == dtype:
        return pixels
    if resample == BICUBIC and dtype == torch.uint8:
        pixels = pixels.clamp_(0, 255)  # the cubic overshoots; uint8 would wrap around
    if not dtype.is_floating_point:
        pixels = pixels.round_()
    return pixels.to(dtype)


def _resizes_uint8(resample: int) -> bool:
    if resample == BICUBIC:
        return True
    vector = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return vector or platform.machine() in ("aarch64", "arm64")
