"""Planners by their name, with what people change most."""

from typing import Literal, get_args

from vjepa2.errors import check_choice
from vjepa2.planning.action_space import ActionSpace, arm_space, published_space
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.gradient import GradientPlanner, GradientSettings, HybridPlanner
from vjepa2.planning.mppi import MPPI, MPPISettings
from vjepa2.planning.plan import Planner
from vjepa2.planning.published_cem import PublishedCEM, PublishedCEMSettings

PlannerName = Literal["published", "cem", "mppi", "gradient", "hybrid"]
PLANNERS: tuple[str, ...] = get_args(PlannerName)


def make_planner(
    name: PlannerName,
    *,
    horizon: int | None = None,
    samples: int | None = None,
    iterations: int | None = None,
) -> Planner:
    """A planner; None: its default.

    Args:
        name: "published", "cem", "mppi", "gradient" or "hybrid".
        horizon: actions of a plan.
        samples: candidates of the first iteration; of "gradient" its starts.
        iterations: at most; of "hybrid" those of its search.

    Raises:
        ConfigError: no such planner, or a number that makes no sense.
    """
    check_choice("Planner", name, PLANNERS)
    given = {
        key: value
        for key, value in (("horizon", horizon), ("samples", samples), ("iterations", iterations))
        if value is not None
    }
    if name == "published":
        return PublishedCEM(PublishedCEMSettings(**_with_fitting_elites(given)))
    if name == "mppi":
        return MPPI(MPPISettings(**given))
    if name == "gradient":
        if "samples" in given:
            given["starts"] = given.pop("samples")
        return GradientPlanner(GradientSettings(**given))
    settings = CEMSettings(**_with_fitting_elites(given))
    fewest = min(settings.samples, settings.least_samples)
    settings = CEMSettings(
        **{**settings.model_dump(), "least_samples": fewest, "keep": min(5, settings.top_k)}
    )
    return ImprovedCEM(settings) if name == "cem" else HybridPlanner(settings)


def _with_fitting_elites(given: dict[str, int]) -> dict[str, int]:
    """Of very few samples not all can be elites."""
    samples = given.get("samples")
    return given if samples is None or samples >= 20 else {**given, "top_k": max(2, samples // 2)}


def space_for(name: PlannerName, *, max_norm: float) -> ActionSpace:
    """What a planner searches of an arm: all seven numbers; the published one x, y, z, gripper."""
    if name == "published":
        return published_space(max_norm=max_norm)
    return arm_space(max_norm=max_norm)
