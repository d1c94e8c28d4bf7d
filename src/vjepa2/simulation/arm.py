"""`Arm`: physics, kinematics and pictures of the simulated arm (scene.py).

    arm = Arm()
    arm.place(pose, cube=(0.5, 0.1), cube_turn=0.3)        # at once, without physics
    arm.move_to(pose)                                      # 0.25 s of physics
    picture = arm.render(128)                              # uint8 [128, 128, 3]

A pose is that of the point between the finger tips: [x, y, z in metres, extrinsic xyz angles in
radians, gripper 0 open .. 1 closed]. A hand that points down with its fingers apart along y has
the angles 0.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray

from vjepa2.errors import InputError, RobotError, ShapeError, checked_integer
from vjepa2.poses import POSE_STATE_SIZE
from vjepa2.simulation.kinematics import NUM_HINGES, Kinematics, euler_of
from vjepa2.simulation.mujoco_import import import_mujoco
from vjepa2.simulation.scene import (
    CAMERA,
    CUBE_SIDE,
    FINGER_TRAVEL,
    FRAME_SECONDS,
    HINGES,
    HOME,
    LARGEST_PICTURE,
    TIME_STEP,
    scene_text,
)

Numbers = NDArray[np.float64]
Pose = Float64[np.ndarray, "7"]

# The servos get a new target so often in a movement.
PARTS = 25
# Of the time the targets move; then they stand still, so that the arm settles.
MOVING = 0.84


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything that decides what comes next; see `Arm.snapshot`.

    Attributes:
        physics: MuJoCo's state with the targets of the servos.
        hinges: [7] angles that were commanded last.
    """

    physics: Numbers
    hinges: Numbers


