"""Auto classes: the same loaders under the port's generic names."""

import inspect
import json
from pathlib import Path

import pytest
import torch

from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.models import auto
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.video.processor import VJEPA2VideoProcessor

SMALL = VJEPA2Config(
    hidden_size=24,
    num_attention_heads=2,
    num_hidden_layers=1,
    pred_hidden_size=24,
    pred_num_attention_heads=2,
    pred_num_hidden_layers=1,
    num_pooler_layers=1,
    crop_size=16,
    patch_size=8,
    num_labels=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("auto")
    torch.manual_seed(0)
    VJEPA2ForVideoClassification(SMALL).save_pretrained(path)
    VJEPA2VideoProcessor(crop_size=16).save_pretrained(path)
    return path


def test_each_name_makes_its_class(folder: Path) -> None:
    assert type(auto.AutoConfig.from_pretrained(folder)) is VJEPA2Config
    # As in the port: AutoModel takes the base part of a classifier's checkpoint.
    assert type(auto.AutoModel.from_pretrained(folder)) is VJEPA2Model
    classifier = auto.AutoModelForVideoClassification.from_pretrained(folder)
    assert type(classifier) is VJEPA2ForVideoClassification and classifier.num_labels == 4
    for name in (auto.AutoVideoProcessor, auto.AutoProcessor):
        processor = name.from_pretrained(folder)
        assert type(processor) is VJEPA2VideoProcessor
        assert processor.crop_size == {"height": 16, "width": 16}


def test_the_configuration_chooses_the_class(tmp_path: Path) -> None:
    """Also where the user's configuration is not the stored one, and for fresh models."""
    config = SMALL.replaced({"model_type": "vjepa2_ac"})
    made = auto.AutoModel.from_config(config, dtype="float16", attn_implementation="eager")
    assert type(made) is VJEPA2ActionModel and made.dtype is torch.float16
    assert made.config.attn_implementation == "eager"
    made.save_pretrained(tmp_path)
    for given in (None, config, tmp_path / "config.json"):
        model, info = auto.AutoModel.from_pretrained(
            tmp_path, config=given, output_loading_info=True
        )
        assert type(model) is VJEPA2ActionModel and not any(info.values())
    with pytest.raises(ConfigError, match="vjepa2_ac"):
        auto.AutoModelForVideoClassification.from_pretrained(tmp_path)


def test_unknown_arguments(folder: Path) -> None:
    with pytest.raises(UnknownOptionError, match="AutoModel.from_pretrained has no option 'dtpe'"):
        auto.AutoModel.from_pretrained(folder, dtpe="float16")


def test_fresh_models() -> None:
    assert type(auto.AutoModel.from_config(SMALL)) is VJEPA2Model
    made = auto.AutoModelForVideoClassification.from_config(SMALL, dtype="float16")
    assert type(made) is VJEPA2ForVideoClassification and made.dtype is torch.float16


def test_arguments_are_those_of_the_class() -> None:
    for name, target in (
        (auto.AutoModel, VJEPA2Model),
        (auto.AutoModelForVideoClassification, VJEPA2ForVideoClassification),
    ):
        assert inspect.signature(name.from_pretrained) == inspect.signature(target.from_pretrained)


@pytest.mark.parametrize("name", ["AutoConfig", "AutoModel", "AutoModelForVideoClassification"])
def test_another_architecture_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "videomae"}))
    with pytest.raises(ConfigError, match="'videomae' is another architecture"):
        getattr(auto, name).from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["AutoConfig", "AutoModel", "AutoVideoProcessor"])
def test_they_are_not_made_by_calling(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Use {name}.from_pretrained"):
        getattr(auto, name)("facebook/vjepa2-vitl-fpc64-256")
