"""How near planners come to known optima with equally many candidates, and how they keep deadlines.

    python -m benchmarks.planners

The gap is (cost - optimum) / (cost of doing nothing - optimum), over seeds. Every planner gets the
same number of candidates; a gradient counts as one candidate, though it costs about three.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import parser, save
from vjepa2.planning.action_space import ActionSpace, box_space
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.gradient import GradientPlanner, GradientSettings, HybridPlanner
from vjepa2.planning.mppi import MPPI, MPPISettings
from vjepa2.planning.plan import Planner

SAMPLES = (300, 1000, 2500)
SEEDS = 10
HORIZON = 3
DEADLINES = (0.2,)
REPEATS = 100

MPPI_ROUNDS = 14
Cost = Callable[[Tensor], Tensor]


def makers(samples: int) -> dict[str, Callable[[], Planner]]:
    """Planners that evaluate about so many candidates."""
    iterations = 10
    each = samples // iterations

    def cem(count: int, rounds: int) -> CEMSettings:
        top_k = max(2, min(10, count // 4))
        return CEMSettings(
            horizon=HORIZON,
            samples=count,
            iterations=rounds,
            shrink=1.0,
            least_samples=max(4, count),
            top_k=top_k,
            keep=min(5, top_k),
        )

    starts = max(1, samples // 60)
    return {
        "cem": lambda: ImprovedCEM(cem(each, iterations)),
        "mppi": lambda: MPPI(
            MPPISettings(horizon=HORIZON, samples=samples // MPPI_ROUNDS, iterations=MPPI_ROUNDS)
        ),
        "gradient": lambda: GradientPlanner(
            GradientSettings(horizon=HORIZON, starts=starts, iterations=60)
        ),
        "hybrid": lambda: HybridPlanner(
            cem(each, iterations - 3), GradientSettings(starts=2, spread=0.05, iterations=each)
        ),
    }


def problems() -> dict[str, tuple[Cost, ActionSpace, float]]:
    """Cost, space and the least cost."""
    ball = ActionSpace(low=(-0.05,) * 3, high=(0.05,) * 3, l1_axes=(0, 1, 2), l1_radius=0.075)
    slope = torch.tensor([1.0, -2.0, 0.5])
    generator = torch.Generator().manual_seed(3)
    basis, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator))
    curvature = basis @ torch.diag(torch.logspace(0, 1.3, 12)) @ basis.T
    optimum = torch.linspace(-0.6, 0.7, 12)
    goal = torch.tensor([0.3, 0.18, 0.0])

    def quadratic(actions: Tensor) -> Tensor:
        away = actions.flatten(1) - optimum
        return torch.einsum("si,ij,sj->s", away, curvature, away)

    return {
        "linear, box and L1 ball": (lambda a: (a @ slope).sum(dim=1), ball, -3 * 0.125),
        "goal beyond box and L1 ball": (
            lambda a: (a.sum(dim=1) - goal).square().sum(dim=1),
            ball,
            # Three steps of (0.05, 0.025, 0): both bounds are active in each.
            0.15**2 + 0.105**2,
        ),
        "quadratic, 12 numbers": (quadratic, box_space((-1.0,) * 4, (1.0,) * 4), 0.0),
    }


def gaps() -> dict[str, Any]:
    """Median and worst gap by problem, number of candidates and planner."""
    results: dict[str, Any] = {}
    for name, (cost, space, best) in problems().items():
        nothing = cost(torch.zeros(1, HORIZON, space.size)).item()
        for samples in SAMPLES:
            for planner, make in makers(samples).items():
                found, used = [], []
                for seed in range(SEEDS):
                    plan = make().plan(cost, space, generator=torch.Generator().manual_seed(seed))
                    found.append((plan.cost - best) / (nothing - best))
                    used.append(plan.samples)
                row = {
                    "median_gap": round(statistics.median(found), 6),
                    "worst_gap": round(max(found), 6),
                    "samples": round(statistics.mean(used)),
                }
                results.setdefault(name, {}).setdefault(str(samples), {})[planner] = row
                print(name, samples, planner, row)
    return results


def deadlines() -> dict[str, Any]:
    """How long plans with a deadline take, in units of it; the cost is real matrix products."""
    weights = torch.randn(2048, 2048, generator=torch.Generator().manual_seed(0)) / 45

    def cost(actions: Tensor) -> Tensor:
        hidden = torch.nn.functional.pad(actions.flatten(1), (0, 2048 - 12))
        for _ in range(4):
            hidden = torch.tanh(hidden @ weights)
        return hidden.square().mean(dim=1)

    space = box_space((-1.0,) * 4, (1.0,) * 4)
    results: dict[str, Any] = {}
    for deadline in DEADLINES:
        for name, make in makers(200_000).items():
            planner = make()
            taken = []
            for seed in range(REPEATS + 1):
                begun = time.perf_counter()
                plan = planner.plan(
                    cost,
                    space,
                    deadline_seconds=deadline,
                    generator=torch.Generator().manual_seed(seed),
                )
                taken.append((time.perf_counter() - begun) / deadline)
            ordered = sorted(taken[1:])  # the first one learns how long things take
            row = {
                "median": round(statistics.median(ordered), 4),
                "p99": round(ordered[int(0.99 * len(ordered)) - 1], 4),
                "worst": round(ordered[-1], 4),
                "complete": plan.complete,
            }
            results.setdefault(f"{deadline} s", {})[name] = row
            print(deadline, name, row)
    return results


def main() -> None:
    parser(__doc__).parse_args()
    save("planners", {"seeds": SEEDS, "gaps": gaps(), "deadlines": deadlines()})


if __name__ == "__main__":
    main()
