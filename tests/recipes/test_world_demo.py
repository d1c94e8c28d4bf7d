"""The robot's chain at tiny scale: every part is made, and nothing is made twice."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tiny_worlds import write_encoder
from vjepa2.cli.main import app
from vjepa2.errors import RobotError
from vjepa2.recipes.world_demo import DemoConfig, run_world_demo
from vjepa2.simulation.arm import Arm
from vjepa2.tasks.closed_loop import DriveConfig
from vjepa2.tasks.report_card_config import ReportCardConfig

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("the extra sim is not installed", allow_module_level=True)
pytest.importorskip("pyarrow")

REPORT = ReportCardConfig(
    episodes=2,
    moments=8,
    horizon=2,
    rollouts=2,
    starts=2,
    far=2,
    candidates=8,
    shuffles=1,
    suspects=8,
)


@pytest.fixture(scope="module", autouse=True)
def _graphics() -> None:
    try:
        Arm().render(32)
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")


def tiny(folder: Path) -> DemoConfig:
    return DemoConfig(
        recorded=4,
        held_out=2,
        steps=9,
        settings=(
            f"encoder={write_encoder(folder / 'encoder')}",
            "crop_size=16",
            "schedule.num_steps=3",
            "predictor.hidden_size=16",
            "predictor.num_layers=1",
            "predictor.num_heads=2",
            "batch_size=2",
            "health.every=3",
            "health.num_clips=4",
            "runtime.device=cpu",
        ),
        report=REPORT,
        drive=DriveConfig(
            episodes=1, samples=4, iterations=1, horizon=1, picture_size=32, baselines=("random",)
        ),
    )


def test_the_chain(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    first = run_world_demo(tmp_path / "demo", config=config, quiet=True)
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert made == {"recordings", "held_out", "run", "report.html", "drive"}
    assert set(first.driven.contenders) == {"model", "random"}
    assert first.driven.films[0].stat().st_size > 1000
    assert "<html" in (tmp_path / "demo" / "report.html").read_text()
    weights = tmp_path / "demo" / "run" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = run_world_demo(tmp_path / "demo", config=config, quiet=True)
    assert weights.stat().st_mtime_ns == before
    assert again.driven.contenders == first.driven.contenders
    assert again.card.score == first.card.score


def test_every_part_is_a_command(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    sets = [part for setting in config.settings for part in ("--set", setting)]
    data, run, out = (str(tmp_path / name) for name in ("data", "run", "drive"))

    def done(*words: str) -> dict[str, Any]:
        ended = CliRunner().invoke(app, ["world-model", *words, "--json", "--quiet"])
        assert ended.exit_code == 0, ended.output
        values: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return values

    recorded = done(
        *("collect", "--out", data, "--episodes", "4", "--steps", "9", "--size", "32"),
    )
    assert recorded["episodes"] == 4
    robot = str(recorded["robot"])
    done(
        "train", "--data", data, "--robot", robot, "--recipe", "simulated_arm", "--out", run, *sets
    )
    driven = done(
        *("drive", run, "--out", out, "--episodes", "1", "--problem", "push"),
        *("--baselines", "zero", "--set", "samples=4", "--set", "iterations=1"),
        *("--set", "picture_size=32", "--set", "horizon=1"),
    )
    assert set(driven["contenders"]) == {"model", "zero"}
