"""Distances between visible and hidden tokens, by a loop and by the published code's numbers."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny_models import random_ids
from vjepa2.masking import context_distances
from vjepa2.shapes import TokenGrid

META = Path(__file__).parent / "fixtures" / "meta"


def by_loop(context: list[int], target: list[int], grid: TokenGrid) -> list[float]:
    def place(token_id: int) -> tuple[int, int, int]:
        time, rest = divmod(token_id, grid.h * grid.w)
        return (time, *divmod(rest, grid.w))

    return [math.sqrt(min(math.dist(place(c), place(t)) for t in target)) for c in context]


@pytest.mark.parametrize("grid", [TokenGrid(4, 4, 4), TokenGrid(3, 2, 7), TokenGrid(1, 5, 1)])
@pytest.mark.parametrize("unit", [1.0, 2.0])
def test_distance_to_the_nearest_hidden_token(grid: TokenGrid, unit: float) -> None:
    ids = random_ids(grid.num_tokens, grid.num_tokens, batch=3)
    context, target = ids[:, : grid.num_tokens // 2], ids[:, grid.num_tokens // 2 :][:, :3]
    got = context_distances(context, target, grid, unit=unit)
    for row, c, t in zip(got, context.tolist(), target.tolist(), strict=True):
        wanted = [value / math.sqrt(unit) for value in by_loop(c, t, grid)]
        assert row.tolist() == pytest.approx(wanted, abs=1e-6)


def test_one_sample_with_one_token_keeps_its_axes() -> None:
    """The published code squeezes them away and fails at batch size 1."""
    got = context_distances(torch.tensor([[0]]), torch.tensor([[5]]), TokenGrid(1, 2, 4))
    assert got.tolist() == [[pytest.approx(2**0.25)]]


def test_a_large_grid_is_exact() -> None:
    grid = TokenGrid(32, 24, 24)
    ids = torch.arange(grid.num_tokens)[None]
    got = context_distances(ids[:, 1:4097], ids[:, :1], grid)
    assert got[0, 0] == 1.0
    assert got[0, 24 * 24 * 7 - 1] == math.sqrt(7.0)  # seven steps later, same place


@pytest.mark.parametrize(
    ("name", "side", "unit"), [("distance_grid4", 4, 1.0), ("distance_grid32_offset", 32, 2.0)]
)
def test_equals_the_published_code(name: str, side: int, unit: float) -> None:
    stored = load_file(META / "vjepa21_mask_distance.safetensors")
    got = context_distances(
        stored["context_mask"], stored["target_mask"], TokenGrid(4, side, side), unit=unit
    )
    torch.testing.assert_close(got, stored[name], rtol=0, atol=1e-6)