class Arm:
    """The simulated arm; two of them share nothing.

    Raises:
        MissingExtraError: MuJoCo is not installed.
    """

    def __init__(self) -> None:
        self._mujoco = import_mujoco()
        self.model = self._mujoco.MjModel.from_xml_string(scene_text())
        self.data = self._mujoco.MjData(self.model)
        self._kinematics = Kinematics(self._mujoco, self.model)
        self._cube = int(self.model.joint("cube").qposadr[0])
        self._fingers = [int(self.model.joint(f"finger_{s}").qposadr[0]) for s in ("left", "right")]
        self._state_kind = int(self._mujoco.mjtState.mjSTATE_INTEGRATION)
        self._state_size = self._mujoco.mj_stateSize(self.model, self._state_kind)
        self._lag = np.array([hinge[4] / hinge[3] for hinge in HINGES])
        # A context for graphics belongs to the thread that made it.
        self._pictures = threading.local()
        self._closed = False
        self._hinges = np.array(HOME)
        self.place(np.array([0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0]))

    # -- where things are ---------------------------------------------------------------------

    def pose(self) -> Pose:
        """[7] pose of the gripper as it is now."""
        place, turn = self._kinematics.site(self.data)
        opening = float(np.mean(self.data.qpos[self._fingers])) / FINGER_TRAVEL
        closed = min(max(1.0 - opening, 0.0), 1.0)
        return np.concatenate([place, euler_of(turn), [closed]])

    def hinges(self) -> Float64[np.ndarray, "7"]:
        """[7] angles of the hinges, radians."""
        return np.array(self.data.qpos[:NUM_HINGES])

    def cube(self) -> Float64[np.ndarray, "3"]:
        """[3] centre of the cube, metres."""
        return np.array(self.data.qpos[self._cube : self._cube + 3])

    def holds(self) -> bool:
        """Whether both fingers touch the cube."""
        cube = self.model.geom("cube").id
        fingers = {self.model.geom(f"finger_{side}").id for side in ("left", "right")}
        pairs = self.data.contact.geom[: self.data.ncon].tolist()
        touching = {one for pair in pairs if cube in pair for one in pair}
        return fingers <= touching

    def joint_limits(self) -> tuple[Float64[np.ndarray, "7"], Float64[np.ndarray, "7"]]:
        """[7] lowest and [7] highest angles of the hinges, radians."""
        return self._kinematics.low.copy(), self._kinematics.high.copy()

    # -- movement -----------------------------------------------------------------------------

    def place(
        self,
        pose: Pose,
        *,
        cube: tuple[float, float] = (0.5, 0.15),
        cube_turn: float = 0.0,
        cube_height: float = CUBE_SIDE / 2,
    ) -> None:
        """Put the arm into a pose and the cube onto the table, at rest, without physics.

        Args:
            pose: [7].
            cube: x and y of its centre, metres.
            cube_turn: about z, radians.
            cube_height: of its centre; the default lies on the table.

        Raises:
            ShapeError, InputError: no pose.
            RobotError: the arm cannot reach the pose.
        """
        pose = checked_pose(pose)
        hinges, missed = self.inverse(pose, start=np.array(HOME))
        if missed > 1e-3:
            raise RobotError(
                f"The arm cannot reach {np.round(pose[:6], 3).tolist()}; it is off by {missed:.3f} "
                "(metres and radians). Choose a pose inside the workspace."
            )
        mujoco, data = self._mujoco, self.data
        mujoco.mj_resetData(self.model, data)
        opening = (1.0 - pose[6]) * FINGER_TRAVEL
        data.qpos[:NUM_HINGES] = data.ctrl[:NUM_HINGES] = hinges
        data.qpos[self._fingers] = data.ctrl[NUM_HINGES] = opening
        half = cube_turn / 2
        data.qpos[self._cube : self._cube + 7] = (
            *(*cube, cube_height),
            *(math.cos(half), 0.0, 0.0, math.sin(half)),
        )
        self._hinges = hinges
        mujoco.mj_forward(self.model, data)

    def move_to(self, pose: Pose, *, seconds: float = FRAME_SECONDS) -> None:
        """Move smoothly to a pose, or as near to it as the arm comes, in some time of physics.

        Args:
            pose: [7] to be reached at the end.
            seconds: of the movement, a multiple of `TIME_STEP` times `PARTS` at least.

        Raises:
            ShapeError, InputError: no pose.
            RobotError: the simulation diverged; place the arm anew.
        """
        pose = checked_pose(pose)
        target, _ = self.inverse(pose, start=self._hinges)
        before, data = self._hinges, self.data
        fingers = data.ctrl[NUM_HINGES], (1.0 - pose[6]) * FINGER_TRAVEL
        steps = max(1, round(seconds / TIME_STEP / PARTS))
        for part in range(1, PARTS + 1):
            share = min((part - 0.5) / (PARTS * MOVING), 1.0)
            # Minimum jerk, and ahead of it by what the servos' damping holds back at its speed.
            eased = share**3 * (10 - 15 * share + 6 * share**2)
            speed = 30 * share**2 * (1 - share) ** 2 / (seconds * MOVING)
            data.ctrl[:NUM_HINGES] = before + (eased + self._lag * speed) * (target - before)
            data.ctrl[NUM_HINGES] = fingers[0] + min(2 * share, 1) * (fingers[1] - fingers[0])
            self._mujoco.mj_step(self.model, data, nstep=steps)
        self._hinges = target
        if not np.isfinite(data.qpos).all():
            raise RobotError("The simulation of the arm diverged. Place the arm anew.")
        self._mujoco.mj_forward(self.model, data)

    def inverse(
        self, pose: Pose, *, start: Float64[np.ndarray, "7"]
    ) -> tuple[Float64[np.ndarray, "7"], float]:
        """Angles for a pose, as near as the arm comes; see `kinematics.Kinematics.inverse`."""
        return self._kinematics.inverse(pose[:3], pose[3:6], start=start)

    # -- copies -------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The whole state; what follows `restore` is what would have followed, bit by bit."""
        physics = np.empty(self._state_size)
        self._mujoco.mj_getState(self.model, self.data, physics, self._state_kind)
        return Snapshot(physics, self._hinges.copy())

    def restore(self, snapshot: Snapshot) -> None:
        """Go back, or to where another arm is.

        Raises:
            ShapeError: of another scene.
        """
        if snapshot.physics.shape != (self._state_size,):
            raise ShapeError(
                f"This arm's state has {self._state_size} numbers, the snapshot "
                f"{list(snapshot.physics.shape)}."
            )
        self._mujoco.mj_setState(self.model, self.data, snapshot.physics, self._state_kind)
        self._hinges = snapshot.hinges.copy()
        self._mujoco.mj_forward(self.model, self.data)

    # -- pictures -----------------------------------------------------------------------------

    def render(self, size: int = 128) -> UInt8[np.ndarray, "H W 3"]:
        """What the camera sees now: a square picture, RGB.

        Args:
            size: H and W, 8 to `LARGEST_PICTURE`.

        Raises:
            ConfigError: another size.
            RobotError: no graphics can be used here; the message says what to do.
        """
        checked_integer("size of the picture", size, least=8, most=LARGEST_PICTURE)
        renderer = self._renderer(size)
        renderer.update_scene(self.data, camera=CAMERA)
        picture: NDArray[np.uint8] = renderer.render()
        return picture.copy()

    def project(self, places: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
        """Where places (metres) are in the camera's picture: shares of it, across from the left
        and down from the top; outside 0 .. 1 they are not seen.

        Raises:
            ShapeError: not [n, 3].
        """
        if places.ndim != 2 or places.shape[1] != 3:
            raise ShapeError(f"Places are [n, 3], got {list(places.shape)}.")
        camera = self.model.camera(CAMERA)
        axes = self.data.cam_xmat[camera.id].reshape(3, 3)
        seen = (places - self.data.cam_xpos[camera.id]) @ axes
        reach = math.tan(math.radians(float(camera.fovy[0])) / 2)
        ahead = np.maximum(-seen[:, 2], 1e-6)
        across, up = (seen[:, axis] / ahead / reach for axis in (0, 1))
        return np.stack([(1 + across) / 2, (1 - up) / 2], axis=1)

    def close(self) -> None:
        """Give back the graphics of this thread; there are no pictures afterwards."""
        self._closed = True
        for renderer in getattr(self._pictures, "of_size", {}).values():
            renderer.close()
        self._pictures = threading.local()

    def _renderer(self, size: int) -> Any:
        if self._closed:
            raise RobotError("The arm is closed; make another one.")
        renderers: dict[int, Any] = self._pictures.__dict__.setdefault("of_size", {})
        if size not in renderers:
            try:
                renderers[size] = self._mujoco.Renderer(self.model, size, size)
            except (RuntimeError, ValueError, AttributeError, OSError) as error:
                raise RobotError(
                    f"MuJoCo cannot draw here: {error}. On a machine without a screen install the "
                    "system's libEGL (with Mesa) and set MUJOCO_GL=egl, or OSMesa and "
                    "MUJOCO_GL=osmesa, before Python starts."
                ) from error
        return renderers[size]


def checked_pose(pose: Pose) -> Pose:
    """A pose as float64, the gripper brought into 0 .. 1.

    Raises:
        ShapeError: not seven numbers.
        InputError: NaN or infinity.
    """
    numbers = np.asarray(pose, dtype=np.float64)
    if numbers.shape != (POSE_STATE_SIZE,):
        raise ShapeError(
            f"A pose is [x, y, z, three angles, gripper], [7], got {list(numbers.shape)}."
        )
    if not np.isfinite(numbers).all():
        raise InputError(f"A pose must be finite, got {numbers.tolist()}.")
    return np.concatenate([numbers[:6], numbers[6:].clip(0.0, 1.0)])
