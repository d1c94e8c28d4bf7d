"""Packed ids: samples of different lengths in one row of tokens, each equal to running it alone."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny_models import clip, randomise, relative_error, tiny_config
from vjepa2.errors import MaskError
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.predictor import VJEPA2Predictor
from vjepa2.nn import attention as attention_module
from vjepa2.nn.attention import attend
from vjepa2.nn.block import DropPath
from vjepa2.packing import PackedIds, segments_of
from vjepa2.shapes import TokenGrid

GRID = TokenGrid(2, 4, 4)
N = GRID.num_tokens
NEWER = {"model_type": "vjepa2_1", "num_hidden_layers": 2, "hierarchical_layers": [0, 1]}
LENGTHS = [(9, 1, 32, 5), (6, 6, 6), (7,), (1, 1)]


def packed(lengths: tuple[int, ...], *, seed: int = 4) -> PackedIds:
    """Another choice of tokens for every sample, unsorted."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(N, generator=generator)[:length] for length in lengths]
    return PackedIds(torch.cat(rows), lengths)


def rows_of(ids: PackedIds) -> list[Tensor]:
    """[1, n] per sample."""
    return [row[None] for row in ids.ids.split(ids.lengths)]


def make(kind: Callable[..., Any], **changes: Any) -> Any:
    return randomise(kind(tiny_config(**changes)).double()).eval()


def pixels(encoder: VJEPA2Encoder, batch: int) -> Tensor:
    return clip(encoder.config, batch=batch).double()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def assert_same_gradients(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() and one
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("changes", [{}, NEWER], ids=["2", "2.1"])
def test_the_encoder_equals_every_sample_alone(
    changes: dict[str, Any], lengths: tuple[int, ...], implementation: str, recompute: bool
) -> None:
    encoder = make(VJEPA2Encoder, attn_implementation=implementation, **changes)
    encoder.gradient_checkpointing = recompute
    encoder.train(recompute)
    x, ids = pixels(encoder, len(lengths)), packed(lengths)
    got = encoder(x, ids, output_levels=[0, 1])
    alone = [encoder(x[i : i + 1], row, output_levels=[0, 1]) for i, row in enumerate(rows_of(ids))]
    assert got.last_hidden_state.shape == (1, sum(lengths), 32)
    wanted = torch.cat([part.last_hidden_state for part in alone], dim=1)
    torch.testing.assert_close(got.last_hidden_state, wanted, rtol=1e-10, atol=1e-10)
    for level in (0, 1):
        wanted_level = torch.cat([part.level_hidden_states[level] for part in alone], dim=1)
        torch.testing.assert_close(
            got.level_hidden_states[level], wanted_level, rtol=1e-10, atol=1e-10
        )
    factor = torch.randn(got.last_hidden_state.shape, dtype=torch.float64)
    (got.last_hidden_state * factor).sum().backward()
    from_packed = gradients(encoder)
    (wanted * factor).sum().backward()
    assert_same_gradients(from_packed, gradients(encoder))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("context", "target"),
    [((9, 1, 20), (3, 31, 1)), ((5, 5), (4, 4)), ((6, 3), (2, 5)), ((8,), (2,))],
)
@pytest.mark.parametrize("changes", [{}, {**NEWER, "pred_rescale_positions": True}])
def test_the_predictor_equals_every_sample_alone(
    changes: dict[str, Any],
    context: tuple[int, ...],
    target: tuple[int, ...],
    implementation: str,
    recompute: bool,
) -> None:
    predictor = make(VJEPA2Predictor, attn_implementation=implementation, **changes)
    predictor.gradient_checkpointing = recompute
    predictor.train(recompute)
    seen, hidden = packed(context), packed(target, seed=5)
    tokens = torch.randn(1, sum(context), predictor.input_size, dtype=torch.float64)
    options: dict[str, Any] = {"grid": GRID, "mask_index": 0, "output_hidden_states": [0, -1]}
    got = predictor.predict(tokens, seen, hidden, **options)
    parts = tokens.split(context, dim=1)
    alone = [
        predictor.predict(part, c, t, **options)
        for part, c, t in zip(parts, rows_of(seen), rows_of(hidden), strict=True)
    ]
    wanted = torch.cat([part.last_hidden_state for part in alone], dim=1)
    torch.testing.assert_close(got.last_hidden_state, wanted, rtol=1e-10, atol=1e-10)
    for place in (0, 2):  # context tokens of all samples first, then all targets
        levels = [part.hidden_states[place] for part in alone]
        split = [
            level.split((k, m), 1) for level, k, m in zip(levels, context, target, strict=True)
        ]
        joined = torch.cat([part[side] for side in (0, 1) for part in split], dim=1)
        torch.testing.assert_close(got.hidden_states[place], joined, rtol=1e-10, atol=1e-10)
    assert got.hidden_states[1] is None
    if changes:
        at_context = torch.cat([part.context_hidden_state for part in alone], dim=1)
        torch.testing.assert_close(got.context_hidden_state, at_context, rtol=1e-10, atol=1e-10)
        wanted = torch.cat([wanted, at_context], dim=1)
        got_all = torch.cat([got.last_hidden_state, got.context_hidden_state], dim=1)
    else:
        assert got.context_hidden_state is None
        got_all = got.last_hidden_state
    factor = torch.randn(wanted.shape, dtype=torch.float64)
    (got_all * factor).sum().backward()
    from_packed = gradients(predictor)
    (wanted * factor).sum().backward()
    assert_same_gradients(from_packed, gradients(predictor))


