"""`RobotSpec`: what the recorded numbers of a robot mean, in a few declared words.

    {"kind": "arm_pose", "position_unit": "mm", "rotation": "quaternion",
     "rotation_columns": [3, 4, 5, 6], "gripper_column": 7, "gripper_open": 85, "gripper_closed": 0}

From it come states and actions as a world model is trained on:

    kind          state                                              action
    arm_pose      x, y, z in metres, extrinsic xyz in radians,       difference; R_next R^T
                  gripper 0 open .. 1 closed
    joints        joints in radians (or as recorded), gripper        difference
    mobile_base   x, y in metres, heading in -pi .. pi               difference, wrapped

The first row is that of V-JEPA 2-AC (arXiv:2506.09985, section 3.1).
"""

import json
import math
import os
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from vjepa2.data.trajectories import Episode, Numbers, RecordedActions
from vjepa2.errors import ConfigError, DataNotFoundError, EpisodeError, ShapeError
from vjepa2.poses import (
    ROTATION_SIZES,
    Rotation,
    from_matrix,
    integrate_pose,
    pose_difference,
    to_matrix,
)
from vjepa2.strict_config import StrictConfig

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
GRIPPER = "gripper"


class RobotSpec(StrictConfig):
    """The robot of a data set.

    Attributes:
        kind: an arm by the pose of its hand, any robot by its joints, or a base that drives.
        position_columns: x, y, z (of a base: x, y) in a recorded state.
        position_unit: of these.
        rotation: how the orientation of the hand was recorded; "matrix" is nine numbers, by rows.
        rotation_columns: where.
        quaternion_order: "xyzw" (scipy, ROS) or "wxyz" (MuJoCo).
        angle_unit: of Euler angles, axis-angles, joints and heading.
        gripper_column: where; None: no gripper.
        gripper_open, gripper_closed: what is recorded for an open and for a closed one.
        joint_columns: of kind "joints", in their order.
        continuous_joints: which of them, counted from 0, turn without end: differences wrap.
        heading_column: of kind "mobile_base".
        frame: "world" as recorded, or "camera": poses as that camera sees them.
        camera_pose: x, y, z in metres and extrinsic xyz in radians of the camera in the world;
            needed by frame "camera".
        camera: the one to train on; None: the first.
        control_rate_hz: at which actions follow each other; None: as recorded.
        recorded_actions: what the recorded actions are: "changes" of the state, or "targets", the
            state that is to be reached; None: not known, they are only looked at by the checks.
        action_columns: columns of a recorded action that stand for the numbers of a state in the
            order above; None: the columns of the state where an action is as wide as one, else
            all of them.
        actions_from: "states" takes differences, as published; "recorded" what was recorded.

    Raises:
        ConfigError: columns are missing, too many, or used twice; a value makes no sense.
    """

    kind: Literal["arm_pose", "joints", "mobile_base"] = "arm_pose"
    position_columns: tuple[int, ...] = ()
    position_unit: Literal["m", "cm", "mm"] = "m"
    rotation: Rotation = "euler"
    rotation_columns: tuple[int, ...] = ()
    quaternion_order: Literal["xyzw", "wxyz"] = "xyzw"
    angle_unit: Literal["radians", "degrees"] = "radians"
    gripper_column: int | None = None
    gripper_open: float = 0.0
    gripper_closed: float = 1.0
    joint_columns: tuple[int, ...] = ()
    continuous_joints: tuple[int, ...] = ()
    heading_column: int = 2
    frame: Literal["world", "camera"] = "world"
    camera_pose: tuple[float, float, float, float, float, float] | None = None
    camera: str | None = None
    control_rate_hz: float | None = None
    recorded_actions: RecordedActions | None = None
    action_columns: tuple[int, ...] | None = None
    actions_from: Literal["states", "recorded"] = "states"

    @model_validator(mode="after")
    def _check(self) -> Self:
        expected = {
            "arm_pose": (len(self.positions), 3, "position_columns", "x, y, z"),
            "joints": (len(self.joint_columns), None, "joint_columns", "every joint"),
            "mobile_base": (len(self.positions), 2, "position_columns", "x, y"),
        }
        got, wanted, name, words = expected[self.kind]
        if got != wanted and (wanted is not None or got == 0):
            count = "one or more" if wanted is None else str(wanted)
            raise ConfigError(f"{name} of kind {self.kind!r} are {count}: {words}; got {got}.")
        if self.kind == "arm_pose" and len(self.rotations) != ROTATION_SIZES[self.rotation]:
            raise ConfigError(
                f"rotation_columns of {self.rotation!r} are {ROTATION_SIZES[self.rotation]}, got "
                f"{len(self.rotations)}."
            )
        used = self.columns
        if len(set(used)) != len(used) or min(used) < 0:
            raise ConfigError(f"Each number is in a column of its own, from 0 on; got {used}.")
        if self.gripper_open == self.gripper_closed:
            raise ConfigError("gripper_open and gripper_closed must differ.")
        if any(not 0 <= joint < len(self.joint_columns) for joint in self.continuous_joints):
            raise ConfigError(
                f"continuous_joints count from 0 to {len(self.joint_columns) - 1} among "
                f"joint_columns; got {self.continuous_joints}."
            )
        if self.frame == "camera" and (self.camera_pose is None or self.kind != "arm_pose"):
            raise ConfigError(
                "frame='camera' is for kind 'arm_pose' and needs camera_pose, the camera's "
                "[x, y, z, extrinsic xyz angles] in the world."
            )
        if self.control_rate_hz is not None and self.control_rate_hz <= 0:
            raise ConfigError(f"control_rate_hz must be above 0, got {self.control_rate_hz}.")
        if self.actions_from == "recorded" and self.recorded_actions is None:
            raise ConfigError(
                "actions_from='recorded' needs recorded_actions: 'changes' or 'targets'."
            )
        if self.action_columns is not None and len(self.action_columns) != len(used):
            raise ConfigError(
                f"action_columns name the {len(used)} numbers of a recorded state ({used}), got "
                f"{len(self.action_columns)}."
            )
        return self

    # -- what it is about ---------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "RobotSpec":
        """Read a specification from JSON.

        Raises:
            DataNotFoundError: no such file.
            ConfigError: no JSON object, or wrong values in it.
        """
        file = Path(path)
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataNotFoundError(
                f"Cannot read the robot's specification {file}: {error.strerror or error}."
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file} is no JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{file} must hold one JSON object of a RobotSpec's fields.")
        return cls(**values)

    @property
    def positions(self) -> tuple[int, ...]:
        """Columns of the position; by default the first ones."""
        count = {"arm_pose": 3, "joints": 0, "mobile_base": 2}[self.kind]
        return self.position_columns or tuple(range(count))

    @property
    def rotations(self) -> tuple[int, ...]:
        """Columns of the orientation; by default those after the position."""
        if self.kind != "arm_pose":
            return ()
        return self.rotation_columns or tuple(range(3, 3 + ROTATION_SIZES[self.rotation]))

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns of a recorded state in the order of a state."""
        gripper = () if self.gripper_column is None else (self.gripper_column,)
        if self.kind == "joints":
            return (*self.joint_columns, *gripper)
        if self.kind == "mobile_base":
            return (*self.positions, self.heading_column)
        return (*self.positions, *self.rotations, *gripper)

    @property
    def state_names(self) -> tuple[str, ...]:
        """K names of the numbers of a state; actions have the same."""
        if self.kind == "arm_pose":
            return ("x", "y", "z", "turn x", "turn y", "turn z", GRIPPER)
        if self.kind == "mobile_base":
            return ("x", "y", "heading")
        joints = tuple(f"joint {number}" for number in range(len(self.joint_columns)))
        return joints if self.gripper_column is None else (*joints, GRIPPER)

    @property
    def state_size(self) -> int:
        """K."""
        return len(self.state_names)

    @property
    def action_size(self) -> int:
        """A; equals K."""
        return self.state_size

    # -- states and actions -------------------------------------------------------------------

    def states(self, raw: Numbers) -> Float32[Tensor, "T K"]:
        """States of a world model from recorded ones.

        Args:
            raw: [T, K_raw] numbers as recorded.

        Returns:
            float32 [T, K] in metres and radians; the gripper 0 (open) .. 1 (closed), 0 where the
            arm has none.

        Raises:
            ShapeError: fewer columns than the specification names.
            InputError: no rotations, such as quaternions whose length is not 1.
        """
        return self._states(self._picked(np.asarray(raw, dtype=np.float64), self.columns)).float()

    def actions(self, states: Float[Tensor, "T K"]) -> Float[Tensor, "T1 A"]:
        """The T - 1 actions between T states: differences, rotations as R_next R^T.

        Raises:
            ShapeError: states of another size.
        """
        self._check_size(states)
        return self._difference(states[..., :-1, :], states[..., 1:, :])

    def update_state(
        self, state: Float[Tensor, "*B K"], action: Float[Tensor, "*B A"]
    ) -> Float[Tensor, "*B K"]:
        """The state after an action: the inverse of `actions`, for `ActionWorldModel`.

        Raises:
            ShapeError: numbers of another robot.
        """
        self._check_size(state, action)
        if self.kind == "arm_pose":
            return integrate_pose(state, action)
        moved = state + action
        for index in self._wrapping:
            turned = wrapped(moved[..., index : index + 1])
            moved = torch.cat([moved[..., :index], turned, moved[..., index + 1 :]], dim=-1)
        if self.kind == "joints" and self.gripper_column is not None:
            moved = torch.cat([moved[..., :-1], moved[..., -1:].clamp(0.0, 1.0)], dim=-1)
        return moved

    def episode_actions(self, episode: Episode) -> Float32[Tensor, "T1 A"]:
        """The T - 1 actions of an episode, from where `actions_from` says.

        Raises:
            EpisodeError: recorded ones are wanted and there are none.
            ShapeError: they have too few columns.
        """
        if self.actions_from == "states":
            precise = self._states(self._picked(episode.states, self.columns))
            return self.actions(precise).float()
        if self.recorded_actions is None or episode.actions is None:
            raise EpisodeError(
                f"Episode {episode.name!r} has no recorded actions. Set actions_from='states'."
            )
        return self.recorded(episode, self.recorded_actions).float()

    def recorded(self, episode: Episode, meaning: RecordedActions) -> Float[Tensor, "T1 A"]:
        """Recorded actions as changes of states, float64.

        Args:
            episode: with actions.
            meaning: "targets" are states to be reached, "changes" are what is to be added.

        Raises:
            ShapeError: an action has too few columns.
        """
        if meaning == "targets":
            states = self._states(self._picked(episode.states, self.columns))
            return self._difference(states[:-1], self.targets(episode))
        return self._changes(self._recorded_rows(episode))

    def targets(self, episode: Episode) -> Float[Tensor, "T1 K"]:
        """Recorded actions read as states to be reached, float64.

        Raises:
            ShapeError: an action has too few columns.
            InputError: they hold no rotations.
        """
        return self._states(self._recorded_rows(episode))

    # -- inside -------------------------------------------------------------------------------

    @property
    def _wrapping(self) -> tuple[int, ...]:
        return (2,) if self.kind == "mobile_base" else self.continuous_joints

    @property
    def _angle(self) -> float:
        return math.pi / 180 if self.angle_unit == "degrees" else 1.0

    def _recorded_rows(self, episode: Episode) -> Float[Tensor, "T1 R"]:
        assert episode.actions is not None
        return self._picked(episode.actions[: len(episode) - 1], self._columns_of_action(episode))

    def _columns_of_action(self, episode: Episode) -> tuple[int, ...]:
        assert episode.actions is not None
        if self.action_columns is not None:
            return self.action_columns
        width = episode.actions.shape[1]
        return self.columns if width >= 1 + max(self.columns) else tuple(range(len(self.columns)))

    def _picked(self, raw: Numbers, columns: tuple[int, ...]) -> Float[Tensor, "T R"]:
        if raw.ndim != 2 or raw.shape[1] <= max(columns):
            raise ShapeError(
                f"The robot's specification names column {max(columns)} (counted from 0); recorded "
                f"are {list(raw.shape)}. Correct the columns."
            )
        chosen: NDArray[np.float64] = np.ascontiguousarray(raw[:, list(columns)])
        return torch.from_numpy(chosen)

    def _states(self, picked: Float[Tensor, "T R"]) -> Float[Tensor, "T K"]:
        """Numbers in the order of `columns`, as recorded, to states."""
        if self.kind == "mobile_base":
            place = picked[:, :2] * METRES[self.position_unit]
            return torch.cat([place, wrapped(picked[:, 2:] * self._angle)], dim=-1)
        if self.kind == "joints":
            joints = picked[:, : len(self.joint_columns)] * self._angle
            return torch.cat([joints, self._closed(picked[:, joints.shape[1] :])], dim=-1)
        size = ROTATION_SIZES[self.rotation]
        place = picked[:, :3] * METRES[self.position_unit]
        turn = to_matrix(self._rotation(picked[:, 3 : 3 + size]), self.rotation)
        place, turn = self._in_frame(place, turn)
        gripper = self._closed(picked[:, 3 + size :])
        if self.gripper_column is None:
            gripper = torch.zeros_like(place[:, :1])
        return torch.cat([place, from_matrix(turn, "euler"), gripper], dim=-1)

    def _changes(self, picked: Float[Tensor, "T R"]) -> Float[Tensor, "T A"]:
        """Recorded changes, to changes of states: as states, but without origins."""
        if self.kind == "mobile_base":
            place = picked[:, :2] * METRES[self.position_unit]
            return torch.cat([place, picked[:, 2:] * self._angle], dim=-1)
        span = self.gripper_closed - self.gripper_open
        if self.kind == "joints":
            joints = picked[:, : len(self.joint_columns)] * self._angle
            return torch.cat([joints, picked[:, joints.shape[1] :] / span], dim=-1)
        size = ROTATION_SIZES[self.rotation]
        place = picked[:, :3] * METRES[self.position_unit]
        turn = to_matrix(self._rotation(picked[:, 3 : 3 + size]), self.rotation)
        if self.frame == "camera":
            axes = self._camera()[1].transpose(-1, -2)
            place, turn = place @ axes.transpose(-1, -2), axes @ turn @ axes.transpose(-1, -2)
        gripper = picked[:, 3 + size :] / span
        if self.gripper_column is None:
            gripper = torch.zeros_like(place[:, :1])
        return torch.cat([place, from_matrix(turn, "euler"), gripper], dim=-1)

    def _rotation(self, recorded: Float[Tensor, "T R"]) -> Float[Tensor, "T R"]:
        if self.rotation == "quaternion" and self.quaternion_order == "wxyz":
            return recorded[:, [1, 2, 3, 0]]
        return recorded * self._angle if self.rotation in ("euler", "axis_angle") else recorded

    def _camera(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3 3"]]:
        pose = torch.tensor(self.camera_pose, dtype=torch.float64)
        return pose[:3], to_matrix(pose[3:], "euler")

    def _in_frame(self, place: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        if self.frame == "world":
            return place, turn
        origin, axes = self._camera()
        return (place - origin) @ axes, axes.transpose(-1, -2) @ turn

    def _closed(self, recorded: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
        return (recorded - self.gripper_open) / (self.gripper_closed - self.gripper_open)

    def _difference(self, state: Tensor, following: Tensor) -> Tensor:
        if self.kind == "arm_pose":
            return pose_difference(state, following)
        moved = following - state
        for index in self._wrapping:
            turned = wrapped(moved[..., index : index + 1])
            moved = torch.cat([moved[..., :index], turned, moved[..., index + 1 :]], dim=-1)
        return moved

    def _check_size(self, *values: Tensor) -> None:
        for value in values:
            if value.ndim < 1 or value.shape[-1] != self.state_size:
                raise ShapeError(
                    f"States and actions of this robot have {self.state_size} numbers "
                    f"({', '.join(self.state_names)}), got {list(value.shape)}."
                )


def wrapped(angle: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Angles in radians brought into -pi .. pi."""
    turned: Tensor = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    return turned
