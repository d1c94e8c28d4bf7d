"""A start for the patch embedding from which motion is quickly learned.

With the usual small random filters the outputs are nearly the mean colour of a patch, and what
changes between the frames of a tubelet is lost in it: seventeen motions were still at chance after
16,000 clips. A linear read-out of the untrained network's tokens (mean and deviation) tells 30 %
of the motions with those filters, and 46 % with the ones below and a larger initial deviation.
"""

import math

import torch
from torch import Tensor

from vjepa2.models.classification import VJEPA2ForVideoClassification


@torch.no_grad()
def start_with_space_time_filters(model: VJEPA2ForVideoClassification, pixels: Tensor) -> None:
    """Set the patch embedding to cosine filters whose outputs vary equally, in place.

    Each filter is a product of a colour direction (brightness or one of two differences), a
    cosine over the rows, one over the columns and one over the frames of a tubelet, the slowest
    first. On natural images such filters are nearly uncorrelated, but their sizes differ by
    orders of magnitude; scaled to mean 0 and deviation 1 over `pixels`, the faint differences
    between frames weigh as much as brightness. Source: Ahmed, Natarajan, Rao, "Discrete cosine
    transform", IEEE Trans. Computers 23 (1974).

    Args:
        model: with 3 colour channels.
        pixels: [B, T, 3, H, W] normalised clips to measure.
    """
    projection = model.vjepa2.encoder.embeddings.patch_embeddings.proj
    width, _, frames, side, _ = projection.weight.shape
    space, time = _cosines(side), _cosines(frames)
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    # Differences of colour carry less, so they are as late as much faster brightness.
    waves = sorted(
        (row + column + 3 * (colour > 0), row, column, colour, frame)
        for row in range(side)
        for column in range(side)
        for colour in range(3)
        for frame in range(frames)
    )[:width]
    filters = torch.stack(
        [
            torch.einsum("c,t,h,w->cthw", colours[colour], time[frame], space[row], space[column])
            for _, row, column, colour, frame in waves
        ]
    )
    assert projection.bias is not None
    projection.weight[: len(filters)] = filters
    projection.bias.zero_()
    outputs = model.vjepa2.encoder.embeddings(pixels)
    scale = 1 / outputs.std(dim=(0, 1)).clamp(min=1e-6)
    projection.weight.mul_(scale[:, None, None, None, None])
    projection.bias.copy_(-outputs.mean(dim=(0, 1)) * scale)


def _cosines(length: int) -> Tensor:
    """The orthonormal cosine transform, one wave a row, the slowest first: [length, length]."""
    places = torch.arange(length) + 0.5
    waves = torch.cos(math.pi / length * torch.arange(length)[:, None] * places)
    unit: Tensor = waves / waves.norm(dim=1, keepdim=True)
    return unit
