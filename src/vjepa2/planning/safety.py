"""The last check before a robot moves: small excesses are clipped, everything else is refused."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import UnsafeActionError, checked_number
from vjepa2.planning.action_space import ActionSpace, Workspace


@dataclass(frozen=True, kw_only=True)
class SafetyFilter:
    """What an action must satisfy, whichever planner or person it came from.

    Attributes:
        space: its bounds. An action is clipped to them if it exceeds them by no more than `excess`
            times what an axis reaches, and refused as a jump beyond that.
        workspace: where the state may be after the action; None: anywhere.
        excess: see above; 0 refuses everything out of bounds.
        max_state_change: largest change of a number of the state between two observations that is
            believed; None: any. More means that the robot slipped, was moved, or reports wrongly.
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
        if before is None or self.max_state_change is None:
            return
        change = (state - before).abs()
        # An angle that passes pi does not jump.
        change = torch.minimum(change, (change - 2 * torch.pi).abs())
        if change.max().item() > self.max_state_change:
            index = int(change.argmax())
            raise UnsafeActionError(
                f"State {index} jumped by {change.max().item():.3g} between two observations, "
                f"believed are at most {self.max_state_change:g}. Look at the robot before it goes "
                "on."
            )

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


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
