"""What recorded numbers mean: states, actions and their inverse, against scipy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from robot_sets import arm_frames, arm_states
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import robot_statistics
from vjepa2.data.trajectories import ArrayFrames, Episode, VideoFrames, resample
from vjepa2.errors import ConfigError, EpisodeError, InputError, ShapeError, UnknownOptionError


def episode_of(states: np.ndarray, **values: Any) -> Episode:
    times = values.pop("times_seconds", np.arange(len(states)) / 10)
    return Episode(name="one", cameras={}, states=states, times_seconds=times, **values)


RECORDED = {
    "euler": lambda r: r.as_euler("xyz"),
    "quaternion": lambda r: r.as_quat(),
    "axis_angle": lambda r: r.as_rotvec(),
    "six": lambda r: np.concatenate([r.as_matrix()[..., 0], r.as_matrix()[..., 1]], axis=-1),
    "matrix": lambda r: r.as_matrix().reshape(-1, 9),
}


@pytest.mark.parametrize("kind", RECORDED)
@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
def test_an_arm_in_any_representation(kind: str, unit: str) -> None:
    states = arm_states(30)
    turns = Rotation.from_euler("xyz", states[:, 3:6])
    factor = {"m": 1, "cm": 100, "mm": 1000}[unit]
    raw = np.concatenate(
        [85 * (1 - states[:, 6:]), RECORDED[kind](turns), factor * states[:, :3]], axis=1
    )
    width = raw.shape[1] - 4
    spec = RobotSpec(
        rotation=kind,
        position_unit=unit,
        gripper_column=0,
        gripper_open=85,
        gripper_closed=0,
        rotation_columns=tuple(range(1, 1 + width)),
        position_columns=tuple(range(1 + width, 4 + width)),
    )
    read = spec.states(raw)
    assert read.dtype == torch.float32
    np.testing.assert_allclose(read.numpy(), states, atol=1e-5)
    actions = spec.actions(read.double())
    expected = (turns[1:] * turns[:-1].inv()).as_euler("xyz")
    np.testing.assert_allclose(actions[:, 3:6].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(actions[:, :3], np.diff(states[:, :3], axis=0), atol=1e-6)
    following = spec.update_state(read[:-1], actions.float())
    np.testing.assert_allclose(following.numpy(), states[1:], atol=1e-5)


def test_quaternions_of_another_order_and_of_another_length() -> None:
    states = arm_states(5)
    turns = Rotation.from_euler("xyz", states[:, 3:6]).as_quat()
    raw = np.concatenate([states[:, :3], turns[:, [3, 0, 1, 2]]], axis=1)
    spec = RobotSpec(rotation="quaternion", quaternion_order="wxyz")
    np.testing.assert_allclose(spec.states(raw)[:, 3:6], states[:, 3:6], atol=1e-5)
    raw[2, 3:] *= 1.5
    with pytest.raises(InputError, match="length 1"):
        spec.states(raw)


def test_the_frame_of_a_camera() -> None:
    states = arm_states(8)
    pose = (0.3, -0.2, 0.5, 0.4, -0.1, 1.2)
    spec = RobotSpec(gripper_column=6, frame="camera", camera_pose=pose)
    view = Rotation.from_euler("xyz", pose[3:])
    seen = spec.states(states)
    expected = view.inv().apply(states[:, :3] - pose[:3])
    np.testing.assert_allclose(seen[:, :3], expected, atol=1e-6)
    turns = view.inv() * Rotation.from_euler("xyz", states[:, 3:6])
    np.testing.assert_allclose(seen[:, 3:6], turns.as_euler("xyz"), atol=1e-5)
    # Recorded changes are turned likewise: they are what differences of states are.
    changes = np.concatenate([np.diff(states[:, :3], axis=0)], axis=1)
    world = Rotation.from_euler("xyz", states[:, 3:6])
    step = (world[1:] * world[:-1].inv()).as_euler("xyz")
    told = np.concatenate([changes, step, np.diff(states[:, 6:], axis=0)], axis=1)
    recorded = spec.recorded(episode_of(states, actions=told), "changes")
    np.testing.assert_allclose(recorded, spec.actions(seen.double()), atol=1e-5)


def test_joints_and_bases_wrap_where_they_turn() -> None:
    joints = RobotSpec(
        kind="joints",
        joint_columns=(1, 0),
        continuous_joints=(0,),
        gripper_column=2,
        angle_unit="degrees",
    )
    raw = np.array([[10.0, 179.0, 0.0], [20.0, -179.0, 0.5]])
    states = joints.states(raw)
    assert joints.state_names == ("joint 0", "joint 1", "gripper")
    actions = joints.actions(states)
    np.testing.assert_allclose(actions, [[np.deg2rad(2), np.deg2rad(10), 0.5]], atol=1e-5)
    np.testing.assert_allclose(joints.update_state(states[:1], actions), states[1:], atol=1e-5)
    base = RobotSpec(kind="mobile_base", position_unit="cm")
    states = base.states(np.array([[100.0, 0.0, 3.1], [110.0, -20.0, -3.1]]))
    actions = base.actions(states)
    np.testing.assert_allclose(actions, [[0.1, -0.2, 2 * np.pi - 6.2]], atol=1e-5)
    np.testing.assert_allclose(base.update_state(states[:1], actions), states[1:], atol=1e-5)


def test_recorded_targets_become_changes() -> None:
    states = arm_states(12)
    targets = np.roll(states, -1, axis=0)
    spec = RobotSpec(gripper_column=6, recorded_actions="targets", actions_from="recorded")
    recorded = spec.episode_actions(episode_of(states, actions=targets))
    from_states = RobotSpec(gripper_column=6).episode_actions(episode_of(states))
    np.testing.assert_allclose(recorded, from_states, atol=1e-6)
    with pytest.raises(EpisodeError, match="no recorded actions"):
        spec.episode_actions(episode_of(states))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rotation": "quaternion", "rotation_columns": (3, 4, 5)}, "are 4, got 3"),
        ({"gripper_column": 3}, "a column of its own"),
        ({"kind": "joints"}, "every joint"),
        ({"frame": "camera"}, "needs camera_pose"),
        ({"gripper_open": 1.0}, "must differ"),
        ({"actions_from": "recorded"}, "needs recorded_actions"),
        ({"control_rate_hz": 0.0}, "above 0"),
        ({"position_unit": "inch"}, "position_unit"),
    ],
)
def test_specifications_that_make_no_sense(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RobotSpec(**values)


def test_specifications_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "robot.json"
    path.write_text(json.dumps({"kind": "mobile_base", "heading_column": 4}))
    assert RobotSpec.from_file(path).columns == (0, 1, 4)
    path.write_text('{"griper_column": 2}')
    with pytest.raises(UnknownOptionError, match="gripper_column"):
        RobotSpec.from_file(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="one JSON object"):
        RobotSpec.from_file(path)
    with pytest.raises(ShapeError, match="column 4"):
        RobotSpec(kind="mobile_base", heading_column=4).states(np.zeros((3, 4)))


def test_statistics_and_back() -> None:
    spec = RobotSpec(gripper_column=6)
    sets = [episode_of(arm_states(20, seed=seed)) for seed in range(3)]
    found = robot_statistics(sets, spec)
    rows = np.concatenate([episode.states for episode in sets])
    np.testing.assert_allclose(found.states.std, rows.std(axis=0), atol=1e-6)
    assert found.actions.count == 57
    values = spec.states(sets[0].states)
    normal = found.states.normalise(values)
    torch.testing.assert_close(found.states.restore(normal), values)


def test_resampling_goes_by_real_times() -> None:
    """A clock that is late now and then: moments are the nearest ones, not every n-th."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.06, 0.073, size=120))
    states = np.arange(120.0)[:, None]
    actions = np.ones((120, 1))
    told = episode_of(states, times_seconds=times, actions=actions)
    kept = resample(told, 4.0, recorded_actions="changes")
    wanted = times[0] + np.arange(len(kept)) / 4
    expected = [int(np.abs(times - moment).argmin()) for moment in wanted]
    assert kept.states[:, 0].tolist() == expected
    assert kept.actions is not None
    np.testing.assert_allclose(kept.actions[:, 0], np.diff(expected))
    reached = resample(told, 4.0, recorded_actions="targets")
    assert reached.actions is not None and len(reached.actions) == len(kept) - 1
    with pytest.raises(ConfigError, match="recorded at 14.83 Hz"):
        resample(told, 60)
    gap = np.where(np.arange(120) < 60, times, times + 2)
    with pytest.raises(EpisodeError, match="has a gap"):
        resample(episode_of(states, times_seconds=gap), 4.0)


