"""What is to be reached, as costs of rollouts: images, states, classes, functions, and sums.

    goal = LatentGoal(world.encode(goal_pixels)[-1])              # as published
    goal = weighted_sum((1.0, LatentGoal(image)), (0.1, ActionSize()))
    goal = within(goal, arm_workspace((0.2, -0.4, 0.0), (0.8, 0.4, 0.6)))

Every objective is a function of a `protocols.Rollout` that gives one cost per candidate, [S], and
has a gradient; any function of that form is one too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError, check_kind, checked_integer, checked_number
from vjepa2.planning.action_space import ARM_ROTATION, Workspace
from vjepa2.poses import angle_between, to_matrix
from vjepa2.protocols import Objective, Rollout

# Added where a workspace is left: no ordinary cost comes near it.
OUTSIDE = 1e6


def latent_distance(
    latents: Float[Tensor, "S N D"], goal: Float[Tensor, "N D"]
) -> Float[Tensor, " S"]:
    """The published energy: mean absolute difference over tokens and channels."""
    return (latents - goal.to(latents)).abs().mean(dim=(1, 2))


@dataclass(frozen=True, eq=False)
class LatentGoal:
    """Look like a goal image at the end.

    Attributes:
        latents: [N, D] of the goal image, from `WorldModel.encode`.

    Raises:
        ShapeError: not [N, D], or, when used, of another size than the predictions.
    """

    latents: Float[Tensor, "N D"]

    def __post_init__(self) -> None:
        if not isinstance(self.latents, Tensor) or self.latents.ndim != 2:
            got = (
                list(self.latents.shape)
                if isinstance(self.latents, Tensor)
                else type(self.latents).__name__
            )
            raise ShapeError(
                f"A goal image is [N, D], the features of one frame, got {got}. Take the last "
                "frame: world.encode(pixels)[-1]."
            )
        if not bool(torch.isfinite(self.latents).all()):
            raise ShapeError("The features of the goal image hold NaN or infinity.")

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        last = rollout.latents[:, -1]
        if last.shape[1:] != self.latents.shape:
            raise ShapeError(
                f"The goal image has features {list(self.latents.shape)}, predictions are "
                f"{list(last.shape[1:])}. Encode it with the same model at the same size."
            )
        return latent_distance(last, self.latents)


@dataclass(frozen=True, eq=False)
class StateGoal:
    """Be in a state at the end: weighted distances of its numbers, and of its rotation.

    Attributes:
        state: [K].
        weights: of the squared difference of every number but the rotation's, [K]; 0: free.
        rotation: which three numbers are extrinsic xyz angles; empty: none. Their distance is the
            squared angle between the two rotations, so +pi and -pi are the same.
        rotation_weight: of that.
    """

    state: Float[Tensor, " K"]
    weights: Float[Tensor, " K"]
    rotation: tuple[int, ...] = ()
    rotation_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.state.ndim != 1 or self.weights.shape != self.state.shape:
            raise ShapeError(
                f"A state to reach is [K] with as many weights, got {list(self.state.shape)} and "
                f"{list(self.weights.shape)}."
            )
        if self.rotation and len(self.rotation) != 3:
            raise ConfigError(f"A rotation has three numbers, got {self.rotation}.")

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        last = rollout.states[:, -1]
        if last.shape[1:] != self.state.shape:
            raise ShapeError(
                f"The state to reach has {len(self.state)} numbers, the robot's {last.shape[1]}."
            )
        goal, weights = self.state.to(last), self.weights.to(last).clone()
        weights[list(self.rotation)] = 0
        cost = ((last - goal).square() * weights).sum(dim=1)
        if self.rotation:
            axes = list(self.rotation)
            angle = angle_between(to_matrix(goal[axes], "euler"), to_matrix(last[:, axes], "euler"))
            cost = cost + self.rotation_weight * angle.square()
        return cost


def arm_state_goal(
    state: Float[Tensor, " 7"],
    *,
    position: float = 1.0,
    rotation: float = 0.1,
    gripper: float = 0.0,
) -> StateGoal:
    """A pose of an arm to reach; weights of squared metres, squared radians and the gripper."""
    weights = torch.tensor([position] * 3 + [0.0] * 3 + [gripper], dtype=torch.float64)
    return StateGoal(state, weights, rotation=ARM_ROTATION, rotation_weight=rotation)


@dataclass(frozen=True, eq=False)
class ClassGoal:
    """Look, at the end, like a class of a probe.

    Attributes:
        probe: features of frames [S, N, D] to logits [S, classes].
        label: number of the class.
    """

    probe: Callable[[Float[Tensor, "S N D"]], Float[Tensor, "S classes"]]
    label: int

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        logits = self.probe(rollout.latents[:, -1])
        if logits.ndim != 2 or len(logits) != len(rollout.latents):
            raise ShapeError(
                f"A probe must give logits [S={len(rollout.latents)}, classes], got "
                f"{list(logits.shape)}."
            )
        label = checked_integer("label", self.label, least=0, most=logits.shape[1] - 1)
        return -F.log_softmax(logits.float(), dim=1)[:, label]


@dataclass(frozen=True)
class ActionSize:
    """Use little: the mean square of all numbers of all actions."""

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        return rollout.actions.square().mean(dim=(1, 2))


@dataclass(frozen=True)
class WeightedSum:
    """Several objectives at once.

    Attributes:
        terms: weight and objective.
    """

    terms: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigError("A weighted sum needs at least one objective.")
        for weight, _ in self.terms:
            checked_number("The weight of an objective", weight)

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        return torch.stack([weight * term(rollout) for weight, term in self.terms]).sum(dim=0)


def weighted_sum(*terms: tuple[float, Objective]) -> WeightedSum:
    """Several objectives at once: pairs of weight and objective.

    Raises:
        ConfigError: no objectives, or a weight that is no number.
    """
    return WeightedSum(terms)


@dataclass(frozen=True)
class Waypoints:
    """Objectives at several steps of one rollout, added up.

    Attributes:
        at: step (0 is the one after the first action) to what is to hold there.
    """

    at: Mapping[int, Objective]

    def __post_init__(self) -> None:
        if not self.at:
            raise ConfigError("Waypoints need at least one step.")
        for step in self.at:
            checked_integer("The step of a waypoint", step, least=0)

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        horizon = rollout.actions.shape[1]
        if max(self.at) >= horizon:
            raise ConfigError(
                f"A waypoint is at step {max(self.at)}, but plans have {horizon} steps, 0 to "
                f"{horizon - 1}. Plan further ahead, or move the waypoint."
            )
        costs = [
            objective(
                Rollout(
                    latents=rollout.latents[:, : step + 1],
                    states=rollout.states[:, : step + 1],
                    actions=rollout.actions[:, : step + 1],
                )
            )
            for step, objective in self.at.items()
        ]
        return torch.stack(costs).sum(dim=0)


@dataclass(frozen=True)
class Within:
    """An objective whose every step must stay inside a workspace.

    Candidates that leave it cost more than any that stays, and more the further they leave, so a
    search comes back from outside.
    """

    objective: Objective
    workspace: Workspace

    def __call__(self, rollout: Rollout) -> Float[Tensor, " S"]:
        out = self.workspace.outside(rollout.states).sum(dim=(1, 2))
        return self.objective(rollout) + torch.where(out > 0, OUTSIDE * (1 + out), 0.0 * out)


def within(objective: Objective, workspace: Workspace) -> Within:
    """The objective, with candidates that leave the workspace behind all others."""
    check_kind("workspace", workspace, Workspace, words="a Workspace")
    return Within(objective, workspace)


@dataclass(frozen=True)
class GoalSchedule:
    """Several goals one after the other, such as grasp, move, place.

    Attributes:
        goals: in their order.
        counts: actions that each goal has, as published for pick and place: (4, 10, 4). None: the
            next goal comes when the one before is reached.
        reached_below: cost of what is *seen*, not predicted, below which a goal is reached. With
            counts, a goal that is reached does not end early.
        patience: without counts, actions after which the next goal comes anyway; None: never.

    Raises:
        ConfigError: no goals, not one count per goal, or no way to come to the next goal.
    """

    goals: tuple[Objective, ...]
    counts: tuple[int, ...] | None = None
    reached_below: float | None = None
    patience: int | None = field(default=None)

    def __post_init__(self) -> None:
        if not self.goals:
            raise ConfigError("A schedule needs at least one goal.")
        if self.counts is not None:
            if len(self.counts) != len(self.goals):
                raise ConfigError(
                    f"{len(self.goals)} goals need as many counts of actions, got {self.counts}."
                )
            for count in self.counts:
                checked_integer("A count of actions", count, least=1)
        elif self.reached_below is None and self.patience is None and len(self.goals) > 1:
            raise ConfigError(
                "Several goals need to know when the next one comes: give counts, reached_below or "
                "patience."
            )
        if self.reached_below is not None:
            checked_number("reached_below", self.reached_below)
        if self.patience is not None:
            checked_integer("patience", self.patience, least=1)

    def after(self, index: int, actions_taken: int, cost: float) -> int:
        """Which goal is next, len(goals) when all are done.

        Args:
            index: of the goal now.
            actions_taken: for it so far.
            cost: of what is seen now, by that goal.
        """
        if self.counts is not None:
            return index + int(actions_taken >= self.counts[index])
        reached = self.reached_below is not None and cost < self.reached_below
        tired = self.patience is not None and actions_taken >= self.patience
        return index + int(reached or tired)
