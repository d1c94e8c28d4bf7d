"""Attention against three nested loops."""

import math

import pytest
import torch
from torch import Tensor, nn

from vjepa2.nn.attention import (
    AttentionImplementation,
    PoolerCrossAttention,
    PoolerSelfAttention,
    RotaryAttention,
    attend,
)
from vjepa2.nn.rope import RotaryTables, apply_rotary, rotary_tables
from vjepa2.shapes import TokenGrid

IMPLEMENTATIONS: tuple[AttentionImplementation, ...] = ("sdpa", "eager")
GRID = TokenGrid(2, 1, 3)


def slow_attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """[B, N, G, Dh] each; returns values [B, N, G * Dh] and weights [B, G, N, N2]."""
    B, N, G, Dh = query.shape
    out = torch.zeros(B, N, G, Dh, dtype=query.dtype)
    weights = torch.zeros(B, G, N, key.shape[1], dtype=query.dtype)
    for b in range(B):
        for g in range(G):
            for n in range(N):
                scores = [
                    sum(query[b, n, g, d].item() * k[d].item() for d in range(Dh)) / math.sqrt(Dh)
                    for k in key[b, :, g]
                ]
                total = sum(math.exp(score) for score in scores)
                for m, score in enumerate(scores):
                    weights[b, g, n, m] = math.exp(score) / total
                    out[b, n, g] += weights[b, g, n, m] * value[b, m, g]
    return out.reshape(B, N, G * Dh), weights


def heads(x: Tensor, layer: nn.Linear, num_heads: int) -> Tensor:
    """Project and cut into heads by slicing."""
    full = x @ layer.weight.T + layer.bias
    width = full.shape[-1] // num_heads
    return torch.stack([full[..., g * width : (g + 1) * width] for g in range(num_heads)], dim=2)


def tables(head_dim: int) -> RotaryTables:
    ids = torch.arange(GRID.num_tokens)[None]
    return rotary_tables(ids, GRID, head_dim=head_dim, dtype=torch.float64)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_attend_equals_loops(implementation: AttentionImplementation, need_weights: bool) -> None:
    query = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    key, value = torch.randn(2, 2, 5, 2, 4, dtype=torch.float64)
    got = attend(query, key, value, implementation=implementation, need_weights=need_weights)
    values, weights = slow_attention(query, key, value)
    torch.testing.assert_close(got.values, values, rtol=1e-12, atol=1e-12)
    if need_weights:
        assert got.weights is not None
        torch.testing.assert_close(got.weights, weights, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got.weights.sum(-1), torch.ones(2, 2, 3, dtype=torch.float64))
    else:
        assert got.weights is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_two_implementations_agree(dtype: torch.dtype) -> None:
    query, key, value = torch.randn(3, 2, 7, 3, 16).to(dtype)
    sdpa = attend(query, key, value, implementation="sdpa").values
    eager = attend(query, key, value, implementation="eager").values
    assert sdpa.dtype == eager.dtype == dtype
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(sdpa, eager, rtol=tolerance, atol=tolerance)


