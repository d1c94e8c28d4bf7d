"""Problems whose best actions are known."""

from collections.abc import Callable

import torch
from torch import Tensor

from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.gradient import GradientPlanner, GradientSettings, HybridPlanner
from vjepa2.planning.mppi import MPPI, MPPISettings
from vjepa2.planning.plan import Planner


def make_planner(name: str, horizon: int) -> Planner:
    """With its default settings."""
    makers: dict[str, Callable[[], Planner]] = {
        "cem": lambda: ImprovedCEM(CEMSettings(horizon=horizon)),
        "mppi": lambda: MPPI(MPPISettings(horizon=horizon)),
        "gradient": lambda: GradientPlanner(GradientSettings(horizon=horizon)),
        "hybrid": lambda: HybridPlanner(CEMSettings(horizon=horizon, iterations=5)),
    }
    return makers[name]()


PLANNERS = ("cem", "mppi", "gradient", "hybrid")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def onto_l1_ball(point: Tensor, radius: float) -> Tensor:
    """By sorting (Duchi et al. 2008), independent of the package's bisection."""
    if point.abs().sum() <= radius:
        return point
    sizes = point.abs().sort(descending=True).values
    above = (sizes.cumsum(0) - radius) / torch.arange(1, len(sizes) + 1)
    count = int((sizes > above).sum())
    return point.sign() * (point.abs() - above[count - 1]).clamp(min=0)
