"""One graph per model: torch.compile and torch.export, forward and backward.

Run without the shape checker (it wraps every function): `pytest tests/compile`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny_models import clip, random_ids, randomise, relative_error, tiny_config
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model

pytestmark = [
    pytest.mark.compile,
    # torch's own, while it traces
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]

SMALL: dict[str, Any] = {"num_hidden_layers": 1, "pred_num_hidden_layers": 1}
MASKS = {"context_mask": [random_ids(32, 9)], "target_mask": [random_ids(32, 5, seed=3)]}


@pytest.fixture(autouse=True)
def _no_compiled_code_from_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def base(**changes: Any) -> VJEPA2Model:
    return randomise(VJEPA2Model(tiny_config(**{**SMALL, **changes}))).eval()


def classifier(**changes: Any) -> VJEPA2ForVideoClassification:
    return randomise(VJEPA2ForVideoClassification(tiny_config(**{**SMALL, **changes}))).eval()


def tensors(output: Any) -> list[Tensor]:
    """All tensors of an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts if part is not None for tensor in tensors(part)]


def assert_same(got: Any, wanted: Any, *, tolerance: float = 1e-5) -> None:
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
    for one, other in zip(tensors(got), tensors(wanted), strict=True):
        assert relative_error(one, other) <= tolerance


def newer(**changes: Any) -> VJEPA2Model:
    """V-JEPA 2.1 with two levels."""
    levels = {"model_type": "vjepa2_1", "num_hidden_layers": 2, "hierarchical_layers": [0, 1]}
    return base(**levels, **changes)


CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "default with predictor": (base, {}),
    "eager attention": (lambda: base(attn_implementation="eager"), {}),
    "skip_predictor": (base, {"skip_predictor": True}),
    "masks": (base, MASKS),
    "several masks": (base, {name: mask * 2 for name, mask in MASKS.items()}),
    "only targets": (base, {"target_mask": MASKS["target_mask"], "mask_index": 0}),
    "levels and weights": (base, {"output_hidden_states": True, "output_attentions": True}),
    "listed levels": (base, {"output_hidden_states": [-1]}),
    "tuples": (base, {"return_dict": False, "output_hidden_states": True}),
    "encoder": (lambda: base().encoder, {}),
    "encoder with keep_ids": (lambda: base().encoder, {"keep_ids": MASKS["target_mask"][0]}),
    "V-JEPA 2.1": (newer, MASKS),
    "V-JEPA 2.1, distilled": (lambda: newer(pred_num_levels=1, pred_output_size=40), {}),
    "V-JEPA 2.1, levels": (lambda: newer().encoder, {"output_levels": [0]}),
    "classifier": (classifier, {}),
    "classifier with labels": (classifier, {"labels": torch.tensor([0, 4])}),
    "many labels": (classifier, {"labels": torch.ones(2, 5)}),
    "odd activation": (lambda: classifier(hidden_act="quick_gelu", qkv_bias=False), {}),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_one_graph(name: str) -> None:
    make, options = CALLS[name]
    model: nn.Module = make()
    x = clip(model.config)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert_same(compiled(x, **options), model(x, **options))


def test_no_graph_breaks() -> None:
    """Counted by Dynamo itself; the port has 5 in the default forward."""
    model = base()
    explained = torch._dynamo.explain(model)(clip(model.config))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_other_sizes_of_the_same_model() -> None:
    """Again compiled or dynamic, never wrong."""
    model = base().encoder
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for sizes in ({}, {"frames": 6}, {"batch": 3, "height": 16, "width": 48}, {"frames": 1}):
        x = clip(model.config, **sizes)
        with torch.no_grad():
            assert_same(compiled(x), model(x))


def test_clips_and_images_of_v_jepa_2_1() -> None:
    model = newer().encoder
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for frames in (4, 1):
        x = clip(model.config, frames=frames)
        with torch.no_grad():
            assert_same(compiled(x), model(x))


def test_one_graph_for_all_sizes_when_asked() -> None:
    model = base()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    compilations = torch._dynamo.utils.counters["stats"]
    with torch.no_grad():
        compiled(clip(model.config, frames=6))
        before = compilations["unique_graphs"]
        for sizes in ({"frames": 8}, {"frames": 10, "batch": 3}):
            x = clip(model.config, **sizes)
            assert_same(compiled(x), model(x))
    assert compilations["unique_graphs"] == before


@pytest.mark.parametrize("recompute", [False, True])
def test_training_step(recompute: bool) -> None:
    """Forward and backward as graphs; gradients equal those without compiling."""
    gradients = []
    for compile_it in (False, True):
        model = classifier().train()
        if recompute:
            model.gradient_checkpointing_enable()
        call = torch.compile(model, fullgraph=True, backend="aot_eager") if compile_it else model
        loss = call(clip(model.config), labels=torch.tensor([0, 4])).loss
        loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, wanted in gradients[0].items():
        if not name.endswith("k_proj.bias"):  # 0 but for rounding
            assert relative_error(gradients[1][name], wanted) < 1e-4, name


def test_prediction_loss_and_stochastic_depth() -> None:
    model = base(drop_path_rate=0.2, num_hidden_layers=2).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out = compiled(clip(model.config), **MASKS).predictor_output
    (out.last_hidden_state - out.target_hidden_state.detach()).abs().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    model = base().to(dtype)
    x = clip(model.config)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        assert_same(compiled(x), model(x))


def test_generated_code() -> None:
    """The whole way down to machine code, on the smallest network there is."""
    config = VJEPA2Config(
        patch_size=8, crop_size=16, frames_per_clip=2, hidden_size=16, num_attention_heads=1,
        num_hidden_layers=1, pred_hidden_size=16, pred_num_attention_heads=1,
        pred_num_hidden_layers=1, num_pooler_layers=0,
    )  # fmt: skip
    model = randomise(VJEPA2Model(config)).eval()
    x = clip(config)
    with torch.no_grad():
        assert_same(torch.compile(model, fullgraph=True)(x), model(x))


# -- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "masks", "classifier", "encoder", "newer"])
def test_export(name: str) -> None:
    make, options = {
        "default": (base, {}),
        "masks": (base, MASKS),
        "classifier": (classifier, {}),
        "encoder": (lambda: base().encoder, {}),
        "newer": (newer, MASKS),
    }[name]
    model: nn.Module = make()
    x = clip(model.config)
    exported = torch.export.export(model, (x,), options).module()
    with torch.no_grad():
        assert_same(exported(x, **options), model(x, **options), tolerance=1e-6)


@pytest.mark.parametrize("make", [lambda: base().encoder, base, classifier])
def test_export_for_any_batch_and_number_of_frames(make: Any) -> None:
    model: nn.Module = make()
    frames = 2 * torch.export.Dim("half_frames", min=2, max=32)
    sizes = {0: torch.export.Dim("batch", min=1, max=16), 1: frames}
    names = {"pixel_values_videos": sizes}
    exported = torch.export.export(model, (clip(model.config),), dynamic_shapes=names).module()
    for batch, count in ((1, 4), (3, 10)):
        x = clip(model.config, batch=batch, frames=count)
        with torch.no_grad():
            assert_same(exported(x), model(x), tolerance=1e-6)


def test_an_exported_program_is_saved_and_loaded(tmp_path: Any) -> None:
    model = classifier()
    x = clip(model.config)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    again = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        assert_same(again(x), model(x), tolerance=1e-6)
