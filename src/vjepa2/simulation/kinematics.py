"""Where the hand of the simulated arm is, and which angles bring it there."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray

from vjepa2.poses import to_matrix
from vjepa2.simulation.scene import HINGES

Numbers = NDArray[np.float64]

NUM_HINGES = len(HINGES)
# Damped least squares: steps at most, damping, longest step in radians, and when it is done.
IK_STEPS = 60
IK_DAMPING = 1e-3
IK_LONGEST = 0.4
IK_DONE = 1e-5
IK_REST, IK_RESTED = 1.0, 1e-3


class Kinematics:
    """Computed on a copy of the simulation, whose bodies have no speed.

    Args:
        mujoco: the package.
        model: of the scene.
    """

    def __init__(self, mujoco: Any, model: Any) -> None:
        self._mujoco, self._model = mujoco, model
        self._data = mujoco.MjData(model)
        self._grip = int(model.site("grip").id)
        low, high = np.array([hinge[1:3] for hinge in HINGES], dtype=np.float64).T
        self.low, self.high = low.copy(), high.copy()

    def site(self, data: Any) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3 3"]]:
        """Place and orientation of the point between the finger tips."""
        return data.site_xpos[self._grip].copy(), data.site_xmat[self._grip].reshape(3, 3).copy()

    def inverse(
        self,
        place: Float64[np.ndarray, "3"],
        angles: Float64[np.ndarray, "3"],
        *,
        start: Float64[np.ndarray, "7"],
    ) -> tuple[Float64[np.ndarray, "7"], float]:
        """Angles for a pose: damped least squares, the elbow kept in the arm's own plane.

        Of the angles that give a pose, those are looked for whose third is 0: the free hinge is
        pulled there within what does not move the hand, so that a pose always looks the same.

        Args:
            place: metres.
            angles: extrinsic xyz, radians.
            start: angles of the hinges to begin from.

        Returns:
            [7] angles within the limits, and how far the hand is off: the norm of metres and
            radians together.
        """
        mujoco, data = self._mujoco, self._data
        wanted = to_matrix(torch.from_numpy(angles.copy()), "euler").numpy()
        hinges = np.clip(start, self.low, self.high)
        jacobian = np.zeros((6, self._model.nv))
        for _ in range(IK_STEPS):
            data.qpos[:NUM_HINGES] = hinges
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_comPos(self._model, data)
            here, turn = self.site(data)
            error = np.concatenate([place - here, turn_between(turn, wanted)])
            if np.linalg.norm(error) < IK_DONE and abs(hinges[2]) < IK_RESTED:
                break
            mujoco.mj_jacSite(self._model, data, jacobian[:3], jacobian[3:], self._grip)
            own = jacobian[:, :NUM_HINGES]
            inverse = own.T @ np.linalg.inv(own @ own.T + IK_DAMPING**2 * np.eye(6))
            change = inverse @ error
            rest = np.zeros(NUM_HINGES)
            rest[2] = -IK_REST * hinges[2]
            change += rest - inverse @ (own @ rest)
            longest = np.abs(change).max()
            if longest > IK_LONGEST:
                change *= IK_LONGEST / longest
            hinges = np.clip(hinges + change, self.low, self.high)
        return hinges, float(np.linalg.norm(error))


def euler_of(turn: Numbers) -> Numbers:
    """Extrinsic xyz angles of one rotation matrix (poses.py does batches of tensors)."""
    return np.array(
        [
            math.atan2(turn[2, 1], turn[2, 2]),
            math.atan2(-turn[2, 0], math.hypot(turn[0, 0], turn[1, 0])),
            math.atan2(turn[1, 0], turn[0, 0]),
        ]
    )


def turn_between(first: Numbers, second: Numbers) -> Numbers:
    """Axis times angle, in the world, that turns `first` into `second`."""
    turn = second @ first.T
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = float(np.linalg.norm(axis))
    angle = math.atan2(sine, (float(np.trace(turn)) - 1) / 2)
    if sine < 1e-9:
        return axis if angle < 1 else np.array([angle, 0.0, 0.0])
    scaled: Numbers = axis * (angle / sine)
    return scaled
