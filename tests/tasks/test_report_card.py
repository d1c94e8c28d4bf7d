"""A report card ranks models, and names what is wrong with sabotaged recordings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dot_robot import SPEC, TIMES, dot_frames, dot_states, dot_world, fresh_model, load, write_dots
from vjepa2.cli.main import app
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import ConfigError, EpisodeError
from vjepa2.tasks.report_card import ReportCard, report_card
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.world_folder import LoadedWorld, save_world

QUICK = ReportCardConfig(
    episodes=5, rollouts=12, starts=8, candidates=32, shuffles=2, suspects=100, horizon=4
)
ROWS = [dot_states(40, seed=seed) for seed in range(5)]
FRAMES = [dot_frames(rows) for rows in ROWS]
Change = Callable[[Any], Any]


def same(values: Any) -> Any:
    return values


def write(
    folder: Path,
    *,
    states: Change = same,
    actions: Change = same,
    frames: Change = same,
    times: Change = same,
    shift: int = 0,
) -> Path:
    """The recordings, changed; `shift` gives every episode the video of another."""
    told = [SPEC.actions(SPEC.states(rows).double()).numpy() for rows in ROWS]
    return write_dots(
        folder,
        [states(rows) for rows in ROWS],
        [frames(FRAMES[(at + shift) % len(FRAMES)]) for at in range(len(FRAMES))],
        actions=[actions(rows) for rows in told],
        times=[times(TIMES)] * len(ROWS),
    )


def both(change: Change) -> dict[str, Change]:
    """Of states and of actions: the numbers still agree with each other."""
    return {"states": change, "actions": change}


def columns(*order: int) -> Change:
    return lambda rows: rows[:, list(order)]


def scaled(*factors: float) -> Change:
    return lambda rows: rows * np.array(factors)


def late(count: int) -> Change:
    return lambda frames: frames[(np.arange(len(frames)) - count).clip(0, len(frames) - 1)]


def shuffled(rows: Any) -> Any:
    return np.random.default_rng(1).permutation(rows)


SABOTAGE: dict[str, tuple[dict[str, Any], str]] = {
    "x and y exchanged": (both(columns(1, 0, 2, 3, 4, 5, 6)), "swapped axes"),
    "y and z exchanged": (both(columns(0, 2, 1, 3, 4, 5, 6)), "swapped axes"),
    "z reversed": (both(scaled(1, 1, -1, 1, 1, 1, 1)), "swapped axes"),
    "gripper is x": ({"states": columns(6, 1, 2, 3, 4, 5, 0)}, "gripper"),
    "frames 1 late": ({"frames": late(1)}, "camera lag"),
    "frames 2 late": ({"frames": late(2)}, "camera lag"),
    "frames 3 late": ({"frames": late(3)}, "camera lag"),
    "actions 2 early": ({"actions": lambda rows: np.roll(rows, -2, axis=0)}, "lag"),
    "millimetres": (both(scaled(1000, 1000, 1000, 1, 1, 1, 1)), "units"),
    "degrees": (both(scaled(1, 1, 1, 57.3, 57.3, 57.3, 1)), "units"),
    "actions shuffled": ({"actions": shuffled}, "shuffled actions"),
    "frames shuffled": ({"frames": shuffled}, "shuffled actions"),
    "camera frozen": ({"frames": lambda frames: frames[:1].repeat(40, axis=0)}, "frozen camera"),
    "states constant": (
        {"states": lambda rows: rows[:1].repeat(40, axis=0), "actions": scaled(*[0] * 7)},
        "constant states",
    ),
    "frames of twice the rate": (
        {"frames": lambda frames: frames[(2 * np.arange(40)).clip(max=39)]},
        "rate",
    ),
    "pictures mirrored": ({"frames": lambda frames: frames[:, :, ::-1]}, "mirrored images"),
    "red and blue exchanged": ({"frames": lambda frames: frames[..., ::-1]}, "colours"),
    "videos of other episodes": ({"shift": 2}, "other video"),
}
# Columns 0 and 6 of the states are exchanged, those of the recorded actions are not: also said.
SAID_TOO = {"gripper is x": {"swapped axes"}}


@pytest.fixture(scope="module")
def good() -> LoadedWorld:
    return dot_world(updates=300)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def card(good: LoadedWorld, clean: Path) -> ReportCard:
    return report_card(good, clean, config=QUICK)


def serious(card: ReportCard) -> set[str]:
    return {finding.cause for finding in card.findings if finding.serious}


def test_sound_recordings_pass_without_a_word(card: ReportCard, clean: Path) -> None:
    assert card.findings == (), card.text()
    untrained = report_card(load(fresh_model()), clean, config=QUICK)
    assert untrained.findings == (), untrained.text()
    assert untrained.score < card.score - 0.1
    assert "cannot be planned with" in untrained.text()
    assert min(card.rollouts.skill[:2]) > 0 > max(untrained.rollouts.skill)


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_is_named(tmp_path: Path, good: LoadedWorld, name: str) -> None:
    changes, cause = SABOTAGE[name]
    card = report_card(good, write(tmp_path, **changes), config=QUICK)
    assert serious(card) - SAID_TOO.get(name, set()) == {cause}, card.text()


def test_what_needs_no_model_is_found_without_one(tmp_path: Path) -> None:
    blank = load(fresh_model())
    for name in ("frames 2 late", "camera frozen"):
        changes, cause = SABOTAGE[name]
        card = report_card(blank, write(tmp_path / name, **changes), config=QUICK)
        assert cause in serious(card), card.text()


def test_measures(card: ReportCard, good: LoadedWorld) -> None:
    """What the drawn robot shows is known: all movements and the gripper, nothing of turns."""
    r2 = dict(zip(card.state_names, card.inverse.r2, strict=True))
    assert all(r2[name] is not None and r2[name] > 0.8 for name in ("x", "y", "z", "gripper"))
    assert r2["turn x"] is None and card.inverse.best_lag == 0
    assert card.gap.accuracy > 0.95 and card.gap.gap > 0.5
    assert card.landscapes is not None
    true = np.linalg.norm(card.landscapes.near_true.numpy(), axis=1)
    assert card.landscapes.size == pytest.approx(true.mean(), rel=1e-5)
    assert card.landscapes.offset < 0.7 * card.landscapes.size
    middle = card.landscapes.curves.shape[1] // 2
    moving = card.landscapes.curves[[0, 1, 2, 6]]
    assert torch.all(moving[:, middle] == 0) and torch.all(moving[:, [0, -1]] > 0.3)
    assert torch.isnan(card.landscapes.curves[3:6]).all()
    assert list(card.shift.ratios) == sorted(card.shift.ratios)
    assert card.example is not None and card.example.frames.shape == (2, 3, 32, 32)
    json.dumps(card.values(), allow_nan=False)


def test_turned_axes_are_measured_and_mended(tmp_path: Path, good: LoadedWorld) -> None:
    cosine, sine = np.cos(0.7), np.sin(0.7)
    turn = np.eye(7)
    turn[:2, :2] = [[cosine, -sine], [sine, cosine]]
    changed = report_card(
        good,
        write(tmp_path, **both(lambda rows: rows @ turn.T)),
        config=QUICK.override(["starts=20"]),
    )
    calibration = changed.calibration
    assert calibration is not None and not calibration.reflected
    assert calibration.degrees == pytest.approx(40, abs=15)  # 0.7 radians
    [finding] = [item for item in changed.findings if item.cause == "turned axes"]
    assert not finding.serious and "robot_action" in finding.advice
    # The model moves in the axes that it knows; turned back, it moves nearer to what was done.
    found = changed.landscapes
    assert found is not None
    chosen = torch.zeros(len(found.near_chosen), 7)
    chosen[:, :3] = found.near_chosen
    mended = calibration.robot_action(chosen)[:, :3]
    before = (found.near_chosen - found.near_true).norm(dim=1).mean()
    assert (mended - found.near_true).norm(dim=1).mean() < 0.8 * before
    again = calibration.model_action(calibration.robot_action(chosen))
    torch.testing.assert_close(again, chosen, atol=1e-5, rtol=1e-4)


def test_slow_recordings_are_another_rate(tmp_path: Path, good: LoadedWorld) -> None:
    slow = report_card(good, write(tmp_path, times=lambda times: 2 * times), config=QUICK)
    assert serious(slow) == {"rate"}


def test_wrong_input(tmp_path: Path, good: LoadedWorld) -> None:
    with pytest.raises(ConfigError, match="describes 3"):
        report_card(good, write(tmp_path / "a"), RobotSpec(kind="mobile_base"), config=QUICK)
    short = write_dots(tmp_path / "b", [ROWS[0][:2]], [FRAMES[0][:2]])
    with pytest.raises(EpisodeError, match="three moments"):
        report_card(good, short, config=QUICK)


def test_command_line(tmp_path: Path, good: LoadedWorld, clean: Path) -> None:
    model = tmp_path / "MODEL"
    save_world(good.world.model, model, spec=SPEC, processor=good.processor, settings=good.settings)
    out = tmp_path / "page.html"
    arguments = ["world-model", "report", str(model), str(clean), "--out", str(out)]
    extra = ["--set", "starts=4", "--set", "candidates=16", "--device", "cpu", "--json", "--quiet"]
    result = CliRunner().invoke(app, [*arguments, *extra])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout.splitlines()[-1])
    assert values["ok"] and 0.4 < values["score"] < 1 and values["findings"] == []
    text = out.read_text()
    assert text.count("<svg") >= 3 and "Nothing wrong was found" in text
    robot = tmp_path / "robot.json"
    robot.write_text(json.dumps({"gripper_column": 6, "position_unit": "mm"}))
    wrong = CliRunner().invoke(app, [*arguments[:4], "--robot", str(robot), *extra[:-2]])
    assert wrong.exit_code == 1 and "WRONG: units" in wrong.stdout


@pytest.mark.parametrize(
    ("spec", "unit"),
    [
        (RobotSpec(kind="mobile_base", position_columns=(0, 1), heading_column=2), "cm"),
        (RobotSpec(kind="joints", joint_columns=(0, 1, 2, 3), gripper_column=6), "degrees"),
    ],
    ids=["mobile base", "joints"],
)
def test_other_robots(tmp_path: Path, spec: RobotSpec, unit: str) -> None:
    """A base has two lengths and a heading, joints are all alike; of one short episode too."""
    model = load(fresh_model(size=spec.state_size), spec=spec)
    tiny = QUICK.override(["starts=3", "candidates=8", "suspects=16"])
    card = report_card(model, write(tmp_path / "many"), config=tiny)
    assert card.landscapes is not None and unit in card.text()
    assert card.landscapes.measured == ((0, 1) if unit == "cm" else (0, 1, 2))
    json.dumps(card.values(), allow_nan=False)
    short = write_dots(tmp_path / "one", [ROWS[0][:3]], [FRAMES[0][:3]])
    assert 0 <= report_card(model, short, config=tiny).score <= 1
