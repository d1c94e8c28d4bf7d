"""The attentive pooler against its formulas, one head at a time."""

import pytest
import torch
from torch import Tensor, nn

from tiny_models import randomise
from vjepa2.nn.pooler import AttentivePooler

DIM = 24


def make_pooler(
    *, heads: int = 2, layers: int = 2, eps: float = 1e-2, **options: int
) -> AttentivePooler:
    pooler = AttentivePooler(
        DIM, heads, num_layers=layers, activation="gelu", layer_norm_eps=eps, dropout=0.0, **options
    )
    return randomise(pooler.double()).eval()


def tokens(batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(batch, 7, DIM, dtype=torch.float64, generator=generator)


def norm(x: Tensor, layer: nn.LayerNorm, eps: float) -> Tensor:
    variance = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) / (variance + eps).sqrt() * layer.weight + layer.bias


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return x @ layer.weight.T + layer.bias


def perceptron(x: Tensor, mlp: nn.Module) -> Tensor:
    wide = linear(x, mlp.fc1)
    assert wide.shape[-1] == 4 * DIM  # whatever the encoder's ratio is
    return linear(wide * 0.5 * (1 + torch.erf(wide / 2**0.5)), mlp.fc2)


def attention(x: Tensor, y: Tensor, layer: nn.Module, heads: int) -> Tensor:
    """Head by head, sample by sample."""
    query, key, value = linear(x, layer.q_proj), linear(y, layer.k_proj), linear(y, layer.v_proj)
    out, width = torch.empty_like(query), DIM // heads
    for sample in range(len(x)):
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[sample, :, part] @ key[sample, :, part].T / width**0.5
            out[sample, :, part] = scores.softmax(-1) @ value[sample, :, part]
    return out


def slow_pooler(
    pooler: AttentivePooler, x: Tensor, *, heads: int, eps: float, number: int = 0
) -> Tensor:
    """The query of that number alone: the others make no difference to it."""
    for layer in pooler.self_attention_layers:
        normed = norm(x, layer.layer_norm1, eps)
        x = x + linear(attention(normed, normed, layer.self_attn, heads), layer.self_attn.out_proj)
        x = x + perceptron(norm(x, layer.layer_norm2, eps), layer.mlp)
    cross = pooler.cross_attention_layer
    query = pooler.query_tokens[:, number : number + 1].expand(len(x), 1, DIM)
    # The norm acts on the tokens, not on the query, and nothing is projected afterwards.
    query = query + attention(query, norm(x, cross.layer_norm1, eps), cross.cross_attn, heads)
    return (query + perceptron(norm(query, cross.layer_norm2, eps), cross.mlp))[:, 0]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("heads", "layers", "eps"), [(2, 2, 1e-2), (4, 0, 1e-6), (1, 1, 1e-1)])
@pytest.mark.parametrize("grad", [True, False])
def test_equals_the_formulas(
    implementation: str, heads: int, layers: int, eps: float, grad: bool
) -> None:
    pooler, x = make_pooler(heads=heads, layers=layers, eps=eps), tokens()
    before = x.clone()
    wanted = slow_pooler(pooler, x, heads=heads, eps=eps)
    with torch.set_grad_enabled(grad):
        got = pooler(x, implementation)
    assert got.shape == (2, DIM)
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    assert torch.equal(x, before)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("heads", "layers"), [(2, 2), (4, 0)])
def test_several_queries(implementation: str, heads: int, layers: int) -> None:
    """One vector per query, in the order of the queries: verb, noun, action."""
    pooler, x = make_pooler(heads=heads, layers=layers, num_queries=3), tokens()
    assert pooler.query_tokens.shape == (1, 3, DIM)
    got = pooler(x, implementation)
    assert got.shape == (2, 3, DIM)
    for number in range(3):
        wanted = slow_pooler(pooler, x, heads=heads, eps=1e-2, number=number)
        torch.testing.assert_close(got[:, number], wanted, rtol=1e-11, atol=1e-11)


def test_heads_and_eps_matter() -> None:
    """The shapes of all weights are the same: only the numbers tell that one is wrong."""
    x = tokens()
    wanted = make_pooler(heads=2, eps=1e-2)(x)
    assert not torch.allclose(make_pooler(heads=4, eps=1e-2)(x), wanted, rtol=1e-2)
    assert not torch.allclose(make_pooler(heads=2, eps=1e-3)(x), wanted, rtol=1e-4)


def test_the_order_of_tokens_does_not_matter() -> None:
    pooler, x = make_pooler(), tokens()
    torch.testing.assert_close(pooler(x.flip(1)), pooler(x), rtol=1e-11, atol=1e-11)


def test_recomputation_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        pooler = make_pooler().train()
        pooler.gradient_checkpointing = recompute
        x = tokens().requires_grad_()
        loss = pooler(x).square().sum()
        gradients.append(torch.autograd.grad(loss, [x, *pooler.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
