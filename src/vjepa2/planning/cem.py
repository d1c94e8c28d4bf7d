"""The cross-entropy method, improved: good candidates stay, noise is smooth, the crowd shrinks.

After Pinneri et al. 2020 ("Sample-efficient cross-entropy method for real-time planning"), with
rotations averaged on their manifold. It searches every `ActionSpace`, all seven numbers of an arm
included. The published search is `published_cem.PublishedCEM`.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vjepa2.errors import ConfigError
from vjepa2.planning.action_space import ActionSpace
from vjepa2.planning.noise import coloured_noise
from vjepa2.planning.search import Search
from vjepa2.planning.search_planner import SearchPlanner
from vjepa2.strict_config import StrictConfig


class CEMSettings(StrictConfig):
    """Numbers of the improved search.

    Attributes:
        horizon: L, steps.
        samples: candidates of the first iteration.
        iterations: at most.
        shrink: each iteration has this share of the candidates of the one before ...
        least_samples: ... but so many at least.
        top_k: best candidates that the distribution is fitted to.
        keep: elites that stay candidates of the next iteration.
        momentum_mean, momentum_std: share of the old mean and deviation that stays. A deviation
            that falls slowly finds corners of the bounds; a mean needs no brake.
        first_std: of the first iteration, as a share of what the axis reaches.
        colour: exponent of the noise along the horizon, 0 white; see `coloured_noise`.
        stop_std: the search ends when every deviation is below this share of the axis' reach.
    """

    horizon: int = Field(2, ge=1, le=256)
    samples: int = Field(250, ge=4)
    iterations: int = Field(16, ge=1)
    shrink: float = Field(0.93, gt=0, le=1)
    least_samples: int = Field(50, ge=4)
    top_k: int = Field(10, ge=2)
    keep: int = Field(5, ge=0)
    momentum_mean: float = Field(0.0, ge=0, lt=1)
    momentum_std: float = Field(0.35, ge=0, lt=1)
    first_std: float = Field(0.6, gt=0)
    colour: float = Field(1.0, ge=0, le=4)
    stop_std: float = Field(1e-4, ge=0)

    def candidates(self, iteration: int) -> int:
        """Of an iteration, counted from 0."""
        return max(self.least_samples, round(self.samples * self.shrink**iteration))


class ImprovedCEM(SearchPlanner):
    """The improved search; a `plan.Planner` for every space.

    The plan is the best candidate of all iterations.

    Args:
        settings: None: the defaults.

    Raises:
        ConfigError: more elites than candidates, or more kept than elites.
    """

    def __init__(self, settings: CEMSettings | None = None) -> None:
        self.settings = CEMSettings() if settings is None else settings
        few = min(self.settings.samples, self.settings.least_samples)
        if self.settings.top_k > few or self.settings.keep > self.settings.top_k:
            raise ConfigError(
                f"keep={self.settings.keep} <= top_k={self.settings.top_k} <= the fewest "
                f"candidates, {few}, does not hold."
            )
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
        mean, reach = start, space.scale(start)
        std = (settings.first_std * reach).expand_as(mean)
        kept, kept_costs = mean[None][:0], torch.empty(0, dtype=torch.float64)
        for iteration in range(settings.iterations):
            count = settings.candidates(iteration) - len(kept)
            noise = coloured_noise(
                count, self.horizon, space.size, exponent=settings.colour, generator=generator
            )
            drawn = space.project(space.moved(mean, std * noise))
            drawn[0] = mean  # where nothing is better than to go on as planned, that is found
            costs = search.evaluate(drawn)
            if len(costs) < len(drawn):
                return
            candidates, costs = torch.cat([drawn, kept]), torch.cat([costs, kept_costs])
            order = costs.topk(settings.top_k, largest=False).indices
            order = order[torch.isfinite(costs[order])]
            if len(order) >= 2:
                mean, std = self._fitted(candidates[order], mean, std, space)
            kept, kept_costs = candidates[order[: settings.keep]], costs[order[: settings.keep]]
            search.note(costs)
            if bool((std <= settings.stop_std * reach).all()):
                return

    def _fitted(
        self, elites: Tensor, mean: Tensor, std: Tensor, space: ActionSpace
    ) -> tuple[Tensor, Tensor]:
        steps = space.between(mean, elites)
        settings = self.settings
        towards = (1 - settings.momentum_mean) * steps.mean(dim=0)
        new_std = (1 - settings.momentum_std) * steps.std(dim=0) + settings.momentum_std * std
        return space.project(space.moved(mean, towards)), new_std
