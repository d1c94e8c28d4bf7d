"""Outputs and gradients equal stored ones of `transformers` (tests/fixtures/oracle/README.md).

They hold also when the installed `transformers` changes. If one fails after a change here, that
change altered the numbers of every published checkpoint: revert it. They are refreshed only when
a new set of arrays comes from the port or from Meta's code.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tiny_models import relative_error
from vjepa2 import VJEPA2ForVideoClassification, VJEPA2Model

pytestmark = pytest.mark.parity

FOLDER = Path(__file__).parent.parent / "fixtures" / "oracle"
CASES = ("odd", "rem")
TOLERANCE = 2e-5

# Run to the clip and the two masks it was made with.
RUNS = {
    "default": ("video", None, None),
    "disjoint": ("video", "ctx_disjoint", "tgt_disjoint"),
    "unsorted": ("video", "ctx_unsorted", "tgt_unsorted"),
    "future": ("video", "ctx_past", "tgt_future"),
    "multi_pair_0": ("video", "multi_ctx_0", "multi_tgt_0"),
    "multi_pair_1": ("video", "multi_ctx_1", "multi_tgt_1"),
    "image": ("image", None, None),
    "correct_wide": ("video_wide", None, None),
    # stored for `odd` only
    "short": ("video_short", None, None),
    "long": ("video_long", None, None),
    "odd_frames": ("video_odd_frames", None, None),
    "margin": ("video_margin", None, None),
    "correct_large": ("video_large", None, None),
}


class Case(NamedTuple):
    """Arrays of one network; tests do not write to them."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@cache
def arrays(name: str) -> Case:
    folder = FOLDER / name
    return Case(load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors"))


def base(name: str, **options: Any) -> VJEPA2Model:
    """The base part of the stored classifier, as `AutoModel` reads it."""
    return VJEPA2Model.from_pretrained(FOLDER / name / "classifier", **options)


def classifier(name: str, **options: Any) -> VJEPA2ForVideoClassification:
    return VJEPA2ForVideoClassification.from_pretrained(FOLDER / name / "classifier", **options)


def assert_near(got: Tensor, wanted: Tensor, what: str) -> None:
    error = relative_error(got, wanted)
    assert error <= TOLERANCE, f"{what}: {error:.1e}"


def run(model: VJEPA2Model, inputs: dict[str, Tensor], name: str, **options: Any) -> Any:
    clip, context, target = RUNS[name]
    masks = {} if context is None else {
        "context_mask": [inputs[context]],
        "target_mask": [inputs[target]],
    }  # fmt: skip
    with torch.no_grad():
        return model(inputs[clip], **masks, **options)


def stored(outputs: dict[str, Tensor], run_name: str) -> dict[str, Tensor]:
    prefix = f"{run_name}/"
    return {key.removeprefix(prefix): v for key, v in outputs.items() if key.startswith(prefix)}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_outputs(case: str, attention: str) -> None:
    inputs, outputs = arrays(case)
    model = base(case, attn_implementation=attention)
    compared = 0
    for name, (clip, _, _) in RUNS.items():
        if clip not in inputs:
            continue
        out = run(model, inputs, name)
        wanted = stored(outputs, name)
        assert wanted, name
        for key, value in wanted.items():
            part = out.predictor_output if key.startswith("predictor/") else out
            assert_near(part[key.removeprefix("predictor/")], value, f"{name}/{key}")
            compared += 1
    assert compared == {"odd": 31, "rem": 21}[case]


@pytest.mark.parametrize("case", CASES)
def test_several_masks_at_once(case: str) -> None:
    inputs, outputs = arrays(case)
    with torch.no_grad():
        out = base(case)(
            inputs["video"],
            context_mask=[inputs["multi_ctx_0"], inputs["multi_ctx_1"]],
            target_mask=[inputs["multi_tgt_0"], inputs["multi_tgt_1"]],
        )
    for key, got in (
        ("masked_hidden_state", out.masked_hidden_state),
        ("predictor/last_hidden_state", out.predictor_output.last_hidden_state),
        ("predictor/target_hidden_state", out.predictor_output.target_hidden_state),
    ):
        wanted = torch.cat([outputs[f"multi_pair_{j}/{key}"] for j in range(2)])
        assert_near(got, wanted, key)


@pytest.mark.parametrize("case", CASES)
def test_targets_after_the_clip(case: str) -> None:
    inputs, outputs = arrays(case)
    tokens = outputs["default/last_hidden_state"]
    everything = torch.arange(tokens.shape[1]).expand(2, -1)
    with torch.no_grad():
        got = base(case).predictor(tokens, [everything], [inputs["tgt_beyond"]])
    assert_near(got.last_hidden_state, outputs["beyond/predictor/last_hidden_state"], "beyond")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_hidden_states_and_attentions(attention: str) -> None:
    inputs, outputs = arrays("odd")
    model = base("odd", attn_implementation=attention)
    out = run(model, inputs, "default", output_hidden_states=True, output_attentions=True)
    for i, got in enumerate(out.hidden_states):
        assert_near(got, outputs[f"eager/hidden_states/{i}"], f"level {i}")
    for i, got in enumerate(out.attentions):
        assert_near(got, outputs[f"eager/attentions/{i}"], f"weights {i}")
    assert (len(out.hidden_states), len(out.attentions)) == (3, 2)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_classifier(case: str) -> None:
    inputs, outputs = arrays(case)
    model = classifier(case)
    out = model(inputs["video"], labels=inputs["labels"])
    assert_near(out.logits, outputs["cls/run/logits"], "logits")
    assert_near(out.loss, outputs["cls/run/loss"], "loss")
    pooled = model.pooler(outputs["default/last_hidden_state"])
    assert_near(pooled, outputs["cls/pooler_output"], "pooler")
    assert_near(model(inputs["image"]).logits, outputs["cls/image/logits"], "image")


@torch.no_grad()
def test_a_score_for_every_class() -> None:
    inputs, outputs = arrays("rem")
    model = classifier("rem", problem_type="multi_label_classification")
    out = model(inputs["video"], labels=inputs["labels_multi"])
    assert_near(out.loss, outputs["cls/multilabel/loss"], "loss")


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str, recompute: bool) -> None:
    inputs, outputs = arrays(case)
    models = {"cls": classifier(case).train(), "jepa": base(case).train()}
    for model in models.values():
        if recompute:
            model.gradient_checkpointing_enable()
    losses = {"cls": models["cls"](inputs["video"], labels=inputs["labels"]).loss}
    predicted = models["jepa"](
        inputs["video"],
        context_mask=[inputs["ctx_disjoint"]],
        target_mask=[inputs["tgt_disjoint"]],
    ).predictor_output
    difference = predicted.last_hidden_state - predicted.target_hidden_state.detach()
    losses["jepa"] = difference.abs().mean()
    for name, loss in losses.items():
        assert_near(loss, outputs[f"grad/{name}_loss"], name)
        loss.backward()
        wanted = stored(outputs, f"grad/{name}")
        assert len(wanted) == 7
        for parameter, gradient in wanted.items():
            assert_near(models[name].get_parameter(parameter).grad, gradient, parameter)
