"""What planners take and give: one interface for all of them.

    plan = planner.plan(cost, space, warm_start=None, deadline_seconds=0.2, generator=generator)
    robot.act(plan.actions[0])

`cost` gives the cost of S candidates, actions [S, L, A], as [S]; lower is better. A world model
becomes one with `cost_of(world, situation, objective)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ShapeError, check_kind
from vjepa2.planning.action_space import ActionSpace
from vjepa2.protocols import Objective, WorldModel

Cost = Callable[[Float[Tensor, "S L A"]], Float[Tensor, " S"]]


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """How a search stood after one iteration.

    Attributes:
        best_cost: of the best candidate so far.
        mean_cost: of the candidates of this iteration that have a finite cost.
        samples: candidates evaluated so far.
        seconds: since the search began.
    """

    best_cost: float
    mean_cost: float
    samples: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The actions that a planner chose.

    Attributes:
        actions: [L, A], allowed ones, on the CPU.
        cost: of exactly these actions; infinite if there was no time to compute even one.
        iterations: finished ones.
        samples: candidates that were evaluated.
        history: one entry per finished iteration.
        complete: whether the search ended by itself rather than at its deadline.
        seconds: that it took.
        num_not_finite: candidates whose cost was NaN or infinite; they are never chosen.
    """

    actions: Float[Tensor, "L A"]
    cost: float
    iterations: int
    samples: int
    history: tuple[Iteration, ...]
    complete: bool
    seconds: float
    num_not_finite: int = 0

    def shifted(self, space: ActionSpace) -> Float[Tensor, "L A"]:
        """The rest of the plan after its first action, as warm start: the last one is "nothing"."""
        nothing = space.actions(space.start(1, self.actions))
        return torch.cat([self.actions[1:], nothing])


class Planner(Protocol):
    """Anything that chooses actions.

    Attributes:
        horizon: L, actions of a plan.
    """

    @property
    def horizon(self) -> int: ...

    def plan(
        self,
        cost: Cost,
        space: ActionSpace,
        *,
        warm_start: Float[Tensor, "L A"] | None = None,
        deadline_seconds: float | None = None,
        generator: torch.Generator,
    ) -> Plan:
        """Search.

        Args:
            cost: of candidates.
            space: what is allowed.
            warm_start: actions to begin from, such as the rest of the plan before.
            deadline_seconds: return the best found by then; None: search to the end.
            generator: all random numbers come from it.

        Raises:
            ConfigError: the planner cannot search this space, or an argument makes no sense.
            PlanningError: no candidate has a finite cost.
        """
        ...


def cost_of(world: WorldModel, situation: Any, objective: Objective) -> Cost:
    """The cost of actions as a world model predicts their end."""

    def cost(actions: Float[Tensor, "S L A"]) -> Float[Tensor, " S"]:
        return world.costs(situation, actions, objective)

    return cost


def checked_warm_start(
    warm_start: Tensor | None, space: ActionSpace, *, horizon: int, like: Tensor
) -> Float[Tensor, "L A"]:
    """Variables to begin from, allowed ones.

    Raises:
        ShapeError: not [L, A].
    """
    if warm_start is None:
        return space.start(horizon, like)
    check_kind("warm_start", warm_start, Tensor, words="actions [L, A]", error=ShapeError)
    if warm_start.shape != (horizon, space.size):
        raise ShapeError(
            f"warm_start must be actions [L={horizon}, A={space.size}], got "
            f"{list(warm_start.shape)}."
        )
    if not bool(torch.isfinite(warm_start).all()):
        raise ShapeError("warm_start holds NaN or infinity.")
    return space.project(space.variables(warm_start.detach().to(like)))
