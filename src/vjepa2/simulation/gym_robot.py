"""`GymnasiumRobot`: an environment of Gymnasium as a robot that planners drive.

    env = gymnasium.make("Pusher-v5", render_mode="rgb_array")
    robot = GymnasiumRobot(env, state=lambda seen: seen[:7])

States and actions are the environment's own numbers: a world model for it is trained on recordings
of them (kind "joints" of a `RobotSpec`), and its `ActionSpace` is `robot.space()`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    MissingExtraError,
    RobotError,
    ShapeError,
    checked_integer,
    checked_number,
)
from vjepa2.planning.action_space import ActionSpace, box_space
from vjepa2.protocols import Observation

# Of the width of an axis: rounding to float32 is no excess.
ROUNDING = 1e-5

State = Callable[[Any], NDArray[np.floating[Any]]]


class GymnasiumRobot:
    """The adapter.

    Args:
        env: with `render_mode="rgb_array"` and actions in a bounded `Box`.
        state: the numbers [K] of an observation; None: all of an observation that is an array.
        camera: name of its picture.
        seed: the n-th `reset` seeds the environment with `seed + n`.
        repeat: steps of the environment per action, which is the same in all of them.
        steps_per_second: of the environment; None: its metadata's `render_fps`, or 1.

    Raises:
        ConfigError: no pictures, other actions than a bounded box, or numbers that make no sense.
        MissingExtraError: gymnasium is not installed.
    """

    def __init__(
        self,
        env: Any,
        *,
        state: State | None = None,
        camera: str = "camera",
        seed: int = 0,
        repeat: int = 1,
        steps_per_second: float | None = None,
    ) -> None:
        self._env, self._state, self.camera = env, state, camera
        self._low, self._high, self._shape, self._dtype = _bounds(env)
        if getattr(env, "render_mode", None) != "rgb_array":
            raise ConfigError(
                f"The environment has render_mode={getattr(env, 'render_mode', None)!r}; pictures "
                "are needed: gymnasium.make(..., render_mode='rgb_array')."
            )
        self.seed = checked_integer("seed", seed, least=0)
        self.repeat = checked_integer("repeat", repeat, least=1)
        if steps_per_second is None:
            steps_per_second = float(getattr(env, "metadata", {}).get("render_fps") or 1)
        self._rate = checked_number("steps_per_second", steps_per_second, above=0)
        self._episode = -1
        self._steps = 0
        self._seen: Any = None
        self._facts: dict[str, Any] = {}
        self._ended = "reset() was not called"

    @property
    def control_rate_hz(self) -> float:
        """Actions per second."""
        return self._rate / self.repeat

    def space(self) -> ActionSpace:
        """Its actions, for planners."""
        return box_space(tuple(self._low.tolist()), tuple(self._high.tolist()))

    def reset(self) -> Observation:
        """Begin the next episode.

        Raises:
            ShapeError: see `observe`.
        """
        self._episode += 1
        self._seen, _ = self._env.reset(seed=self.seed + self._episode)
        self._steps, self._ended = 0, ""
        self._facts = {"reward": 0.0}
        return self.observe()

    def observe(self) -> Observation:
        """The picture and the state; facts: `reward` of the last action, and how the episode
        `ended`, where it did.

        Raises:
            ShapeError: the environment's picture is not [H, W, 3], or its state no array [K].
            RobotError: before the first `reset`.
        """
        if self._episode < 0:
            raise RobotError("Call reset() before observe().")
        return Observation(
            frames={self.camera: self._picture()},
            state=self._numbers(),
            time_seconds=self._steps / self._rate,
            facts=dict(self._facts),
        )

    def act(self, action: Float[Tensor, " A"]) -> None:
        """Carry out one action, `repeat` times.

        Args:
            action: [A] within the environment's bounds.

        Raises:
            ShapeError, DtypeError: not A finite floats.
            RobotError: out of bounds; or the episode has ended.
        """
        if self._ended:
            raise RobotError(f"{self._ended}: call reset() before the next action.")
        numbers = self._checked(action)
        reward = 0.0
        for _ in range(self.repeat):
            self._seen, gained, terminated, truncated, _ = self._env.step(
                numbers.reshape(self._shape).astype(self._dtype)
            )
            reward += float(gained)
            self._steps += 1
            if terminated or truncated:
                self._ended = f"The episode was {'terminated' if terminated else 'truncated'}"
                break
        self._facts = {"reward": reward} | ({"ended": self._ended} if self._ended else {})

    def stop(self) -> None:
        """An environment that gets no actions stands still; actions are refused until `reset`."""
        self._ended = self._ended or "The robot was stopped"

    def close(self) -> None:
        """Close the environment."""
        self._ended = "The robot was closed"
        self._env.close()

    # -- inside -------------------------------------------------------------------------------

    def _picture(self) -> UInt8[Tensor, "H W 3"]:
        drawn = self._env.render()
        if not isinstance(drawn, np.ndarray) or drawn.ndim != 3 or drawn.shape[2] != 3:
            got = getattr(drawn, "shape", type(drawn).__name__)
            raise ShapeError(f"The environment's picture must be [H, W, 3], got {got}.")
        if drawn.dtype != np.uint8:
            raise ShapeError(f"The environment's picture must be uint8, got {drawn.dtype}.")
        return torch.from_numpy(np.ascontiguousarray(drawn))

    def _numbers(self) -> Float[Tensor, " K"]:
        chosen = self._seen if self._state is None else self._state(self._seen)
        if not isinstance(chosen, np.ndarray) or chosen.dtype.kind not in "fiub":
            raise ShapeError(
                f"The environment's observation is a {type(chosen).__name__}, no array of numbers. "
                "Say which of its numbers are the state: GymnasiumRobot(env, state=...)."
            )
        return torch.from_numpy(chosen.astype(np.float32).reshape(-1).copy())

    def _checked(self, action: Float[Tensor, " A"]) -> NDArray[np.float64]:
        size = len(self._low)
        if not isinstance(action, Tensor) or action.shape != (size,):
            got = list(action.shape) if isinstance(action, Tensor) else type(action).__name__
            raise ShapeError(f"An action of this environment is [{size}], got {got}.")
        if not action.is_floating_point() or not bool(torch.isfinite(action).all()):
            raise DtypeError(f"An action is {size} finite floats, got {action.tolist()}.")
        numbers = action.detach().cpu().double().numpy()
        slack = ROUNDING * (self._high - self._low)
        outside = (numbers < self._low - slack) | (numbers > self._high + slack)
        if outside.any():
            at = int(outside.argmax())
            raise RobotError(
                f"Number {at} of the action is {numbers[at]:.4g}; the environment allows "
                f"{self._low[at]:.4g} to {self._high[at]:.4g}. Plan in robot.space()."
            )
        clipped: NDArray[np.float64] = numbers.clip(self._low, self._high)
        return clipped


def _bounds(
    env: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...], np.dtype[Any]]:
    """Lowest and highest action, flat, with the shape and type that the environment wants."""
    try:
        from gymnasium.spaces import Box
    except ImportError as error:
        raise MissingExtraError(
            "gymnasium", extra="sim", needed_for="An environment of Gymnasium as a robot"
        ) from error
    space = getattr(env, "action_space", None)
    if not isinstance(space, Box) or np.dtype(space.dtype).kind != "f":
        raise ConfigError(
            f"The environment's actions are {space}; numbers in a Box of floats are needed."
        )
    low, high = (np.asarray(b, dtype=np.float64).reshape(-1) for b in (space.low, space.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError(
            f"The environment's actions have no bounds ({space}). Wrap it: "
            "gymnasium.wrappers.RescaleAction, or a Box with bounds."
        )
    return low, high, tuple(space.shape), np.dtype(space.dtype)
