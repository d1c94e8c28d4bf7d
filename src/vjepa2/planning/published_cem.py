"""The cross-entropy method as V-JEPA 2-AC was published with it, step by step.

It searches x, y, z and the gripper of each step; rotations stay 0. Sources: arXiv:2506.09985,
section 4 and appendix B; the published code's planner, from which all numbers are.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vjepa2.errors import ConfigError, check_choice
from vjepa2.planning.action_space import ARM_GRIPPER, ARM_POSITION, ARM_ROTATION, ActionSpace
from vjepa2.planning.search import Search
from vjepa2.planning.search_planner import SearchPlanner
from vjepa2.poses import POSE_STATE_SIZE
from vjepa2.strict_config import StrictConfig

SEARCHED = (*ARM_POSITION, ARM_GRIPPER)
CLOSED = 1.0
FIRST_GRIPPER_STD = 1.0

Published = Literal["function", "class", "notebook", "paper", "paper_2_1_long"]


class PublishedCEMSettings(StrictConfig):
    """Numbers of the published search; the defaults are those of its class.

    Attributes:
        horizon: L, steps.
        samples: candidates of an iteration.
        iterations: how often the distribution is fitted anew; always all of them.
        top_k: best candidates that it is fitted to.
        momentum_mean, momentum_std: share of the old mean and deviation that stays, of x, y, z.
        momentum_mean_gripper, momentum_std_gripper: likewise, of the gripper.
        close_gripper: from this step on (0 is the first) the gripper closes, whatever is drawn.
    """

    horizon: int = Field(2, ge=1, le=256)
    samples: int = Field(400, ge=2)
    iterations: int = Field(10, ge=1)
    top_k: int = Field(10, ge=2)
    momentum_mean: float = Field(0.15, ge=0, lt=1)
    momentum_std: float = Field(0.15, ge=0, lt=1)
    momentum_mean_gripper: float = Field(0.15, ge=0, lt=1)
    momentum_std_gripper: float = Field(0.15, ge=0, lt=1)
    close_gripper: int | None = Field(None, ge=0)


def published_settings(which: Published) -> PublishedCEMSettings:
    """The settings that stand in the published function, class, notebook and papers.

    "paper_2_1_long" is the search of eight steps of V-JEPA 2.1 (arXiv:2603.14482). What the papers
    do not say is as in the class.

    Raises:
        ConfigError: no such settings.
    """
    check_choice("Published settings", which, get_args(Published))
    return {
        "function": PublishedCEMSettings(
            horizon=1, samples=100, iterations=100, momentum_mean=0.25, momentum_std=0.95
        ),
        "class": PublishedCEMSettings(),
        "notebook": PublishedCEMSettings(samples=25, iterations=2, momentum_std=0.75),
        "paper": PublishedCEMSettings(horizon=1, samples=800),
        "paper_2_1_long": PublishedCEMSettings(horizon=8, samples=300, iterations=15),
    }[which]


class PublishedCEM(SearchPlanner):
    """The published search; a `plan.Planner` for arms whose rotation is fixed at 0.

    Bounds, fixed axes and the gripper's dead zone are those of the space: `published_space()`.

    Args:
        settings: None: those of the published class.

    Raises:
        ConfigError: more elites than samples.
    """

    def __init__(self, settings: PublishedCEMSettings | None = None) -> None:
        self.settings = PublishedCEMSettings() if settings is None else settings
        if self.settings.top_k > self.settings.samples:
            raise ConfigError(
                f"top_k={self.settings.top_k} elites cannot be chosen from "
                f"{self.settings.samples} samples."
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
        """See `SearchPlanner.run`; the result is the last mean, not the best candidate.

        At a deadline it is the mean of the last iteration that was finished. In the first one that
        is the start, and the result is the better one of it and the best candidate.

        Raises:
            ConfigError: the space leaves rotations free, or is not that of an arm.
        """
        fixed_turns = all(space.fixed.get(axis) == 0.0 for axis in ARM_ROTATION)
        if space.size != POSE_STATE_SIZE or not fixed_turns:
            raise ConfigError(
                "The published search knows x, y, z and the gripper of an arm: use "
                "published_space(), or ImprovedCEM, which searches every space."
            )
        settings = self.settings
        mean, std = start, self._first_std(space, start)
        for _ in range(settings.iterations):
            candidates = self._draw(mean, std, space, generator)
            search.keep_time_for(2 if search.iterations == 0 else 1)
            costs = search.evaluate(candidates, with_small=True)
            if len(costs) < len(candidates):
                break
            chosen = candidates[costs.topk(settings.top_k, largest=False).indices]
            mean = self._mixed(chosen.mean(dim=0), mean, of="mean")
            std = self._mixed(chosen.std(dim=0), std, of="std")
            search.note(costs)
        if search.variables is None:
            return  # no candidate has a finite cost, which `Search.finish` says
        last = mean[None] if search.iterations else torch.stack([mean, search.variables])
        search.choose_from(last)

    @staticmethod
    def _first_std(space: ActionSpace, start: Tensor) -> Tensor:
        std = torch.zeros_like(start)
        for axis in ARM_POSITION:
            std[:, axis] = space.high[axis]
        std[:, ARM_GRIPPER] = FIRST_GRIPPER_STD
        return std

    def _draw(
        self, mean: Tensor, std: Tensor, space: ActionSpace, generator: torch.Generator
    ) -> Tensor:
        axes = list(SEARCHED)
        steps = []
        for step in range(self.horizon):  # one draw per step: the published order of numbers
            noise = torch.randn(
                self.settings.samples, len(axes), generator=generator, device=generator.device
            )
            values = mean.new_zeros(self.settings.samples, space.size)
            values[:, axes] = noise * std[step, axes] + mean[step, axes]
            values = space.project(values)
            close = self.settings.close_gripper
            if close is not None and step >= close:
                values[:, ARM_GRIPPER] = CLOSED
            steps.append(values)
        return torch.stack(steps, dim=1)

    def _mixed(self, new: Tensor, old: Tensor, *, of: Literal["mean", "std"]) -> Tensor:
        settings = self.settings
        arm, gripper = {
            "mean": (settings.momentum_mean, settings.momentum_mean_gripper),
            "std": (settings.momentum_std, settings.momentum_std_gripper),
        }[of]
        momentum = new.new_full((new.shape[-1],), arm)
        momentum[ARM_GRIPPER] = gripper
        return new * (1.0 - momentum) + old * momentum
