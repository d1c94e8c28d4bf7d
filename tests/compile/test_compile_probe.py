"""The attentive probe, and a classifier of several levels, as one graph.

Run without the shape checker (it wraps every function): `pytest tests/compile`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tiny_models import clip, randomise, relative_error, tiny_config
from vjepa2 import VJEPA2AttentiveProbe, VJEPA2ForVideoClassification

pytestmark = [
    pytest.mark.compile,
    # torch's own, while it traces
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]

HEADS = {"verb": 5, "noun": 3}
LABELS = torch.tensor([0, 2])
BY_HEAD = {"labels": {"noun": LABELS, "verb": LABELS}}


@pytest.fixture(autouse=True)
def _no_compiled_code_from_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def probe(**changes: Any) -> VJEPA2AttentiveProbe:
    return randomise(VJEPA2AttentiveProbe(tiny_config(**changes))).eval()


def tokens(count: int = 6, *, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(batch, count, 32, generator=generator)


def assert_same(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    ours, spec = pytree.tree_flatten(got)
    others, other_spec = pytree.tree_flatten(wanted)
    assert spec == other_spec
    for one, other in zip(ours, others, strict=True):
        assert relative_error(one, other) <= 1e-5


CALLS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "one head": ({}, tokens(), {}),
    "one head with labels": ({}, tokens(), {"labels": LABELS}),
    "levels": ({"pooler_levels": [0, 1]}, (tokens(6), tokens(5)), {}),
    "several heads": ({"head_sizes": HEADS}, tokens(), {}),
    "several heads with labels": ({"head_sizes": HEADS}, [tokens(6), tokens(5)], BY_HEAD),
    "a tuple of several heads": ({"head_sizes": HEADS}, tokens(), {"return_dict": False}),
    "eager": ({"head_sizes": HEADS, "attn_implementation": "eager"}, tokens(), {}),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_one_graph(name: str) -> None:
    changes, x, options = CALLS[name]
    model = probe(**changes)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert_same(compiled(x, **options), model(x, **options))


@pytest.mark.parametrize("name", ["one head", "levels", "several heads"])
def test_export(name: str, tmp_path: Path) -> None:
    changes, x, _ = CALLS[name]
    model = probe(**changes)
    exported = torch.export.export(model, (x,))
    with torch.no_grad():
        assert_same(exported.module()(x), model(x))
        torch.export.save(exported, tmp_path / "probe.pt2")
        again = torch.export.load(tmp_path / "probe.pt2").module()
        assert_same(again(x), model(x))


def test_export_for_any_batch_and_number_of_tokens() -> None:
    model = probe(head_sizes=HEADS)
    sizes = {0: torch.export.Dim("batch", min=1, max=16), 1: torch.export.Dim("tokens", max=4096)}
    exported = torch.export.export(model, (tokens(),), dynamic_shapes={"tokens": sizes}).module()
    for batch, count in ((1, 4), (3, 10)):
        x = tokens(count, batch=batch)
        with torch.no_grad():
            assert_same(exported(x), model(x))


@pytest.mark.parametrize("changes", [{}, {"model_type": "vjepa2_1", "hierarchical_layers": [0, 1]}])
def test_a_classifier_of_several_levels(changes: dict[str, Any]) -> None:
    config = tiny_config(pooler_levels=[0, 1], **changes)
    model = randomise(VJEPA2ForVideoClassification(config)).eval()
    x = clip(config)
    with torch.no_grad():
        assert_same(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))
        assert_same(torch.export.export(model, (x,)).module()(x), model(x))


def test_training_step() -> None:
    gradients = []
    for compile_it in (False, True):
        model = probe(head_sizes=HEADS).train()
        call = torch.compile(model, fullgraph=True, backend="aot_eager") if compile_it else model
        call(tokens(), **BY_HEAD).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, wanted in gradients[0].items():
        if not name.endswith("k_proj.bias"):  # 0 but for rounding
            assert relative_error(gradients[1][name], wanted) < 1e-4, name