def test_episodes_that_make_no_sense(tmp_path: Path) -> None:
    states = arm_states(4)
    pixels = arm_frames(states).permute(0, 2, 3, 1).numpy()
    for values, words in [
        ({"states": states[:0], "times_seconds": np.zeros(0)}, "is empty"),
        ({"times_seconds": np.zeros(4)}, "times must rise"),
        ({"times_seconds": np.arange(3.0)}, "4 states, but times"),
        ({"states": np.where(states > 0.45, np.inf, states)}, "NaN or infinite"),
        ({"actions": states[:2]}, "actions must be"),
        ({"cameras": {"a": ArrayFrames(pixels[:3])}}, "3 frames, the episode has 4 states"),
    ]:
        with pytest.raises(EpisodeError, match=words):
            Episode(
                **{"name": "one", "cameras": {}, "states": states, "times_seconds": np.arange(4.0)}
                | values
            )
    held = {"a": ArrayFrames(pixels), "b": VideoFrames.in_order(tmp_path / "none.mp4", count=4)}
    episode = Episode(name="one", cameras=held, states=states, times_seconds=np.arange(4.0))
    assert torch.equal(episode.take([1, 3]).frames("a"), arm_frames(states)[[1, 3]])
    with pytest.raises(EpisodeError, match=r"one.*none.mp4"):
        episode.frames("b")
    with pytest.raises(InputError, match="frames 0 to 3"):
        episode.frames("a", [4])
    with pytest.raises(ConfigError, match="camera"):
        episode.frames("c")
