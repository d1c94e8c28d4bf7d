"""Model predictive path integral control: the mean of all candidates, weighted by their cost.

After Williams et al. 2017. Each iteration draws around the mean and moves it to the candidates'
average with weights exp(-cost / temperature); the deviation falls from iteration to iteration.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vjepa2.planning.action_space import ActionSpace
from vjepa2.planning.noise import coloured_noise
from vjepa2.planning.search import Search
from vjepa2.planning.search_planner import SearchPlanner
from vjepa2.strict_config import StrictConfig

BISECTIONS = 40


class MPPISettings(StrictConfig):
    """Numbers of the search.

    Attributes:
        horizon: L, steps.
        samples: candidates of an iteration.
        iterations: at most.
        first_std: as a share of what the axis reaches.
        shrink: of the deviation, per iteration.
        temperature: in units of the cost; None: so that the weights are spread over `effective` of
            the candidates, whatever the unit of the cost.
        effective: share of the candidates that count, where temperature is None.
        colour: exponent of the noise along the horizon, 0 white.
    """

    horizon: int = Field(2, ge=1, le=256)
    samples: int = Field(250, ge=2)
    iterations: int = Field(14, ge=1)
    first_std: float = Field(0.6, gt=0)
    shrink: float = Field(0.75, gt=0, le=1)
    temperature: float | None = Field(None, gt=0)
    effective: float = Field(0.04, gt=0, le=1)
    colour: float = Field(1.0, ge=0, le=4)


class MPPI(SearchPlanner):
    """The search; a `plan.Planner` for every space. The plan is the best candidate.

    Args:
        settings: None: the defaults.
    """

    def __init__(self, settings: MPPISettings | None = None) -> None:
        self.settings = MPPISettings() if settings is None else settings
        super().__init__(self.settings.horizon)

    def run(
        self,
        search: Search,
        space: ActionSpace,
        *,
        start: Float[Tensor, "L A"],
        generator: torch.Generator,
    ) -> None:
        """See `SearchPlanner.run`; the result is the best candidate."""
        settings = self.settings
        mean, std = start, settings.first_std * space.scale(start)
        for _ in range(settings.iterations):
            noise = coloured_noise(
                settings.samples,
                self.horizon,
                space.size,
                exponent=settings.colour,
                generator=generator,
            )
            drawn = space.project(space.moved(mean, std * noise))
            drawn[0] = mean
            costs = search.evaluate(drawn)
            if len(costs) < len(drawn):
                break
            if bool(torch.isfinite(costs).any()):
                weights = self._weights(costs).to(mean)
                steps = space.between(mean, drawn)
                mean = space.project(space.moved(mean, (weights[:, None, None] * steps).sum(0)))
            std = settings.shrink * std
            search.note(costs)

    def _weights(self, costs: Tensor) -> Tensor:
        """[S], they add up to 1."""
        above = costs - costs.min()
        temperature = self.settings.temperature
        if temperature is None:
            temperature = _temperature(above, wanted=self.settings.effective * len(costs))
        return (-above / temperature).softmax(dim=0)


def _temperature(above: Tensor, *, wanted: float) -> float:
    """The one at which 1 / sum(weights ** 2), the number that counts, is `wanted`."""
    finite = above[torch.isfinite(above)]
    scale = finite.max().item()
    if scale <= 0 or len(finite) <= wanted:
        return max(scale, 1e-12)
    low, high = -14.0, 6.0  # powers of e, in units of the spread
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        weights = (-finite / (scale * torch.tensor(middle).exp())).softmax(dim=0)
        if 1 / weights.square().sum().item() < wanted:
            low = middle
        else:
            high = middle
    return scale * float(torch.tensor(high).exp())
