"""All planners on problems whose best actions are known."""

import math

import pytest
import torch
from closed_form import PLANNERS, generator, make_planner
from torch import Tensor

from vjepa2.errors import ConfigError, PlanningError, ShapeError
from vjepa2.planning.action_space import (
    ActionSpace,
    arm_space,
    arm_workspace,
    box_space,
    published_space,
)
from vjepa2.planning.noise import coloured_noise
from vjepa2.planning.objective import arm_state_goal, within
from vjepa2.planning.plan import Planner
from vjepa2.planning.published_cem import PublishedCEM, PublishedCEMSettings
from vjepa2.poses import angle_between, integrate_pose, to_matrix
from vjepa2.protocols import Rollout

WITHIN = 0.01  # of the way from doing nothing to the optimum


def rolled(actions: Tensor, state: Tensor) -> Rollout:
    """An arm that does exactly what it is told."""
    at, states = state.expand(len(actions), -1), []
    for step in range(actions.shape[1]):
        at = integrate_pose(at, actions[:, step].double())
        states.append(at)
    return Rollout(
        latents=torch.zeros(len(actions), actions.shape[1], 1, 1),
        states=torch.stack(states, dim=1),
        actions=actions,
    )


def assert_within(planner: Planner, cost, space: ActionSpace, best: float, **options) -> Tensor:
    """The plan is allowed, costs what it says, and lies within 1 % of the optimum."""
    plan = planner.plan(cost, space, generator=generator(), **options)
    nothing = cost(space.actions(space.start(planner.horizon, torch.zeros(()))[None])).item()
    assert space.outside(plan.actions).max() < 1e-5
    assert cost(plan.actions[None]).item() == pytest.approx(plan.cost, rel=1e-5, abs=1e-9)
    assert plan.complete and plan.iterations == len(plan.history) > 0
    assert (plan.cost - best) / (nothing - best) <= WITHIN
    assert plan.cost >= best - 1e-6 * abs(nothing - best)
    return plan.actions


@pytest.mark.parametrize("name", PLANNERS)
def test_a_goal_beyond_box_and_l1_ball(name: str) -> None:
    # By hand: pulled by 0.035 and cut at 0.05, (0.1, 0.06, 0) becomes (0.05, 0.025, 0).
    space = ActionSpace(low=(-0.05,) * 3, high=(0.05,) * 3, l1_axes=(0, 1, 2), l1_radius=0.075)
    goal = torch.tensor([0.1, 0.06, 0.0])
    actions = assert_within(
        make_planner(name, 1),
        lambda a: (a.sum(dim=1) - goal).square().sum(dim=1),
        space,
        best=0.05**2 + 0.035**2,
    )
    assert torch.allclose(actions[0], torch.tensor([0.05, 0.025, 0.0]), atol=0.003)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_linear_world_with_all_bounds_active(name: str) -> None:
    space = ActionSpace(low=(-0.05,) * 3, high=(0.05,) * 3, l1_axes=(0, 1, 2), l1_radius=0.075)
    slope = torch.tensor([1.0, -2.0, 0.5])
    # The steepest axis as far as its bound, the next one with what the ball leaves, each step.
    best = -3 * (2.0 * 0.05 + 1.0 * 0.025)
    assert_within(make_planner(name, 3), lambda a: (a @ slope).sum(dim=1), space, best=best)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_quadratic_world_with_a_known_optimum(name: str) -> None:
    horizon, size = 3, 4
    noise = torch.randn(12, 12, generator=generator(3))
    basis, _ = torch.linalg.qr(noise)
    curvature = basis @ torch.diag(torch.logspace(0, 1.3, 12)) @ basis.T
    optimum = torch.linspace(-0.6, 0.7, 12)

    def cost(actions: Tensor) -> Tensor:
        away = actions.flatten(1) - optimum
        return 2.0 + torch.einsum("si,ij,sj->s", away, curvature, away)

    space = box_space((-1.0,) * size, (1.0,) * size)
    assert_within(make_planner(name, horizon), cost, space, best=2.0)


