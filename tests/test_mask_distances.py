"""Distances from visible to hidden tokens, by a loop and by the published code's numbers."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny_models import random_ids
from vjepa2.errors import MaskError
from vjepa2.masking import (
    MaskConfig,
    PackedIds,
    context_distances,
    draw_masks,
    published_masks,
)
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


@pytest.mark.parametrize("config", published_masks())
@pytest.mark.parametrize("unit", [1.0, 2.0])
def test_packed_samples_of_different_lengths(config: MaskConfig, unit: float) -> None:
    grid = TokenGrid(3, 9, 7)
    masks = draw_masks(config, grid, batch=5, seed=0, step=0, packed=True)
    assert len(set(masks.context.lengths)) > 1
    got = context_distances(masks.context, masks.target, grid, unit=unit)
    assert got.shape == (1, sum(masks.context.lengths)) and got.dtype == torch.float32
    wanted: list[float] = []
    for number in range(5):
        one = masks.rows(number, number + 1)
        wanted += by_loop(one.context_ids.tolist(), one.target_ids.tolist(), grid)
    assert got[0].tolist() == pytest.approx([w / math.sqrt(unit) for w in wanted], abs=1e-6)


@pytest.mark.parametrize("wrong", [-1, 12])
def test_ids_outside_the_grid_are_named(wrong: int) -> None:
    grid, good = TokenGrid(1, 3, 4), torch.tensor([[0, 1]])
    bad = torch.tensor([[0, wrong]])
    with pytest.raises(MaskError, match=r"context_ids holds ids from .* allows \[0, 12\)"):
        context_distances(bad, good, grid)
    with pytest.raises(MaskError, match="target_ids holds ids"):
        context_distances(good, bad, grid)
    with pytest.raises(MaskError, match="context_ids hold 1 samples, target_ids 2"):
        context_distances(good, good.expand(2, -1), grid)
    with pytest.raises(MaskError, match="context_ids hold 2 samples, target_ids 1"):
        context_distances(PackedIds(good[0], (1, 1)), PackedIds(good[0], (2,)), grid)
