"""`vjepa2 world-model train` from the command line: start, stop, go on, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tiny_worlds import SPEC, write_dots, write_encoder
from vjepa2.cli.main import app
from vjepa2.recipes.world_model import recipes
from vjepa2.tasks.world_folder import load_world

SMALL = (
    "predictor.hidden_size=32", "predictor.num_layers=1", "predictor.num_heads=2", "batch_size=4",
    "data.num_frames=3", "schedule.num_steps=4", "health.num_clips=4", "runtime.device=cpu",
)  # fmt: skip


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world_verb")
    write_dots(folder / "data", count=3, length=6)
    write_encoder(folder / "encoder")
    (folder / "robot.json").write_text(SPEC.model_dump_json())
    return folder


def test_start_stop_go_on_plan_and_report(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    given = ("--data", place / "data", "--robot", place / "robot.json")
    first = call(
        *("world-model", "train", *given, "--encoder", place / "encoder", "--out", run),
        *("--recipe", "tiny_cpu", *settings, "--stop-at", 2),
    )
    assert first.exit_code == 0, first.stderr
    assert f"vjepa2 world-model train --out {run}" in first.stdout
    for words in ("2 to learn from, 1 to measure on", "2 x 2 a frame", "4 samples each"):
        assert words in first.stderr
    second = call("world-model", "train", "--out", run, "--json", "--quiet")
    assert (second.exit_code, second.stderr) == (0, "")
    values = json.loads(second.stdout.splitlines()[-1])
    assert (values["reason"], values["step"], values["resumed_from"]) == ("finished", 4, 2)
    assert values["measured"]["copy_last_loss"] > 0
    assert load_world(values["model"], device="cpu").spec == SPEC
    report = call("report", run, "--json")
    assert report.exit_code == 0 and (run / "report.html").exists()
    with np.load(place / "data" / "0.npz") as held:  # in the layout of the published example
        np.savez(tmp_path / "episode.npz", **{name: part[None] for name, part in held.items()})
    planned = call(
        *("plan", tmp_path / "episode.npz", "--model", run, "--out", tmp_path / "plan"),
        *("--samples", 12, "--iterations", 1, "--horizon", 1),
    )
    assert planned.exit_code == 0, planned.stderr


def test_recipes_are_listed_and_complete_but_for_data() -> None:
    result = call("world-model", "train", "--recipes", "--json")
    listed = json.loads(result.stdout.splitlines()[-1])["recipes"]
    assert set(listed) >= {"droid", "one_gpu", "tiny_cpu"}
    for name, recipe in recipes().items():
        assert recipe().recipe == name and listed[name]


def test_the_published_recipe() -> None:
    """Numbers of the published configuration."""
    config = recipes()["droid"]()
    schedule, predictor = config.schedule, config.predictor
    assert (config.batch_size, config.data.num_frames, config.data.fps) == (256, 8, 4)
    assert (predictor.hidden_size, predictor.num_layers, predictor.num_heads) == (1024, 24, 16)
    assert (schedule.num_steps, schedule.warmup_steps, schedule.cooldown_steps) == (
        94_500,
        4_500,
        4_500,
    )
    assert (schedule.start_lr, schedule.lr, schedule.final_lr) == (7.5e-5, 4.25e-4, 0)
    assert schedule.rates(0).weight_decay == schedule.rates(94_499).weight_decay == 0.04
    assert (config.auto_steps, config.loss_exponent, config.optim.clip_norm) == (2, 1, None)
    assert config.runtime.dtype == "bfloat16" and not config.normalise


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "run"], "Give recordings (--data)"),
        (["--out", "run", "--data", "no"], "--robot"),
        (["--out", "run", "--data", "no", "--robot", "no.json"], "no.json"),
        (["--out", "run", "--recipe", "tiny"], "Did you mean 'tiny_cpu'"),
        (["--out", "run", "--data", "no", "--set", "auto_step=3"], "Did you mean 'auto_steps'"),
        (["--data", "no"], "--out"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], text: str) -> None:
    placed = [str(tmp_path / part) if part == "run" else part for part in arguments]
    result = call("world-model", "train", *placed)
    assert result.exit_code != 0 and text in result.stderr, result.stderr
    assert not (tmp_path / "run").exists()
