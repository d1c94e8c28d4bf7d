"""Problems for the simulated arm: solvable, not solved by doing nothing, the same each time."""

import importlib.util

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, RobotError
from vjepa2.simulation.problems import PROBLEMS, Problem, ProblemName, expert, make_problem
from vjepa2.simulation.robot import (
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    SimulatedArm,
    Start,
)

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("the extra sim is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def robot() -> SimulatedArm:
    robot = SimulatedArm(size=32)
    try:
        robot.observe()
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")
    return robot


def played(problem: Problem, robot: SimulatedArm) -> int:
    robot.place(problem.start)
    count = 0
    for action in expert(problem, robot):
        robot.act(torch.from_numpy(action))
        count += 1
    return count


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_script_solves_every_problem_in_time(name: ProblemName, robot: SimulatedArm) -> None:
    for number in range(6):
        problem = make_problem(name, robot, seed=1, number=number)
        assert not problem.success(robot)
        assert problem.distance_metres(robot) > 0.1
        assert played(problem, robot) <= problem.num_actions
        assert problem.success(robot), number


@pytest.mark.parametrize("name", PROBLEMS)
def test_goals_show_what_is_there_when_the_problem_is_solved(
    name: ProblemName, robot: SimulatedArm
) -> None:
    problem = make_problem(name, robot, seed=2, number=1)
    goal = problem.goals[-1]
    assert goal.frame.shape == (32, 32, 3) and goal.frame.dtype == torch.uint8
    assert goal.frames.shape == (1, 3, 32, 32)
    begin = robot.observe().frames["front"].float()
    played(problem, robot)
    end = robot.observe()
    assert (end.state[:3] - goal.state[:3]).norm() < 0.03
    assert (torch.tensor(end.facts["cube"]) - goal.cube).norm() < 0.03
    wanted = goal.frame.float()
    seen = end.frames["front"].float()
    assert (seen - wanted).abs().mean() < 0.4 * (begin - wanted).abs().mean()


def test_a_problem_is_the_same_each_time(robot: SimulatedArm) -> None:
    first = make_problem("push", robot, seed=4, number=2)
    played(first, robot)
    again = make_problem("push", SimulatedArm(size=32), seed=4, number=2)
    assert np.array_equal(first.start.pose, again.start.pose)
    assert np.array_equal(first.place, again.place)
    assert torch.equal(first.goals[0].frame, again.goals[0].frame)
    other = make_problem("push", robot, seed=4, number=3)
    assert not np.array_equal(first.place, other.place)


def test_reach_and_push_are_as_announced(robot: SimulatedArm) -> None:
    for number in range(12):
        reach = make_problem("reach", robot, seed=0, number=number)
        assert np.linalg.norm(reach.place - reach.start.pose[:3]) >= 0.15
        assert ((reach.place >= WORKSPACE_LOW) & (reach.place <= WORKSPACE_HIGH)).all()
        assert reach.num_actions == 12
        push = make_problem("push", robot, seed=0, number=number)
        away = push.place[:2] - push.start.cube
        assert np.sort(np.abs(away))[0] == pytest.approx(0, abs=1e-9)
        assert 0.12 <= np.abs(away).max() <= 0.16
        behind = np.array(push.start.cube) - push.start.pose[:2]
        assert behind @ away > 0


def test_success_is_measured_where_things_are(robot: SimulatedArm) -> None:
    problem = make_problem("reach", robot, seed=0)
    for metres, solved in ((0.045, True), (0.055, False)):
        way = np.where(problem.place > 0.5 * (np.array(WORKSPACE_LOW) + WORKSPACE_HIGH), -1, 1)
        place = problem.place + metres * way / np.sqrt(3)
        pose = np.concatenate([place, np.zeros(4)])
        robot.place(Start(pose=pose, cube=(0.2, 0.5)))
        assert problem.success(robot) is solved
        assert problem.distance_metres(robot) == pytest.approx(metres, abs=1e-4)
    picked = make_problem("pick_place", robot, seed=0)
    x, y, _ = picked.place
    for closed, solved in ((0.0, True), (0.375, False)):
        robot.place(Start(pose=np.array([x, y, 0.03, 0, 0, 0, closed]), cube=(x, y)))
        assert picked.success(robot) is solved


def test_an_unknown_problem_is_named(robot: SimulatedArm) -> None:
    with pytest.raises(ConfigError, match="pick_place"):
        make_problem("pick", robot, seed=0)  # type: ignore[arg-type]
