"""Checkpoints both ways: what one library writes the other loads, with equal outputs and bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from paired_models import CONFIGS
from safetensors.torch import load_file
from torch import Tensor

from tiny_models import clip, randomise, relative_error
from vjepa2 import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

pytestmark = pytest.mark.parity
transformers.utils.logging.disable_progress_bar()

KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "base": (VJEPA2Model, transformers.VJEPA2Model),
    "classifier": (VJEPA2ForVideoClassification, transformers.VJEPA2ForVideoClassification),
}
# An index of more than one file for each of the three configurations.
SHARD = "60KB"


@torch.no_grad()
def output(model: Any, x: Tensor) -> Tensor:
    result = model.eval()(x.to(model.dtype))
    return result.logits if "logits" in result else result.predictor_output.last_hidden_state


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["tiny", "vitg", "odd"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["50GB", SHARD])
def test_both_ways(kind: str, name: str, size: str, tmp_path: Path) -> None:
    ours_class, their_class = KINDS[kind]
    ours = randomise(ours_class(VJEPA2Config(**CONFIGS[name])))
    x = clip(ours.config)
    ours.save_pretrained(tmp_path / "ours", max_shard_size=size)
    theirs = their_class.from_pretrained(tmp_path / "ours")
    assert relative_error(output(ours, x), output(theirs, x)) <= 2e-5

    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=size)
    again, info = ours_class.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    # Another place in memory may round a matrix product differently; the values are compared below.
    assert relative_error(output(again, x), output(ours, x)) <= 1e-6
    assert not any(info.values())

    # The same names and bytes, so nobody can tell who wrote a folder.
    written, expected = contents(tmp_path / "ours"), contents(tmp_path / "theirs")
    assert set(written) == set(expected)
    assert (len(written) > 2) == (size == SHARD)
    for filename in written:
        assert written[filename] == expected[filename], filename


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_element_types(dtype: torch.dtype, tmp_path: Path) -> None:
    ours = randomise(VJEPA2ForVideoClassification(VJEPA2Config(**CONFIGS["tiny"]))).to(dtype)
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path / "ours")
    assert theirs.dtype is dtype
    theirs.save_pretrained(tmp_path / "theirs")
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "theirs")
    assert again.dtype is dtype
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_variant(tmp_path: Path) -> None:
    ours = randomise(VJEPA2Model(VJEPA2Config(**CONFIGS["tiny"])))
    ours.save_pretrained(tmp_path / "plain")
    theirs = transformers.VJEPA2Model.from_pretrained(tmp_path / "plain")
    for size in ("50GB", SHARD):
        for model, side in ((ours, "ours"), (theirs, "theirs")):
            model.save_pretrained(tmp_path / side / size, variant="v1", max_shard_size=size)
        assert contents(tmp_path / "ours" / size) == contents(tmp_path / "theirs" / size)
        again = VJEPA2Model.from_pretrained(tmp_path / "theirs" / size, variant="v1")
        assert torch.equal(again.predictor.proj.weight, ours.predictor.proj.weight)


class TestHeads:
    """The same tensors are dropped and made fresh as in the port."""

    def test_base_from_classifier(self, tmp_path: Path) -> None:
        config = VJEPA2Config(**CONFIGS["tiny"])
        randomise(VJEPA2ForVideoClassification(config)).save_pretrained(tmp_path)
        ours, info = VJEPA2Model.from_pretrained(tmp_path, output_loading_info=True)  # type: ignore[misc]
        theirs, expected = transformers.VJEPA2Model.from_pretrained(
            tmp_path, output_loading_info=True
        )
        assert info == {key: expected[key] for key in info}
        x = clip(config)
        assert relative_error(output(ours, x), output(theirs, x)) <= 2e-5

    def test_classifier_from_base(self, tmp_path: Path) -> None:
        config = VJEPA2Config(**CONFIGS["tiny"])
        randomise(VJEPA2Model(config)).save_pretrained(tmp_path)
        with pytest.warns(UserWarning, match="were made fresh"):
            ours, info = VJEPA2ForVideoClassification.from_pretrained(  # type: ignore[misc]
                tmp_path, output_loading_info=True
            )
        _, expected = transformers.VJEPA2ForVideoClassification.from_pretrained(
            tmp_path, output_loading_info=True
        )
        assert info == {key: expected[key] for key in info}
        ours.save_pretrained(tmp_path / "tuned")
        theirs = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path / "tuned")
        assert relative_error(output(ours, clip(config)), output(theirs, clip(config))) <= 2e-5

    def test_mismatched_sizes(self, tmp_path: Path) -> None:
        config = VJEPA2Config(**CONFIGS["tiny"])
        randomise(VJEPA2ForVideoClassification(config)).save_pretrained(tmp_path)
        options: dict[str, Any] = {
            "num_labels": 7,
            "ignore_mismatched_sizes": True,
            "output_loading_info": True,
        }
        with pytest.warns(UserWarning, match="were made fresh"):
            _, info = VJEPA2ForVideoClassification.from_pretrained(tmp_path, **options)  # type: ignore[misc]
        _, expected = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path, **options)
        theirs = {(name, tuple(a), tuple(b)) for name, a, b in expected["mismatched_keys"]}
        assert info["mismatched_keys"] == theirs


def test_published_keys_survive_both_libraries(tmp_path: Path) -> None:
    """Hub files carry keys that neither library knows, and the older name of dtype."""
    model = randomise(VJEPA2Model(VJEPA2Config(**CONFIGS["tiny"])))
    model.save_pretrained(tmp_path / "hub")
    path = tmp_path / "hub" / "config.json"
    legacy = {"image_size": 32, "use_SiLU": False, "wide_SiLU": True, "is_causal": False}
    values = json.loads(path.read_text()) | legacy | {"torch_dtype": "float32"}
    del values["dtype"]
    values["transformers_version"] = "4.53.0.dev0"
    path.write_text(json.dumps(values))

    VJEPA2Model.from_pretrained(tmp_path / "hub").save_pretrained(tmp_path / "ours")
    theirs = transformers.VJEPA2Model.from_pretrained(tmp_path / "hub")
    theirs.save_pretrained(tmp_path / "theirs")
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    stored = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert legacy.items() <= stored.items() and stored["dtype"] == "float32"


def test_own_configuration_keys_do_not_disturb_the_port(tmp_path: Path) -> None:
    config = VJEPA2Config(**CONFIGS["tiny"], num_pooler_attention_heads=4)
    randomise(VJEPA2ForVideoClassification(config)).save_pretrained(tmp_path / "ours")
    theirs = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "theirs")
    assert again.config.pooler_heads == 4
    names = load_file(tmp_path / "theirs" / "model.safetensors")
    assert set(names) == set(again.state_dict())
