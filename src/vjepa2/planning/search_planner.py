"""`SearchPlanner`: what all planners of this package have in common, so that each is its search."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.planning.action_space import ActionSpace
from vjepa2.planning.plan import Cost, Plan, checked_warm_start
from vjepa2.planning.search import Pace, Search


class SearchPlanner(ABC):
    """A `plan.Planner` that searches: a subclass says how, in `run`.

    Args:
        horizon: L, actions of a plan.
    """

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        # For the planner's life: the first call of a later search is predicted too.
        self._pace, self._gradient_pace = Pace(), Pace()

    @property
    def horizon(self) -> int:
        """L."""
        return self._horizon

    def plan(
        self,
        cost: Cost,
        space: ActionSpace,
        *,
        warm_start: Float[Tensor, "L A"] | None = None,
        deadline_seconds: float | None = None,
        generator: torch.Generator,
    ) -> Plan:
        """Search; see `plan.Planner`.

        Raises:
            ConfigError: the space or the cost is not one that this planner can search, or an
                argument makes no sense.
            ShapeError: the warm start does not fit.
            PlanningError: no candidate has a finite cost.
        """
        search = Search(
            cost,
            space,
            deadline_seconds=deadline_seconds,
            pace=self._pace,
            gradient_pace=self._gradient_pace,
        )
        like = torch.zeros((), dtype=torch.float32, device=generator.device)
        start = checked_warm_start(warm_start, space, horizon=self._horizon, like=like)
        self.run(search, space, start=start, generator=generator)
        return search.finish()

    @abstractmethod
    def run(
        self,
        search: Search,
        space: ActionSpace,
        *,
        start: Float[Tensor, "L A"],
        generator: torch.Generator,
    ) -> None:
        """Search until the end or the deadline; the result is what `search` then holds.

        Args:
            search: evaluates candidates; others may have begun it, or go on with it.
            space: what is allowed.
            start: variables to begin from, allowed ones.
            generator: all random numbers come from it.
        """
