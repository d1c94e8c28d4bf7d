"""Goals other than a picture: a probe's class, waypoints, sums; each written down again by hand."""

import math

import pytest
import torch
from closed_form import generator, make_planner
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.planning.action_space import box_space
from vjepa2.planning.objective import (
    ActionSize,
    ClassGoal,
    LatentGoal,
    StateGoal,
    Waypoints,
    WeightedSum,
    weighted_sum,
)
from vjepa2.protocols import Rollout

S, L, N, D = 3, 4, 2, 5
TWO_CLASSES = torch.tensor([[-1.0, 2.0], [0.5, -0.3]])


def rollout() -> Rollout:
    draws = generator(7)
    return Rollout(
        latents=torch.randn(S, L, N, D, generator=draws),
        states=torch.randn(S, L, 2, generator=draws),
        actions=torch.randn(S, L, 2, generator=draws),
    )


def walked(actions: Tensor) -> Rollout:
    """A point on a plane that goes where it is told; its features are its place."""
    places = actions.cumsum(dim=1)
    return Rollout(latents=places[:, :, None], states=places, actions=actions)


def place(x: float, y: float) -> StateGoal:
    return StateGoal(torch.tensor([x, y]), torch.ones(2))


def test_the_cost_of_a_class_is_its_negative_logarithmic_probability() -> None:
    seen = rollout()
    weights = torch.randn(D, 3, generator=generator(1))

    def probe(latents: Tensor) -> Tensor:
        assert latents.shape == (S, N, D)
        return latents.mean(dim=1) @ weights

    costs = ClassGoal(probe, 2)(seen)
    for candidate in range(S):
        pooled = [sum(seen.latents[candidate, -1, :, d].tolist()) / N for d in range(D)]
        logits = [sum(p * weights[d, c].item() for d, p in enumerate(pooled)) for c in range(3)]
        expected = math.log(sum(math.exp(value) for value in logits)) - logits[2]
        assert costs[candidate].item() == pytest.approx(expected, abs=1e-5)


def test_a_plan_reaches_the_class() -> None:
    """Logits are linear in the place, so the best point of the box is one of its corners."""

    def cost(actions: Tensor) -> Tensor:
        return ClassGoal(lambda latents: latents[:, 0] @ TWO_CLASSES, 1)(walked(actions))

    plan = make_planner("cem", 1).plan(
        cost, box_space((-1.0, -1.0), (1.0, 1.0)), generator=generator()
    )
    # Class 1 beside class 0: 3 x - 0.8 y, most at (1, -1), where it is 3.8.
    assert torch.allclose(plan.actions[0], torch.tensor([1.0, -1.0]), atol=0.02)
    assert plan.cost == pytest.approx(math.log(1 + math.exp(-3.8)), abs=1e-3)


def test_mistakes_of_a_class_are_named() -> None:
    with pytest.raises(ConfigError, match="label"):
        ClassGoal(lambda latents: latents.mean(dim=1), D)(rollout())
    with pytest.raises(ShapeError, match=r"logits \[S=3, classes\], got \[3\]"):
        ClassGoal(lambda latents: latents.mean(dim=(1, 2)), 0)(rollout())


def test_a_waypoint_counts_at_its_step_as_if_the_rollout_ended_there() -> None:
    seen = rollout()
    early = torch.randn(N, D, generator=generator(2))
    costs = Waypoints({1: LatentGoal(early), 3: place(0.4, -1.0), 0: ActionSize()})(seen)
    for candidate in range(S):
        away = (seen.latents[candidate, 1] - early).abs().sum().item() / (N * D)
        end = seen.states[candidate, 3].tolist()
        reached = (end[0] - 0.4) ** 2 + (end[1] + 1.0) ** 2
        first = sum(value**2 for value in seen.actions[candidate, 0].tolist()) / 2
        assert costs[candidate].item() == pytest.approx(away + reached + first, abs=1e-5)


def test_a_plan_goes_by_its_waypoint() -> None:
    goal = Waypoints({0: place(0.6, 0.5), 2: place(0.0, 1.0)})
    plan = make_planner("hybrid", 3).plan(
        lambda actions: goal(walked(actions)),
        box_space((-1.0, -1.0), (1.0, 1.0)),
        generator=generator(),
    )
    places = plan.actions.cumsum(dim=0)
    assert torch.allclose(places[0], torch.tensor([0.6, 0.5]), atol=0.01)
    assert torch.allclose(places[2], torch.tensor([0.0, 1.0]), atol=0.01)


def test_mistakes_of_waypoints_are_named() -> None:
    with pytest.raises(ConfigError, match="at least one step"):
        Waypoints({})
    with pytest.raises(ConfigError, match="The step of a waypoint"):
        Waypoints({-1: ActionSize()})
    with pytest.raises(ConfigError, match=r"step 4, but plans have 4 steps, 0 to 3"):
        Waypoints({4: ActionSize()})(rollout())


def test_a_sum_weighs_its_terms() -> None:
    seen = rollout()

    def free(given: Rollout) -> Tensor:  # any function of a rollout is an objective
        return given.states[:, 0, 1]

    costs = weighted_sum((2.0, place(0.1, 0.2)), (-0.5, free), (0.25, ActionSize()))(seen)
    for candidate in range(S):
        end, start = seen.states[candidate, -1].tolist(), seen.states[candidate, 0].tolist()
        size = sum(value**2 for value in seen.actions[candidate].flatten().tolist()) / (L * 2)
        distance = (end[0] - 0.1) ** 2 + (end[1] - 0.2) ** 2
        expected = 2 * distance - 0.5 * start[1] + 0.25 * size
        assert costs[candidate].item() == pytest.approx(expected, abs=1e-5)


def test_the_best_of_a_sum_lies_between_its_goals() -> None:
    # Least of 3 (x - 0.8)^2 + (x + 0.4)^2 is at the weighted mean, x = 0.5.
    goal = WeightedSum(((3.0, place(0.8, 0.0)), (1.0, place(-0.4, 0.0))))
    plan = make_planner("gradient", 1).plan(
        lambda actions: goal(walked(actions)),
        box_space((-1.0, -1.0), (1.0, 1.0)),
        generator=generator(),
    )
    assert torch.allclose(plan.actions[0], torch.tensor([0.5, 0.0]), atol=1e-3)


def test_mistakes_of_a_sum_are_named() -> None:
    with pytest.raises(ConfigError, match="at least one objective"):
        weighted_sum()
    for weight in (math.nan, "much"):
        with pytest.raises(ConfigError, match="The weight of an objective"):
            weighted_sum((weight, ActionSize()))  # type: ignore[arg-type]
