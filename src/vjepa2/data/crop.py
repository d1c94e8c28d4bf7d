"""Which part of a frame is kept, and which of its pixels bilinear resizing looks at."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vjepa2.data.draws import Draws
from vjepa2.data.settings import AugmentConfig

NUM_TRIES = 10


class Box(NamedTuple):
    """A part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def random_box(
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    draws: Draws,
) -> Box:
    """Draw a box of random area and shape that lies inside the frame.

    Ten tries; then the largest box in the middle whose shape is allowed.

    Args:
        height, width: of the frame.
        scale: least and greatest share of its area.
        ratio: least and greatest width over height, drawn log-uniformly.
        draws: where the numbers come from.

    Source: V-JEPA 2, `src/datasets/utils/video/transforms.py` (random resized crop).
    """
    for _ in range(NUM_TRIES):
        area = draws.uniform(*scale) * height * width
        aspect = math.exp(draws.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = draws.below(height - box_height + 1)
            left = draws.below(width - box_width + 1)
            return Box(top, left, box_height, box_width)
    return _middle(height, width, least=ratio[0], most=ratio[1])


def choose_box(
    config: AugmentConfig, *, height: int, width: int, size: tuple[int, int], draws: Draws
) -> Box:
    """Return the part of a frame of height x width pixels that becomes `size` (height, width)."""
    if config.crop == "whole":
        return Box(0, 0, height, width)
    if config.crop == "center":
        aspect = size[1] / size[0]
        return _middle(height, width, least=aspect, most=aspect)
    return random_box(height, width, scale=config.scale, ratio=config.ratio, draws=draws)


def _middle(height: int, width: int, *, least: float, most: float) -> Box:
    """The largest box in the middle with width over height within `least` and `most`."""
    box_height, box_width = height, width
    if width / height < least:
        box_height = min(height, max(1, round(width / least)))
    elif width / height > most:
        box_width = min(width, max(1, round(height * most)))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


class Taps(NamedTuple):
    """The two pixels of one axis that each result lies between, counted among the kept ones.

    Attributes:
        kept: int64 [k], the pixels of the axis that any result needs, ascending.
        low, high: int64 [n], positions in `kept`.
        weight: float32 [n], share of `high`; the rest is that of `low`.
    """

    kept: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


@lru_cache(maxsize=4096)
def axis_taps(num_in: int, num_out: int) -> Taps:
    """Bilinear resizing of one axis as PyTorch's `interpolate` does it.

    No antialiasing, `align_corners` False; positions in float32, so that the weights are the same
    to the last bit.
    """
    if num_in == num_out:  # PyTorch copies
        at = np.arange(num_out)
        return Taps(at, at, at, np.zeros(num_out, dtype=np.float32))
    scale = np.float32(num_in) / np.float32(num_out)
    # Multiplied and added with one rounding, as processors with FMA instructions do.
    centers = np.float64(scale) * (np.arange(num_out) + 0.5) - 0.5
    source = np.maximum(centers.astype(np.float32), np.float32(0))
    low = np.minimum(source.astype(np.int64), num_in - 1)
    high = np.minimum(low + 1, num_in - 1)
    weight = (source - low.astype(np.float32)).astype(np.float32)
    kept = np.union1d(low, high)
    return Taps(kept, np.searchsorted(kept, low), np.searchsorted(kept, high), weight)
