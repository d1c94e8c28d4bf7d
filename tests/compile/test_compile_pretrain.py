"""Compiled blocks train as the plain ones do."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny_pretraining import tiny_run, write_clips
from vjepa2.tasks.pretrain import pretrain

pytestmark = [
    pytest.mark.compile,
    pytest.mark.timeout(600),
    # The compiler asks on purpose, and hides the warning by a filter that errors pass by.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]


def test_compiled_updates_equal_plain_ones(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips")
    for name in ("plain", "compiled"):
        torch.compiler.reset()
        config = tiny_run(
            clips,
            network={"drop_path_rate": 0.0},
            schedule={"num_steps": 3},
            runtime={"compile": name == "compiled"},
        )
        pretrain(config, tmp_path / name, quiet=True)
    losses, weights = {}, {}
    for name in ("plain", "compiled"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [row["loss"] for row in map(json.loads, lines) if row["kind"] == "step"]
        weights[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    assert losses["compiled"] == pytest.approx(losses["plain"], abs=1e-5)
    assert weights["compiled"].keys() == weights["plain"].keys()
    for name, value in weights["plain"].items():
        torch.testing.assert_close(weights["compiled"][name], value, rtol=0, atol=1e-4)
