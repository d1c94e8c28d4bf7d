"""Planning by the gradient through the world model, from several starts, and after a search.

Each start descends on its own: a step along the negative gradient, back to the nearest allowed
actions, with the length of the step from how the gradient changed (Barzilai and Borwein 1988;
Birgin, Martinez and Raydan 2000). A step that makes the cost worse than the last few is taken back
and tried shorter, so the cost cannot run away whatever its scale.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vjepa2.planning.action_space import ActionSpace
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.search import Search
from vjepa2.planning.search_planner import SearchPlanner
from vjepa2.strict_config import StrictConfig

COMPARED = 4  # costs before, of which the worst may not be exceeded
SHORTER = 0.25
LEAST_STEP, MOST_STEP = 1e-6, 1e6


class GradientSettings(StrictConfig):
    """Numbers of the descent.

    Attributes:
        horizon: L, steps.
        starts: descents side by side: one from the warm start, the others drawn around it.
        iterations: at most; each computes every start with its gradient.
        spread: of the drawn starts, as a share of what the axis reaches.
        first_step: largest change of the first step, as a share of what an axis reaches.
        stop_change: the descent ends when no start moves by more than this share of the reach.
    """

    horizon: int = Field(2, ge=1, le=256)
    starts: int = Field(8, ge=1)
    iterations: int = Field(40, ge=1)
    spread: float = Field(0.5, ge=0)
    first_step: float = Field(0.3, gt=0)
    stop_change: float = Field(1e-5, ge=0)


class GradientPlanner(SearchPlanner):
    """Descent through the model; a `plan.Planner` for costs that have a gradient.

    Args:
        settings: None: the defaults.
    """

    def __init__(self, settings: GradientSettings | None = None) -> None:
        self.settings = GradientSettings() if settings is None else settings
        super().__init__(self.settings.horizon)

    def run(
        self,
        search: Search,
        space: ActionSpace,
        *,
        start: Float[Tensor, "L A"],
        generator: torch.Generator,
    ) -> None:
        """See `SearchPlanner.run`; the result is the best candidate.

        Raises:
            ConfigError: the cost has no gradient.
        """
        settings = self.settings
        reach = space.scale(start)
        noise = torch.randn(
            settings.starts, *start.shape, generator=generator, device=generator.device
        )
        noise[0] = 0
        at = space.project(space.moved(start, settings.spread * reach * noise))
        if space.dead_zone:
            search.evaluate(at)
        costs, gradient = search.evaluate_with_gradient(at)
        if len(costs) < len(at):
            return
        # In units of the reach, so that metres and angles weigh alike; fixed axes do not move.
        metric = reach.square()
        largest = (gradient * reach).abs().amax(dim=(1, 2)).clamp(min=1e-30)
        step = settings.first_step / largest
        recent = costs[None]
        search.note(costs)
        for _ in range(settings.iterations - 1):
            tried = space.project(at - step[:, None, None] * metric * gradient)
            moved = torch.where(metric > 0, (tried - at) / reach.clamp(min=1e-30), 0.0)
            if bool((moved.abs() <= settings.stop_change).all()):
                break
            new_costs, new_gradient = search.evaluate_with_gradient(tried)
            if len(new_costs) < len(tried):
                break
            taken = new_costs <= recent.amax(dim=0)
            step = self._next_step(step, moved, (new_gradient - gradient) * reach, taken)
            rows = taken[:, None, None]
            at, gradient = torch.where(rows, tried, at), torch.where(rows, new_gradient, gradient)
            costs = torch.where(taken, new_costs, costs)
            recent = torch.cat([recent, costs[None]])[-COMPARED:]
            search.note(costs)
        if space.dead_zone:  # no gradient leads out of it: both its edges are tried
            order = costs.argsort()
            search.evaluate(torch.cat([at[order], space.with_small_enlarged(at[order])]))

    @staticmethod
    def _next_step(step: Tensor, moved: Tensor, change: Tensor, taken: Tensor) -> Tensor:
        """[starts]: as long as the curvature along the last step suggests; shorter after a miss."""
        along = (moved * change).sum(dim=(1, 2))
        curved = along > 0
        suggested = moved.square().sum(dim=(1, 2)) / torch.where(curved, along, 1.0)
        # Without curvature nothing tells the length: longer, and the bounds end it.
        suggested = torch.where(curved, suggested, 4 * step)
        suggested = suggested.clamp(LEAST_STEP * step, MOST_STEP * step)
        return torch.where(taken, suggested, SHORTER * step)


class HybridPlanner(SearchPlanner):
    """The improved cross-entropy method, then descents from its best candidate.

    Args:
        search: of the first part.
        descent: of the second; its horizon must be that of the first.

    Raises:
        ConfigError: see the two parts.
    """

    def __init__(
        self, search: CEMSettings | None = None, descent: GradientSettings | None = None
    ) -> None:
        first = CEMSettings() if search is None else search
        second = GradientSettings(starts=4, spread=0.05) if descent is None else descent
        self.search_settings = first
        self._search = ImprovedCEM(first)
        self._descent = GradientPlanner(
            GradientSettings(**{**second.model_dump(), "horizon": first.horizon})
        )
        super().__init__(first.horizon)

    def run(
        self,
        search: Search,
        space: ActionSpace,
        *,
        start: Float[Tensor, "L A"],
        generator: torch.Generator,
    ) -> None:
        """Search, then descend from the best candidate; see `SearchPlanner.run`.

        Raises:
            ConfigError: the cost has no gradient.
        """
        self._search.run(search, space, start=start, generator=generator)
        if search.variables is not None and not search.expired:
            self._descent.run(search, space, start=search.variables, generator=generator)
