"""Samples of any size become one batch of normalised pixels, on the device, in one pass.

uint8 goes in and normalised floats come out. Resizing looks at two rows and two columns for every
result and mixes them; mirroring reverses the list of columns to look at, and normalisation is a
factor and a summand of the mix, so that neither costs a pass of its own. The result is that of
cropping, resizing, mirroring and normalising one after the other in float32.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from vjepa2.data.crop import axis_taps
from vjepa2.data.sample import Sample
from vjepa2.data.settings import AugmentConfig
from vjepa2.errors import ShapeError


def to_pixels(
    samples: Sequence[Sample],
    augment: AugmentConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "B T C S1 S2"]:
    """Resize, mirror and normalise the frames of samples.

    Args:
        samples: clips of one length; sizes and element types may differ.
        augment: mean, deviation and greatest pixel; as given to the loader.
        device: where to work and to leave the pixels.
        dtype: of the result; the arithmetic is float32.

    Raises:
        ShapeError: no samples, or clips of different lengths.
    """
    if not samples:
        raise ShapeError("There are no samples to make pixels of.")
    shapes = {(sample.num_frames, sample.size) for sample in samples}
    if len(shapes) > 1:
        raise ShapeError(
            f"The clips of a batch must have one length and size, got (frames, size) "
            f"{sorted(shapes)}. Sources with num_frames of their own need a batch of their own."
        )
    ((num_frames, size),) = shapes
    device = torch.device(device)
    shape = (len(samples), num_frames, augment.num_channels, *size)
    pixels = torch.empty(shape, device=device, dtype=dtype)
    factor, summand = _normalisation(augment, device)
    for place, sample in enumerate(samples):
        resized = _resize(sample.frames.to(device, non_blocking=True), sample)
        whole = sample.frames.shape[0] == num_frames
        if whole and dtype == torch.float32:
            torch.addcmul(summand, resized, factor, out=pixels[place])
            continue
        normalised = torch.addcmul(summand, resized, factor)
        if not whole:
            normalised = normalised[torch.from_numpy(sample.frame_ids).to(device)]
        pixels[place] = normalised
    return pixels


def _normalisation(augment: AugmentConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand of each channel, float32 [C, 1, 1]."""
    mean = torch.tensor(augment.mean, dtype=torch.float64)
    std = torch.tensor(augment.std, dtype=torch.float64)
    factor, summand = 1 / (std * augment.pixel_max), -mean / std
    return _column(factor, device), _column(summand, device)


def _column(values: Tensor, device: torch.device) -> Tensor:
    return values.float().view(-1, 1, 1).to(device)


def _resize(frames: Num[Tensor, "U C h w"], sample: Sample) -> Float[Tensor, "U C S1 S2"]:
    is_complete = frames.shape[2:] == (sample.box.height, sample.box.width)
    if is_complete and frames.device.type == "cpu":
        # PyTorch's kernel gives the same numbers; on a CPU it is quicker than gathering.
        resized = torch.nn.functional.interpolate(frames.float(), size=sample.size, mode="bilinear")
        return resized.flip(-1) if sample.flip else resized
    low, high, weight = _taps(sample.box.height, sample.size[0], False, frames.device)
    rows = _mixed(frames, low, high, weight[:, None], axis=2)
    low, high, weight = _taps(sample.box.width, sample.size[1], sample.flip, frames.device)
    return _mixed(rows, low, high, weight, axis=3)


def _mixed(values: Tensor, low: Tensor, high: Tensor, weight: Tensor, *, axis: int) -> Tensor:
    first = values.index_select(axis, low).float()
    return first.lerp_(values.index_select(axis, high).float(), weight)


class _AxisTaps(NamedTuple):
    """`crop.Taps` on a device."""

    low: Tensor
    high: Tensor
    weight: Tensor


@lru_cache(maxsize=4096)
def _taps(num_in: int, num_out: int, reverse: bool, device: torch.device) -> _AxisTaps:
    taps = axis_taps(num_in, num_out)
    order = slice(None, None, -1 if reverse else 1)
    values = (taps.low, taps.high, taps.weight)
    return _AxisTaps(
        *(torch.from_numpy(np.ascontiguousarray(value[order])).to(device) for value in values)
    )