@pytest.mark.parametrize("name", PLANNERS)
def test_the_gripper_closes_or_rests_but_never_a_little(name: str) -> None:
    space = arm_space(dead_zone=0.25, fixed=dict.fromkeys(range(6), 0.0))

    def towards(wanted: float):
        return lambda a: (a[:, :, 6].sum(dim=1) - wanted).square()

    planner = make_planner(name, 1)
    for wanted, expected in ((0.6, 0.6), (0.05, 0.0), (0.2, 0.25), (2.0, 0.75)):
        plan = planner.plan(towards(wanted), space, generator=generator())
        assert plan.actions[0, 6].item() == pytest.approx(expected, abs=0.01)
        assert plan.cost == pytest.approx((expected - wanted) ** 2, abs=0.01)


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("yaw", [0.0, 2.0])
def test_rotations_are_reached_across_pi(name: str, yaw: float) -> None:
    start = torch.tensor([0.4, 0.0, 0.3, math.pi - 0.15, 0.1, yaw, 0.0], dtype=torch.float64)
    goal = torch.tensor([0.43, -0.02, 0.3, -math.pi + 0.2, 0.05, yaw, 0.0], dtype=torch.float64)
    space = arm_space(max_angle=0.3)
    objective = arm_state_goal(goal, position=10.0, rotation=1.0)
    plan = make_planner(name, 2).plan(
        lambda a: objective(rolled(a, start)), space, generator=generator()
    )
    end = rolled(plan.actions[None], start).states[0, -1]
    turned = angle_between(to_matrix(end[3:6], "euler"), to_matrix(goal[3:6], "euler"))
    began = angle_between(to_matrix(start[3:6], "euler"), to_matrix(goal[3:6], "euler"))
    assert 0.3 < began < 0.6  # further than one step, nearer than two
    assert turned < 0.03
    assert (end[:3] - goal[:3]).norm() < 0.004


