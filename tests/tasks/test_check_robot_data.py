"""Sabotaged recordings are found with their cause; clean ones pass without a word."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from robot_sets import arm_frames, arm_states, save, write_droid, write_v21
from vjepa2.cli.main import app
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import ConfigError
from vjepa2.tasks.check_robot_data import RobotDataReport, check_robot_data

SPEC = RobotSpec(gripper_column=6, recorded_actions="changes")


def write(
    folder: Path,
    *,
    states: Any = lambda s: s,
    actions: Any = lambda a: a,
    frames: Any = lambda f: f,
    times: Any = lambda t: t,
    count: int = 60,
) -> Path:
    """Two npz files of a robot that does what it is told, changed by the given functions."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(2):
        true = arm_states(count, seed=seed)
        told = SPEC.actions(torch.from_numpy(true)).numpy()
        noise = np.random.default_rng(seed + 9).normal(size=told.shape) * 0.1 * told.std(axis=0)
        pixels = frames(arm_frames(true))
        np.savez(
            folder / f"{seed}.npz",
            observations=pixels.permute(0, 2, 3, 1).numpy(),
            states=states(true),
            actions=actions(told + noise),
            times=times(np.arange(count) / 4.0),
        )
    return folder


def serious(report: RobotDataReport) -> set[str]:
    return {finding.cause for finding in report.findings if finding.serious}


def test_a_clean_set_passes(tmp_path: Path) -> None:
    report = check_robot_data(write(tmp_path), SPEC)
    assert report.findings == (), report.text()
    assert report.rates_hz == pytest.approx((4, 4, 4)) and report.num_moments == 120
    assert report.lag is not None and report.lag.lag == 0 and report.lag.score > 0.9
    assert "Nothing wrong" in report.text()


def swapped(rows: np.ndarray, *order: int) -> np.ndarray:
    return rows[:, list(order)]


def frozen(frames: torch.Tensor) -> torch.Tensor:
    return frames[:1].expand_as(frames).contiguous()


def permuted(rows: np.ndarray) -> np.ndarray:
    return np.random.default_rng(3).permutation(rows)


