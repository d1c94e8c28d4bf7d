"""Random erasing of clips: one box, in the same place of every frame, is filled with noise.

Source: V-JEPA 2, `src/datasets/utils/video/randerase.py`, mode "pixel", with its numbers.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.crop import Box
from vjepa2.data.draws import Draws

AREA = (0.02, 1 / 3)
ASPECT = (0.3, 3.3)
NUM_TRIES = 100


def erase_box(height: int, width: int, *, probability: float, draws: Draws) -> Box | None:
    """Draw the box that is erased from frames of height x width; None where none is.

    Its area is even in `AREA` of that of the frame, its height over width log-uniform in `ASPECT`;
    it is smaller than the frame on both sides.
    """
    if draws.uniform() >= probability:
        return None
    for _ in range(NUM_TRIES):
        area = draws.uniform(*AREA) * height * width
        aspect = math.exp(draws.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        box_height = round(math.sqrt(area * aspect))
        box_width = round(math.sqrt(area / aspect))
        if 0 < box_width < width and 0 < box_height < height:
            top = draws.below(height - box_height + 1)
            left = draws.below(width - box_width + 1)
            return Box(top, left, box_height, box_width)
    return None


def erase(pixels: Float[Tensor, "T C S1 S2"], *, probability: float, draws: Draws) -> Box | None:
    """Erase a box from a clip in place, with the given probability.

    Every number in the box becomes noise of its own, of mean 0 and deviation 1 as normalised
    pixels have; as published, the box stays in its place and the noise differs between frames.

    Args:
        pixels: normalised.
        probability: that anything is erased.
        draws: where box and noise come from.

    Returns:
        The box, None where nothing was erased.
    """
    T, C, height, width = pixels.shape
    box = erase_box(height, width, probability=probability, draws=draws)
    if box is not None:
        noise = draws.normal((T, C, box.height, box.width))
        rows = slice(box.top, box.top + box.height)
        columns = slice(box.left, box.left + box.width)
        pixels[:, :, rows, columns] = torch.from_numpy(noise).to(pixels)
    return box
