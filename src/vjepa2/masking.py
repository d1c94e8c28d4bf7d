"""Masks over the token grid. So far: how far a visible token is from the hidden ones."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.shapes import TokenGrid


def context_distances(
    context_ids: Int[Tensor, "B K"],
    target_ids: Int[Tensor, "B M"],
    grid: TokenGrid,
    *,
    unit: float = 1.0,
) -> Float[Tensor, "B K"]:
    """Square root of the distance from every context token to the nearest target token.

    The context loss of V-JEPA 2.1 weights a token by the inverse of this (arXiv:2603.14482,
    section 3): visible tokens beside hidden ones count most.

    Args:
        context_ids: int64 ids of the visible tokens.
        target_ids: int64 ids of the hidden tokens, at least one.
        grid: the token grid both lie on.
        unit: distances are counted in this many tokens; `grid.h // 16` in the published option
            that makes large grids comparable to that of 256 pixels.

    Returns:
        float32, Euclidean in (time step, row, column), divided by `unit`, square-rooted; 1 for a
        neighbour.
    """
    context, target = (_coordinates(ids, grid) for ids in (context_ids, target_ids))
    # Differences, not the expanded square: neighbours are at distance 1 exactly.
    nearest = torch.cdist(context, target, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
    return (nearest / unit).sqrt()


def _coordinates(ids: Int[Tensor, "B N"], grid: TokenGrid) -> Float[Tensor, "B N 3"]:
    within = ids % grid.tokens_per_step
    axes = (ids // grid.tokens_per_step, within // grid.w, within % grid.w)
    return torch.stack(axes, dim=-1).float()
