"""What either library saves, the other loads, with equal outputs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from paired_models import CONFIGS, Pair, assert_same, make_pair
from safetensors.torch import load_file, save_file
from torch import nn

import vjepa2
from tiny_models import clip, randomise

pytestmark = pytest.mark.parity

KINDS = ("VJEPA2Model", "VJEPA2ForVideoClassification")


def pair_of(kind: str, name: str = "tiny", **options: Any) -> Pair:
    return make_pair(CONFIGS[name], classifier=kind.endswith("Classification"), **options)


@torch.no_grad()
def assert_equal_outputs(one: nn.Module, other: nn.Module, *, tolerance: float = 2e-5) -> None:
    config = one.config
    x = torch.randn(2, 4, config.in_chans, config.crop_size, config.crop_size)
    assert not one.training and not other.training
    assert_same(one(x), other(x), tolerance=tolerance)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, shards joined."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tiny", "odd", "vitg"])
@pytest.mark.parametrize("shard", ["50GB", "60KB"])
def test_theirs_to_ours(tmp_path: Path, kind: str, name: str, shard: str) -> None:
    pair = pair_of(kind, name)
    pair.theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard == "60KB"
    ours = getattr(vjepa2, kind).from_pretrained(tmp_path)
    assert_equal_outputs(ours, pair.theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tiny", "odd", "vitg"])
@pytest.mark.parametrize("shard", ["50GB", "60KB"])
def test_ours_to_theirs(tmp_path: Path, kind: str, name: str, shard: str) -> None:
    pair = pair_of(kind, name)
    pair.ours.save_pretrained(tmp_path, max_shard_size=shard)
    theirs, report = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert_equal_outputs(pair.ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard", ["50GB", "60KB"])
def test_both_write_the_same_files(tmp_path: Path, kind: str, shard: str) -> None:
    pair = pair_of(kind)
    for name, model in zip(("theirs", "ours"), pair, strict=True):
        model.save_pretrained(tmp_path / name, max_shard_size=shard)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
    assert (ours / "config.json").read_bytes() == (theirs / "config.json").read_bytes()
    one, other = weights_of(ours), weights_of(theirs)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    if shard == "60KB":
        # Which tensor lies in which shard may differ; what the index says about them may not.
        indices = [
            json.loads((folder / "model.safetensors.index.json").read_text())
            for folder in (ours, theirs)
        ]
        assert indices[0]["metadata"] == indices[1]["metadata"]
        assert indices[0]["weight_map"].keys() == indices[1]["weight_map"].keys() == one.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_stays(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    pair = pair_of(kind, dtype=dtype)
    for name, model in zip(("theirs", "ours"), pair, strict=True):
        model.save_pretrained(tmp_path / name)
    ours = getattr(vjepa2, kind).from_pretrained(tmp_path / "theirs")
    theirs = getattr(transformers, kind).from_pretrained(tmp_path / "ours")
    assert ours.dtype == theirs.dtype == dtype
    # Weights are equal to the bit; half precision arithmetic differs in the last places.
    for (name, one), (_, other) in zip(
        sorted(ours.named_parameters()), sorted(theirs.named_parameters()), strict=True
    ):
        assert torch.equal(one, other), name
    assert_equal_outputs(ours, theirs, tolerance=0.05)


def test_the_base_of_a_classifier_both_ways(tmp_path: Path) -> None:
    pair = pair_of(KINDS[1])
    for name, model in zip(("theirs", "ours"), pair, strict=True):
        model.save_pretrained(tmp_path / name)
    ours = vjepa2.AutoModel.from_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "ours")
    assert type(ours) is vjepa2.VJEPA2Model and type(theirs) is transformers.VJEPA2Model
    assert_equal_outputs(ours, theirs)


def test_a_classifier_from_a_base_both_ways(tmp_path: Path) -> None:
    """The head is fresh and different; everything below is equal."""
    pair = pair_of(KINDS[0])
    for name, model in zip(("theirs", "ours"), pair, strict=True):
        model.save_pretrained(tmp_path / name)
    with pytest.warns(UserWarning, match="made fresh.*Train the model"):
        ours = vjepa2.AutoModelForVideoClassification.from_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoModelForVideoClassification.from_pretrained(tmp_path / "ours")
    assert_equal_outputs(ours.vjepa2, theirs.vjepa2)
    randomise(theirs, seed=5)
    ours.load_state_dict(theirs.state_dict())
    assert_equal_outputs(ours, theirs)


def test_a_configuration_goes_back_and_forth(tmp_path: Path) -> None:
    names = {0: "left", 1: "right", 2: "still"}
    ours = vjepa2.VJEPA2Config(num_pooler_attention_heads=8, pooler_layer_norm_eps=1e-5)
    ours.id2label = names
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    assert theirs.id2label == names and theirs.label2id["still"] == 2
    theirs.save_pretrained(tmp_path / "theirs")
    again = vjepa2.AutoConfig.from_pretrained(tmp_path / "theirs")
    assert (again.pooler_heads, again.pooler_eps, again.num_labels) == (8, 1e-5, 3)
    assert again.id2label == names


def test_a_model_fine_tuned_here_runs_there(tmp_path: Path) -> None:
    ours = pair_of(KINDS[1]).ours.train()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    ours(clip(ours.config), torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    ours.eval().save_pretrained(tmp_path)
    theirs = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path)
    assert_equal_outputs(ours, theirs)


def test_older_files_with_names_and_keys_of_their_own(tmp_path: Path) -> None:
    """Hub files carry keys that no class knows; both keep them."""
    pair = pair_of(KINDS[0])
    pair.theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values |= {"use_SiLU": False, "is_causal": False, "torch_dtype": values.pop("dtype")}
    path.write_text(json.dumps(values))
    save_file(weights_of(tmp_path), tmp_path / "model.safetensors")  # without metadata
    ours = vjepa2.VJEPA2Model.from_pretrained(tmp_path)
    assert_equal_outputs(ours, pair.theirs)
    ours.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["use_SiLU"] is False and again["dtype"] == "float32"
