"""The last check before a robot moves: small excesses are clipped, everything else is refused."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import UnsafeActionError, checked_number
from vjepa2.planning.action_space import (
    ARM_GRIPPER,
    ARM_NAMES,
    ARM_POSITION,
    ARM_ROTATION,
    ActionSpace,
    Workspace,
)
from vjepa2.poses import POSE_STATE_SIZE, angle_between, to_matrix

TIMES_PER_ACTION = 10.0
LEAST_CHANGE = 0.5
LEAST_GRIPPER = 2.0  # a gripper may go through all of its range, 0 to 1, by itself


@dataclass(frozen=True, kw_only=True)
class SafetyFilter:
    """What an action must satisfy, whichever planner or person it came from.

    Attributes:
        space: its bounds. An action is clipped to them if it exceeds them by no more than `excess`
            times what an axis reaches, and refused as a jump beyond that.
        workspace: where the state may be after the action; None: anywhere.
        excess: see above; 0 refuses everything out of bounds.
        max_state_change: largest change of a number of the state between two observations that is
            believed. More means that the robot slipped, was moved, or reports wrongly. None: of an
            arm (`arm_space`, `published_space`) ten times what the space allows per action, at
            least 0.5 (metres; radians of the whole rotation; of the gripper 2); of others any. To
            believe anything of an arm, give a large number.
    """

    space: ActionSpace
    workspace: Workspace | None = None
    excess: float = 0.5
    max_state_change: float | None = None

    def __post_init__(self) -> None:
        checked_number("excess", self.excess)
        if self.max_state_change is not None:
            checked_number("max_state_change", self.max_state_change, above=0.0)

    def checked_state(
        self, state: Float[Tensor, " K"], before: Float[Tensor, " K"] | None = None
    ) -> None:
        """Refuse a state that cannot be planned from.

        Raises:
            UnsafeActionError: NaN, or a jump from the state before.
        """
        if not bool(torch.isfinite(state).all()):
            raise UnsafeActionError(
                f"The robot reports a state with NaN or infinity: {_numbers(state)}. Nothing was "
                "done; look at its sensors."
            )
        if before is None:
            return
        if self.max_state_change is None:
            self._check_arm(state, before)
            return
        change = (state - before).abs()
        # An angle that passes pi does not jump.
        change = torch.minimum(change, (change - 2 * torch.pi).abs())
        if change.max().item() > self.max_state_change:
            index = int(change.argmax())
            raise _jump(f"State {index}", change.max().item(), self.max_state_change)

    def _check_arm(self, state: Tensor, before: Tensor) -> None:
        """Jumps of an arm's pose; what else the numbers of a space may be is not known."""
        if self.space.names != ARM_NAMES or len(state) != POSE_STATE_SIZE:
            return
        believed = (TIMES_PER_ACTION * self.space.scale(state)).tolist()
        change = (state - before).abs().tolist()
        for axis in (*ARM_POSITION, ARM_GRIPPER):
            most = max(believed[axis], LEAST_GRIPPER if axis == ARM_GRIPPER else LEAST_CHANGE)
            if change[axis] > most:
                raise _jump(f"State {axis} ({ARM_NAMES[axis]})", change[axis], most)
        # Euler angles jump where the hand does not, so the rotation is measured as a whole.
        axes = list(ARM_ROTATION)
        now, then = (to_matrix(pose[axes], "euler") for pose in (state, before))
        turned = angle_between(then, now).item()
        most = max(*(believed[axis] for axis in axes), LEAST_CHANGE)
        if turned > most:
            raise _jump("The hand's rotation", turned, most)

    def checked_action(
        self,
        action: Float[Tensor, " A"],
        *,
        state: Float[Tensor, " K"] | None = None,
        predicted: Float[Tensor, " K"] | None = None,
    ) -> tuple[Float[Tensor, " A"], bool]:
        """The action to carry out, and whether it was clipped.

        Args:
            action: as chosen.
            state, predicted: the state now, and what it will be after the action. From outside
                the workspace, actions that lead back are allowed.

        Raises:
            UnsafeActionError: NaN, far out of bounds, or out of the workspace.
        """
        if not bool(torch.isfinite(action).all()):
            raise UnsafeActionError(
                f"The action holds NaN or infinity: {_numbers(action)}. It was not carried out."
            )
        over = self.space.outside(action)
        reach = self.space.scale(action)
        worst = (over - self.excess * reach - 1e-6).clamp(min=0)
        if bool((worst > 0).any()):
            axis = int(worst.argmax())
            raise UnsafeActionError(
                f"The action jumps: {self.space.name(axis)} is {action[axis].item():.4g}, which is "
                f"{over[axis].item():.4g} out of bounds. It was not carried out."
            )
        if self.workspace is not None and predicted is not None:
            now = self.workspace.outside(state).sum().item() if state is not None else 0.0
            if self.workspace.outside(predicted).sum().item() > now + 1e-6:
                raise UnsafeActionError(
                    f"The action leaves the workspace: {self.workspace.complaint(predicted)} after "
                    "it. It was not carried out."
                )
        if over.max().item() <= 1e-6:
            return action, False
        return self.space.actions(self.space.project(self.space.variables(action))), True


def _jump(what: str, change: float, most: float) -> UnsafeActionError:
    return UnsafeActionError(
        f"{what} jumped by {change:.3g} between two observations, believed are at most {most:g} "
        "(max_state_change). Look at the robot before it goes on."
    )


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
