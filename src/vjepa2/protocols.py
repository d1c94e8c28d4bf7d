"""What planners, robots and world models expect of each other, and nothing else.

    robot.observe() -> Observation -> world.begin(...) -> Situation
    planner: tries actions [S, L, A] -> world.costs(situation, actions, objective) -> [S]
    robot.act(action)

Planners see these types only: any model that can be rolled out can be planned with, and any robot
that has five methods can be driven.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What a world model says would follow some actions.

    Attributes:
        latents: [S, L, N, D] features of the frame after each action.
        states: [S, L, K] state of the robot after each action.
        actions: [S, L, A] the actions.
    """

    latents: Float[Tensor, "S L N D"]
    states: Float[Tensor, "S L K"]
    actions: Float[Tensor, "S L A"]

    def __getitem__(self, rows: slice) -> "Rollout":
        return Rollout(
            latents=self.latents[rows], states=self.states[rows], actions=self.actions[rows]
        )


# A cost of every candidate [S]; lower is better. Differentiable where gradients are to be used.
Objective = Callable[[Rollout], Float[Tensor, " S"]]


class WorldModel(Protocol):
    """Predicts what actions lead to.

    Attributes:
        action_size: A.
        state_size: K.
    """

    action_size: int
    state_size: int

    def encode(self, frames: Tensor) -> Float[Tensor, "T N D"]:
        """Features of frames as the processor makes them, [T, C, H, W]; each on its own."""
        ...

    def begin(
        self,
        latents: Float[Tensor, "T N D"],
        states: Float[Tensor, "T K"],
        actions: Float[Tensor, "T1 A"] | None = None,
    ) -> Any:
        """The situation after T frames with their states, and the T - 1 actions between them."""
        ...

    def rollout(self, situation: Any, actions: Float[Tensor, "S L A"]) -> Rollout:
        """What S sequences of L actions lead to, from one situation."""
        ...

    def costs(
        self, situation: Any, actions: Float[Tensor, "S L A"], objective: Objective
    ) -> Float[Tensor, " S"]:
        """The objective of every candidate, without ever holding all their latents at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a robot perceives at one moment.

    Attributes:
        frames: by the camera's name, RGB [H, W, 3] uint8.
        state: [K] as the world model was trained on.
        time_seconds: on the robot's clock.
        facts: anything else that is to be kept in the trace.
    """

    frames: Mapping[str, UInt8[Tensor, "H W 3"]]
    state: Float[Tensor, " K"]
    time_seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Robot(Protocol):
    """A robot, real or simulated: five methods."""

    def reset(self) -> Observation:
        """Go to a start position; return what is seen there."""
        ...

    def observe(self) -> Observation:
        """What is seen now."""
        ...

    def act(self, action: Float[Tensor, " A"]) -> None:
        """Carry out one action, in the units that the world model was trained on; block until
        it is done."""
        ...

    def stop(self) -> None:
        """Stop at once and hold; may be called at any time, also twice."""
        ...

    def close(self) -> None:
        """Give back everything; the robot is not used afterwards."""
        ...
