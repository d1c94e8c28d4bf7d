"""The perceptron of a block, in one piece and in many, and who may see it being overwritten."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from vjepa2.nn import mlp as mlp_module
from vjepa2.nn.mlp import MLP, add_mlp

DIM, HIDDEN = 8, 20


@pytest.fixture
def mlp() -> MLP:
    return MLP(DIM, ratio=2.5, activation="gelu").double().eval()


@pytest.fixture
def norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(DIM).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Tokens of every call of an MLP; counted on the class, where nobody counts as watching."""
    seen: list[int] = []
    forward = MLP.forward

    def counting(self: MLP, x: Tensor) -> Tensor:
        seen.append(x.shape[:-1].numel())
        return forward(self, x)

    monkeypatch.setattr(MLP, "forward", counting)
    return seen


def by_hand(x: Tensor, mlp: MLP) -> Tensor:
    wide = x @ mlp.fc1.weight.T + mlp.fc1.bias
    wide = wide * 0.5 * (1 + torch.erf(wide / 2**0.5))
    return wide @ mlp.fc2.weight.T + mlp.fc2.bias


def norm_by_hand(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / (variance + norm.eps) ** 0.5 * norm.weight + norm.bias


def in_pieces(monkeypatch: pytest.MonkeyPatch, *, tokens: int) -> None:
    """Let one piece hold so many tokens."""
    monkeypatch.setattr(mlp_module, "PIECE_BYTES", tokens * HIDDEN * 8)


def test_width_is_rounded_down_as_published() -> None:
    assert MLP(176, ratio=48 / 11, activation="gelu").fc1.out_features == 768
    assert MLP(1408, ratio=48 / 11, activation="gelu").fc1.out_features == 6144
    assert MLP(10, ratio=1.29, activation="gelu").fc1.out_features == 12


@pytest.mark.parametrize("grad", [True, False])
def test_equals_the_formula(mlp: MLP, grad: bool) -> None:
    x = torch.randn(2, 3, DIM, dtype=torch.float64)
    before = x.clone()
    with torch.set_grad_enabled(grad):
        got = mlp(x)
    torch.testing.assert_close(got, by_hand(x, mlp), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize("tokens", [1, 3, 7, 100])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_pieces_equal_the_whole(
    mlp: MLP,
    norm: nn.LayerNorm,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[int],
    tokens: int,
    context: Callable[[], AbstractContextManager[None]],
) -> None:
    x = torch.randn(2, 11, DIM, dtype=torch.float64)
    wanted = x + by_hand(norm_by_hand(x, norm), mlp)
    in_pieces(monkeypatch, tokens=tokens)
    with context():
        got = add_mlp(x.clone(), norm, mlp)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert sum(calls) == 22
    assert max(calls) <= tokens or calls == [22]
    assert len(calls) == (1 if tokens >= 22 else -(-22 // max(calls)))


@pytest.mark.parametrize("grad", [True, False])
def test_only_without_gradients_is_the_input_overwritten(
    mlp: MLP, norm: nn.LayerNorm, monkeypatch: pytest.MonkeyPatch, calls: list[int], grad: bool
) -> None:
    in_pieces(monkeypatch, tokens=4)
    x = torch.randn(2, 11, DIM, dtype=torch.float64)
    before = x.clone()
    with torch.set_grad_enabled(grad):
        got = add_mlp(x, norm, mlp)
    if grad:
        assert torch.equal(x, before) and calls == [22]
    else:
        assert got.data_ptr() == x.data_ptr() and len(calls) > 1


def test_a_view_with_gaps_is_not_overwritten(
    mlp: MLP, norm: nn.LayerNorm, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_pieces(monkeypatch, tokens=4)
    full = torch.randn(2, 22, DIM, dtype=torch.float64)
    before = full.clone()
    with torch.no_grad():
        got = add_mlp(full[:, ::2], norm, mlp)
    assert torch.equal(full, before)
    wanted = before[:, ::2] + by_hand(norm_by_hand(before[:, ::2], norm), mlp)
    torch.testing.assert_close(got, wanted)


def watch(module: nn.Module, seen: list[Tensor]) -> None:
    module.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))


@pytest.mark.parametrize("part", ["norm", "mlp", "mlp.fc1", "mlp.activation", "mlp.fc2"])
def test_a_hook_sees_whole_tensors_that_stay_as_they_were(
    mlp: MLP, norm: nn.LayerNorm, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Feature extractors keep what they see; it must not change afterwards."""
    in_pieces(monkeypatch, tokens=4)
    x = torch.randn(2, 11, DIM, dtype=torch.float64)
    normed = norm_by_hand(x, norm)
    wide = normed @ mlp.fc1.weight.T + mlp.fc1.bias
    active = wide * 0.5 * (1 + torch.erf(wide / 2**0.5))
    out = by_hand(normed, mlp)
    wanted = {
        "norm": (x.clone(), normed),
        "mlp": (normed, out),
        "mlp.fc1": (normed, wide),
        "mlp.activation": (wide, active),
        "mlp.fc2": (active, out),
    }[part]
    seen: list[Tensor] = []
    watch(nn.ModuleDict({"norm": norm, "mlp": mlp}).get_submodule(part), seen)
    with torch.no_grad():
        result = add_mlp(x, norm, mlp)
    assert len(seen) == 2
    for got, expected in zip(seen, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result, wanted[0] + out if part == "norm" else x + out)


def test_a_hook_on_all_modules_sees_what_fc1_gave(mlp: MLP) -> None:
    x = torch.randn(2, DIM, dtype=torch.float64)
    kept: dict[nn.Module, Tensor] = {}
    handle = register_module_forward_hook(lambda part, _, out: kept.__setitem__(part, out))
    try:
        with torch.no_grad():
            mlp(x)
    finally:
        handle.remove()
    assert kept.keys() == {mlp, mlp.fc1, mlp.activation, mlp.fc2}
    torch.testing.assert_close(kept[mlp.fc1], x @ mlp.fc1.weight.T + mlp.fc1.bias)


def test_a_replaced_forward_counts_as_watching(
    mlp: MLP, norm: nn.LayerNorm, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    """accelerate's offloading replaces `forward` and would load the weights once per piece."""
    in_pieces(monkeypatch, tokens=4)
    mlp.fc2.forward = functools.partial(nn.Linear.forward, mlp.fc2)  # type: ignore[method-assign]
    with torch.no_grad():
        add_mlp(torch.randn(2, 11, DIM, dtype=torch.float64), norm, mlp)
    assert calls == [22]


def test_an_adapter_in_place_of_fc1_gets_no_overwriting() -> None:
    """LoRA layers hand out what they still need."""

    class Keeping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = super().forward(x)
            return self.kept

    mlp = MLP(DIM, ratio=2.5, activation="gelu").double()
    mlp.fc1 = Keeping(DIM, HIDDEN).double()
    x = torch.randn(3, DIM, dtype=torch.float64)
    with torch.no_grad():
        mlp(x)
        torch.testing.assert_close(mlp.fc1.kept, x @ mlp.fc1.weight.T + mlp.fc1.bias)


@pytest.mark.parametrize("activation", ["relu", "gelu_pytorch_tanh", "quick_gelu"])
def test_other_activations_without_gradients(activation: str) -> None:
    mlp = MLP(DIM, ratio=2.5, activation=activation).double()
    x = torch.randn(3, DIM, dtype=torch.float64)
    wanted = mlp(x)  # with gradients nothing is overwritten
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), wanted, rtol=1e-12, atol=1e-12)
