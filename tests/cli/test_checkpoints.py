"""`vjepa2 inspect`, `convert` and `compare` from the command line."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from tiny_models import randomise, tiny_config
from vjepa2.cli.main import app
from vjepa2.models.vjepa2 import VJEPA2Model


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A file in Meta's layout whose heads no shape tells."""
    randomise(VJEPA2Model(tiny_config())).save_pretrained(tmp_path / "model")
    assert call("convert", tmp_path / "model", tmp_path / "a.pt", "--to", "meta").exit_code == 0
    return tmp_path / "a.pt"


HEADS = ["--set", "num_attention_heads=2", "--set", "pred_num_attention_heads=2"]


def test_inspect_tells_what_it_is_and_fails_when_it_does_not_load(original: Path) -> None:
    result = call("inspect", original)
    assert result.exit_code == 1
    assert "V-JEPA 2" in result.stdout and "num_attention_heads" in result.stdout
    result = call("inspect", original, *HEADS, "--json")
    values = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0 and values["ok"]
    assert values["model_class"] == "VJEPA2Model" and values["read_from"] == "target_encoder"
    assert len(values["features_mark"]) == 16


def test_convert_says_what_it_did_and_what_is_in_the_way(original: Path, tmp_path: Path) -> None:
    options = ["--to", "hf", *HEADS, "--set", "crop_size=32"]
    result = call("convert", original, tmp_path / "hf", *options, "--json")
    values = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0 and values["layout"] == "hf"
    assert (tmp_path / "hf" / "config.json").is_file()
    assert (tmp_path / "hf" / "video_preprocessor_config.json").is_file()
    result = call("convert", original, tmp_path / "x", "--to", "onnx")
    assert result.exit_code == 2 and "hf" in result.stderr
    result = call("convert", original, tmp_path / "x", "--to", "hf", "--from-key", "ema_encoder")
    assert result.exit_code == 1 and "target_encoder, encoder" in result.stderr
    assert not (tmp_path / "x").exists()


def test_compare_prints_how_much_differs(original: Path, tmp_path: Path) -> None:
    content = torch.load(original, weights_only=True)
    content["target_encoder"]["module.backbone.norm.weight"] = 1.5 * torch.ones(32)
    torch.save(content, tmp_path / "b.pt")
    result = call("compare", original, tmp_path / "b.pt", *HEADS, "--json")
    values = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0 and not values["same"]
    assert [row["name"] for row in values["different"]] == ["encoder.layernorm.weight"]
    assert values["features_relative"] > 0.1
    assert "encoder.layernorm.weight" in call("compare", original, tmp_path / "b.pt").stdout


def test_a_file_that_would_run_code_is_refused_everywhere(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"encoder": Evil()}, tmp_path / "a.pt")
    for arguments in (
        ["inspect", tmp_path / "a.pt"],
        ["convert", tmp_path / "a.pt", tmp_path / "b", "--to", "vjepa2"],
        ["compare", tmp_path / "a.pt", tmp_path / "a.pt"],
    ):
        result = call(*arguments)
        assert result.exit_code == 1 and "would run code" in result.stderr
    assert not (tmp_path / "ran").exists()
