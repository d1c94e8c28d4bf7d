"""What a robot reports, checked once before anything is planned from it."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import RobotError, VJEPAError, checked_number, described
from vjepa2.protocols import Observation

Pixels = Callable[[Observation], Float[Tensor, "1 C H W"]]

FROZEN_STEPS = 3


def checked_observation(seen: object, *, state_size: int) -> tuple[Observation, Tensor]:
    """An observation that has the form of `protocols.Observation`, and its state.

    Args:
        seen: what `reset` or `observe` returned.
        state_size: K of the world model.

    Returns:
        The observation; its state [K], float32 on the CPU (NaN is the safety filter's matter).

    Raises:
        RobotError: names what was got and what is allowed.
    """
    if not isinstance(seen, Observation):
        raise RobotError(
            f"The robot's reset() and observe() must return an Observation, got {described(seen)}."
        )
    if not isinstance(seen.frames, Mapping):
        raise RobotError(
            "The frames of an observation must be a mapping from the camera's name to its picture, "
            f"got {described(seen.frames)}."
        )
    for camera, frame in seen.frames.items():
        if not isinstance(frame, Tensor) or frame.ndim != 3 or frame.shape[-1] != 3:
            raise RobotError(
                f"The picture of camera {camera!r} must be a torch tensor [H, W, 3], uint8 RGB, "
                f"got {_form(frame)}. An array of numpy becomes one by torch.from_numpy."
            )
    state: object = seen.state  # a robot may report anything
    numbers = isinstance(state, Tensor) and not (state.is_complex() or state.dtype == torch.bool)
    if isinstance(state, np.ndarray):
        numbers = state.dtype.kind in "fiu"
    if not numbers or tuple(getattr(state, "shape", ())) != (state_size,):
        raise RobotError(
            f"The state of an observation must be a tensor of {state_size} numbers, as the world "
            f"model was trained on, got {_form(state)}."
        )
    checked_number("time_seconds of an observation", seen.time_seconds, error=RobotError)
    return seen, torch.as_tensor(state).detach().float().cpu()


def pixels_of(seen: Observation, pixels: Pixels) -> Float[Tensor, "1 C H W"]:
    """The observation as the world model wants it.

    Raises:
        RobotError: a camera is missing, or its picture is of a wrong kind.
    """
    try:
        return pixels(seen)
    except (VJEPAError, KeyError) as error:
        cameras = ", ".join(map(repr, seen.frames)) or "none"
        raise RobotError(
            f"The pictures of the observation cannot be used: {type(error).__name__}: {error} "
            f"The robot's cameras: {cameras}."
        ) from error


class FrozenWatch:
    """Notices a robot that reports the same moment for ever.

    One identical state is no proof, a blocked arm stands still; but its clock goes on. Only where
    both stand still over `FROZEN_STEPS` actions that were not zero, nothing is perceived.
    """

    def __init__(self) -> None:
        self._before: tuple[Tensor, float] | None = None
        self._count = 0

    def look(self, state: Float[Tensor, " K"], time_seconds: float, *, moved: bool) -> None:
        """Take in one observation.

        Args:
            state: now.
            time_seconds: of the observation.
            moved: whether the action since the last one was other than zero.

        Raises:
            RobotError: see above.
        """
        before, self._before = self._before, (state, float(time_seconds))
        if before is None:
            return
        if time_seconds > before[1] or not torch.equal(state, before[0]):
            self._count = 0
            return
        self._count += moved
        if self._count >= FROZEN_STEPS:
            raise RobotError(
                f"The robot's observations are frozen: after {FROZEN_STEPS} actions other than "
                f"zero its state is identical and time_seconds still {float(time_seconds):g}. "
                "observe() must return what is seen now; look at the connection."
            )


def _form(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        kind = "a torch tensor" if isinstance(value, Tensor) else "a numpy array"
        return f"{kind} {list(value.shape)} of {value.dtype}"
    return described(value)
