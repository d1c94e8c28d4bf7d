"""The simulated arm as a robot: states follow actions, starts belong to seeds."""

import importlib.util

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, DtypeError, RobotError, ShapeError
from vjepa2.planning.robot_calls import RobotCalls
from vjepa2.poses import integrate_pose, pose_difference
from vjepa2.protocols import Robot
from vjepa2.simulation.problems import HELD
from vjepa2.simulation.robot import (
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    SimulatedArm,
    Start,
    random_start,
    robot_spec,
    workspace,
)

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("the extra sim is not installed", allow_module_level=True)

MIDDLE = Start(pose=np.array([0.5, 0.0, 0.2, 0, 0, 0, 0.0]), cube=(0.5, 0.12))


@pytest.fixture(scope="module")
def robot() -> SimulatedArm:
    return SimulatedArm(size=32, pictures=False)


def action(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers + (0.0,) * (7 - len(numbers)))


def test_the_state_after_an_action_is_the_integrated_one(robot: SimulatedArm) -> None:
    robot.begin(MIDDLE)
    generator = torch.Generator().manual_seed(0)
    reach = torch.tensor([0.075, 0.075, 0.075, 0.1, 0.1, 0.2, 0.4])
    for _ in range(12):
        before = robot.state()
        tried = (torch.rand(7, generator=generator) * 2 - 1) * reach
        expected = integrate_pose(before.double(), tried.double())
        if workspace().outside(expected).any():
            continue
        robot.act(tried)
        after = robot.state()
        assert (after - expected).abs()[:6].max() < 4e-3
        assert (after - expected).abs()[6] < 0.03
        moved = pose_difference(before.double(), after.double())
        assert (moved - tried)[:6].abs().max() < 4e-3


def test_doing_nothing_stays(robot: SimulatedArm) -> None:
    robot.begin(MIDDLE)
    for _ in range(12):
        robot.act(action())
    assert robot.pose()[:3] == pytest.approx(MIDDLE.pose[:3], abs=1e-3)
    assert robot.observe().time_seconds == pytest.approx(3.0)


def test_a_held_cube_stays_held_through_actions_that_leave_the_gripper_alone(
    robot: SimulatedArm,
) -> None:
    robot.begin(Start(pose=np.array([0.5, 0.1, 0.02, 0, 0, 0, 0.0]), cube=(0.5, 0.1)))
    robot.act(action(0, 0, 0, 0, 0, 0, 1.0))
    for _ in range(3):
        robot.act(action(0, -0.05, 0.04))
    assert robot.cube()[2] > 0.12
    assert 0.2 < robot.pose()[6] < 0.6
    robot.act(action(0, 0, 0, 0, 0, 0, -0.3))
    robot.act(action())
    assert robot.cube()[2] < 0.06


def test_a_hand_that_closes_as_far_as_the_cube_is_wide_holds_it(robot: SimulatedArm) -> None:
    robot.begin(Start(pose=np.array([0.5, 0.1, 0.02, 0, 0, 0, 0.0]), cube=(0.5, 0.1)))
    assert not robot.arm.holds()
    robot.act(action(0, 0, 0, 0, 0, 0, HELD))
    assert robot.arm.holds()
    for _ in range(3):
        robot.act(action(-0.04, -0.05, 0.04))
    assert robot.cube() == pytest.approx(robot.pose()[:3], abs=0.01)


def test_the_hand_stays_in_the_workspace_and_says_so(robot: SimulatedArm) -> None:
    robot.begin(MIDDLE)
    for _ in range(6):
        robot.act(action(0.3, -0.3, 0.3))
    pose = robot.pose()
    assert (pose[:3] <= np.array(WORKSPACE_HIGH) + 2e-3).all()
    assert (pose[:3] >= np.array(WORKSPACE_LOW) - 2e-3).all()
    assert robot.observe().facts["clipped"] is True
    # What was asked for beyond the border is not owed afterwards.
    robot.act(action(-0.05))
    assert robot.pose()[0] == pytest.approx(WORKSPACE_HIGH[0] - 0.05, abs=3e-3)


def test_starts_belong_to_seed_and_number() -> None:
    first, second = SimulatedArm(seed=3, pictures=False), SimulatedArm(seed=3, pictures=False)
    states = [first.reset().state for _ in range(3)]
    again = [second.reset().state for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(states, again, strict=True))
    assert not torch.equal(states[0], states[1])
    assert not np.array_equal(random_start(3, 0).pose, random_start(4, 0).pose)
    with pytest.raises(ConfigError, match="seed"):
        random_start(-1, 0)


def test_a_snapshot_brings_everything_back(robot: SimulatedArm) -> None:
    robot.begin(Start(pose=np.array([0.5, 0.1, 0.02, 0, 0, 0, 0.0]), cube=(0.5, 0.1)))
    robot.act(action(0, 0, 0, 0, 0, 0, 1.0))
    kept = robot.snapshot()
    robot.act(action(0, 0, 0.07))
    there = robot.pose(), robot.cube()
    robot.act(action(0, 0.1, 0, 0, 0, 0, -1))
    other = SimulatedArm(pictures=False)
    for one in (robot, other):
        one.restore(kept)
        one.act(action(0, 0, 0.07))
        assert np.array_equal(one.pose(), there[0]) and np.array_equal(one.cube(), there[1])


def test_it_is_a_robot_that_stops_and_refuses(robot: SimulatedArm) -> None:
    assert isinstance(robot, Robot)
    robot.begin(MIDDLE)
    with pytest.raises(ShapeError, match="\\[7\\]"):
        robot.act(torch.zeros(3))
    with pytest.raises(DtypeError, match="finite"):
        robot.act(torch.full((7,), float("nan")))
    robot.stop()
    robot.stop()
    with pytest.raises(RobotError, match="reset"):
        robot.act(action())
    robot.reset()
    robot.act(action())


def test_pictures_come_from_any_thread() -> None:
    """The loop of a planner calls the robot from a thread of its own."""
    robot = SimulatedArm(size=32, start=MIDDLE)
    try:
        here = robot.reset().frames["front"]
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")
    calls = RobotCalls(robot, timeout_seconds=20.0)
    there = calls.call("observe", robot.observe).frames["front"]
    calls.end()
    assert here.shape == (32, 32, 3) and here.dtype == torch.uint8
    assert torch.equal(here, there) and torch.equal(here, robot.observe().frames["front"])
    robot.close()
    with pytest.raises(RobotError, match="closed"):
        robot.observe()


def test_the_specification_says_what_states_and_actions_are(robot: SimulatedArm) -> None:
    spec = robot_spec()
    robot.begin(MIDDLE)
    rows = [robot.pose()]
    robot.act(action(0.05, 0.02, -0.03, 0, 0, 0.1, 0.5))
    rows.append(robot.pose())
    states = spec.states(np.stack(rows))
    assert torch.equal(states[1], robot.state())
    moved = spec.actions(states)[0]
    assert moved == pytest.approx([0.05, 0.02, -0.03, 0, 0, 0.1, 0.5], abs=0.02)
    assert torch.allclose(spec.update_state(states[0], moved), states[1], atol=1e-6)
