"""`VJEPA2Model`: fields, masks, switches, names of its parameters."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import clip, random_ids, randomise, relative_error, tiny_config
from vjepa2.errors import ConfigError, DtypeError, InputError, MaskError, UnknownOptionError
from vjepa2.models.outputs import (
    VJEPA2WithMaskedInputModelOutput,
    VJEPA2WithMaskedInputPredictorOutput,
)
from vjepa2.models.vjepa2 import VJEPA2Model
from wrong_values import assert_named, fits_forward

N = 32
CONTEXT, TARGET = random_ids(N, 9), random_ids(N, 5, seed=3)


def make_model(**changes: Any) -> VJEPA2Model:
    return randomise(VJEPA2Model(tiny_config(**changes)).double()).eval()


def pixels(model: VJEPA2Model, **sizes: Any) -> Tensor:
    return clip(model.config, **sizes).double()


def picked(tokens: Tensor, ids: Tensor) -> Tensor:
    return torch.stack([row[chosen] for row, chosen in zip(tokens, ids, strict=True)])


# -- fields -------------------------------------------------------------------------------------


def test_default_encodes_and_predicts_every_token() -> None:
    model = make_model()
    x = pixels(model)
    out = model(x)
    everything = torch.arange(N).expand(2, -1)
    assert isinstance(out, VJEPA2WithMaskedInputModelOutput)
    assert list(out) == ["last_hidden_state", "masked_hidden_state", "predictor_output"]
    assert isinstance(out.predictor_output, VJEPA2WithMaskedInputPredictorOutput)
    assert list(out.predictor_output) == ["last_hidden_state", "target_hidden_state"]
    tokens = model.encoder(x).last_hidden_state
    assert torch.equal(out.last_hidden_state, tokens)
    assert torch.equal(out.masked_hidden_state, tokens)
    assert torch.equal(out.predictor_output.target_hidden_state, tokens)
    predicted = model.predictor(tokens, [everything], [everything])[0]
    torch.testing.assert_close(out.predictor_output.last_hidden_state, predicted)


def test_masks_pick_after_the_encoder_saw_everything() -> None:
    model = make_model()
    x = pixels(model)
    out = model(x, context_mask=[CONTEXT], target_mask=[TARGET])
    tokens = model.encoder(x)[0]
    assert torch.equal(out.last_hidden_state, tokens)
    assert torch.equal(out.masked_hidden_state, picked(tokens, CONTEXT))
    assert torch.equal(out.predictor_output.target_hidden_state, picked(tokens, TARGET))
    predicted = model.predictor(tokens, [CONTEXT], [TARGET])[0]
    assert torch.equal(out.predictor_output.last_hidden_state, predicted)


def test_skip_predictor() -> None:
    model = make_model()
    model.predictor.forward = lambda *_: pytest.fail("the predictor ran")
    x = pixels(model)
    out = model(x, skip_predictor=True)
    assert list(out) == ["last_hidden_state", "masked_hidden_state"]
    assert out.predictor_output is None
    out = model(x, [CONTEXT], [TARGET], True)
    assert torch.equal(out.masked_hidden_state, picked(out.last_hidden_state, CONTEXT))
    two = model(x, context_mask=[CONTEXT, CONTEXT.flip(1)], skip_predictor=True)
    assert torch.equal(two.masked_hidden_state[2:], out.masked_hidden_state.flip(1))


def test_get_vision_features() -> None:
    model = make_model(return_dict=False, output_hidden_states=True)
    x = pixels(model)
    wanted = model(x, skip_predictor=True, return_dict=True).last_hidden_state
    assert torch.equal(model.get_vision_features(x), wanted)
    assert torch.equal(model.get_vision_features(pixel_values_videos=x), wanted)
    with pytest.raises(DtypeError, match="must be a tensor"):
        model.get_vision_features(x.numpy())


@pytest.mark.parametrize("size", [(4, 64, 64), (6, 16, 48), (1, 32, 32), (5, 35, 39)])
def test_the_predictor_stands_on_the_clips_own_grid(size: tuple[int, int, int]) -> None:
    """A model whose configuration tells the truth about a square clip computes the same."""
    frames, height, width = size
    model = make_model()
    x = pixels(model, frames=frames, height=height, width=width)
    out = model(x)
    grid = model.encoder.grid(x)
    everything = torch.arange(grid.num_tokens).expand(2, -1)
    wanted = model.predictor(out.last_hidden_state, [everything], [everything], grid=grid)[0]
    torch.testing.assert_close(out.predictor_output[0], wanted, rtol=1e-10, atol=1e-10)
    if height == width:
        told = make_model(crop_size=height)
        tokens = told.encoder(x)[0]
        wanted = told.predictor(tokens, [everything], [everything])[0]
        torch.testing.assert_close(out.predictor_output[0], wanted, rtol=1e-10, atol=1e-10)


# -- several masks, one kind of mask --------------------------------------------------------------


def joined(runs: list[Any], read: Any) -> Tensor:
    return torch.cat([read(run) for run in runs])


READERS = {
    "masked": lambda out: out.masked_hidden_state,
    "predicted": lambda out: out.predictor_output.last_hidden_state,
    "target": lambda out: out.predictor_output.target_hidden_state,
}


@pytest.mark.parametrize("field", list(READERS))
@pytest.mark.parametrize("given", ["both", "context", "target"])
def test_several_masks_equal_one_call_per_pair(field: str, given: str) -> None:
    model = make_model()
    x = pixels(model)
    contexts = [random_ids(N, 9, seed=seed) for seed in (1, 2, 3)]
    targets = [random_ids(N, 5, seed=seed) for seed in (4, 5, 6)]
    masks: dict[str, list[Tensor]] = {}
    if given != "target":
        masks["context_mask"] = contexts
    if given != "context":
        masks["target_mask"] = targets
    together = model(x, **masks)
    runs = [model(x, **{name: [mask[j]] for name, mask in masks.items()}) for j in range(3)]
    read = READERS[field]
    torch.testing.assert_close(read(together), joined(runs, read), rtol=1e-10, atol=1e-10)
    assert together.last_hidden_state.shape == (2, N, 32)


def test_a_missing_mask_means_all_tokens() -> None:
    model = make_model()
    x, everything = pixels(model), torch.arange(N).expand(2, -1)
    for given, other in (("context_mask", "target_mask"), ("target_mask", "context_mask")):
        alone = model(x, **{given: [CONTEXT]})
        full = model(x, **{given: [CONTEXT], other: [everything]})
        for read in READERS.values():
            torch.testing.assert_close(read(alone), read(full), rtol=1e-10, atol=1e-10)


def test_masks_may_be_int32_tuples_and_repeat_ids() -> None:
    model = make_model()
    x = pixels(model)
    wanted = model(x, context_mask=[CONTEXT], target_mask=[TARGET])
    got = model(x, context_mask=(CONTEXT.int(),), target_mask=(TARGET.int(),))
    assert torch.equal(got.predictor_output[0], wanted.predictor_output[0])
    twice = torch.cat([TARGET, TARGET], dim=1)
    doubled = model(x, context_mask=[CONTEXT], target_mask=[twice]).predictor_output[0]
    torch.testing.assert_close(doubled[:, :5], doubled[:, 5:], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("given", [("context_mask", "target_mask"), ("target_mask",)])
def test_masks_from_the_cpu_follow_the_model(given: tuple[str, ...]) -> None:
    """As in the port. The meta device stands in for an accelerator: it refuses strangers too."""
    model = make_model().to("meta")
    masks = {"context_mask": [CONTEXT], "target_mask": [TARGET]}
    out = model(pixels(model).to("meta"), **{name: masks[name] for name in given})
    assert out.predictor_output.last_hidden_state.is_meta
    kept = model.encoder(pixels(model).to("meta"), CONTEXT)
    assert kept.last_hidden_state.is_meta and kept.last_hidden_state.shape == (2, 9, 32)


@pytest.mark.parametrize("mask_index", [0, 1, 2])
def test_mask_index(mask_index: int) -> None:
    model = make_model()
    x = pixels(model)
    out = model(x, [CONTEXT], [TARGET], mask_index=mask_index).predictor_output[0]
    wanted = model.predictor(model.encoder(x)[0], [CONTEXT], [TARGET], mask_index=mask_index)[0]
    assert torch.equal(out, wanted)
    default = model(x, [CONTEXT], [TARGET]).predictor_output[0]
    assert torch.equal(out, default) == (mask_index == 1)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"context_mask": CONTEXT}, r"must be a list of id tensors .* got tensor \[2, 9\]. For"),
        ({"context_mask": []}, r"context_mask must be a list .* got \[\]"),
        ({"target_mask": [TARGET + N]}, r"target_mask holds ids from .* allows \[0, 32\)"),
        ({"target_mask": [TARGET[:1]]}, r"target_mask must hold tensors \[B=2, n >= 1\], got \[1"),
        ({"context_mask": [CONTEXT], "target_mask": [TARGET] * 2}, "1 context masks and 2 target"),
        ({"context_mask": [CONTEXT, CONTEXT[:, 1:]]}, r"context_mask holds masks of \[9, 8\] ids"),
        ({"target_mask": [TARGET, TARGET[:, 1:]]}, r"target_mask holds masks of \[5, 4\] ids"),
    ],
)
@pytest.mark.parametrize("skip_predictor", [False, True])
def test_wrong_masks_are_refused_before_anything_is_computed(
    masks: dict[str, Any], message: str, skip_predictor: bool
) -> None:
    model = make_model()
    model.encoder.forward = lambda *_: pytest.fail("the encoder ran first")
    with pytest.raises(MaskError, match=message):
        model(pixels(model), **masks, skip_predictor=skip_predictor)


# -- hidden states, attentions, tuples -----------------------------------------------------------


def test_hidden_states_and_attentions_of_both_parts() -> None:
    model = make_model(pred_num_hidden_layers=3)
    x = pixels(model)
    out = model(x, [CONTEXT], [TARGET], output_hidden_states=True, output_attentions=True)
    assert list(out) == [
        "last_hidden_state",
        "masked_hidden_state",
        "predictor_output",
        "hidden_states",
        "attentions",
    ]
    encoded = model.encoder(x, output_hidden_states=True, output_attentions=True)
    for got, wanted in zip(out.hidden_states, encoded.hidden_states, strict=True):
        assert torch.equal(got, wanted)
    for got, wanted in zip(out.attentions, encoded.attentions, strict=True):
        assert torch.equal(got, wanted)
    assert [h.shape for h in out.predictor_output.hidden_states] == [(2, 14, 24)] * 4
    assert [a.shape for a in out.predictor_output.attentions] == [(2, 2, 14, 14)] * 3


def test_the_configuration_holds_the_defaults() -> None:
    model = make_model(output_hidden_states=True, output_attentions=True)
    x = pixels(model)
    out = model(x)
    assert len(out.hidden_states) == 3 and len(out.predictor_output.attentions) == 2
    out = model(x, output_hidden_states=False, output_attentions=False)
    assert out.hidden_states is None and out.predictor_output.attentions is None
    assert "attentions" not in out


def test_listed_levels_reach_the_predictor_as_far_as_it_has_them() -> None:
    model = make_model(num_hidden_layers=4, pred_num_hidden_layers=1)
    x = pixels(model)
    out = model(x, output_hidden_states=[1, 4, -1])
    assert [h is not None for h in out.hidden_states] == [False, True, False, False, True]
    assert [h is not None for h in out.predictor_output.hidden_states] == [False, True]
    out = model(x, output_hidden_states=3)
    assert [h is not None for h in out.hidden_states] == [False, False, False, True, False]
    assert out.predictor_output.hidden_states is None
    with pytest.raises(InputError, match=r"level 5; there are 5: 0 \(the embeddings\) to 4"):
        model(x, output_hidden_states=[5])


@pytest.mark.parametrize("by_config", [True, False])
def test_tuples_all_the_way_down(by_config: bool) -> None:
    model = make_model(return_dict=not by_config)
    x = pixels(model)
    options = {} if by_config else {"return_dict": False}
    flags = {"output_hidden_states": True, "output_attentions": True}
    wanted = model(x, [CONTEXT], [TARGET], return_dict=True, **flags)
    out = model(x, [CONTEXT], [TARGET], **options, **flags)
    assert type(out) is tuple and len(out) == 5
    last, masked, predicted, hidden_states, attentions = out
    assert type(predicted) is tuple and len(predicted) == 4
    assert type(hidden_states) is type(attentions) is tuple
    assert torch.equal(last, wanted.last_hidden_state)
    assert torch.equal(masked, wanted.masked_hidden_state)
    assert torch.equal(predicted[1], wanted.predictor_output.target_hidden_state)
    assert torch.equal(predicted[3][1], wanted.predictor_output.attentions[1])
    assert len(model(x, **options)) == 3
    assert len(model(x, skip_predictor=True, **options)) == 2


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("skip_predictors", "skip_predictor"), ("context_masks", "context_mask"), ("labels", "")],
)
def test_unknown_arguments_name_the_nearest(name: str, nearest: str) -> None:
    model = make_model()
    hint = f"Did you mean '{nearest}'" if nearest else "Allowed: context_mask, mask_index"
    with pytest.raises(UnknownOptionError, match=f"forward has no option '{name}'.*{hint}"):
        model(pixels(model), **{name: True})
    with pytest.raises(TypeError):  # what Python itself would raise
        model(pixels(model), **{name: True})


def test_attention_implementations_agree_and_others_are_refused() -> None:
    model = make_model()
    x = pixels(model)
    sdpa = model(x)
    model.set_attn_implementation("eager")
    eager = model(x)
    torch.testing.assert_close(sdpa.predictor_output[0], eager.predictor_output[0])
    assert not torch.equal(sdpa.last_hidden_state, eager.last_hidden_state)  # another kernel ran
    with pytest.raises(ConfigError, match="'flash_attention_2' does not exist.*eager, sdpa"):
        model.set_attn_implementation("flash_attention_2")


# -- the module -------------------------------------------------------------------------------


def test_hooks_on_both_parts_run() -> None:
    """Feature extractors and FSDP work through module hooks."""
    model, seen = make_model(), []
    for part in (model.encoder, model.predictor, model.encoder.layer[1]):
        part.register_forward_hook(lambda part, _, output: seen.append(type(part).__name__))
    model(pixels(model))
    assert seen == ["Block", "VJEPA2Encoder", "VJEPA2Predictor"]


def test_evaluation_is_deterministic_and_leaves_the_input_alone() -> None:
    model = make_model(drop_path_rate=0.5, attention_probs_dropout_prob=0.5)
    x = pixels(model)
    before = x.clone()
    with torch.no_grad():
        first, second = model(x), model(x)
    assert torch.equal(first.predictor_output[0], second.predictor_output[0])
    assert torch.equal(x, before)
    model.train()
    assert not torch.allclose(model(x).predictor_output[0], model(x).predictor_output[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = make_model()
    x = pixels(model)
    wanted = model(x, [CONTEXT], [TARGET])
    got = model.to(dtype)(x.float(), [CONTEXT], [TARGET])
    assert got.predictor_output[0].dtype == dtype
    assert relative_error(got.last_hidden_state, wanted.last_hidden_state) < 0.05
    assert relative_error(got.predictor_output[0], wanted.predictor_output[0]) < 0.05


def test_a_copy_is_independent_and_equal() -> None:
    model = make_model()
    model(pixels(model))
    other = copy.deepcopy(model)
    x = pixels(model)
    assert torch.equal(other(x)[0], model(x)[0])
    with torch.no_grad():
        other.encoder.layernorm.weight.mul_(2)
    other.config.output_hidden_states = True
    assert not torch.equal(other(x)[0], model(x)[0])
    assert model(x).hidden_states is None


def test_training_reduces_the_prediction_error() -> None:
    model = make_model().float().train()
    x = clip(model.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        out = model(x, [CONTEXT], [TARGET], mask_index=0).predictor_output
        loss = (out.last_hidden_state - out.target_hidden_state.detach()).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_recomputation_reaches_both_stacks() -> None:
    gradients = []
    for enabled in (False, True):
        model = make_model().train()
        if enabled:
            model.gradient_checkpointing_enable()
        assert model.encoder.gradient_checkpointing is enabled
        assert model.predictor.gradient_checkpointing is enabled
        loss = model(pixels(model), [CONTEXT], [TARGET]).predictor_output[0].square().sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_printing_a_model_says_what_is_inside() -> None:
    text = re.sub(r"\s+", " ", repr(make_model()))
    for part in ("VJEPA2Encoder", "VJEPA2Predictor", "RotaryAttention", "(query): Linear"):
        assert part in text


@pytest.mark.parametrize("skip", [True, False])
def test_levels_of_the_encoder(skip: bool) -> None:
    model = make_model()
    x = pixels(model)
    plain, out = (model(x, skip_predictor=skip, output_levels=levels) for levels in ((), (0, 1)))
    assert list(out) == [*plain, "level_hidden_states"]
    for name in plain:
        if isinstance(plain[name], Tensor):
            assert torch.equal(out[name], plain[name])
    wanted = model.encoder(x, output_levels=(0, 1)).level_hidden_states
    for one, other in zip(out.level_hidden_states, wanted, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(out.level_hidden_states[1], out.last_hidden_state)
    assert type(model(x, output_levels=[1], return_dict=False)[-1]) is tuple
    with pytest.raises(InputError, match="output_levels asks for block 2; .* 0 to 1"):
        model(x, output_levels=[2])


def test_levels_do_not_change_what_the_predictor_of_2_1_reads() -> None:
    changes = {"model_type": "vjepa2_1", "num_hidden_layers": 3, "hierarchical_layers": [0, 1, 2]}
    model = make_model(**changes)
    x = pixels(model)
    plain, out = model(x), model(x, output_levels=[2, 0])
    assert torch.equal(out.predictor_output[0], plain.predictor_output[0])
    assert torch.equal(out.predictor_output[1], plain.predictor_output[1])
    wanted = model.encoder(x, output_levels=[2, 0]).level_hidden_states
    assert len(out.level_hidden_states) == 2
    for one, other in zip(out.level_hidden_states, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "name",
    ("skip_predictor", "output_levels", "output_hidden_states", "output_attentions", "return_dict"),
)
def test_arguments_of_another_type_are_named(name: str) -> None:
    model = make_model()
    inputs = (pixels(model),)
    assert_named(
        lambda value: model(*inputs, **{name: value}),
        allowed=lambda value: fits_forward(name, value, depth=2),
        error=InputError,
    )
    with pytest.raises(InputError, match=rf"{name}.* must be .*, got 'x' \(str\)"):
        model(*inputs, **{name: "x"})


@pytest.mark.parametrize("name", ["context_mask", "target_mask"])
def test_masks_without_values_and_sparse_ones(name: str) -> None:
    model = make_model()
    for encode in (model, lambda x, **masks: model.predictor(model.encoder(x)[0], **masks)):
        for mask, message in ((CONTEXT.to("meta"), "no values"), (CONTEXT.to_sparse(), "dense")):
            with pytest.raises(MaskError, match=rf"{name} .*{message}"):
                encode(pixels(model), **{"context_mask": None, "target_mask": None, name: [mask]})
    with pytest.raises(DtypeError, match="pixel_values_videos has no values"):
        model(pixels(model).to("meta"))
