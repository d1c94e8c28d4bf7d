"""Recordings of the simulated arm: data sets that readers and checks accept, the same each time."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2.data.robot_layouts import read_episodes
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import ConfigError, OutputError, RobotError
from vjepa2.poses import pose_difference
from vjepa2.simulation import collect as module
from vjepa2.simulation.arm import Arm
from vjepa2.simulation.collect import EPISODES_NAME, Recording, collect, record
from vjepa2.simulation.robot import WORKSPACE_HIGH, WORKSPACE_LOW, SimulatedArm, robot_spec
from vjepa2.tasks.check_robot_data import check_robot_data

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("the extra sim is not installed", allow_module_level=True)
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module", autouse=True)
def _graphics() -> None:
    try:
        Arm().render(32)
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")


@pytest.fixture(scope="module")
def robot() -> SimulatedArm:
    return SimulatedArm(size=32)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_collection_is_read_back_with_its_specification(tmp_path: Path) -> None:
    folder = collect(tmp_path / "set", episodes=3, steps=8, seed=1, task="wander", size=64)
    assert not (folder / EPISODES_NAME).exists()
    spec = RobotSpec.from_file(folder / "robot.json")
    assert spec == robot_spec()
    episodes = read_episodes(folder)
    assert len(episodes) == 3
    robot = SimulatedArm(size=64)
    for number, episode in enumerate(episodes):
        expected = record(robot, steps=8, seed=1, episode=number, task="wander")
        assert len(episode) == 9 and episode.rate_hz == pytest.approx(4, rel=1e-3)
        assert episode.states == pytest.approx(expected.states, abs=1e-6)
        pixels = episode.frames("front")
        assert pixels.shape == (9, 3, 64, 64)
        drawn = torch.from_numpy(expected.frames).permute(0, 3, 1, 2)
        assert (pixels.float() - drawn.float()).abs().mean() < 6
        assert episode.task == expected.words == "move around"
        told = spec.recorded(episode, "changes")[:, :3]
        moved = pose_difference(
            *(torch.from_numpy(episode.states[s]) for s in (slice(-1), slice(1, None)))
        )
        assert (told - moved[:, :3]).abs().max() < 5e-3


def test_the_same_arguments_give_the_same_bytes_also_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(tmp_path / "whole", episodes=4, steps=3, seed=5, size=32, quiet=True)
    real, made = module.record, []

    def interrupted(robot: SimulatedArm, **arguments: object) -> Recording:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments["episode"])
        return real(robot, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path / "part", episodes=4, steps=3, seed=5, size=32, quiet=True)
    assert not (tmp_path / "part" / "meta").exists()
    monkeypatch.setattr(
        module, "record", lambda robot, **a: made.append(a["episode"]) or real(robot, **a)
    )
    collect(tmp_path / "part", episodes=4, steps=3, seed=5, size=32, quiet=True)
    assert made == [0, 1, 2, 3]  # none twice
    assert hashes(tmp_path / "part") == hashes(whole)
    before = hashes(whole)
    collect(whole, episodes=4, steps=3, seed=5, size=32, quiet=True)
    assert hashes(whole) == before and made == [0, 1, 2, 3]


def test_checks_of_robot_data_find_nothing_wrong(tmp_path: Path) -> None:
    folder = collect(
        tmp_path / "set", episodes=4, steps=24, seed=2, task="turn", size=48, quiet=True
    )
    checked = check_robot_data(folder, spec=robot_spec())
    assert checked.findings == ()


def test_wandering_covers_the_workspace_in_small_steps(robot: SimulatedArm) -> None:
    recordings = [record(robot, steps=20, seed=0, episode=n, task="wander") for n in range(6)]
    states = np.concatenate([recording.states for recording in recordings])
    steps = np.concatenate([np.diff(recording.states[:, :3], axis=0) for recording in recordings])
    span = np.array(WORKSPACE_HIGH) - WORKSPACE_LOW
    assert ((states[:, :3].max(0) - states[:, :3].min(0)) > 0.7 * span).all()
    assert np.abs(steps).max() < 0.08
    assert (steps.std(axis=0) > 0.03).all()
    # One move is like the one before, unless the border turned it round.
    likeness = np.corrcoef(steps[:-1, 0], steps[1:, 0])[0, 1]
    assert 0.05 < likeness < 0.9


def test_pushing_moves_the_cube_and_picking_lifts_it(robot: SimulatedArm) -> None:
    pushed = [record(robot, steps=24, seed=0, episode=n, task="push") for n in range(4)]
    moved = [np.linalg.norm(r.cube[-1, :2] - r.cube[0, :2]) for r in pushed]
    assert np.median(moved) > 0.05
    assert max(r.cube[:, 2].max() for r in pushed) < 0.06
    picked = [record(robot, steps=24, seed=0, episode=n, task="pick") for n in range(4)]
    assert sum(r.cube[:, 2].max() > 0.1 for r in picked) >= 3


def test_wrong_arguments_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wander"):
        collect(tmp_path / "a", episodes=1, task="wonder", size=32)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="episodes"):
        collect(tmp_path / "a", episodes=0)
    assert not (tmp_path / "a").exists()
    collect(tmp_path / "b", episodes=1, steps=1, size=32, quiet=True)
    with pytest.raises(ConfigError, match="another collection"):
        collect(tmp_path / "b", episodes=1, steps=2, size=32, quiet=True)
    (tmp_path / "b" / "collection.json").unlink()
    with pytest.raises(ConfigError, match="already"):
        collect(tmp_path / "b", episodes=1, steps=1, size=32, quiet=True)


def test_a_damaged_part_is_named(tmp_path: Path, robot: SimulatedArm) -> None:
    path = tmp_path / "episode.npz"
    recording = record(robot, steps=1, seed=0, episode=0, task="reach")
    recording.save(path)
    again = Recording.load(path)
    assert np.array_equal(again.frames, recording.frames) and again.words == "reach a place"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OutputError, match="damaged"):
        Recording.load(path)
