"""Multi-block masks over the token grid, and how far a visible token is from the hidden ones.

A mask is a union of equally large blocks, each at a random place (arXiv:2506.09985, section 2.1;
the published code's generator). What no block covers is the context that the encoder sees, what
they cover is the target that the predictor has to tell. All clips of a step share one block size;
their places differ.
"""

from vjepa2.masking.config import MaskConfig, image_masks, published_masks
from vjepa2.masking.distances import context_distances
from vjepa2.masking.draw import draw_masks, fitted_to
from vjepa2.masking.ids import Masks, PackedMasks
from vjepa2.packing import PackedIds

__all__ = [
    "MaskConfig",
    "Masks",
    "PackedIds",
    "PackedMasks",
    "context_distances",
    "draw_masks",
    "fitted_to",
    "image_masks",
    "published_masks",
]
