"""The recipe runs from its command line, goes on where it stopped, and names what is wrong."""

import json
from pathlib import Path

import pytest

from vjepa2.recipes.motion_classifier import main, motion_classifier
from vjepa2.tasks.motion_card import model_card
from vjepa2.video.synthetic import MOTION_LABELS

SMALL = ["num_clips=8", "steps=2", "clips_per_step=2", "warmup_steps=1", "workers=0"]
TINY_NETWORK = ["crop_size=16", "num_frames=4", "hidden_size=24", "num_heads=2", "num_layers=1"]


def arguments(folder: Path, *settings: str) -> list[str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    return ["--out", str(folder), "--test-clips", "4", *sets]


def test_the_command_writes_model_numbers_and_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(tmp_path, *SMALL, *TINY_NETWORK))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["num_clips"] == 4
    assert metrics["training"]["steps"] == 2
    assert metrics["training"]["num_labels"] == len(MOTION_LABELS)
    assert (tmp_path / "README.md").read_text() == model_card(metrics)
    assert {"config.json", "model.safetensors", "video_preprocessor_config.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert f"{metrics['accuracy']:.1%} of 4 held-out clips" in capsys.readouterr().out


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Did you mean 'steps'"):
        main(arguments(tmp_path, "stepz=3"))


def test_the_recipe_teaches_every_motion() -> None:
    assert motion_classifier().labels == MOTION_LABELS
