"""World models that are not learned: the sum of actions, and the simulator itself.

world = TrueWorld(robot, seen_by="pixels")
situation = world.begin(world.encode(picture(seen)), seen.state[None])
rollout = world.rollout(situation, actions)            # what really follows
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import DtypeError, ShapeError, check_choice, check_kind, checked_integer
from vjepa2.poses import POSE_STATE_SIZE, integrate_pose
from vjepa2.protocols import Objective, Observation, Rollout
from vjepa2.simulation.problems import Goal
from vjepa2.simulation.robot import RobotSnapshot, SimulatedArm
from vjepa2.simulation.scene import CAMERA

SeenBy = Literal["state", "pixels"]

# Candidates whose pictures are held at once.
CANDIDATES_AT_ONCE = 16
# Of a hand and a cube in the true state: how much a number counts, per metre, radian, and gripper.
TRUE_WEIGHTS = (1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.05, 2.0, 2.0, 2.0)


class StateWorld:
    """Knows only that an action is added to the state; its latents are one 0.

    A `protocols.WorldModel` for objectives of states.
    """

    action_size = state_size = POSE_STATE_SIZE

    def encode(self, frames: Float[Tensor, "T C H W"]) -> Float[Tensor, "T 1 1"]:
        """Nothing is seen."""
        return torch.zeros(len(frames), 1, 1)

    def begin(
        self,
        latents: Float[Tensor, "T N D"],
        states: Float[Tensor, "T 7"],
        actions: Float[Tensor, "T1 7"] | None = None,
    ) -> Float[Tensor, "7"]:
        """The last state."""
        return states[-1]

    def rollout(self, situation: Float[Tensor, "7"], actions: Float[Tensor, "S L 7"]) -> Rollout:
        """Sums; differentiable."""
        state, states = situation.to(actions).expand(len(actions), -1), []
        for step in range(actions.shape[1]):
            state = integrate_pose(state, actions[:, step])
            states.append(state)
        latents = actions.new_zeros(*actions.shape[:2], 1, 1)
        return Rollout(latents=latents, states=torch.stack(states, dim=1), actions=actions)

    def costs(
        self,
        situation: Float[Tensor, "7"],
        actions: Float[Tensor, "S L 7"],
        objective: Objective,
    ) -> Float[Tensor, " S"]:
        """Of all at once."""
        return objective(self.rollout(situation, actions))


class TrueWorld:
    """The simulator as a world model: an oracle that tries actions on a copy of the robot.

    What it calls latents is, by `seen_by`,

        "state"   [1, 10]: pose of the hand and centre of the cube, times `TRUE_WEIGHTS`
        "pixels"  [patches, 3 * patch * patch]: the picture, 0..1

    so the published energy is a distance of states or of pictures. It has no gradient.

    Args:
        robot: the one that acts; `begin` looks at its true state, not at what it is given.
        seen_by: "state" or "pixels".
        patch: height and width of a token of a picture.

    Raises:
        ConfigError: no such kind, or pictures that patches do not divide.
    """

    action_size = state_size = POSE_STATE_SIZE

    def __init__(self, robot: SimulatedArm, *, seen_by: SeenBy = "state", patch: int = 8) -> None:
        check_kind("robot", robot, SimulatedArm, words="a SimulatedArm")
        check_choice("seen_by", seen_by, get_args(SeenBy))
        self.patch = checked_integer("patch", patch, least=1)
        if seen_by == "pixels" and robot.size % patch:
            raise ShapeError(
                f"Pictures of {robot.size} pixels cannot be cut into patches of {patch}."
            )
        self.robot, self.seen_by = robot, seen_by
        self._copy = SimulatedArm(size=robot.size, pictures=seen_by == "pixels")

    def encode(self, frames: Float[Tensor, "T C H W"]) -> Float[Tensor, "T N D"]:
        """Frames 0..1 as patches; by "state" they are not looked at, the robot is."""
        if frames.ndim != 4 or not frames.is_floating_point():
            raise DtypeError(f"frames must be floats [T, 3, H, W], got {list(frames.shape)}.")
        if self.seen_by == "state":
            return true_state(self.robot)[None, None].expand(len(frames), -1, -1)
        size = self.patch
        patches = frames.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        tokens: Tensor = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)
        return tokens

    def begin(
        self,
        latents: Float[Tensor, "T N D"],
        states: Float[Tensor, "T 7"],
        actions: Float[Tensor, "T1 7"] | None = None,
    ) -> RobotSnapshot:
        """The robot as it is now."""
        return self.robot.snapshot()

    @torch.no_grad()
    def rollout(self, situation: RobotSnapshot, actions: Float[Tensor, "S L 7"]) -> Rollout:
        """What really follows, one candidate after the other.

        Raises:
            ShapeError, DtypeError: actions are not finite floats [S, L, 7].
        """
        latents, states = [], []
        for candidate in actions:
            self._copy.restore(situation)
            for action in candidate:
                self._copy.act(action)
                states.append(self._copy.state())
                latents.append(self._seen())
        shape = actions.shape[:2]
        return Rollout(
            latents=torch.stack(latents).unflatten(0, shape),
            states=torch.stack(states).unflatten(0, shape),
            actions=actions,
        )

    def costs(
        self, situation: RobotSnapshot, actions: Float[Tensor, "S L 7"], objective: Objective
    ) -> Float[Tensor, " S"]:
        """Of `CANDIDATES_AT_ONCE` at a time."""
        parts = actions.split(CANDIDATES_AT_ONCE)
        return torch.cat([objective(self.rollout(situation, part)) for part in parts])

    def goal(self, goal: Goal) -> Float[Tensor, "N D"]:
        """A goal in what this world calls latents."""
        if self.seen_by == "state":
            return torch.cat([goal.state, goal.cube])[None] * torch.tensor(TRUE_WEIGHTS)
        return self.encode(goal.frames / 255)[0]

    def close(self) -> None:
        """Give back the graphics of the copy."""
        self._copy.close()

    def _seen(self) -> Float[Tensor, "N D"]:
        if self.seen_by == "state":
            return true_state(self._copy)[None]
        return self.encode(picture(self._copy.observe()))[0]


def true_state(robot: SimulatedArm) -> Float[Tensor, "10"]:
    """Pose and place of the cube, weighted."""
    cube = torch.from_numpy(robot.cube()).float()
    return torch.cat([robot.state(), cube]) * torch.tensor(TRUE_WEIGHTS)


def picture(seen: Observation) -> Float[Tensor, "1 3 H W"]:
    """What a robot's camera saw, 0..1: how the worlds of this file take pictures. An observation
    without pictures is one black pixel."""
    if CAMERA not in seen.frames:
        return torch.zeros(1, 3, 1, 1)
    return seen.frames[CAMERA].permute(2, 0, 1)[None] / 255
