"""Antialiased resizing of frames that computes only the part which a later crop keeps.

A 16:9 frame that is resized and then cropped to a square loses more than half of the pixels that
were just computed. PyTorch's antialiased kernels take the scale as a separate argument, so they
can be asked for the first rows and columns of a result without computing the others:

* `exact` windows start at the frame's origin. Every weight is then computed from the same
  numbers as in the whole resize. One thing couples the outputs: the uint8 kernel stores its
  weights as int16 with a number of fraction bits that follows from the largest weight of all
  outputs. `_fraction_bits` repeats that rule, and an axis on which it would differ is computed
  whole. Results are bit-identical to resizing everything.
* `fast` windows also drop what lies before the crop. An output can start at any column only if
  its source position is a whole number of pixels, so the start is moved to the nearest earlier
  column where that holds up to `FAST_SHIFT` of an output pixel.

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

from vjepa2.errors import ConfigError, nearest_hint

ResizeMode = Literal["exact", "fast"]
RESIZE_MODES = ("exact", "fast")

NEAREST, BILINEAR, BICUBIC = 0, 2, 3
"""Resampling filters by Pillow's numbers, which the processor files use."""

FAST_SHIFT = 0.004
"""Largest displacement of a `fast` window, in output pixels.

Neighbouring pixels of downscaled white noise, the worst case, differ by about 30 grey levels, so
this displaces values by about a tenth of a level (0.5 would change a rounded value)."""


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
    number = _NAMES.get(resample, -1) if isinstance(resample, str) else int(resample)
    if number not in _NAMES.values():
        raise ConfigError(
            f"resample={resample!r} is not available; allowed: 0 (nearest), 2 (bilinear), "
            f"3 (bicubic). {nearest_hint(str(resample), _NAMES)}"
        )
    return number


class AxisWindow(NamedTuple):
    """The part of one axis that the kernel reads and computes.

    Attributes:
        source_start, source_stop: half-open range of input pixels that are read.
        start: position of the first computed pixel in the whole result.
        length: number of computed pixels.
        scale: outputs per input pixel handed to the kernel; None lets it use the sizes, which
            must then be those of the whole axis.
    """

    source_start: int
    source_stop: int
    start: int
    length: int
    scale: float | None


def whole_axis(num_in: int, num_out: int) -> AxisWindow:
    """The window that reads and computes everything."""
    return AxisWindow(0, num_in, 0, num_out, None)


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
    """Plan one axis: num_in pixels become num_out, of which [start, stop) are wanted.

    Args:
        num_in, num_out: length of the axis before and after the whole resize.
        start, stop: half-open range of output pixels that the crop keeps.
        resample: `BILINEAR` or `BICUBIC`.
        mode: `"exact"` or `"fast"` (module docstring).
    """
    whole = whole_axis(num_in, num_out)
    if num_in == num_out:
        return whole
    ratio = num_in / num_out
    support = _FILTERS[resample].half_width * max(ratio, 1.0)
    stop = min(max(stop, 2), num_out)  # one-pixel results have no definite memory layout
    first, origin, scale = 0, 0, _kernel_scale(num_in, num_out)
    if mode == "fast":
        scale = num_out / num_in
        for first in range(start, -1, -1):
            origin = round(first * ratio)
            covers = origin <= (start + 0.5) * ratio - support - 0.5 or origin == 0
            if covers and abs(first * ratio - origin) <= FAST_SHIFT * ratio:
                break
    elif scale is None or _fraction_bits(num_in, num_out, stop, resample) != _fraction_bits(
        num_in, num_out, num_out, resample
    ):
        return whole
    end = min(num_in, math.ceil((stop - 0.5) * ratio + support) + 2)
    # The kernel copies an axis whose input and output lengths are equal.
    if stop - first in (end - origin, num_in) or (first == 0 and stop == num_out):
        return whole
    return AxisWindow(origin, end, first, stop - first, scale)


def has_vector_kernel(frames: Tensor) -> bool:
    """True where PyTorch resizes these frames with its uint8 vector kernel (x86, C = 3)."""
    return (
        frames.device.type == "cpu"
        and frames.dtype == torch.uint8
        and frames.shape[-3] == 3
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    )


def resize_window(
    frame: UInt8[Tensor, "C H W"],
    *,
    rows: AxisWindow,
    columns: AxisWindow,
    resample: int,
    scratch: npt.NDArray[np.uint8],
    out: UInt8[Tensor, "h w C"],
) -> None:
    """Resize a window of one frame with the vector kernel (single-threaded, GIL released).

    Frames whose memory is rows of RGB pixels, which is how decoders deliver them, are read in
    place. Planar frames are first interleaved into `scratch`: the kernel would do the same for
    the whole width, at half the speed (3.4 against 1.7 ms for 1080p).

    Args:
        frame: one frame, any strides.
        rows, columns: what to read and compute.
        resample: `BILINEAR` or `BICUBIC`.
        scratch: at least `rows` x `columns` x C bytes of working memory.
        out: contiguous; receives rows.length x columns.length pixels.
    """
    source = _interleaved(frame, rows=rows, columns=columns, scratch=scratch)
    _FILTERS[resample].kernel.out(
        source.permute(2, 0, 1)[None],
        [rows.length, columns.length],
        False,
        rows.scale,
        columns.scale,
        out=out.permute(2, 0, 1)[None],
    )


def _interleaved(
    frame: UInt8[Tensor, "C H W"],
    *,
    rows: AxisWindow,
    columns: AxisWindow,
    scratch: npt.NDArray[np.uint8],
) -> UInt8[Tensor, "h w C"]:
    """Contiguous pixels of which the first rows and columns are the window's source."""
    pixels = frame.permute(1, 2, 0)
    H, W, C = pixels.shape
    top, bottom = rows.source_start, rows.source_stop
    left, right = columns.source_start, columns.source_stop
    if pixels.is_contiguous() and (left == 0 or bottom < H):
        # Full-width rows starting at column `left`: each ends in the beginning of the next one,
        # in columns that the window does not use. This saves a copy of the frame.
        count = bottom - top
        start = (top * W + left) * C
        return pixels.reshape(-1)[start : start + count * W * C].view(count, W, C)
    packed = scratch[: (bottom - top) * (right - left) * C].reshape(bottom - top, right - left, C)
    for channel in range(C):  # NumPy, not torch: this runs in threads of its own
        packed[..., channel] = frame[channel, top:bottom, left:right].numpy()
    return torch.from_numpy(packed)


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
        pixels = pixels[..., slice(*rows[:2]), slice(*columns[:2])]
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
