"""How far visible tokens are from hidden ones, for the context loss of V-JEPA 2.1."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import MaskError
from vjepa2.packing import PackedIds
from vjepa2.shapes import TokenGrid

# Most numbers that are computed at once.
PIECE_ON_CPU, PIECE = 2**18, 2**28


def context_distances(
    context_ids: Int[Tensor, "B K"] | PackedIds,
    target_ids: Int[Tensor, "B M"] | PackedIds,
    grid: TokenGrid,
    *,
    unit: float = 1.0,
) -> Float[Tensor, "B K"]:
    """Square root of the distance from every context token to the nearest target token.

    The context loss of V-JEPA 2.1 weights a token by the inverse of this (arXiv:2603.14482,
    section 3): visible tokens beside hidden ones count most. The nearest one is searched along one
    axis of the grid after the other, which is exact for Euclidean distances and costs
    N * (t + h + w) instead of K * M steps.

    Args:
        context_ids: int64 ids of the visible tokens, or packed ids of samples of any lengths.
        target_ids: int64 ids of the hidden tokens, at least one per sample; packed as the context.
        grid: the token grid both lie on.
        unit: distances are counted in this many tokens; `grid.h // 16` in the published option
            that makes large grids comparable to that of 256 pixels.

    Returns:
        float32, Euclidean in (time step, row, column), divided by `unit`, square-rooted; 1 for a
        neighbour. [1, sum K] for packed ids.

    Raises:
        MaskError: ids outside the grid (looked at on the CPU only), or different numbers of
            samples.
    """
    context, batch = _places("context_ids", context_ids, grid)
    target, target_batch = _places("target_ids", target_ids, grid)
    if batch != target_batch:
        raise MaskError(f"context_ids hold {batch} samples, target_ids {target_batch}.")
    squares = torch.full((batch * grid.num_tokens,), torch.inf, device=target.device)
    squares[target.flatten()] = 0.0
    # On a CPU what one piece computes has to stay in the cache.
    most = PIECE_ON_CPU if squares.device.type == "cpu" else PIECE
    pieces = squares.view(batch, *grid).split(max(1, most // (grid.num_tokens * max(grid))))
    squares = torch.cat([_nearest_squares(piece, grid) for piece in pieces]).flatten()
    return (squares[context].sqrt() / unit).sqrt()


def _nearest_squares(
    squares: Float[Tensor, "B t h w"], grid: TokenGrid
) -> Float[Tensor, "B t h w"]:
    """Squared distance from every token to the nearest that holds 0; the others hold infinity."""
    for side in reversed(grid):
        place = torch.arange(side, device=squares.device)
        apart = (place[:, None] - place).square()  # whole numbers: exact in float32
        rows = squares.movedim(-1, 1).contiguous()  # the next axis from the back, first
        squares = (rows[:, None] + apart[..., None, None]).amin(2)
    return squares


def _places(
    name: str, ids: Int[Tensor, "B n"] | PackedIds, grid: TokenGrid
) -> tuple[Int[Tensor, "B2 n2"], int]:
    """Where tokens lie in the joined grids of all samples, and how many samples there are."""
    flat = ids.ids[None] if isinstance(ids, PackedIds) else ids
    if flat.device.type == "cpu" and flat.numel() and not torch.compiler.is_compiling():
        low, high = int(flat.min()), int(flat.max())
        if low < 0 or high >= grid.num_tokens:
            raise MaskError(
                f"{name} holds ids from {low} to {high}; a grid of {grid.t}x{grid.h}x{grid.w} "
                f"allows [0, {grid.num_tokens})."
            )
    if isinstance(ids, PackedIds):
        return ids.in_joined_clips(grid.num_tokens)[None], len(ids.lengths)
    first = torch.arange(len(flat), device=flat.device) * grid.num_tokens
    return flat + first[:, None], len(flat)
