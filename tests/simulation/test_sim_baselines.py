"""Baselines: the oracle tells what really follows; those that know the goal reach it."""

import importlib.util

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, DtypeError, RobotError, ShapeError
from vjepa2.planning.action_space import published_space
from vjepa2.planning.plan import cost_of
from vjepa2.poses import integrate_pose
from vjepa2.simulation.baselines import (
    BASELINES,
    BaselineName,
    RandomActions,
    ZeroActions,
    attempt,
    baseline_loop,
)
from vjepa2.simulation.problems import make_problem
from vjepa2.simulation.robot import SimulatedArm
from vjepa2.simulation.true_world import StateWorld, TrueWorld, picture

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


def test_the_oracle_tells_what_really_follows(robot: SimulatedArm) -> None:
    make_problem("push", robot, seed=0)
    world = TrueWorld(robot, seen_by="pixels")
    before = robot.snapshot()
    situation = world.begin(torch.zeros(1, 1, 1), robot.state()[None])
    actions = torch.zeros(3, 2, 7)
    actions[1, :, 0], actions[2, 0, 1], actions[2, 1, 6] = 0.04, -0.05, -0.5
    rollout = world.rollout(situation, actions)
    assert rollout.latents.shape == (3, 2, 16, 192) and rollout.states.shape == (3, 2, 7)
    for candidate in range(3):
        robot.restore(before)
        for step in range(2):
            robot.act(actions[candidate, step])
            seen = robot.observe()
            assert torch.equal(seen.state, rollout.states[candidate, step])
            tokens = world.encode(picture(seen))[0]
            assert torch.equal(tokens, rollout.latents[candidate, step])
    world.close()


def test_patches_are_the_pixels_in_their_order(robot: SimulatedArm) -> None:
    frames = torch.arange(3 * 32 * 32.0).view(1, 3, 32, 32)
    tokens = TrueWorld(robot, seen_by="pixels").encode(frames)
    assert tokens.shape == (1, 16, 192)
    assert torch.equal(tokens[0, 6], frames[0, :, 8:16, 16:24].flatten())


def test_the_true_state_is_that_of_hand_and_cube(robot: SimulatedArm) -> None:
    problem = make_problem("push", robot, seed=3)
    world = TrueWorld(robot)
    now, goal = world.encode(torch.zeros(1, 3, 1, 1))[0], world.goal(problem.goals[0])
    assert now.shape == goal.shape == (1, 10)
    far = problem.distance_metres(robot)
    assert (goal - now)[0, 7:].norm() == pytest.approx(2 * far, rel=1e-4)
    assert now[0, :3] == pytest.approx(robot.pose()[:3], abs=1e-6)


def test_the_world_of_states_adds_actions_up() -> None:
    world = StateWorld()
    state = torch.tensor([0.5, 0.0, 0.2, 0, 0, 0, 0.5])
    actions = torch.rand(4, 3, 7, generator=torch.Generator().manual_seed(0)) * 0.05
    situation = world.begin(world.encode(torch.zeros(1, 3, 4, 4)), state[None])
    rollout = world.rollout(situation, actions)
    expected = state.expand(4, 7)
    for step in range(3):
        expected = integrate_pose(expected, actions[:, step])
        assert torch.allclose(rollout.states[:, step], expected)
    assert torch.equal(
        world.costs(situation, actions, lambda r: r.states[:, -1, 0]), expected[:, 0]
    )


def test_random_and_zero_do_what_they_say() -> None:
    world, space = StateWorld(), published_space(max_norm=0.075)
    situation = torch.tensor([0.5, 0.0, 0.2, 0, 0, 0, 0.5])
    cost = cost_of(world, situation, lambda r: r.states[:, -1, 0])
    generator = torch.Generator().manual_seed(0)
    plans = [RandomActions(2).plan(cost, space, generator=generator) for _ in range(200)]
    drawn = torch.stack([plan.actions for plan in plans])
    assert drawn.shape == (200, 2, 7)
    assert space.outside(drawn).max() == 0
    assert (drawn[..., :3].std(dim=(0, 1)) > 0.03).all() and not drawn[..., 3:6].any()
    assert plans[0].cost == pytest.approx(0.5 + drawn[0, :, 0].sum().item(), abs=1e-6)
    zero = ZeroActions().plan(cost, space, generator=generator)
    assert not zero.actions.any() and zero.cost == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "solves"), [("zero", False), ("random", False), ("state", True)])
def test_only_those_that_know_the_goal_reach_it(
    name: BaselineName, solves: bool, robot: SimulatedArm
) -> None:
    for number in range(3):
        problem = make_problem("reach", robot, seed=7, number=number)
        result = attempt(problem, robot, baseline_loop(name, problem, robot))
        assert result.error == "" and result.num_actions == 12
        assert result.success is solves
        assert result.first_distance_metres > 0.15


def test_oracles_come_nearer_with_every_action(robot: SimulatedArm) -> None:
    for name in ("true_state", "true_pixels"):
        problem = make_problem("reach", robot, seed=0, number=1)
        loop = baseline_loop(name, problem, robot, samples=16, iterations=2)
        loop.max_steps = 4
        result = attempt(problem, robot, loop)
        assert result.error == "" and result.reason == "steps used up"
        assert result.distance_metres < 0.6 * result.first_distance_metres, name


def test_a_random_attempt_is_the_same_each_time(robot: SimulatedArm) -> None:
    problem = make_problem("push", robot, seed=1)
    ends = []
    for seed in (0, 0, 1):
        attempt(problem, robot, baseline_loop("random", problem, robot, seed=seed))
        ends.append(robot.pose())
    assert np.array_equal(ends[0], ends[1]) and not np.array_equal(ends[0], ends[2])


def test_wrong_choices_are_named(robot: SimulatedArm) -> None:
    problem = make_problem("reach", robot, seed=0)
    with pytest.raises(ConfigError, match="Did you mean 'random'"):
        baseline_loop("randon", problem, robot)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="patches"):
        TrueWorld(robot, seen_by="pixels", patch=7)
    with pytest.raises(DtypeError, match="floats"):
        TrueWorld(robot).encode(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert set(BASELINES) == {"random", "zero", "state", "true_state", "true_pixels"}
