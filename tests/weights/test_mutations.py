"""Valid files, changed in 200 ways: each loads with exactly the right values, or is refused.

`mutations.py` lists the changes of files with what must happen; here are files of other families,
folders, and the tests.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import CASES, CONFIG, FORMAT, MISMATCH, Case
from safetensors.torch import load_file, save_file
from torch import Tensor

from original_files import DEPTHS, FAMILIES, HEADS, Tensors, encoder, v2
from vjepa2.errors import CheckpointFormatError, CheckpointMismatchError, VJEPAError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.vjepa2 import VJEPA2Model

# -- another family -------------------------------------------------------------------------------


def image_transformer() -> Tensors:
    tensors = encoder(5, width=24, depth=3, second=False).meta
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"][:, :, 0].clone()
    return {**tensors, "cls_token": torch.ones(1, 1, 24), "pos_embed": torch.ones(1, 5, 24)}


STRANGERS: dict[str, tuple[dict[str, Any], str]] = {
    "timm": ({**image_transformer(), "head.weight": torch.ones(10, 24)}, "a class token"),
    "timm in a wrapper": ({"model": image_transformer(), "epoch": 3}, "a class token"),
    "dinov2": (
        {**image_transformer(), "blocks.0.ls1.gamma": torch.ones(24)},
        "layer scale or registers",
    ),
    "torchvision": (
        {
            "class_token": torch.ones(1, 1, 24),
            "conv_proj.weight": torch.ones(24, 3, 16, 16),
            "encoder.layers.encoder_layer_0.ln_1.weight": torch.ones(24),
        },
        "a class token",
    ),
    "videomae": (
        {
            "videomae.embeddings.patch_embeddings.projection.weight": torch.ones(24, 3, 2, 4, 4),
            "videomae.encoder.layer.0.attention.attention.q_bias": torch.ones(24),
        },
        "VideoMAE",
    ),
    "clip": ({"text_model.embeddings.position_ids": torch.ones(1, 5)}, "CLIP"),
    "resnet": ({"state_dict": {"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)}}, "ResNet"),
    "optimizer": ({"state": {}, "param_groups": []}, "another kind of checkpoint"),
    "numbers": ({"epoch": 3, "loss": 0.1}, "found epoch, loss"),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("model", [VJEPA2Model, VJEPA2ActionModel])
def test_another_family(tmp_path: Path, name: str, model: type[PretrainedModel]) -> None:
    content, words = STRANGERS[name]
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointFormatError, match=words) as caught:
        model.from_pretrained(tmp_path / "weights.pt", **HEADS, **DEPTHS)
    assert type(caught.value) is CheckpointFormatError
    assert str(tmp_path / "weights.pt") in str(caught.value)


SECOND = VJEPA2Config(
    model_type="vjepa2_1",
    hidden_size=24,
    num_hidden_layers=3,
    hierarchical_layers=[0, 2],
    pred_hidden_size=16,
    pred_num_hidden_layers=2,
    patch_size=4,
    mlp_ratio=2.0,
    pred_mlp_ratio=2.0,
    **HEADS,  # type: ignore[arg-type]
)
FIRST = VJEPA2Config(
    hidden_size=12, num_hidden_layers=12, pred_hidden_size=12, patch_size=4, **HEADS
)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "model", "config", "error", "words"),
    [
        ("v21_deep", VJEPA2Model, FIRST, MISMATCH, "file holds a V-JEPA 2.1 network"),
        ("v21_distilled", VJEPA2Model, FIRST, MISMATCH, "file holds a V-JEPA 2.1 network"),
        ("v2", VJEPA2Model, SECOND, MISMATCH, "is of V-JEPA 2.1 .*, the file of V-JEPA 2"),
        ("action", VJEPA2Model, SECOND, MISMATCH, "holds a V-JEPA 2-AC network.*ActionModel"),
        ("action", VJEPA2Model, None, CONFIG, "use VJEPA2ActionModel"),
        ("v2", VJEPA2ActionModel, None, CONFIG, "takes no actions: use VJEPA2Model"),
        ("v21_deep", VJEPA2ActionModel, None, CONFIG, "takes no actions: use VJEPA2Model"),
        ("probe_one", VJEPA2Model, None, FORMAT, "a probe only, without an encoder"),
    ],
)
def test_one_family_into_another(
    tmp_path: Path,
    family: str,
    model: type[PretrainedModel],
    config: VJEPA2Config | None,
    error: type[VJEPAError],
    words: str,
) -> None:
    path = FAMILIES[family](0).save(tmp_path)
    told = {**HEADS, "pred_num_hidden_layers": 2, "crop_size": 16}
    given: dict[str, Any] = {"config": config} if config else told
    with pytest.raises(error, match=words) as caught:
        model.from_pretrained(path, **given)
    assert type(caught.value) is error


# -- folders of the Hugging Face layout -----------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folder")
    sample = v2()
    sample.load(sample.save(path)).save_pretrained(path / "model")
    return path / "model"


def _without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t for name, t in tensors.items() if part not in name}


def _one(ending: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: change(t) if n.endswith(ending) else t for n, t in tensors.items()}


def _renamed(rename: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {rename(name): tensor for name, tensor in tensors.items()}


FOLDER: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "missing block": (_without("encoder.layer.1."), r"missing \(16\): encoder\.layer\.1"),
    "missing last block": (_without("encoder.layer.2."), "num_hidden_layers is 2 in the file"),
    "missing predictor": (_without("predictor."), "an encoder without its predictor"),
    "missing tensor": (_without("layer.1.norm1.bias"), "a few tensors were left out"),
    "transposed": (_one("1.mlp.fc2.weight", lambda t: t.T.contiguous()), "transposed"),
    "int8": (_one("fc1.weight", lambda t: t.to(torch.int8)), "stores int8 values"),
    "wrapper": (_renamed(lambda name: f"module.{name}"), "DistributedDataParallel"),
    "compiled": (_renamed(lambda name: f"_orig_mod.{name}"), "before torch.compile"),
    "original names": (_renamed(lambda name: name.replace("layer.", "blocks.")), "Meta's"),
    "second": (_renamed(lambda n: n.replace("layernorm.", "layernorms.3.")), "V-JEPA 2.1"),
    "wider": (_one("encoder.layernorm.weight", lambda t: t.repeat(2)), "hidden_size is 48"),
}


@pytest.mark.parametrize("name", FOLDER)
def test_folder(folder: Path, tmp_path: Path, name: str) -> None:
    change, words = FOLDER[name]
    shutil.copy(folder / "config.json", tmp_path)
    save_file(change(load_file(folder / "model.safetensors")), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointMismatchError, match=words):
        VJEPA2Model.from_pretrained(tmp_path)


# -- the test -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.change.__name__}-{case.family}-{case.seed}" for case in CASES]
)
def test_mutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.chdir(tmp_path)
    sample = FAMILIES[case.family](0)
    outcome = case.change(sample, random.Random(case.seed))
    path = sample.save(tmp_path)
    outcome.damage(path)
    if outcome.error is not None:
        with pytest.raises(outcome.error, match=f"(?s){outcome.words}") as caught:
            sample.load(path, **outcome.options)
        assert type(caught.value) is outcome.error
        assert not (tmp_path / "was-run").exists()
        return
    model = sample.load(path, **outcome.options)
    found = model.state_dict()
    assert set(found) == set(sample.expected)
    assert [name for name in found if not torch.equal(found[name], sample.expected[name])] == []
    assert model.load_report is not None and not model.load_report.fresh


def test_there_are_two_hundred() -> None:
    assert len(CASES) + 2 * len(STRANGERS) + len(FOLDER) >= 200
