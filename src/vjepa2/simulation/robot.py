"""`SimulatedArm`: the simulated arm as a robot that planners drive (`protocols.Robot`).

    robot = SimulatedArm(seed=0)
    seen = robot.reset()                     # frames {"front": [H, W, 3]}, state [7]
    robot.act(torch.tensor([0.05, 0, 0, 0, 0, 0, 0]))     # 5 cm away from the base, 0.25 s

States and actions are those of V-JEPA 2-AC (arXiv:2506.09985, section 3.1): [x, y, z, extrinsic
xyz angles, gripper], and differences of them as `poses.pose_difference` takes them, at 4 Hz.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import DtypeError, RobotError, ShapeError, check_kind, checked_integer
from vjepa2.planning.action_space import Workspace, arm_workspace
from vjepa2.poses import POSE_STATE_SIZE, angle_between, integrate_pose, to_matrix
from vjepa2.protocols import Observation
from vjepa2.simulation.arm import Arm, Pose, Snapshot, checked_pose
from vjepa2.simulation.draws import EpisodeDraws, Purpose
from vjepa2.simulation.scene import CAMERA, CUBE_SIDE, FRAME_SECONDS

CONTROL_HZ = 1 / FRAME_SECONDS
WORKSPACE_LOW, WORKSPACE_HIGH = (0.30, -0.20, 0.02), (0.70, 0.20, 0.32)
MARGIN = 0.005
# Most that one action moves the hand, in metres along its way: what the servos can follow.
LONGEST_MOVE = 0.2
# A smaller change of the gripper leaves its target alone, so that what is held stays held.
GRIPPER_DEAD_ZONE = 0.02
# How much further than it is a hand is told to close while both fingers touch the cube.
SQUEEZE = 0.3
# Where the arm stays behind by more, metres and radians, its target is set back to where it is.
LEFT_BEHIND = (0.01, 0.05)
# The cube lies here at the start, and nearer to the hand than this only below a raised hand.
CUBE_LOW, CUBE_HIGH = (0.38, -0.13), (0.62, 0.13)
CLEAR, RAISED = 0.11, 0.13


@dataclass(frozen=True, eq=False, kw_only=True)
class Start:
    """How an episode begins.

    Attributes:
        pose: [7] of the gripper.
        cube: x and y of the cube, metres.
        cube_turn: about z, radians.
        cube_height: of its centre; the default lies on the table.
    """

    pose: Pose
    cube: tuple[float, float]
    cube_turn: float = 0.0
    cube_height: float = CUBE_SIDE / 2


@dataclass(frozen=True, eq=False)
class RobotSnapshot:
    """Everything that decides what a robot does next; see `SimulatedArm.snapshot`."""

    arm: Snapshot
    commanded: Pose
    num_steps: int


def random_start(seed: int, episode: int) -> Start:
    """An open hand that points down somewhere in the workspace, and the cube on the table.

    Raises:
        ConfigError: a number is negative.
    """
    draws = EpisodeDraws(seed, episode, Purpose.START)
    place = draws.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
    x, y = draws.uniform(CUBE_LOW, CUBE_HIGH).tolist()
    if np.hypot(place[0] - x, place[1] - y) < CLEAR:
        place[2] = max(place[2], RAISED)
    pose = np.concatenate([place, np.zeros(4)])
    return Start(pose=pose, cube=(x, y), cube_turn=float(draws.uniform(-0.4, 0.4)))


class SimulatedArm:
    """The robot.

    Args:
        size: height and width of its camera's pictures.
        seed: of where episodes start.
        start: where all of them start instead.
        pictures: whether observations hold pictures; without, they have no frames.

    Raises:
        ConfigError: a number makes no sense.
        MissingExtraError: MuJoCo is not installed.
    """

    def __init__(
        self, *, size: int = 128, seed: int = 0, start: Start | None = None, pictures: bool = True
    ) -> None:
        self.size = checked_integer("size", size, least=8)
        self.seed = checked_integer("seed", seed, least=0)
        self.start = start
        self.arm = Arm()
        self._pictures = pictures
        self._episode = -1
        self._num_steps = 0
        self._stopped = False
        self._clipped = False
        self._commanded = self.arm.pose()

    # -- the five methods ---------------------------------------------------------------------

    def reset(self) -> Observation:
        """Begin the next episode: the n-th start of a seed is always the same.

        Raises:
            RobotError: the start cannot be reached, or there are no graphics.
        """
        self._episode += 1
        start = self.start or random_start(self.seed, self._episode)
        return self.begin(start)

    def observe(self) -> Observation:
        """What is seen now, the state float32 [7]; facts: `cube` and whether the last action was
        `clipped` to the workspace.

        Raises:
            RobotError: there are no graphics.
        """
        frames = {CAMERA: torch.from_numpy(self.arm.render(self.size))} if self._pictures else {}
        return Observation(
            frames=frames,
            state=self.state(),
            time_seconds=self._num_steps * FRAME_SECONDS,
            facts={"cube": self.arm.cube().tolist(), "clipped": self._clipped},
        )

    def act(self, action: Float[Tensor, " A"]) -> None:
        """Carry out one action in 0.25 s of simulated time.

        The hand stays in the workspace, and no action moves it by more than `LONGEST_MOVE`. What
        both fingers touch is squeezed until an action opens the hand.

        Args:
            action: [7] dx, dy, dz in metres, rotation R_next R^T, change of the gripper.

        Raises:
            ShapeError, DtypeError: not seven finite numbers.
            RobotError: it was stopped; or the simulation diverged.
        """
        change = self._checked(action)
        if self._stopped:
            raise RobotError("The arm was stopped; call reset() before the next action.")
        target, self._clipped = self._target(change)
        self.arm.move_to(target)
        self._num_steps += 1
        self._commanded = self._followed(target, self.arm.pose())
        if self.arm.holds():
            # As grippers do that notice an object: they keep a force, whatever they were told.
            squeezed = min(float(self.arm.pose()[6]) + SQUEEZE, 1.0)
            self._commanded[6] = max(self._commanded[6], squeezed)

    def stop(self) -> None:
        """Hold; actions are refused until `reset`."""
        self._stopped = True

    def close(self) -> None:
        """Give back the graphics."""
        self._stopped = True
        self.arm.close()

    # -- more than a robot has ----------------------------------------------------------------

    def begin(self, start: Start) -> Observation:
        """Begin an episode at a given start.

        Raises:
            RobotError: it cannot be reached, or there are no graphics.
        """
        self.place(start)
        return self.observe()

    def place(self, start: Start) -> None:
        """As `begin`, without looking.

        Raises:
            RobotError: it cannot be reached.
        """
        check_kind("start", start, Start, words="a Start")
        self.arm.place(
            start.pose,
            cube=start.cube,
            cube_turn=start.cube_turn,
            cube_height=start.cube_height,
        )
        self._commanded = checked_pose(start.pose)
        self._num_steps = 0
        self._stopped = self._clipped = False

    def state(self) -> Float[Tensor, "7"]:
        """float32 [7], without a picture."""
        return torch.from_numpy(self.arm.pose()).float()

    def pose(self) -> Float64[np.ndarray, "7"]:
        """float64 [7]."""
        return self.arm.pose()

    def cube(self) -> Float64[np.ndarray, "3"]:
        """Centre of the cube, metres."""
        return self.arm.cube()

    def snapshot(self) -> RobotSnapshot:
        """The whole state."""
        return RobotSnapshot(self.arm.snapshot(), self._commanded.copy(), self._num_steps)

    def restore(self, snapshot: RobotSnapshot) -> None:
        """Go back, or to where another robot is."""
        self.arm.restore(snapshot.arm)
        self._commanded = snapshot.commanded.copy()
        self._num_steps = snapshot.num_steps
        self._stopped = self._clipped = False

    # -- inside -------------------------------------------------------------------------------

    def _target(self, change: Float64[np.ndarray, "7"]) -> tuple[Pose, bool]:
        """What is commanded next, and whether it was shortened."""
        length = float(np.linalg.norm(change[:3]))
        shortened = length > LONGEST_MOVE
        if shortened:
            change = np.concatenate([change[:3] * (LONGEST_MOVE / length), change[3:]])
        moved = integrate_pose(torch.from_numpy(self._commanded), torch.from_numpy(change)).numpy()
        place = moved[:3].clip(WORKSPACE_LOW, WORKSPACE_HIGH)
        shortened = shortened or not np.array_equal(place, moved[:3])
        return np.concatenate([place, moved[3:6], [self._gripper(float(change[6]))]]), shortened

    def _gripper(self, change: float) -> float:
        """Its target. A hand that holds something is less closed than it was told to be."""
        target = float(self._commanded[6])
        if abs(change) < GRIPPER_DEAD_ZONE:
            return target
        wanted = float(self.arm.pose()[6]) + change
        kept = max(target, wanted) if change > 0 else min(target, wanted)
        return min(max(kept, 0.0), 1.0)

    @staticmethod
    def _followed(target: Pose, reached: Pose) -> Pose:
        """The target, with what was not followed given up."""
        far = float(np.linalg.norm(target[:3] - reached[:3])) > LEFT_BEHIND[0]
        turned = False
        # Angles that are alike are near; others may be so too, and that costs more to find out.
        if np.abs(target[3:6] - reached[3:6]).max() > LEFT_BEHIND[1] / 2:
            first, second = (
                to_matrix(torch.from_numpy(pose[3:6].copy()), "euler") for pose in (target, reached)
            )
            turned = float(angle_between(first, second)) > LEFT_BEHIND[1]
        kept = reached[:6] if far or turned else target[:6]
        return np.concatenate([kept, target[6:]])

    @staticmethod
    def _checked(action: Float[Tensor, " A"]) -> Float64[np.ndarray, "7"]:
        if not isinstance(action, Tensor) or action.shape != (POSE_STATE_SIZE,):
            got = list(action.shape) if isinstance(action, Tensor) else type(action).__name__
            raise ShapeError(
                f"An action is [dx, dy, dz, three angles, change of the gripper], [7], got {got}."
            )
        if not action.is_floating_point() or not bool(torch.isfinite(action).all()):
            raise DtypeError(f"An action is seven finite floats, got {action.tolist()}.")
        return action.detach().cpu().double().numpy()


def robot_spec() -> RobotSpec:
    """What the recordings of `collect` hold."""
    return RobotSpec(
        kind="arm_pose",
        position_columns=(0, 1, 2),
        rotation="euler",
        rotation_columns=(3, 4, 5),
        gripper_column=6,
        camera=CAMERA,
        control_rate_hz=CONTROL_HZ,
        recorded_actions="changes",
    )


def workspace() -> Workspace:
    """Where the hand may be, for planners: what the arm keeps to and `MARGIN` around it, since a
    servo ends a millimetre beside its target, on either side."""
    x, y, z = (low - MARGIN for low in WORKSPACE_LOW)
    far_x, far_y, far_z = (high + MARGIN for high in WORKSPACE_HIGH)
    return arm_workspace((x, y, z), (far_x, far_y, far_z))
