"""The command that gathers evidence: a model folder in, results and a table out."""

from pathlib import Path

import pytest

from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.scene_evidence import main

SETTINGS = (
    'tasks=["order"]', "train_clips=10", "test_clips=10", "seeds=[0]", "fps=2", "probe.epochs=1",
)  # fmt: skip


def test_results_and_table_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = VJEPA2Config(
        patch_size=8, crop_size=16, frames_per_clip=4, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, pred_hidden_size=16, pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )  # fmt: skip
    VJEPA2Model(config).save_pretrained(tmp_path / "model")
    command = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--quiet"]
    for setting in SETTINGS:
        command += ["--set", setting]
    main([*command, "--contender", "pixels"])
    assert "pretrained" not in capsys.readouterr().out
    main([*command, "--contender", "pretrained"])
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "table.md").read_text()
    assert "| task (chance) | pretrained | pixels | shuffled |" in printed
    assert '"behind"' in (tmp_path / "out" / "results.json").read_text()


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["--model", str(tmp_path / "none"), "--out", str(tmp_path), "--set", "train_clip=3"])
    assert "train_clips" in capsys.readouterr().err
