"""The action-conditioned model as one graph; a graph holds for one number of steps.

Run without the shape checker (it wraps every function): `pytest tests/compile`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tiny_models import clip, randomise, relative_error, tiny_config
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.shapes import TokenGrid

pytestmark = [
    pytest.mark.compile,
    # torch's own, while it traces
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


@pytest.fixture(autouse=True)
def _no_compiled_code_from_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def make(**changes: Any) -> VJEPA2ActionModel:
    sizes = {"num_hidden_layers": 1, "pred_num_hidden_layers": 1, "model_type": "vjepa2_ac"}
    return randomise(VJEPA2ActionModel(tiny_config(**{**sizes, **changes}))).eval()


def inputs(
    model: VJEPA2ActionModel, *, frames: int = 3, batch: int = 2, poses: bool = False, **size: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    widths = {"actions": 7, "states": 7, **({"extrinsics": 6} if poses else {})}
    given = {
        name: torch.randn(batch, frames, width, generator=generator)
        for name, width in widths.items()
    }
    x = clip(model.config, frames=frames, batch=batch, **size)
    return {"pixel_values_videos": x, **given}


def assert_same(got: Any, wanted: Any, *, tolerance: float = 1e-5) -> None:
    assert type(got) is type(wanted)
    ours, spec = pytree.tree_flatten(got)
    others, other_spec = pytree.tree_flatten(wanted)
    assert spec == other_spec
    for one, other in zip(ours, others, strict=True):
        assert relative_error(one, other) <= tolerance


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "eager": {"attn_implementation": "eager"},
    "levels and weights": {"output_hidden_states": True, "output_attentions": True},
}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_one_graph(name: str) -> None:
    model = make(**OPTIONS[name])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for sizes in ({"poses": name == "eager"}, {"frames": 2, "height": 16, "width": 48}):
        given = inputs(model, **sizes)
        with torch.no_grad():
            assert_same(compiled(**given), model(**given))


def test_training_step() -> None:
    """Forward and backward as graphs, recomputed; gradients equal those without compiling."""
    gradients = []
    for compile_it in (False, True):
        model = make().train()
        model.gradient_checkpointing_enable()
        call = torch.compile(model, fullgraph=True, backend="aot_eager") if compile_it else model
        call(**inputs(model)).last_hidden_state.abs().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, wanted in gradients[0].items():
        if not name.endswith("key.bias"):  # 0 but for rounding
            assert relative_error(gradients[1][name], wanted) < 1e-4, name


def test_generated_code() -> None:
    """The whole way down to machine code: the predictor, as a rollout calls it."""
    model = make()
    grid = TokenGrid(2, 2, 2)
    tokens = torch.randn(1, grid.num_tokens, 32)
    actions, states = torch.randn(2, 1, 2, 7).unbind()
    with torch.no_grad():
        compiled = torch.compile(model.predict_next, fullgraph=True)
        got = compiled(tokens, actions, states, grid=grid)
        assert relative_error(got, model.predict_next(tokens, actions, states, grid=grid)) < 1e-5


def test_export_for_any_batch() -> None:
    model = make()
    given = inputs(model)
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {name: {0: batch} for name in given}
    exported = torch.export.export(model, (), given, dynamic_shapes=shapes).module()
    for size in (1, 5):
        others = inputs(model, batch=size)
        with torch.no_grad():
            assert_same(exported(**others), model(**others), tolerance=1e-6)
