"""Files that the port made from a model of its own, the Auto classes, and fine-tuned weights.

test_checkpoint_files.py has what either library makes of the other's files.
"""

from pathlib import Path

import pytest
import torch
import transformers
from paired_models import CONFIGS, Pair, assert_same, make_pair
from torch import nn

import vjepa2
from tiny_models import clip

pytestmark = pytest.mark.parity

KINDS = ("VJEPA2Model", "VJEPA2ForVideoClassification")


def pair_of(kind: str) -> Pair:
    return make_pair(CONFIGS["tiny"], classifier=kind.endswith("Classification"))


@torch.no_grad()
def assert_equal_outputs(one: nn.Module, other: nn.Module) -> None:
    config = one.config
    x = torch.randn(2, 4, config.in_chans, config.crop_size, config.crop_size)
    assert not one.training and not other.training
    assert_same(one(x), other(x), tolerance=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard", ["50GB", "60KB"])
def test_theirs_to_ours(tmp_path: Path, kind: str, shard: str) -> None:
    pair = pair_of(kind)
    pair.theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard == "60KB"
    ours = getattr(vjepa2, kind).from_pretrained(tmp_path)
    assert_equal_outputs(ours, pair.theirs)


def test_the_base_of_a_classifier_both_ways(tmp_path: Path) -> None:
    pair = pair_of(KINDS[1])
    for name, model in zip(("theirs", "ours"), pair, strict=True):
        model.save_pretrained(tmp_path / name)
    ours = vjepa2.AutoModel.from_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "ours")
    assert type(ours) is vjepa2.VJEPA2Model and type(theirs) is transformers.VJEPA2Model
    assert_equal_outputs(ours, theirs)


def test_a_model_fine_tuned_here_runs_there(tmp_path: Path) -> None:
    ours = pair_of(KINDS[1]).ours.train()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    ours(clip(ours.config), torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    ours.eval().save_pretrained(tmp_path)
    theirs = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path)
    assert_equal_outputs(ours, theirs)
