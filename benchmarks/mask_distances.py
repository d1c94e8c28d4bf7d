"""Distances from visible to hidden tokens, beside a loop over the visible ones.

    python -m benchmarks.mask_distances

The context loss of V-JEPA 2.1 weights every visible token by its distance to the nearest hidden
one. The reference does what the published training code does: sample by sample, one context token
after the other, its distances to all targets, and the least of them. Masks are those of 64 frames
of 384 pixels (32 x 24 x 24 tokens), 4096 context tokens a sample. Both sides use one thread.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.common import interleaved, parser, save
from vjepa2.masking import MaskConfig, context_distances, draw_masks
from vjepa2.shapes import TokenGrid

GRID = TokenGrid(32, 24, 24)
NUM_CONTEXT = 4096
REPEATS = 9


def coordinates(ids: Tensor) -> Tensor:
    """(time, row, column) of ids [n]: [n, 3]."""
    within = ids % GRID.tokens_per_step
    return torch.stack([ids // GRID.tokens_per_step, within // GRID.w, within % GRID.w], dim=-1)


def by_loop(context_ids: Tensor, target_ids: Tensor) -> Tensor:
    """The same distances, one context token after the other."""
    rows = []
    for context, target in zip(context_ids, target_ids, strict=True):
        places = coordinates(target).float()
        nearest = []
        for token in coordinates(context).float():
            nearest.append((places - token).square().sum(dim=-1).sqrt().min().sqrt())
        rows.append(torch.stack(nearest))
    return torch.stack(rows)


def case(batch: int) -> dict[str, Any]:
    """Both sides on the masks of `batch` samples."""
    config = MaskConfig(max_context=NUM_CONTEXT, min_context=NUM_CONTEXT / GRID.num_tokens)
    masks = draw_masks(config, GRID, batch=batch, seed=0, step=0)
    ids = masks.context_ids, masks.target_ids
    difference = (context_distances(*ids, GRID) - by_loop(*ids)).abs().max().item()
    return {
        "context_tokens": masks.context_ids.shape[1],
        "target_tokens": masks.target_ids.shape[1],
        "largest_difference": difference,
        **interleaved(
            lambda: context_distances(*ids, GRID),
            lambda: by_loop(*ids),
            repeats=REPEATS if batch == 1 else 3,
        ),
    }


def main() -> None:
    parser(__doc__).parse_args()
    torch.set_num_threads(1)
    results = {f"batch {batch}": case(batch) for batch in (1, 4)}
    print(results)
    save("mask_distances", results)


if __name__ == "__main__":
    main()
