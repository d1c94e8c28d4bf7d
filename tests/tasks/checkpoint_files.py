"""Small checkpoints of every kind, for the tests of inspect, convert and compare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tiny_models import randomise, tiny_config
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model

HEADS = {"num_attention_heads": 2, "pred_num_attention_heads": 2}
"""What no shape of these files tells."""

_NEWER = {"model_type": "vjepa2_1", "num_hidden_layers": 4, "hierarchical_layers": [0, 2, 3]}
_POOLER = {"num_pooler_attention_heads": 4, "pooler_layer_norm_eps": 1e-5}

KINDS: dict[str, Callable[[], PretrainedModel]] = {
    "v2": lambda: VJEPA2Model(tiny_config()),
    "v2.1": lambda: VJEPA2Model(tiny_config(**_NEWER)),
    "v2.1 distilled": lambda: VJEPA2Model(
        tiny_config(**_NEWER, pred_num_levels=1, pred_output_size=40)
    ),
    "ac": lambda: VJEPA2ActionModel(tiny_config(model_type="vjepa2_ac", action_size=5)),
    "classifier": lambda: VJEPA2ForVideoClassification(tiny_config()),
    "original classifier": lambda: VJEPA2ForVideoClassification(tiny_config(**_POOLER)),
    "probe": lambda: VJEPA2AttentiveProbe(tiny_config(**_POOLER)),
    "three heads": lambda: VJEPA2AttentiveProbe(
        tiny_config(**_POOLER, head_sizes={"verb": 3, "noun": 4, "action": 6})
    ),
}


def make(kind: str, *, seed: int = 0) -> PretrainedModel:
    """A network of one kind with random weights everywhere."""
    return randomise(KINDS[kind](), seed=seed).eval()


def save(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """The same as a folder of this package."""
    make(kind, seed=seed).save_pretrained(folder)
    return folder


def training_file(path: Path, *, trained: dict[str, Any], averaged: dict[str, Any]) -> Path:
    """An original training checkpoint with two encoders and the numbers beside them."""
    content = {**averaged, "encoder": trained["encoder"], "epoch": 7, "loss": 0.25, "opt": None}
    torch.save(content, path)
    return path
