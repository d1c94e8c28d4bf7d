"""Plans within a time: the end is kept, and more time gives better plans."""

import math
import time

import pytest
import torch
from closed_form import PLANNERS, generator, make_planner
from torch import Tensor

from vjepa2.planning.action_space import box_space, published_space
from vjepa2.planning.published_cem import PublishedCEM, PublishedCEMSettings
from vjepa2.planning.search import Pace

DEADLINE = 0.06


def slow(actions: Tensor) -> Tensor:
    """1 ms, and 0.1 ms per candidate: a whole search would take half a second and more."""
    time.sleep(0.001 + 1e-4 * len(actions))
    return (actions - 0.3).square().sum(dim=(1, 2))


@pytest.mark.parametrize("name", PLANNERS)
def test_the_deadline_is_kept_and_the_best_so_far_returned(name: str) -> None:
    planner, space = make_planner(name, 2), box_space((-1.0,), (1.0,))
    late, costs = [], []
    for seed in range(6):
        begun = time.perf_counter()
        plan = planner.plan(slow, space, deadline_seconds=DEADLINE, generator=generator(seed))
        late.append(time.perf_counter() - begun)
        costs.append(plan.cost)
        assert plan.samples > 0
        assert slow(plan.actions[None]).item() == pytest.approx(plan.cost, rel=1e-5, abs=1e-9)
        if name in ("cem", "mppi"):
            assert not plan.complete
    assert sorted(late)[3] <= 1.05 * DEADLINE  # others use this machine: the median, not the worst
    assert sorted(costs)[3] < 0.5 * 2 * 0.09  # to do nothing costs twice that
    full = planner.plan(slow, space, deadline_seconds=1.2, generator=generator())
    assert full.cost <= min(costs) + 1e-9


def test_the_published_search_has_time_left_to_tell_its_cost() -> None:
    def cost(actions: Tensor) -> Tensor:
        time.sleep(0.001 + 2e-5 * len(actions))
        return (actions[:, -1, :3] - 0.03).square().sum(dim=1)

    planner = PublishedCEM()
    late = []
    for seed in range(5):
        begun = time.perf_counter()
        plan = planner.plan(
            cost, published_space(), deadline_seconds=0.05, generator=generator(seed)
        )
        late.append(time.perf_counter() - begun)
    assert sorted(late)[2] < 1.05 * 0.05
    assert not plan.complete and plan.iterations < 10 and plan.samples > 10
    assert cost(plan.actions[None]).item() == pytest.approx(plan.cost, rel=1e-5)


def test_a_published_search_cut_in_its_first_iteration_takes_the_best_candidate() -> None:
    """No mean was fitted yet; to stand still, as the start says, is worse than what was tried."""
    aim = torch.tensor([0.04, -0.03, 0.02])

    def cost(actions: Tensor) -> Tensor:
        time.sleep(0.001 * len(actions))
        return (actions[:, 0, :3] - aim).abs().sum(dim=1)

    planner = PublishedCEM()  # 400 candidates: 0.4 s
    planner.plan(cost, published_space(), deadline_seconds=0.08, generator=generator())
    late, costs = [], []
    for seed in range(5):
        begun = time.perf_counter()
        plan = planner.plan(
            cost, published_space(), deadline_seconds=0.08, generator=generator(seed)
        )
        late.append(time.perf_counter() - begun)
        costs.append(plan.cost)
        assert plan.iterations == 0 and not plan.complete and 4 < plan.samples < 400
        assert cost(plan.actions[None]).item() == pytest.approx(plan.cost, rel=1e-5)
        gripper = plan.actions[:, 6].abs()
        assert bool(((gripper == 0) | (gripper >= 0.25)).all())  # the dead zone
    assert sorted(late)[2] < 1.05 * 0.08
    assert sorted(costs)[2] < 0.7 * 0.09  # to stand still costs 0.09
    start = torch.zeros(2, 7)
    start[0, :3] = aim
    warm = planner.plan(
        cost, published_space(), warm_start=start, deadline_seconds=0.08, generator=generator()
    )
    assert warm.iterations == 0 and torch.allclose(warm.actions, start, atol=1e-7)


def test_a_mean_without_a_finite_cost_is_never_the_plan() -> None:
    """Candidates on both sides of a hole are good, their mean falls into it."""

    def cost(actions: Tensor) -> Tensor:
        away = actions[:, 0, 0].abs() - 0.04
        return torch.where(away.abs() < 0.03, away.abs(), math.nan)

    settings = PublishedCEMSettings(horizon=1, iterations=1, samples=200, top_k=50)
    plan = PublishedCEM(settings).plan(cost, published_space(), generator=generator())
    assert math.isfinite(plan.cost) and 0.01 < plan.actions[0, 0].abs() < 0.07


def test_one_candidate_that_takes_longer_than_the_deadline_is_still_computed() -> None:
    def cost(actions: Tensor) -> Tensor:
        time.sleep(0.03 * len(actions))
        return actions.square().sum(dim=(1, 2))

    plan = make_planner("cem", 1).plan(
        cost, box_space((-1.0,), (1.0,)), deadline_seconds=0.01, generator=generator()
    )
    assert plan.samples == 1 and not plan.complete
    assert torch.equal(plan.actions, torch.zeros(1, 1))


def test_the_pace_learns_the_fixed_part_and_that_per_candidate() -> None:
    pace = Pace()
    assert pace.most_in(1.0) == 1  # nothing is known yet
    for count in (1, 10, 40, 100):
        pace.note(count, 0.01 + 0.001 * count)
    assert 70 <= pace.most_in(0.1) <= 80  # 0.1 / 1.15 = 0.01 + 0.077
    assert pace.most_in(100.0) == 400  # no further than four times what was seen
    steady = Pace()
    for seconds in (0.01, 0.01, 3.0):  # one delay
        steady.note(1, seconds)
    assert steady.most_in(0.1) == 4
    assert pace.most_in(0.005) == 0