@pytest.mark.parametrize("name", PLANNERS)
def test_the_workspace_ends_the_way(name: str) -> None:
    start = torch.tensor([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    goal = start + torch.tensor([0.12, 0.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    fixed = dict.fromkeys((3, 4, 5, 6), 0.0)
    workspace = arm_workspace((0.2, -0.4, 0.0), (0.56, 0.4, 0.6))
    objective = within(arm_state_goal(goal), workspace)
    plan = make_planner(name, 2).plan(
        lambda a: objective(rolled(a, start)), arm_space(fixed=fixed), generator=generator()
    )
    states = rolled(plan.actions[None], start).states[0]
    assert workspace.outside(states).max() == 0
    assert states[-1, 0].item() == pytest.approx(0.56, abs=0.003)


@pytest.mark.parametrize("name", PLANNERS)
def test_the_same_numbers_give_the_same_plan_and_warm_starts_are_kept(name: str) -> None:
    space = box_space((-1.0, -1.0), (1.0, 1.0))
    aim = torch.tensor([[0.3, -0.2], [0.9, 0.1]])

    def cost(actions: Tensor) -> Tensor:
        return (actions - aim).square().sum(dim=(1, 2))

    first, again, other = (
        make_planner(name, 2).plan(cost, space, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.actions, again.actions)
    assert first.history[0].mean_cost == again.history[0].mean_cost != other.history[0].mean_cost
    warm = make_planner(name, 2).plan(cost, space, warm_start=aim, generator=generator())
    assert warm.cost < 1e-9
    assert first.shifted(space).tolist() == [*first.actions[1:].tolist(), [0.0, 0.0]]
    with pytest.raises(ShapeError, match=r"warm_start must be actions \[L=2, A=2\]"):
        make_planner(name, 2).plan(cost, space, warm_start=aim[:1], generator=generator())


@pytest.mark.parametrize("name", PLANNERS)
def test_costs_that_are_not_finite_are_never_chosen(name: str) -> None:
    space = box_space((-1.0,), (1.0,))

    def holes(actions: Tensor) -> Tensor:
        value = actions[:, 0, 0]
        return (value - 0.9).square() + torch.where(value > 0.5, math.nan, 0.0)

    plan = make_planner(name, 1).plan(holes, space, generator=generator())
    assert 0.4 < plan.actions[0, 0] <= 0.5
    assert plan.num_not_finite > 0
    with pytest.raises(PlanningError, match="had a finite cost"):
        make_planner(name, 1).plan(lambda a: a[:, 0, 0] * math.nan, space, generator=generator())
    with pytest.raises(ShapeError, match="one number per candidate"):
        make_planner(name, 1).plan(lambda a: a.sum(), space, generator=generator())


@pytest.mark.parametrize("name", ["gradient", "hybrid"])
def test_descent_needs_a_gradient(name: str) -> None:
    space = box_space((-1.0,), (1.0,))
    with pytest.raises(ConfigError, match="has no gradient.*ImprovedCEM"):
        make_planner(name, 1).plan(
            lambda a: a.detach().sum(dim=(1, 2)), space, generator=generator()
        )


def plain_published(cost, settings: PublishedCEMSettings, max_norm: float, axis, numbers) -> Tensor:
    """The published algorithm written down again, with four searched numbers per step."""
    L, S = settings.horizon, settings.samples
    mean, std = torch.zeros(L, 4), torch.cat([torch.full((L, 3), max_norm), torch.ones(L, 1)], 1)
    for index, value in axis.items():
        mean[:, index] = value
    for _ in range(settings.iterations):
        chosen = []
        for h in range(L):
            four = torch.randn(S, 4, generator=numbers) * std[h] + mean[h]
            four[:, :3] = four[:, :3].clip(-max_norm, max_norm)
            four[:, 3:] = four[:, 3:].clip(-0.75, 0.75)
            for index, value in axis.items():
                four[:, index] = value
            if settings.close_gripper is not None and h >= settings.close_gripper:
                four[:, 3] = 1.0
            chosen.append(four)
        four = torch.stack(chosen, dim=1)
        seven = torch.cat([four[..., :3], torch.zeros(S, L, 3), four[..., 3:]], dim=-1)
        elite = four[cost(seven).topk(settings.top_k, largest=False).indices]
        e_mean, e_std = elite.mean(0), ((elite - elite.mean(0)) ** 2).sum(0).div(len(elite) - 1)
        e_std = e_std.sqrt()
        m, s = settings.momentum_mean, settings.momentum_std
        mg, sg = settings.momentum_mean_gripper, settings.momentum_std_gripper
        mean = torch.cat(
            [
                (1 - m) * e_mean[:, :3] + m * mean[:, :3],
                (1 - mg) * e_mean[:, 3:] + mg * mean[:, 3:],
            ],
            dim=1,
        )
        std = torch.cat(
            [(1 - s) * e_std[:, :3] + s * std[:, :3], (1 - sg) * e_std[:, 3:] + sg * std[:, 3:]],
            dim=1,
        )
    gripper = torch.where(mean[:, 3:].abs() < 0.25, 0.0, mean[:, 3:])
    return torch.cat([mean[:, :3], torch.zeros(L, 3), gripper], dim=1)


@pytest.mark.parametrize("axis", [{}, {1: 0.02}, {0: 0.3}])
@pytest.mark.parametrize("close", [None, 1])
def test_the_published_search_equals_a_plain_one(axis: dict[int, float], close: int | None) -> None:
    settings = PublishedCEMSettings(
        horizon=3,
        samples=40,
        iterations=6,
        top_k=5,
        momentum_mean=0.25,
        momentum_std=0.95,
        momentum_mean_gripper=0.15,
        momentum_std_gripper=0.35,
        close_gripper=close,
    )
    goal = torch.tensor([0.07, -0.03, 0.2, 0, 0, 0, 0.3])

    def cost(actions: Tensor) -> Tensor:
        return (actions.sum(dim=1) - goal).abs().mean(dim=1)

    expected = plain_published(cost, settings, 0.05, axis, generator(5))
    plan = PublishedCEM(settings).plan(cost, published_space(fixed=axis), generator=generator(5))
    assert torch.allclose(plan.actions, expected, rtol=0, atol=1e-6)
    assert plan.samples == 6 * 40 + 1
    assert plan.cost == pytest.approx(cost(expected[None]).item(), abs=1e-6)


def test_the_published_search_takes_only_what_it_knows() -> None:
    with pytest.raises(ConfigError, match=r"published_space\(\), or ImprovedCEM"):
        PublishedCEM().plan(lambda a: a.sum((1, 2)), arm_space(), generator=generator())
    with pytest.raises(ConfigError, match="top_k=10 elites cannot be chosen from 5"):
        PublishedCEM(PublishedCEMSettings(samples=5))
    inside = PublishedCEM().plan(
        lambda a: -a[..., :3].sum((1, 2)),
        published_space(max_norm=0.075, l1_ball=True),
        generator=generator(),
    )
    assert inside.actions[:, :3].abs().sum(dim=1).max() <= 0.075 + 1e-6


def test_coloured_noise_has_variance_one_and_its_colour() -> None:
    for horizon, exponent in ((1, 2.0), (2, 1.0), (7, 2.0), (8, 1.0)):
        noise = coloured_noise(20000, horizon, 2, exponent=exponent, generator=generator())
        assert noise.shape == (20000, horizon, 2)
        assert noise.var(dim=0).sub(1).abs().max() < 0.06
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean()
    white = coloured_noise(20000, 8, 2, exponent=0.0, generator=generator())
    assert neighbours > 0.2 > 0.02 > (white[:, 1:] * white[:, :-1]).mean().abs()
