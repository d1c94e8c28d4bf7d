"""Rotary positions against loops written from the formulas of the paper."""

import math

import pytest
import torch
from torch import Tensor

from vjepa2.nn.rope import (
    RotaryLayout,
    apply_rotary,
    axis_width,
    conditioned_positions,
    conditioned_tables_for,
    rotary_tables,
    tables_for,
    token_positions,
)
from vjepa2.shapes import TokenGrid

LAYOUTS: tuple[RotaryLayout, ...] = ("tiled", "interleaved")
GRID = TokenGrid(3, 2, 5)


def rotate_one(
    channels: list[float], position: tuple[int, int, int], layout: RotaryLayout
) -> list[float]:
    """One head of one token, channel by channel."""
    width = 2 * (len(channels) // 3 // 2)
    half = width // 2
    result = list(channels)
    for axis in range(3):
        for pair in range(half):
            first, second = 2 * pair, 2 * pair + 1
            frequency = {
                "tiled": (first % half, second % half),
                "interleaved": (pair, pair),
            }[layout]
            angles = [position[axis] * 10_000.0 ** (-k / half) for k in frequency]
            x, y = channels[axis * width + first], channels[axis * width + second]
            result[axis * width + first] = x * math.cos(angles[0]) - y * math.sin(angles[0])
            result[axis * width + second] = y * math.cos(angles[1]) + x * math.sin(angles[1])
    return result


def rotate_all(x: Tensor, ids: Tensor, grid: TokenGrid, layout: RotaryLayout) -> Tensor:
    """[B, N, G, Dh] by `rotate_one`; positions by division of the id."""
    rows = []
    for sample, sample_ids in zip(x.tolist(), ids.expand(len(x), -1).tolist(), strict=True):
        tokens = []
        for heads, token_id in zip(sample, sample_ids, strict=True):
            time, rest = divmod(token_id, grid.h * grid.w)
            tokens.append([rotate_one(h, (time, *divmod(rest, grid.w)), layout) for h in heads])
        rows.append(tokens)
    return torch.tensor(rows, dtype=x.dtype)


def rotated(x: Tensor, ids: Tensor, layout: RotaryLayout, grid: TokenGrid = GRID) -> Tensor:
    tables = rotary_tables(ids, grid, head_dim=x.shape[-1], layout=layout, dtype=x.dtype)
    return apply_rotary(x, tables)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("head_dim", [6, 7, 12, 16, 32, 64, 80, 88])
def test_equals_the_formula_channel_by_channel(layout: RotaryLayout, head_dim: int) -> None:
    x = torch.randn(2, GRID.num_tokens, 2, head_dim, dtype=torch.float64)
    ids = torch.arange(GRID.num_tokens)[None]
    torch.testing.assert_close(
        rotated(x, ids, layout), rotate_all(x, ids, GRID, layout), rtol=1e-12, atol=1e-12
    )


def test_every_sample_may_have_its_own_ids() -> None:
    x = torch.randn(3, 4, 1, 12, dtype=torch.float64)
    ids = torch.tensor([[0, 7, 7, 29], [3, 1, 200, 5], [9, 8, 7, 6]])
    torch.testing.assert_close(
        rotated(x, ids, "tiled"), rotate_all(x, ids, GRID, "tiled"), rtol=1e-12, atol=1e-12
    )


def test_compatibility_tiled_pairs_use_two_frequencies() -> None:
    """Numbers by hand: the first pair of a 4-channel axis turns by 1 and by 10000^(-1/2).

    The released V-JEPA 2 weights were trained with this. A textbook rotation would give
    (cos 1, sin 1); if that is what comes out, somebody has "fixed" it and broken every checkpoint.
    """
    x = torch.zeros(1, 1, 1, 12, dtype=torch.float64)
    x[..., 0] = 1.0
    at_time_one = torch.tensor([[GRID.tokens_per_step]])
    result = rotated(x, at_time_one, "tiled")[0, 0, 0]
    assert result[0].item() == pytest.approx(math.cos(1.0), abs=1e-12)
    assert result[1].item() == pytest.approx(math.sin(0.01), abs=1e-12)
    assert result[2:].abs().max() == 0


def test_compatibility_tiled_is_not_a_rotation() -> None:
    """It changes lengths, and scores depend on where, not only on how far apart."""
    x = torch.randn(1, GRID.num_tokens, 1, 64, dtype=torch.float64)
    norms = rotated(x, torch.arange(GRID.num_tokens)[None], "tiled").norm(dim=-1) / x.norm(dim=-1)
    assert (norms[:, 1:] - 1).abs().min() > 1e-4
    assert norms[0, 0] == 1
    assert abs(score_at(0, 7, "tiled") - score_at(11, 18, "tiled")) > 1e-3


def score_at(query_id: int, key_id: int, layout: RotaryLayout) -> float:
    """q . k of two fixed random vectors standing at two tokens."""
    query, key = torch.randn(
        2, 1, 1, 1, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    turned_query = rotated(query, torch.tensor([[query_id]]), layout)
    turned_key = rotated(key, torch.tensor([[key_id]]), layout)
    return float((turned_query * turned_key).sum())


def test_interleaved_is_a_rotation() -> None:
    x = torch.randn(1, GRID.num_tokens, 1, 64, dtype=torch.float64)
    turned = rotated(x, torch.arange(GRID.num_tokens)[None], "interleaved")
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=0)
    # 0 to 7 and 11 to 18 are the same step on a 2x5 grid: one row down, two columns right.
    assert score_at(0, 7, "interleaved") == pytest.approx(score_at(11, 18, "interleaved"))
    assert score_at(0, 7, "interleaved") != pytest.approx(score_at(0, 8, "interleaved"))


@pytest.mark.parametrize(
    ("grid", "rows", "columns"),
    [
        # n positions spread from 0 to 15; time stays as it is.
        (TokenGrid(2, 4, 6), [0, 5, 10, 15], [0, 3, 6, 9, 12, 15]),
        (TokenGrid(2, 16, 2), list(range(16)), [0, 15]),
        (TokenGrid(3, 1, 31), [0], [0.5 * k for k in range(31)]),  # one row: no division by zero
    ],
)
def test_positions_mapped_onto_a_reference_grid(
    grid: TokenGrid, rows: list[float], columns: list[float]
) -> None:
    ids = torch.arange(grid.num_tokens)[None]
    tables = rotary_tables(
        ids,
        grid,
        head_dim=6,  # one frequency, 1, for each axis: the angle is the position
        layout="interleaved",
        reference_side=16,
        dtype=torch.float64,
    )
    wanted = [(t, r, c) for t in range(grid.t) for r in rows for c in columns]
    for axis in range(3):
        got = tables.cos[0, :, 0, 2 * axis].tolist()
        assert got == pytest.approx([math.cos(p[axis]) for p in wanted], abs=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_after_the_three_axes_stay_as_they_are(layout: RotaryLayout) -> None:
    x = torch.randn(2, GRID.num_tokens, 3, 32)
    turned = rotated(x, torch.arange(GRID.num_tokens)[None], layout)
    assert torch.equal(turned[..., 30:], x[..., 30:])
    assert not torch.isclose(turned[:, 1:, :, :30], x[:, 1:, :, :30]).all(dim=-1).any()


def test_the_input_is_not_overwritten() -> None:
    x = torch.randn(1, 4, 1, 12)
    before = x.clone()
    rotated(x, torch.arange(4)[None], "tiled")
    assert torch.equal(x, before)


@pytest.mark.parametrize(("head_dim", "width"), [(64, 20), (80, 26), (88, 28), (32, 10), (104, 34)])
def test_width_of_an_axis(head_dim: int, width: int) -> None:
    assert axis_width(head_dim) == width  # the table in the published models' description


def test_positions_on_a_grid_that_is_not_square_and_beyond_the_clip() -> None:
    grid = TokenGrid(2, 3, 5)
    steps = range(grid.t + 2)  # two steps more than the clip has
    wanted = [(t, h, w) for t in steps for h in range(grid.h) for w in range(grid.w)]
    ids = torch.arange(len(wanted))
    assert list(zip(*(p.tolist() for p in token_positions(ids, grid)), strict=True)) == wanted


def exact_cosines(ids: Tensor, head_dim: int) -> Tensor:
    return rotary_tables(ids, GRID, head_dim=head_dim, dtype=torch.float64).cos


def test_half_precision_tables_are_float32_rounded_once() -> None:
    """In bfloat16 the angles themselves would be off by 0.03 rad at position 31."""
    ids = torch.arange(64 * GRID.tokens_per_step)[None]
    for dtype, half_step in ((torch.bfloat16, 2**-9), (torch.float16, 2**-12)):
        tokens = torch.zeros(1, ids.shape[1], 8, dtype=dtype)
        tables = tables_for(tokens, ids, GRID, head_dim=64)
        assert tables.cos.dtype == tables.sin.dtype == dtype
        error = (tables.cos.double() - exact_cosines(ids, 64)).abs().max()
        assert error < half_step * 1.1


def test_double_tables_are_double() -> None:
    ids = torch.arange(GRID.num_tokens)[None]
    tables = tables_for(torch.zeros(1, 30, 8, dtype=torch.float64), ids, GRID, head_dim=64)
    assert tables.cos.dtype == torch.float64
    for channel in range(60):
        axis, within = divmod(channel, 20)
        position = token_positions(ids[0], GRID)[axis].tolist()
        wanted = [math.cos(p * 10_000 ** (-(within % 10) / 10)) for p in position]
        assert tables.cos[0, :, 0, channel].tolist() == pytest.approx(wanted, abs=1e-14)


def test_tables_follow_autocast_except_where_autocast_does_nothing() -> None:
    ids = torch.arange(4)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = tables_for(torch.zeros(1, 4, 8), ids, GRID, head_dim=12)
        double = tables_for(torch.zeros(1, 4, 8, dtype=torch.float64), ids, GRID, head_dim=12)
    assert single.cos.dtype == torch.bfloat16
    assert double.cos.dtype == torch.float64
    outside = tables_for(torch.zeros(1, 4, 8), ids, GRID, head_dim=12)
    assert outside.cos.dtype == torch.float32


def test_tables_on_the_meta_device() -> None:
    ids = torch.arange(4, device="meta")[None]
    tables = tables_for(torch.zeros(1, 4, 8, device="meta"), ids, GRID, head_dim=12)
    assert tables.cos.shape == (1, 4, 1, 12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient(layout: RotaryLayout) -> None:
    x = torch.randn(1, 3, 1, 8, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[1, 9, 23]])
    assert torch.autograd.gradcheck(lambda x: rotated(x, ids, layout), (x,))


def test_positions_of_steps_with_conditions_by_hand() -> None:
    """Two steps of 2 conditions and 1 x 3 patches, on a network trained on 6 x 6."""
    got = conditioned_positions(
        TokenGrid(2, 1, 3), num_conditions=2, training_side=6, device=torch.device("cpu")
    )
    step = [(0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 2), (0, 0, 4)]
    wanted = torch.tensor([step + [(1, row, column) for _, row, column in step]])
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted.float(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_tables_of_steps_with_conditions(dtype: torch.dtype) -> None:
    """At the training size patches turn as the encoder's; conditions by the time channels alone."""
    grid = TokenGrid(3, 4, 4)
    tables = conditioned_tables_for(
        torch.zeros(1, 3 * 18, 8, dtype=dtype), grid, num_conditions=2, training_side=4, head_dim=16
    )
    assert tables.cos.dtype == tables.sin.dtype == dtype
    patches = tables_for(
        torch.zeros(1, 48, 8, dtype=dtype), torch.arange(48)[None], grid, head_dim=16
    )
    for one, other in zip(tables[:2], patches[:2], strict=True):
        assert torch.equal(one.unflatten(1, (3, 18))[:, :, 2:].flatten(1, 2), other)
    cos = tables.cos.unflatten(1, (3, 18))[0, :, :2, 0]  # [step, condition, channel]
    sin = tables.sin.unflatten(1, (3, 18))[0, :, :2, 0]
    assert (cos[..., 4:] == 1).all() and (sin[..., 4:] == 0).all()
    angles = torch.arange(3, dtype=torch.float64)[:, None] * torch.tensor([1, 0.01] * 2).double()
    wanted = angles.cos()[:, None].expand(-1, 2, -1)
    tolerance = 5e-3 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(cos[..., :4].double(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("head_dim", [6, 7, 32, 64, 80])
def test_pairs_as_complex_numbers_equal_the_formula(layout: RotaryLayout, head_dim: int) -> None:
    x = torch.randn(2, 30, 2, head_dim, dtype=torch.float64, requires_grad=True)
    ids = torch.arange(GRID.num_tokens)[None]
    tables = tables_for(x.flatten(2), ids, GRID, head_dim=head_dim, layout=layout)
    assert (tables.pairs is None) == (head_dim == 7)  # an odd channel has no partner
    turned = apply_rotary(x, tables)
    wanted = rotate_all(x.detach(), ids, GRID, layout)
    torch.testing.assert_close(turned, wanted, rtol=1e-12, atol=1e-12)
    plain = apply_rotary(x, tables._replace(pairs=None))
    weights = torch.randn_like(x)
    one, other = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (turned, plain))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_memory_that_is_no_row_of_pairs_is_rotated_too() -> None:
    whole = torch.randn(2 * 30 * 2 * 12 + 1, dtype=torch.float64)
    x = whole[1:].view(2, 30, 2, 12)  # starts at the second half of a pair
    ids = torch.arange(GRID.num_tokens)[None]
    tables = tables_for(x.flatten(2), ids, GRID, head_dim=12)
    wanted = rotate_all(x, ids, GRID, "tiled")
    torch.testing.assert_close(apply_rotary(x, tables), wanted, rtol=1e-12, atol=1e-12)
