"""The token grid counts its tokens."""

from vjepa2.shapes import TokenGrid


def test_grid_counts() -> None:
    grid = TokenGrid(t=32, h=16, w=12)
    assert grid.num_tokens == 6144
    assert grid.tokens_per_step == 192
