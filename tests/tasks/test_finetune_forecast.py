"""The forecast of memory against what autograd really keeps."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import clip
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.finetune_forecast import finetune_forecast, forecast_text
from vjepa2.tasks.finetune_networks import ClassifierStep, choose_trained
from vjepa2.training.distributed import one_process
from vjepa2.training.forecast import HELD_SHARE

NETWORK = {
    "patch_size": 16, "crop_size": 128, "frames_per_clip": 8, "hidden_size": 96,
    "num_attention_heads": 3, "num_hidden_layers": 4, "num_pooler_layers": 1, "num_labels": 7,
    "pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
}  # fmt: skip


def kept_bytes(model: VJEPA2ForVideoClassification) -> int:
    """Of tensors that wait for the backward pass of two clips, without the parameters."""
    known = {value.untyped_storage().data_ptr() for value in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    pixels = clip(model.config)[:, None]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = ClassifierStep(model).train()(pixels, torch.eye(7)[:2]).loss
    found.pop(pixels.untyped_storage().data_ptr(), None)
    loss.backward()
    return sum(found.values())


def made(values: dict[str, Any]) -> tuple[FineTuneConfig, VJEPA2ForVideoClassification]:
    config = FineTuneConfig(
        batch={"batch_size": 2}, views={"num_frames": 8, "crop_size": 128}, **values
    )
    model = VJEPA2ForVideoClassification(VJEPA2Config(**NETWORK))
    choose_trained(model, config)
    return config, model


@pytest.mark.parametrize(
    "values",
    [
        {"method": "full"},
        {"method": "last_blocks", "last_blocks": 1},
        {"method": "last_blocks", "last_blocks": 0},
        {"method": "lora", "adapters": {"rank": 4}},
    ],
    ids=["full", "one block", "head", "lora"],
)
def test_activations_are_what_autograd_keeps(values: dict[str, Any]) -> None:
    config, model = made(values)
    expected = finetune_forecast(config, model, one_process())["activations"] / HELD_SHARE["cpu"]
    assert expected == pytest.approx(kept_bytes(model), rel=0.15)


def test_what_makes_it_smaller() -> None:
    def total(**values: Any) -> dict[str, int]:
        config, model = made(values)
        return finetune_forecast(config, model, one_process())

    full = total()
    assert total(runtime={"recompute": True})["activations"] < 0.4 * full["activations"]
    adapters = total(method="lora")
    assert adapters["optimizer state"] < 0.5 * full["optimizer state"]
    assert sum(v for k, v in full.items() if k != "total") == full["total"]
    text = forecast_text(full)
    assert "activations" in text and "MiB" in text and "total" not in text
