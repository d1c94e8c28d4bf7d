"""The models on an accelerator: the same numbers, no stalls, one graph."""

import copy
from typing import Any

import pytest
import torch

from tiny_models import clip, random_ids, randomise, relative_error, tiny_config
from vjepa2.errors import MaskError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]

CONTEXT, TARGET = random_ids(32, 9), random_ids(32, 5, seed=3)


def pair(kind: type[Any] = VJEPA2Model, **changes: Any) -> tuple[Any, Any]:
    """The same model on the CPU and on the accelerator."""
    model = randomise(kind(tiny_config(**changes))).eval()
    return model, copy.deepcopy(model).cuda()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_same_numbers_with_masks_from_the_cpu(attention: str) -> None:
    here, there = pair(attn_implementation=attention)
    x = clip(here.config, height=48, width=64)
    masks = {"context_mask": [CONTEXT], "target_mask": [TARGET]}
    wanted, got = here(x, **masks), there(x.cuda(), **masks)
    assert relative_error(got.last_hidden_state.cpu(), wanted.last_hidden_state) < 1e-4
    predicted = got.predictor_output.last_hidden_state.cpu()
    assert relative_error(predicted, wanted.predictor_output.last_hidden_state) < 1e-4


def test_classifier_with_labels_from_the_cpu() -> None:
    here, there = pair(VJEPA2ForVideoClassification)
    x, labels = clip(here.config), torch.tensor([0, 4])
    got = there(x.cuda(), labels)
    got.loss.backward()
    assert got.loss.item() == pytest.approx(here(x, labels).loss.item(), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(dtype: torch.dtype) -> None:
    here, there = pair()
    x = clip(here.config)
    wanted = here(x).last_hidden_state
    assert relative_error(there.to(dtype)(x.cuda()).last_hidden_state.cpu(), wanted) < 0.05


@torch.no_grad()
def test_encoding_waits_for_nothing() -> None:
    """No value is read back: the accelerator never idles."""
    _, there = pair()
    x = clip(there.config).cuda()
    there.get_vision_features(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there(x)
        there.get_vision_features(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_wrong_mask_leaves_the_accelerator_usable() -> None:
    """Without the check a device-side assertion would kill the process's CUDA context."""
    _, there = pair()
    x = clip(there.config).cuda()
    with pytest.raises(MaskError, match="holds ids from"):
        there(x, context_mask=[(CONTEXT + 32).cuda()])
    assert torch.isfinite(there(x).last_hidden_state).all()


@torch.no_grad()
def test_one_graph() -> None:
    _, there = pair(num_hidden_layers=1, pred_num_hidden_layers=1)
    x = clip(there.config).cuda()
    compiled = torch.compile(there, fullgraph=True)
    assert relative_error(compiled(x)[0], there(x)[0]) < 1e-4
