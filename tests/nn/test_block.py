"""Blocks and stacks of blocks: composition, stochastic depth, levels, recomputation."""

import pytest
import torch
from torch import Tensor, nn

from tiny_models import randomise
from vjepa2.nn import mlp as mlp_module
from vjepa2.nn.block import Block, DropPath, StackOutput, run_blocks
from vjepa2.nn.rope import RotaryTables, rotary_tables
from vjepa2.shapes import TokenGrid

GRID = TokenGrid(2, 2, 3)
DIM, HEADS = 24, 2


def make_block(*, dropout: float = 0.0, drop_path: float = 0.0, seed: int = 0) -> Block:
    block = Block(
        DIM,
        HEADS,
        mlp_ratio=2.0,
        activation="gelu",
        qkv_bias=True,
        layer_norm_eps=1e-3,
        attention_dropout=dropout,
        drop_path=drop_path,
    )
    return randomise(block.double(), seed=seed).eval()


def make_stack(depth: int = 3, *, drop_path: float = 0.0) -> nn.ModuleList:
    return nn.ModuleList(make_block(drop_path=drop_path, seed=seed) for seed in range(depth))


def rotary() -> RotaryTables:
    ids = torch.arange(GRID.num_tokens)[None]
    return rotary_tables(ids, GRID, head_dim=DIM // HEADS, dtype=torch.float64)


def tokens(batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, GRID.num_tokens, DIM, dtype=torch.float64, generator=generator)


def run(stack: nn.ModuleList, x: Tensor, *, levels: tuple[int, ...] = (), recompute: bool = False,
        weights: bool = False) -> StackOutput:  # fmt: skip
    return run_blocks(
        stack,
        x,
        rotary(),
        implementation="sdpa",
        recompute=recompute,
        keep_levels=levels,
        keep_weights=weights,
    )


def norm_by_hand(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    assert norm.eps == 1e-3
    return (x - x.mean(-1, keepdim=True)) / (
        x.var(-1, keepdim=True, correction=0) + norm.eps
    ).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_block_is_two_pre_norm_residuals(training: bool, grad: bool) -> None:
    block, x = make_block().train(training), tokens()
    before = x.clone()
    middle = (
        x + block.attention(norm_by_hand(x, block.norm1), rotary(), implementation="eager").values
    )
    wanted = middle + block.mlp(norm_by_hand(middle, block.norm2))
    with torch.set_grad_enabled(grad):
        got = block(x, rotary())
    torch.testing.assert_close(got.tokens, wanted, rtol=1e-11, atol=1e-11)
    assert got.weights is None
    assert torch.equal(x, before)
    assert block(x, rotary(), "sdpa", True).weights.shape == (2, HEADS, 12, 12)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    drop, x = DropPath(0.3), torch.randn(20_000, 2, 3)
    out = drop(x)
    ratio = out / x
    per_sample = ratio[:, 0, 0]
    torch.testing.assert_close(ratio, per_sample[:, None, None].expand_as(ratio))
    kept = per_sample != 0
    torch.testing.assert_close(per_sample[kept], torch.full((int(kept.sum()),), 1 / 0.7))
    # Five standard deviations of a coin thrown 20000 times.
    assert abs(kept.float().mean().item() - 0.7) < 5 * (0.7 * 0.3 / 20_000) ** 0.5


def test_drop_path_is_reproducible_and_acts_in_training_only() -> None:
    drop, x = DropPath(0.5), torch.randn(64, 1, 1)
    torch.manual_seed(3)
    first = drop(x)
    torch.manual_seed(3)
    assert torch.equal(first, drop(x))
    assert not torch.equal(first, drop(x))
    assert drop.eval()(x) is x
    assert DropPath(0.0).train()(x) is x
    assert repr(drop) == "DropPath(probability=0.5)"


def test_a_block_whose_branches_are_dropped_is_the_identity() -> None:
    block, x = make_block(drop_path=0.5).train(), tokens(batch=64)
    out = block(x, rotary()).tokens
    unchanged = (out == x).flatten(1).all(1)
    # Both branches of a sample are dropped with probability 1/4.
    assert 0.05 < unchanged.double().mean() < 0.5
    assert torch.equal(block.eval()(x, rotary()).tokens, block(x, rotary()).tokens)


def slow_levels(stack: nn.ModuleList, x: Tensor) -> list[Tensor]:
    levels = [x]
    for block in stack:
        levels.append(block(levels[-1], rotary(), "eager").tokens.detach())
    return levels


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("piece_bytes", [1, mlp_module.PIECE_BYTES])
def test_levels_are_what_went_in_and_out_of_every_block(
    monkeypatch: pytest.MonkeyPatch, grad: bool, piece_bytes: int
) -> None:
    """Also where blocks overwrite their own results piece by piece."""
    stack, x = make_stack(), tokens()
    before = x.clone()
    wanted = slow_levels(stack, x)
    monkeypatch.setattr(mlp_module, "PIECE_BYTES", piece_bytes)
    with torch.set_grad_enabled(grad):
        got = run(stack, x, levels=(0, 1, 2, 3), weights=True)
    assert torch.equal(x, before)
    assert len(got.levels) == 4 and len(got.weights) == 3
    for level, expected in zip(got.levels, wanted, strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(got.tokens, wanted[-1], rtol=1e-11, atol=1e-11)


def test_only_the_levels_asked_for_are_kept() -> None:
    stack, x = make_stack(), tokens()
    got = run(stack, x, levels=(1, 3))
    assert [level is not None for level in got.levels] == [False, True, False, True]
    torch.testing.assert_close(got.levels[1], slow_levels(stack, x)[1])
    assert run(stack, x).levels == []
    assert run(stack, x).weights == []


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_recomputation_changes_no_gradient(drop_path: float) -> None:
    """The same branches are dropped when a block is computed the second time."""

    def gradients(*, recompute: bool) -> list[Tensor]:
        torch.manual_seed(11)
        stack, x = make_stack(drop_path=drop_path).train(), tokens(8).requires_grad_()
        out = run(stack, x, levels=(2,), recompute=recompute, weights=True)
        loss = out.tokens.square().sum() + out.levels[2].sum() + out.weights[0].square().sum()
        return list(torch.autograd.grad(loss, [x, *stack.parameters()]))

    for one, other in zip(gradients(recompute=True), gradients(recompute=False), strict=True):
        assert torch.equal(one, other)


def test_recomputation_keeps_fewer_activations() -> None:
    def kept_bytes(*, recompute: bool) -> int:
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        stack = make_stack().train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run(stack, tokens().requires_grad_(), recompute=recompute)
        return total

    assert kept_bytes(recompute=True) < 0.3 * kept_bytes(recompute=False)