def test_softmax_is_written_out_in_float32_at_least() -> None:
    query, key, value = torch.randn(3, 1, 40, 1, 8).to(torch.bfloat16)
    weights = attend(query, key, value, implementation="eager", need_weights=True).weights
    assert weights is not None and weights.dtype == torch.bfloat16
    scores = (query[0, :, 0] * 8**-0.5) @ key[0, :, 0].T  # bfloat16, as in the network
    wanted = scores.double().softmax(-1)
    assert (weights[0, 0].double() - wanted).abs().max() <= wanted.max() * 2**-8


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_large_float16_scores_do_not_overflow(implementation: AttentionImplementation) -> None:
    """64 products of 40 * 40 exceed float16 before they are scaled, not after."""
    query = key = torch.full((1, 3, 1, 64), 40.0, dtype=torch.float16)
    value = torch.randn(1, 3, 1, 64).half()
    got = attend(query, key, value, implementation=implementation).values
    torch.testing.assert_close(got, value.mean(1).expand(1, 3, 64), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_rotary_attention_equals_loops(implementation: AttentionImplementation, bias: bool) -> None:
    layer = RotaryAttention(24, 2, qkv_bias=bias, dropout=0.0).double()
    assert (layer.query.bias is not None) == bias and layer.proj.bias is not None
    x = torch.randn(2, GRID.num_tokens, 24, dtype=torch.float64)
    rotary = tables(12)
    zero = torch.zeros(24, dtype=torch.float64)
    parts = []
    for linear in (layer.query, layer.key, layer.value):
        copy = nn.Linear(24, 24).double()
        copy.weight, copy.bias = linear.weight, nn.Parameter(linear.bias if bias else zero)
        parts.append(heads(x, copy, 2))
    values, weights = slow_attention(
        apply_rotary(parts[0], rotary), apply_rotary(parts[1], rotary), parts[2]
    )
    got = layer(x, rotary, implementation=implementation)
    torch.testing.assert_close(got.values, layer.proj(values), rtol=1e-12, atol=1e-12)
    assert got.weights is None
    seen = layer(x, rotary, implementation=implementation, need_weights=True)
    torch.testing.assert_close(seen.values, got.values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen.weights, weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_pooler_attention_equals_loops(implementation: AttentionImplementation) -> None:
    own = PoolerSelfAttention(12, 3, dropout=0.0).double()
    cross = PoolerCrossAttention(12, 3, dropout=0.0).double()
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    queries = torch.randn(2, 2, 12, dtype=torch.float64)
    projected = [heads(tokens, layer, 3) for layer in (own.q_proj, own.k_proj, own.v_proj)]
    wanted = own.out_proj(slow_attention(*projected)[0])
    got = own(tokens, implementation=implementation)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    wanted, _ = slow_attention(
        heads(queries, cross.q_proj, 3),
        heads(tokens, cross.k_proj, 3),
        heads(tokens, cross.v_proj, 3),
    )
    got = cross(queries, tokens, implementation=implementation)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_dropout_acts_in_training_only(implementation: AttentionImplementation) -> None:
    x = torch.randn(1, GRID.num_tokens, 24, dtype=torch.float64)
    layers = [
        RotaryAttention(24, 2, qkv_bias=True, dropout=0.5),
        PoolerSelfAttention(24, 2, dropout=0.5),
        PoolerCrossAttention(24, 2, dropout=0.5),
    ]
    inputs = [(x, tables(12)), (x,), (x[:, :1], x)]
    for layer, arguments in zip(layers, inputs, strict=True):
        layer.double()

        def run(layer: nn.Module = layer, arguments: tuple[object, ...] = arguments) -> Tensor:
            out = layer(*arguments, implementation=implementation)
            return out if isinstance(out, Tensor) else out.values

        layer.eval()
        assert torch.equal(run(), run())
        layer.train()
        assert not torch.allclose(run(), run())


def test_dropout_keeps_the_mean() -> None:
    """Weights are dropped with the probability and the others scaled up."""
    query = key = torch.zeros(1, 200, 1, 8)  # uniform weights
    value = torch.ones(1, 200, 1, 8)
    got = attend(query, key, value, implementation="eager", dropout=0.25, need_weights=True)
    assert got.weights is not None
    kept = got.weights[got.weights > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 200 / 0.75))
    assert kept.numel() / got.weights.numel() == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_steps_see_themselves_and_earlier_ones(
    num_steps: int, implementation: AttentionImplementation, need_weights: bool
) -> None:
    """Equals a softmax under a whole mask, made with a double loop; gradients too."""
    num_tokens = 12
    query, key, value = (
        torch.randn(2, num_tokens, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)
    )
    size = num_tokens // num_steps
    hidden = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    for i in range(num_tokens):
        for j in range(num_tokens):
            hidden[i, j] = j // size > i // size
    scores = torch.einsum("bigd,bjgd->bgij", query, key) / math.sqrt(8)
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    wanted = torch.einsum("bgij,bjgd->bigd", weights, value).flatten(2)
    got = attend(
        query,
        key,
        value,
        implementation=implementation,
        need_weights=need_weights,
        causal_steps=num_steps,
    )
    torch.testing.assert_close(got.values, wanted, rtol=1e-12, atol=1e-12)
    assert (got.weights is not None) == need_weights
    if need_weights:
        torch.testing.assert_close(got.weights, weights, rtol=1e-12, atol=1e-12)
    seed = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(got.values, (query, key, value), seed),
        torch.autograd.grad(wanted, (query, key, value), seed),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
