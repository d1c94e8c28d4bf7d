"""The predictor: who sees what, in which order, with which mask token."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import clip, random_ids, randomise, relative_error, tiny_config
from vjepa2.errors import ConfigError, DtypeError, InputError, MaskError, ShapeError
from vjepa2.models.predictor import VJEPA2Predictor
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.rope import rotary_tables
from vjepa2.shapes import TokenGrid
from wrong_values import assert_named, fits_forward

GRID = TokenGrid(2, 4, 4)
N = GRID.num_tokens


def make_predictor(**changes: Any) -> VJEPA2Predictor:
    return randomise(VJEPA2Predictor(tiny_config(**changes)).double()).eval()


def encoded(num_tokens: int = N, *, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(batch, num_tokens, 32, dtype=torch.float64, generator=generator)


def by_hand(
    predictor: VJEPA2Predictor, tokens: Tensor, context: Tensor, target: Tensor, **changes: Any
) -> Tensor:
    """Sorted by id as the published code does it, one sample after the other."""
    grid, mask_index = changes.get("grid", GRID), changes.get("mask_index", 1)
    mask_tokens = predictor.embeddings.mask_tokens
    results = []
    for row, context_ids, target_ids in zip(tokens, context.tolist(), target.tolist(), strict=True):
        entries = [(i, predictor.embeddings.predictor_embeddings(row[i])) for i in context_ids]
        mask_token = mask_tokens[mask_index % len(mask_tokens), 0, 0]
        entries += [(i, mask_token) for i in target_ids]
        order = sorted(range(len(entries)), key=lambda place: entries[place][0])
        x = torch.stack([entries[place][1] for place in order])[None]
        ids = torch.tensor([[entries[place][0] for place in order]])
        head_dim = predictor.config.pred_head_dim
        rotary = rotary_tables(ids, grid, head_dim=head_dim, dtype=torch.float64)
        for block in predictor.layer:
            x = block(x, rotary, "eager").tokens
        x = predictor.proj(predictor.layernorm(x))[0]
        place_of = {place: sorted_place for sorted_place, place in enumerate(order)}
        wanted = range(len(context_ids), len(entries))
        results.append(torch.stack([x[place_of[place]] for place in wanted]))
    return torch.stack(results)


@pytest.mark.parametrize("mask_index", [0, 1, 2, 4, -1])
def test_equals_the_published_algorithm(mask_index: int) -> None:
    predictor, tokens = make_predictor(), encoded()
    context, target = random_ids(N, 9), random_ids(N, 5, seed=3)
    got = predictor(tokens, [context], [target], mask_index=mask_index).last_hidden_state
    wanted = by_hand(predictor, tokens, context, target, mask_index=mask_index)
    assert got.shape == (2, 5, 32)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_the_default_is_mask_token_one() -> None:
    predictor, tokens = make_predictor(), encoded()
    masks = [random_ids(N, 9)], [random_ids(N, 5, seed=3)]
    default, zero, one = (
        predictor(tokens, *masks, **options)[0]
        for options in ({}, {"mask_index": 0}, {"mask_index": 1})
    )
    assert torch.equal(default, one)
    assert relative_error(default, zero) > 0.05
    alone = make_predictor(pred_num_mask_tokens=1)
    assert torch.equal(
        alone(tokens, *masks, mask_index=1)[0], alone(tokens, *masks, mask_index=0)[0]
    )


def test_order_of_ids_and_overlap() -> None:
    predictor, tokens = make_predictor(), encoded()
    context, target = random_ids(N, 9), random_ids(N, 6, seed=3)
    target[:, 0] = context[:, 0]  # both seen and predicted
    target[:, 1] = target[:, 2]  # predicted twice
    got = predictor(tokens, [context], [target])[0]
    wanted = by_hand(predictor, tokens, context, target)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got[:, 1], got[:, 2], rtol=1e-10, atol=1e-10)
    turned = predictor(tokens, [context.flip(1)], [target.flip(1)])[0]
    torch.testing.assert_close(turned.flip(1), got, rtol=1e-10, atol=1e-10)


def test_tokens_outside_the_context_are_not_seen() -> None:
    predictor, tokens = make_predictor(), encoded()
    context, target = torch.arange(10).expand(2, -1), torch.arange(10, N).expand(2, -1)
    other = tokens.clone()
    other[:, 10:] = 1e6
    assert torch.equal(
        predictor(tokens, [context], [target])[0], predictor(other, [context], [target])[0]
    )


def test_several_masks_are_separate_runs_joined_on_the_batch() -> None:
    predictor, tokens = make_predictor(), encoded()
    contexts = [random_ids(N, 9, seed=seed) for seed in (1, 2, 3)]
    targets = [random_ids(N, 5, seed=seed) for seed in (4, 5, 6)]
    runs = [predictor(tokens, [c], [t])[0] for c, t in zip(contexts, targets, strict=True)]
    together = predictor(tokens, contexts, targets)[0]
    torch.testing.assert_close(together, torch.cat(runs), rtol=1e-10, atol=1e-10)
    only_targets = predictor(tokens, None, targets)[0]
    everything = torch.arange(N).expand(2, -1)
    runs = [predictor(tokens, [everything], [t])[0] for t in targets]
    torch.testing.assert_close(only_targets, torch.cat(runs), rtol=1e-10, atol=1e-10)
    only_contexts = predictor(tokens, contexts, None)[0]
    runs = [predictor(tokens, [c], [everything])[0] for c in contexts]
    torch.testing.assert_close(only_contexts, torch.cat(runs), rtol=1e-10, atol=1e-10)


def test_targets_may_lie_after_the_clip() -> None:
    predictor, tokens = make_predictor(), encoded()
    context, future = torch.arange(N).expand(2, -1), torch.arange(N, N + 16).expand(2, -1)
    got = predictor(tokens, [context], [future])[0]
    wanted = by_hand(predictor, tokens, context, future)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_positions_follow_the_grid_given() -> None:
    predictor, tokens = make_predictor(), encoded(24)
    context, target, grid = random_ids(24, 9), random_ids(24, 5, seed=3), TokenGrid(2, 2, 6)
    got = predictor(tokens, [context], [target], grid=grid)[0]
    wanted = by_hand(predictor, tokens, context, target, grid=grid)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_tokens_that_are_not_those_of_the_grid() -> None:
    predictor = make_predictor()
    masks = [random_ids(24, 9)], [random_ids(24, 5)]
    with pytest.raises(ShapeError, match="Got 24 tokens for a grid of 1x4x4 = 16. Pass grid=model"):
        predictor(encoded(24), *masks)
    with pytest.raises(ShapeError, match="24 tokens for a grid of 2x4x4 = 32"):
        predictor(encoded(24), *masks, grid=GRID)


@pytest.mark.parametrize(
    ("context", "target", "message"),
    [
        ([random_ids(N, 4) + N], [random_ids(N, 4)], r"context_mask .* allows \[0, 32\)"),
        ([random_ids(N, 4)], [random_ids(N, 4) - N], "target_mask holds ids .* allows >= 0"),
        (random_ids(N, 4), [random_ids(N, 4)], "context_mask must be a list"),
        ([random_ids(N, 4)], [random_ids(N, 4)] * 2, "1 context masks and 2 target masks"),
        ([random_ids(N, 4)] * 2, [random_ids(N, 4), random_ids(N, 3)], r"of \[4, 3\] ids"),
    ],
)
def test_wrong_masks(context: Any, target: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        make_predictor()(encoded(), context, target)


def test_levels_and_weights_hold_context_then_targets() -> None:
    predictor, tokens = make_predictor(pred_num_hidden_layers=3), encoded()
    context, target = random_ids(N, 9), random_ids(N, 5, seed=3)
    out = predictor(tokens, [context], [target], output_hidden_states=True, output_attentions=True)
    assert [tuple(level.shape) for level in out.hidden_states] == [(2, 14, 24)] * 4
    assert [tuple(weights.shape) for weights in out.attentions] == [(2, 2, 14, 14)] * 3
    embedded = predictor.embeddings.predictor_embeddings(
        torch.stack([row[ids] for row, ids in zip(tokens, context, strict=True)])
    )
    torch.testing.assert_close(out.hidden_states[0][:, :9], embedded, rtol=1e-10, atol=1e-10)
    assert (out.hidden_states[0][:, 9:] == predictor.embeddings.mask_tokens[1]).all()
    last = predictor.proj(predictor.layernorm(out.hidden_states[-1][:, 9:]))
    torch.testing.assert_close(out.last_hidden_state, last, rtol=1e-10, atol=1e-10)
    some = predictor(tokens, [context], [target], output_hidden_states=[-1]).hidden_states
    assert [level is None for level in some] == [True, True, True, False]
    with pytest.raises(InputError, match="level 4; there are 4"):
        predictor(tokens, [context], [target], output_hidden_states=[4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    predictor, tokens = make_predictor(), encoded()
    masks = [random_ids(N, 9)], [random_ids(N, 5, seed=3)]
    wanted = predictor(tokens, *masks)[0]
    got = predictor.to(dtype)(tokens.to(dtype), *masks)[0]
    assert got.dtype == dtype
    assert relative_error(got, wanted) < 0.05


def test_mask_tokens_join_what_autocast_computed() -> None:
    predictor, tokens = make_predictor().float(), encoded().float()
    masks = [random_ids(N, 9)], [random_ids(N, 5, seed=3)]
    wanted = predictor(tokens, *masks)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = predictor(tokens, *masks)[0]
    assert got.dtype == torch.bfloat16
    assert relative_error(got, wanted) < 0.05


def test_gradients_and_recomputation() -> None:
    gradients = []
    for recompute in (False, True):
        predictor, tokens = make_predictor().train(), encoded().requires_grad_()
        predictor.gradient_checkpointing = recompute
        out = predictor(tokens, [random_ids(N, 9)], [random_ids(N, 5, seed=3)])[0]
        loss = out.square().sum()
        gradients.append(torch.autograd.grad(loss, [tokens, *predictor.parameters()]))
        assert all((gradient != 0).any() for gradient in gradients[-1])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_mask_index_must_be_a_whole_number() -> None:
    model = VJEPA2Model(tiny_config()).eval()
    with pytest.raises(MaskError, match="mask_index must be a whole number, got 'a'"):
        model(clip(model.config), mask_index="a")


@pytest.mark.parametrize("name", ("output_hidden_states", "output_attentions"))
def test_arguments_of_another_type_are_named(name: str) -> None:
    model = make_predictor()
    inputs = (encoded(), None, None)
    assert_named(
        lambda value: model(*inputs, **{name: value}),
        allowed=lambda value: fits_forward(name, value, depth=2),
        error=InputError,
    )
    with pytest.raises(InputError, match=rf"{name}.* must be .*, got 'x' \(str\)"):
        model(*inputs, **{name: "x"})


@pytest.mark.parametrize("name", ["tokens", "grid", "modality"])
def test_other_things_in_place_of_tokens(name: str) -> None:
    predictor = make_predictor(model_type="vjepa2_1", hierarchical_layers=[1])
    given = {"tokens": encoded(), "grid": GRID, "modality": "image"}

    def call(value: Any) -> None:
        tokens, grid, modality = {**given, name: value}.values()
        predictor(tokens, None, None, grid=grid, modality=modality)

    assert_named(call, allowed=lambda value: name == "grid" and value is None)
    call(given[name])


def test_what_the_predictor_is_told_about_its_tokens() -> None:
    predictor = make_predictor()
    with pytest.raises(DtypeError, match=r"encoder_hidden_states must be float.*got 'x' \(str\)"):
        predictor("x", None, None)
    with pytest.raises(ShapeError, match=r"\(3 axes\), got \[32, 32\]. Add the batch axis"):
        predictor(encoded()[0], None, None)
    with pytest.raises(InputError, match=r"grid must be a TokenGrid, model.encoder.grid"):
        predictor(encoded(), None, None, grid=(2, 4, 4))
    with pytest.raises(ConfigError, match="modality 'picture' does not exist"):
        predictor(encoded(), None, None, modality="picture")
    with pytest.raises(MaskError, match="target_ids must hold int64 token ids, got list"):
        predictor.predict(encoded(), torch.zeros(2, N).long(), [1], grid=GRID, mask_index=1)
    with pytest.raises(ShapeError, match="a grid of 32x0x0 = 0. Pass grid="):
        make_predictor(crop_size=4)(encoded(), None, None)


@pytest.mark.parametrize("name", ["context", "context_ids", "target_ids", "grid", "mask_index"])
def test_other_things_in_place_of_an_argument_of_predict(name: str) -> None:
    predictor, ids = make_predictor(), random_ids(N, 5)
    given = {"context": encoded(5), "context_ids": ids, "target_ids": ids, "grid": GRID}
    given["mask_index"] = 0
    assert_named(
        lambda value: predictor.predict(**{**given, name: value}),
        allowed=lambda value: name == "mask_index" and isinstance(value, int),
    )
    predictor.predict(**given)
    with pytest.raises(MaskError, match="context_ids name 5 tokens, context holds 6"):
        predictor.predict(**{**given, "context": encoded(6)})