@pytest.mark.parametrize("kind", [VJEPA2Encoder, VJEPA2Predictor])
def test_equal_lengths_equal_the_batch(kind: Any) -> None:
    model = make(kind)
    ids = packed((6, 6, 6))
    rows = ids.ids.view(3, 6)
    if kind is VJEPA2Encoder:
        x = pixels(model, 3)
        got, wanted = model(x, ids)[0], model(x, rows)[0]
    else:
        tokens = torch.randn(3, 6, 32, dtype=torch.float64)
        options: dict[str, Any] = {"grid": GRID, "mask_index": 0}
        got = model.predict(tokens.view(1, 18, 32), ids, ids, **options)[0]
        wanted = model.predict(tokens, rows, rows, **options)[0]
    torch.testing.assert_close(got.view(3, 6, 32), wanted, rtol=1e-10, atol=1e-10)


def test_there_is_no_padding() -> None:
    """Every layer sees as many tokens as there are, attention as many pairs."""
    encoder = make(VJEPA2Encoder)
    sizes = []
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("layer."):
            module.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[:2]))
    lengths = (9, 1, 32, 5)
    encoder(pixels(encoder, 4), packed(lengths))
    assert len(sizes) == 2 * 6 and set(sizes) == {(1, sum(lengths))}


def test_attention_computes_no_pair_of_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counting(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        pairs.append(query.shape[0] * query.shape[2] * key.shape[2])
        return fused(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    x = torch.randn(1, 15, 2, 8)
    attend(x, x, x, implementation="sdpa", segments=segments_of((9, 1, 5), device=x.device))
    assert sum(pairs) == 81 + 1 + 25
    pairs.clear()
    attend(x, x, x, implementation="sdpa", segments=segments_of((5, 5, 5), device=x.device))
    assert pairs == [75]  # one call


def test_what_the_fused_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a GPU; here a loop stands in for it, called by the same names."""
    if not attention_module.HAS_VARLEN_KERNEL:
        pytest.skip("this PyTorch has no such kernel")
    from torch.nn.attention import varlen

    names = list(inspect.signature(varlen.varlen_attn).parameters)[:7]
    assert names == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]

    def stand_in(q: Tensor, k: Tensor, v: Tensor, q_bounds: Tensor, k_bounds: Tensor, most_q: int,
                 most_k: int) -> Tensor:  # fmt: skip
        assert q_bounds.dtype == k_bounds.dtype == torch.int32 and most_q == most_k == 9
        out = torch.empty_like(q)
        for start, stop in zip(q_bounds.tolist(), q_bounds.tolist()[1:], strict=False):
            for head in range(q.shape[1]):
                part = slice(start, stop)
                scores = q[part, head] @ k[part, head].T / q.shape[-1] ** 0.5
                out[part, head] = scores.softmax(-1) @ v[part, head]
        return out

    x = torch.randn(3, 1, 15, 2, 8, dtype=torch.float64)
    segments = segments_of((9, 1, 5), device=x.device)
    wanted = attend(*x, implementation="sdpa", segments=segments)
    monkeypatch.setattr(attention_module, "_fits_varlen_kernel", lambda query: True)
    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    got = attend(*x, implementation="sdpa", segments=segments)
    assert got.weights is None
    torch.testing.assert_close(got.values, wanted.values, rtol=1e-12, atol=1e-12)


def test_the_fused_kernel_is_not_asked_on_a_cpu() -> None:
    assert not attention_module._fits_varlen_kernel(torch.zeros(1, 4, 2, 8, dtype=torch.bfloat16))


def test_drop_path_drops_samples_not_batches() -> None:
    lengths = (3, 1, 4) * 500
    drop, x = DropPath(0.3), torch.ones(1, sum(lengths), 2)
    out = drop(x, segments_of(lengths, device=x.device))
    kept = 0
    for part in out.split(lengths, dim=1):
        value = part[0, 0, 0].item()
        assert torch.equal(part, torch.full_like(part, value))
        assert value in (0.0, pytest.approx(1 / 0.7))
        kept += value > 0
    # Five standard deviations of a coin thrown 1500 times.
    assert abs(kept / 1500 - 0.7) < 5 * (0.7 * 0.3 / 1500) ** 0.5
    assert drop.eval()(x, segments_of(lengths, device=x.device)) is x


def test_half_precision_and_autocast() -> None:
    encoder = make(VJEPA2Encoder)
    x, ids = pixels(encoder, 3), packed((9, 2, 5))
    wanted = encoder(x, ids)[0]
    encoder.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert relative_error(encoder(x.float(), ids)[0].double(), wanted) < 0.05
    encoder.bfloat16()
    assert relative_error(encoder(x.bfloat16(), ids)[0].double(), wanted) < 0.05


def test_ids_may_be_int32_and_lengths_a_list() -> None:
    encoder = make(VJEPA2Encoder)
    x, ids = pixels(encoder, 2), packed((9, 2))
    wanted = encoder(x, ids)[0]
    assert torch.equal(encoder(x, PackedIds(ids.ids.int(), [9, 2]))[0], wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "lengths", "message"),
    [
        (torch.tensor([0, 1, 32]), (1, 2), r"keep_ids holds ids from 0 to 32; .* \[0, 32\)"),
        (torch.tensor([0, -1, 2]), (1, 2), "keep_ids holds ids from -1 to 2"),
        (torch.tensor([0, 1, 2]), (1, 1), "2 lengths that add up to 2; there are 3 ids of 2 clips"),
        (torch.tensor([0, 1, 2]), (3,), "1 lengths that add up to 3; there are 3 ids of 2 clips"),
        (torch.tensor([0, 1, 2]), (3, 0), "a length must be 1 or more, got 0"),
        (torch.tensor([0, 1, 2]), (4, -1), "a length must be 1 or more, got -1"),
        (torch.tensor([0, 1, 2]), (1.0, 2.0), "a length must be an integer, got 1.0"),
        (torch.tensor([0, 1, 2]), 3, "must hold one length per clip, got 3"),
        (torch.tensor([0, 1, 2]), "12", "must hold one length per clip, got '12'"),
        (
            torch.tensor([[0, 1, 2]]),
            (1, 2),
            r"packed ids \[total\] of all clips joined, got \[1, 3\]",
        ),
        ([0, 1, 2], (1, 2), r"packed ids \[total\] of all clips joined, got \[0, 1, 2\]"),
        (torch.tensor([0.0, 1, 2]), (1, 2), "must hold int64 token ids, got torch.float32"),
        (torch.tensor([], dtype=torch.int64), (), "tensors"),
    ],
)
def test_wrong_packed_ids(ids: Any, lengths: Any, message: str) -> None:
    encoder = make(VJEPA2Encoder)
    with pytest.raises(MaskError, match=message):
        encoder(pixels(encoder, 2), PackedIds(ids, lengths))


def test_what_packed_ids_cannot_do() -> None:
    encoder, predictor = make(VJEPA2Encoder), make(VJEPA2Predictor)
    ids = packed((3, 2))
    with pytest.raises(MaskError, match="output_attentions is not possible with packed ids"):
        encoder(pixels(encoder, 2), ids, output_attentions=True)
    tokens = torch.randn(1, 5, 32, dtype=torch.float64)
    options: dict[str, Any] = {"grid": GRID, "mask_index": 0}
    with pytest.raises(MaskError, match="output_attentions is not possible"):
        predictor.predict(tokens, ids, ids, output_attentions=True, **options)
    plain = torch.arange(5)[None]
    with pytest.raises(MaskError, match="context_ids are packed, the other ids are not"):
        predictor.predict(tokens, ids, plain, **options)
    with pytest.raises(MaskError, match="target_ids are packed, the other ids are not"):
        predictor.predict(tokens, plain, ids, **options)
    with pytest.raises(
        MaskError, match=r"context is \[2, 5, 32\]; tokens of packed ids are joined"
    ):
        predictor.predict(tokens.expand(2, -1, -1), ids, ids, **options)
    with pytest.raises(MaskError, match="target_ids hold 1 lengths .* 2 clips"):
        predictor.predict(tokens, ids, packed((5,)), **options)
    with pytest.raises(MaskError, match="context_ids name 6 tokens, context holds 5"):
        predictor.predict(tokens, packed((4, 2)), ids, **options)