CAUSES = {
    "mm": ({"states": lambda s: s * [1000, 1000, 1000, 1, 1, 1, 1]}, "units"),
    "degrees": ({"states": lambda s: s * [1, 1, 1, 57.3, 57.3, 57.3, 1]}, "units"),
    "gripper": ({"states": lambda s: swapped(s, 6, 1, 2, 3, 4, 5, 0)}, "gripper"),
    "swapped axes": ({"actions": lambda a: swapped(a, 1, 0, 2, 3, 4, 5, 6)}, "swapped axes"),
    "reversed axis": ({"actions": lambda a: a * [1, 1, -1, 1, 1, 1, 1]}, "swapped axes"),
    "lag 1": ({"actions": lambda a: np.roll(a, -1, axis=0)}, "lag"),
    "lag 3": ({"actions": lambda a: np.roll(a, -3, axis=0)}, "lag"),
    "actions late": ({"actions": lambda a: np.roll(a, 2, axis=0)}, "lag"),
    "shuffled": ({"actions": permuted}, "shuffled actions"),
    "action unit": ({"actions": lambda a: a * 1000}, "units"),
    "frozen": ({"frames": frozen}, "frozen camera"),
    "gap": ({"times": lambda t: t + (t > 5)}, "missing frames"),
    "nan": ({"states": lambda s: np.where(s == s[7], np.nan, s)}, "unreadable"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_every_sabotage_is_named(tmp_path: Path, name: str) -> None:
    changes, cause = CAUSES[name]
    report = check_robot_data(write(tmp_path, **changes), SPEC)
    assert cause in serious(report), report.text()


def test_the_lag_is_measured(tmp_path: Path) -> None:
    """An action that stands k rows before its effect: the state follows k steps later."""
    early = check_robot_data(write(tmp_path / "a", actions=lambda a: np.roll(a, -2, axis=0)), SPEC)
    late = check_robot_data(write(tmp_path / "b", actions=lambda a: np.roll(a, 1, axis=0)), SPEC)
    assert early.lag is not None and early.lag.lag == 2
    assert late.lag is not None and late.lag.lag == -1


def test_a_late_camera_is_seen(tmp_path: Path) -> None:
    def late(frames: torch.Tensor) -> torch.Tensor:
        return frames[torch.arange(len(frames)).sub(3).clamp(min=0)]

    report = check_robot_data(write(tmp_path, frames=late), SPEC)
    assert "3 frames later" in report.text()


def test_sixty_frames_a_second_of_a_log_of_fifteen(tmp_path: Path) -> None:
    states = arm_states(40)
    write_droid(tmp_path / "one", states, arm_frames(states), fps=60)
    spec = RobotSpec(gripper_column=6)
    [found] = [f for f in check_robot_data(tmp_path, spec, fps=4).findings if f.cause == "rate"]
    assert "declares 60 frames a second" in found.text and "logged at 15 Hz" in found.text
    assert "every 15th frame: 1.00 s" in found.text and "every 4th row" in found.advice
    save(tmp_path / "one/recordings/MP4/123.mp4", arm_frames(states), fps=15)
    assert not [f for f in check_robot_data(tmp_path, spec).findings if f.cause == "rate"]
    save(tmp_path / "one/recordings/MP4/123.mp4", arm_frames(states[:30]), fps=15)
    assert "missing frames" in serious(check_robot_data(tmp_path, spec))


def test_a_rate_that_nobody_stated_is_told(tmp_path: Path) -> None:
    states = arm_states(40, seed=0)
    pixels = arm_frames(states).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "0.npz", observations=pixels, states=states)
    report = check_robot_data(tmp_path, SPEC)
    [finding] = [one for one in report.findings if one.cause == "rate"]
    assert "4 moments a second are assumed" in finding.text and "control_rate_hz" in finding.advice
    stated = SPEC.model_copy(update={"control_rate_hz": 15.0})
    report = check_robot_data(tmp_path, stated)
    assert report.rates_hz == pytest.approx((15, 15, 15))
    assert "15.00 Hz (15.00 to 15.00); 1 episodes hold no times: not measured" in report.text()
    assert not [one for one in report.findings if one.cause == "rate"]


def six(folder: Path, **changed: Any) -> Path:
    """Six episodes of which the third is changed by the given functions of its arrays."""
    folder.mkdir(parents=True)
    for number in range(6):
        states = arm_states(30, seed=number)
        arrays = {
            "observations": arm_frames(states).permute(0, 2, 3, 1).numpy(),
            "states": states,
            "times": np.arange(30) / 4.0,
        }
        if number == 2:
            arrays |= {name: change(arrays[name]) for name, change in changed.items()}
        np.savez(folder / f"{number}.npz", **arrays)
    return folder


@pytest.mark.parametrize("column", ["positions", "angles"])
def test_one_episode_in_another_unit_is_named(tmp_path: Path, column: str) -> None:
    def in_other_unit(rows: np.ndarray) -> np.ndarray:
        factors = np.ones(7)
        factors[slice(0, 3) if column == "positions" else slice(3, 6)] = (
            1000 if column == "positions" else 180 / np.pi
        )
        return rows * factors

    report = check_robot_data(six(tmp_path / "mixed", states=in_other_unit), SPEC)
    found = [one for one in report.findings if one.cause == "units"]
    # The set's own unit is right, and is not blamed.
    assert [(one.episode, one.serious) for one in found] == [("2", True)]
    assert "this episode" in found[0].advice
    assert not check_robot_data(six(tmp_path / "alike"), SPEC).findings


def test_times_in_milliseconds_are_told(tmp_path: Path) -> None:
    report = check_robot_data(six(tmp_path / "set", times=lambda times: 1000 * times), SPEC)
    [found] = [one for one in report.findings if one.cause == "rate" and one.serious]
    assert found.episode == "2" and "milliseconds" in found.advice


def test_uneven_steps_are_told_once_with_rates_that_fit(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(2):
        states = arm_states(30, seed=number)
        np.savez(
            folder / f"{number}.npz",
            observations=arm_frames(states).permute(0, 2, 3, 1).numpy(),
            states=states,
            times=np.arange(30) / 5.0,
        )
    [found] = [one for one in check_robot_data(folder, SPEC).findings if one.cause == "rate"]
    assert "0.2 to 0.4 s" in found.text and "data.fps=5, 2.5," in found.advice
    assert not check_robot_data(folder, SPEC, fps=2.5).findings


def test_every_video_is_opened(tmp_path: Path) -> None:
    """Also those of which no frame is decoded."""
    for number in range(12):
        states = arm_states(10, seed=number)
        rows = "\n".join(",".join(f"{value:.6f}" for value in row) for row in states)
        (tmp_path / f"e{number:02d}.csv").write_text(f"s0,s1,s2,s3,s4,s5,s6\n{rows}\n")
        save(tmp_path / f"e{number:02d}.mp4", arm_frames(states), fps=4)
    (tmp_path / "e03.mp4").write_bytes(b"no video")
    save(tmp_path / "e05.mp4", arm_frames(arm_states(6)), fps=4)
    stated = SPEC.model_copy(update={"control_rate_hz": 4.0})
    report = check_robot_data(tmp_path, stated, max_videos=1)
    assert {(one.episode, one.cause) for one in report.findings if one.serious} == {
        ("e03", "unreadable"),
        ("e05", "missing frames"),
    }
    assert report.num_looked_at == 1 and "frames of 1 episodes looked at" in report.text()


def test_a_droid_log_keeps_its_own_rate(tmp_path: Path) -> None:
    """Whatever rate the robot's specification states: the log was written at 15 Hz."""
    states = arm_states(40)
    write_droid(tmp_path / "one", states, arm_frames(states), fps=15)
    slow = RobotSpec(gripper_column=6, control_rate_hz=4.0)
    assert check_robot_data(tmp_path, slow).rates_hz == pytest.approx((15, 15, 15))


def test_a_gripper_near_neither_end_is_serious(tmp_path: Path) -> None:
    """Also where it moves little."""

    def halfway(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([rows[:, :6], 0.45 + 0.1 * rows[:, 6]])

    assert "gripper" in serious(check_robot_data(write(tmp_path, states=halfway), SPEC))


def test_a_gripper_in_metres_is_told(tmp_path: Path) -> None:
    """0.08 m open to 0 m closed, where 0 to 1 was declared."""

    def widths(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([rows[:, :6], 0.08 * (1 - rows[:, 6])])

    report = check_robot_data(write(tmp_path, states=widths), SPEC)
    assert [one for one in report.findings if one.cause == "gripper" and "uses only" in one.text]


def test_damaged_episodes_do_not_stop_the_check(tmp_path: Path) -> None:
    states = arm_states(40)
    folder = write_v21(tmp_path / "set", [(states, states)] * 2)
    (folder / "data/chunk-000/episode_000000.parquet").write_bytes(b"")
    report = check_robot_data(folder, SPEC)
    assert report.num_readable == 1 and "unreadable" in serious(report)
    with pytest.raises(ConfigError, match="column 9"):
        check_robot_data(folder, RobotSpec(gripper_column=9))
    with pytest.raises(ConfigError, match="camera"):
        check_robot_data(folder, RobotSpec(camera="back"))


def test_command_line(tmp_path: Path) -> None:
    write(tmp_path / "DATA")
    robot = tmp_path / "robot.json"
    robot.write_text(json.dumps({"gripper_column": 6, "recorded_actions": "changes"}))
    arguments = ["world-model", "check-data", str(tmp_path / "DATA"), "--robot", str(robot)]
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, [*arguments, "--out", str(out), "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout.splitlines()[-1])
    assert values["ok"] and values["episodes"] == 2 and values["actions"]["lag_steps"] == 0
    text = out.read_text()
    assert text.count("<svg") == 8 and "Nothing wrong" in text
    write(tmp_path / "DATA", actions=permuted)
    wrong = CliRunner().invoke(app, arguments)
    assert wrong.exit_code == 1 and "WRONG: shuffled actions" in wrong.stdout
