"""From frames of any size to the pixels a model sees: resize, centre crop, rescale, normalise.

    [T, C, H, W] uint8  --resize short side, antialiased-->  --crop-->  (x - mean) / std
                                                                        [T, C, h, w] float32

The arithmetic is that of the published video processor, bit for bit: the resize works on uint8
and rounds to whole grey levels, the crop offset is truncated, and rescaling is folded into mean
and standard deviation. Pixels stay uint8 until the last step, which writes the result once. Work
goes through the frames in small groups that fit into the processor's cache, so memory beyond the
result stays constant however many frames there are.

Source: transformers 5.23 `VJEPA2VideoProcessor` (numbers).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Num
from torch import Tensor

from vjepa2.video.geometry import Geometry
from vjepa2.video.resize import (
    NEAREST,
    WindowResizer,
    has_vector_kernel,
    resize_frames,
    whole_axis,
)

_GROUP_BYTES = 4 << 20
"""uint8 result of one group of frames; larger groups fall out of the second-level cache."""

_DEVICE_GROUP_BYTES = 64 << 20
"""uint8 input of one group where frames are resized together (accelerators, float frames)."""

_THREAD_BYTES = 2 << 20
"""Input a thread must have to be worth starting (about 0.4 ms of resizing)."""


@dataclass(frozen=True, kw_only=True)
class ColorScale:
    """Last step: `(x - mean) / std`, or `x * factor`, or nothing.

    Attributes:
        mean, std: one number or one per channel, in units of the input pixels.
        factor: used where mean and std are None.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    factor: float | None = None

    def result_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Element type of the result for frames of `dtype`."""
        if self.mean is not None:
            return torch.float32
        if self.factor is not None and not dtype.is_floating_point:
            return torch.float32
        return dtype


def color_scale(
    *,
    rescale_factor: float | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> ColorScale:
    """Fold the rescaling into mean and std: (x * f - mean) / std == (x - mean / f) / (std / f).

    Args:
        rescale_factor: factor f, or None for no rescaling.
        mean, std: of the rescaled pixels, one number or one per channel; None: no normalising.
    """
    if mean is None or std is None:
        return ColorScale(factor=rescale_factor)
    unit = 1.0 if rescale_factor is None else 1.0 / rescale_factor
    # Compatibility: the port multiplies float32 tensors, so the products are rounded to float32.
    scaled = [(torch.tensor(list(values)) * unit).tolist() for values in (mean, std)]
    return ColorScale(mean=tuple(scaled[0]), std=tuple(scaled[1]))


def apply_color_scale(
    pixels: Num[Tensor, "T C h w"], scale: ColorScale, *, out: Num[Tensor, "T C h w"]
) -> None:
    """Write the scaled pixels into `out`, in `out`'s element type.

    Subtraction and division stay two steps: one multiply-add would round differently.
    """
    if scale.mean is None or scale.std is None:
        if scale.factor is None:
            out.copy_(pixels)
        else:
            torch.mul(pixels, scale.factor, out=out)
        return
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=out.device).view(-1, 1, 1)
        for values in (scale.mean, scale.std)
    )
    out.copy_(pixels).sub_(mean).div_(std)


@runtime_checkable
class FrameSource(Protocol):
    """Frames of one video, given out in groups (`inputs.Clip`, `streams.StreamedClip`)."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """T, C, H, W."""

    @property
    def dtype(self) -> torch.dtype:
        """Element type of every frame."""

    @property
    def device(self) -> torch.device:
        """Where the frames are."""

    def groups(self, size: int) -> Iterator[Num[Tensor, "T C H W"] | list[Num[Tensor, "C H W"]]]:
        """Yield the frames in order, at most `size` at a time, any strides."""


@torch.no_grad()
def transform_frames(
    frames: FrameSource, *, geometry: Geometry, scale: ColorScale, out: Num[Tensor, "T C h w"]
) -> None:
    """Resize, crop and scale all frames of one video into `out`.

    Args:
        frames: moved to the device of `out` group by group, in their own element type.
        geometry: made for the size of these frames.
        scale: the last step.
        out: size `geometry.rows.size` x `geometry.columns.size`, element type
            `scale.result_dtype(frames.dtype)`, on the device where the work shall happen.
    """
    _, C, H, W = frames.shape
    resizes = bool(geometry.height != H or geometry.width != W)
    is_smooth = geometry.resample != NEAREST
    on_cpu = {frames.device.type, out.device.type} == {"cpu"}
    if resizes and is_smooth and on_cpu and has_vector_kernel(frames.dtype, num_channels=C):
        _transform_uint8(frames, geometry=geometry, scale=scale, out=out)
        return
    rows, columns = whole_axis(H, geometry.height), whole_axis(W, geometry.width)
    if geometry.mode == "fast" and is_smooth:
        rows, columns = geometry.windows(H, W)  # equal up to rounding, on every device
    group = max(1, _DEVICE_GROUP_BYTES // (C * H * W * frames.dtype.itemsize))
    position = 0
    for part in frames.groups(group):
        pixels = part if isinstance(part, Tensor) else torch.stack(part)
        pixels = pixels.to(out.device, non_blocking=True)
        if resizes:
            pixels = resize_frames(pixels, rows=rows, columns=columns, resample=geometry.resample)
        kept = pixels[:, :, geometry.rows.kept, geometry.columns.kept]
        if geometry.padded:
            canvas = kept.new_zeros(*kept.shape[:2], geometry.rows.size, geometry.columns.size)
            canvas[:, :, geometry.rows.target, geometry.columns.target] = kept
            kept = canvas
        apply_color_scale(kept, scale, out=out[position : position + len(part)])
        position += len(part)


def _transform_uint8(
    frames: FrameSource, *, geometry: Geometry, scale: ColorScale, out: Num[Tensor, "T C h w"]
) -> None:
    """`transform_frames` with the CPU's vector kernel, which runs on one thread a frame.

    Frames of a group are spread over Python threads (the kernel releases the interpreter lock and
    starts no threads of its own); scaling is left to torch, which has its own.
    """
    T, _, H, W = frames.shape
    rows, columns = geometry.windows(H, W)
    height, width = geometry.rows.size, geometry.columns.size
    group = min(T, max(1, _GROUP_BYTES // (height * width * 3)))
    num_threads = max(1, min(torch.get_num_threads(), group, T * H * W * 3 // _THREAD_BYTES))
    resizers = [
        WindowResizer(
            rows=rows,
            columns=columns,
            resample=geometry.resample,
            vertical_first=geometry.vertical_first(H),
        )
        for _ in range(num_threads)
    ]
    pixels = np.zeros((group, height, width, 3), dtype=np.uint8)
    target = pixels[:, geometry.rows.target, geometry.columns.target]
    kept = (geometry.rows.kept, geometry.columns.kept)

    def resize(
        resizer: WindowResizer, sources: list[Tensor], results: npt.NDArray[np.uint8]
    ) -> None:
        for source, result in zip(sources, results, strict=True):
            result[...] = resizer(source).numpy()[kept]

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(num_threads)) if num_threads > 1 else None
        run = map if pool is None else pool.map
        position = 0
        for part in frames.groups(group):
            sources = list(part)
            share = -(-len(sources) // num_threads)
            shares = [slice(start, start + share) for start in range(0, len(sources), share)]
            parts = [sources[at] for at in shares]
            results = [target[: len(sources)][at] for at in shares]
            for _ in run(resize, resizers, parts, results):
                pass  # waits, and raises what a thread raised
            ready = torch.from_numpy(pixels[: len(sources)]).permute(0, 3, 1, 2)
            apply_color_scale(ready, scale, out=out[position : position + len(sources)])
            position += len(sources)
