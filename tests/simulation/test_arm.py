"""The simulated arm: where it says it is, where it goes, what its camera shows."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, InputError, MissingExtraError, RobotError, ShapeError
from vjepa2.poses import to_matrix
from vjepa2.simulation.arm import Arm, Pose

# Not imported here: the arm chooses the graphics before it is.
if importlib.util.find_spec("mujoco") is None:
    pytest.skip("the extra sim is not installed", allow_module_level=True)

LOW, HIGH = np.array([0.3, -0.2, 0.02]), np.array([0.7, 0.2, 0.32])


def pose_at(*place: float, turn: tuple[float, float, float] = (0, 0, 0), closed: float = 0) -> Pose:
    return np.array([*place, *turn, closed], dtype=np.float64)


@pytest.fixture(scope="module")
def arm() -> Arm:
    return Arm()


def picture(arm: Arm, size: int = 64) -> np.ndarray:
    try:
        return arm.render(size)
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")


def test_every_corner_of_the_workspace_is_reached_and_said_so(arm: Arm) -> None:
    for corner in np.ndindex(2, 2, 2):
        wanted = pose_at(*np.where(corner, HIGH, LOW), turn=(0.1, -0.2, 0.5), closed=0.25)
        arm.place(wanted)
        assert np.abs(arm.pose() - wanted).max() < 1e-4
        low, high = arm.joint_limits()
        assert ((arm.hinges() >= low) & (arm.hinges() <= high)).all()


def test_the_pose_is_that_of_the_middle_between_the_finger_tips(arm: Arm) -> None:
    """By the bodies of MuJoCo, without the site that the arm reads."""
    wanted = pose_at(0.5, 0.1, 0.15, turn=(0.2, 0.1, -0.4), closed=0.5)
    arm.place(wanted)
    fingers = [arm.data.body(f"finger_{side}") for side in ("left", "right")]
    middle = np.mean([finger.xpos for finger in fingers], axis=0)
    down = -to_matrix(torch.from_numpy(wanted[3:6]), "euler").numpy()[:, 2]
    along = wanted[:3] - middle
    assert np.cross(along, down) == pytest.approx(np.zeros(3), abs=1e-4)
    assert 0.04 < along @ down < 0.08
    apart = fingers[0].xpos - fingers[1].xpos
    across = to_matrix(torch.from_numpy(wanted[3:6]), "euler").numpy()[:, 1]
    assert abs(apart @ across) == pytest.approx(np.linalg.norm(apart), abs=1e-6)


def test_a_movement_ends_where_it_was_sent(arm: Arm) -> None:
    random = np.random.default_rng(3)
    arm.place(pose_at(0.5, 0.0, 0.2), cube=(0.2, 0.4))
    pose, worst = arm.pose(), 0.0
    for _ in range(30):
        pose[:3] = (pose[:3] + random.uniform(-0.075, 0.075, 3)).clip(LOW, HIGH)
        pose[3:6] = random.uniform(-0.2, 0.2, 3)
        arm.move_to(pose)
        worst = max(worst, np.abs(arm.pose()[:6] - pose[:6]).max())
    assert worst < 3e-3


def test_a_cube_is_pushed_and_carried(arm: Arm) -> None:
    arm.place(pose_at(0.42, 0.05, 0.03, closed=1), cube=(0.5, 0.05))
    for x in (0.47, 0.52, 0.57):
        arm.move_to(pose_at(x, 0.05, 0.03, closed=1))
    assert arm.cube() == pytest.approx([0.615, 0.05, 0.025], abs=0.012)

    arm.place(pose_at(0.5, 0.1, 0.1), cube=(0.5, 0.1))
    for place, closed in (((0.5, 0.1, 0.02), 0), ((0.5, 0.1, 0.02), 1), ((0.5, 0.1, 0.12), 1)):
        arm.move_to(pose_at(*place, closed=closed))
    arm.move_to(pose_at(0.45, -0.05, 0.12, closed=1))
    assert arm.cube() == pytest.approx([0.45, -0.05, 0.12], abs=0.012)
    assert 0.2 < arm.pose()[6] < 0.6  # as wide as the cube


def test_what_follows_a_snapshot_is_the_same_in_every_bit() -> None:
    arm, other = Arm(), Arm()
    arm.place(pose_at(0.44, 0.05, 0.03, closed=1), cube=(0.5, 0.05))
    arm.move_to(pose_at(0.48, 0.06, 0.03, closed=1))
    kept = arm.snapshot()
    ends = []
    for one in (arm, arm, other):
        one.restore(kept)
        one.move_to(pose_at(0.53, 0.07, 0.04, turn=(0, 0, 0.1), closed=1))
        ends.append(np.concatenate([one.data.qpos, one.data.qvel]))
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[0], ends[2])


def test_the_position_can_be_read_from_one_picture(arm: Arm) -> None:
    """Linear regression on 64-pixel pictures finds all three numbers of unseen positions."""
    random = np.random.default_rng(0)
    places = random.uniform(LOW, HIGH, (260, 3))
    rows = []
    for place in places:
        arm.place(pose_at(*place), cube=(0.5, 0.1))
        pixels = torch.from_numpy(picture(arm)).permute(2, 0, 1).float()
        rows.append(torch.nn.functional.avg_pool2d(pixels, 4).flatten())
    x = torch.stack(rows).double() / 255
    y = torch.from_numpy(places)
    train, test = slice(0, 220), slice(220, None)
    mean, centre = x[train].mean(0), y[train].mean(0)
    kernel = (x[train] - mean) @ (x[train] - mean).T
    weights = torch.linalg.solve(kernel + 0.5 * torch.eye(220).double(), y[train] - centre)
    predicted = (x[test] - mean) @ (x[train] - mean).T @ weights + centre
    left = (predicted - y[test]).square().mean(0) / (y[test] - y[test].mean(0)).square().mean(0)
    assert (left < 0.15).all(), left


def test_pictures_are_the_same_each_time(arm: Arm) -> None:
    arm.place(pose_at(0.5, 0.0, 0.2))
    first = picture(arm)
    arm.place(pose_at(0.6, 0.1, 0.1))
    other = picture(arm)
    arm.place(pose_at(0.5, 0.0, 0.2))
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first, picture(arm))
    another = Arm()
    another.place(pose_at(0.5, 0.0, 0.2))
    assert np.array_equal(first, picture(another))
    assert (first != other).any(axis=2).mean() > 0.02


def test_wrong_poses_are_named(arm: Arm) -> None:
    with pytest.raises(ShapeError, match="seven|\\[7\\]"):
        arm.move_to(np.zeros(6))
    with pytest.raises(InputError, match="finite"):
        arm.move_to(np.full(7, np.nan))
    with pytest.raises(RobotError, match="cannot reach"):
        arm.place(pose_at(2.0, 0.0, 0.2))
    with pytest.raises(ConfigError, match="size"):
        arm.render(100000)
    closed = Arm()
    closed.close()
    with pytest.raises(RobotError, match="closed"):
        closed.render(64)


def test_without_the_package_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingExtraError, match=r"vjepa2\[sim\]"):
        Arm()


def test_graphics_are_chosen_only_where_the_user_has_not(tmp_path: Path) -> None:
    """In processes of their own: MuJoCo reads the variable once."""
    code = (
        "import os, vjepa2.simulation.arm as arm; assert 'mujoco' not in __import__('sys').modules;"
        "before = os.environ.get('MUJOCO_GL'); made = arm.Arm();"
        "print(before, os.environ.get('MUJOCO_GL'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment.pop("MUJOCO_GL", None)
    environment.pop("PYOPENGL_PLATFORM", None)
    for given, expected in ((None, ("egl", "osmesa", "disable")), ("disable", ("disable",))):
        own = environment if given is None else environment | {"MUJOCO_GL": given}
        done = subprocess.run(
            [sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True
        )
        before, after = done.stdout.split()
        assert before == str(given)
        assert after in expected or not sys.platform.startswith("linux")
