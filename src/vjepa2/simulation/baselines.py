"""What a planner with a learned world model is compared with.

random        actions that are even in the space
zero          the smallest allowed actions, always
state         searched with the sum of position and action (no simulator, no picture), by the
              goal's state
true_state    searched with the simulator itself, by where hand and cube are: the best there is
true_pixels   searched with the simulator itself, by the difference of pictures

robot = SimulatedArm(size=64)
problem = make_problem("reach", robot, seed=0)
attempt(problem, robot, baseline_loop("true_pixels", problem, robot))
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import DtypeError, ShapeError, check_choice, check_kind, checked_integer
from vjepa2.planning.action_space import ActionSpace, published_space
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.mpc import RecedingHorizon
from vjepa2.planning.objective import GoalSchedule, LatentGoal, StateGoal
from vjepa2.planning.plan import Cost, Plan, Planner, checked_warm_start
from vjepa2.poses import POSE_STATE_SIZE, integrate_pose
from vjepa2.protocols import Objective, Observation, Rollout, WorldModel
from vjepa2.simulation.problems import Goal, Problem
from vjepa2.simulation.robot import RobotSnapshot, SimulatedArm
from vjepa2.simulation.scene import CAMERA

BaselineName = Literal["random", "zero", "state", "true_state", "true_pixels"]
BASELINES: tuple[str, ...] = get_args(BaselineName)
SeenBy = Literal["state", "pixels"]

# Candidates whose pictures are held at once.
CANDIDATES_AT_ONCE = 16
# Of a hand and a cube in the true state: how much a number counts, per metre, radian, and gripper.
TRUE_WEIGHTS = (1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.05, 2.0, 2.0, 2.0)
STATE_WEIGHTS = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.01)
LONGEST = 0.075


# -- planners that do not search --------------------------------------------------------------


@dataclass(frozen=True)
class RandomActions:
    """Takes the first actions that it draws.

    Attributes:
        horizon: L.
    """

    horizon: int = 1

    def plan(
        self,
        cost: Cost,
        space: ActionSpace,
        *,
        warm_start: Float[Tensor, "L A"] | None = None,
        deadline_seconds: float | None = None,
        generator: torch.Generator,
    ) -> Plan:
        """Even numbers in the box of the space, brought into it; see `planning.plan.Planner`."""
        like = torch.zeros((), device=generator.device)
        start = space.start(self.horizon, like)
        even = torch.rand(start.shape, generator=generator, device=generator.device) * 2 - 1
        drawn = space.project(space.moved(start, even * space.scale(like)))
        return _unsearched(space.actions(drawn), cost)


@dataclass(frozen=True)
class ZeroActions:
    """Takes the smallest actions that are allowed.

    Attributes:
        horizon: L.
    """

    horizon: int = 1

    def plan(
        self,
        cost: Cost,
        space: ActionSpace,
        *,
        warm_start: Float[Tensor, "L A"] | None = None,
        deadline_seconds: float | None = None,
        generator: torch.Generator,
    ) -> Plan:
        """Nothing, as far as the space allows it; see `planning.plan.Planner`."""
        like = torch.zeros((), device=generator.device)
        start = checked_warm_start(None, space, horizon=self.horizon, like=like)
        return _unsearched(space.actions(start), cost)


def _unsearched(actions: Float[Tensor, "L A"], cost: Cost) -> Plan:
    with torch.no_grad():
        own = float(cost(actions[None])[0])
    return Plan(
        actions=actions.cpu(),
        cost=own,
        iterations=0,
        samples=1,
        history=(),
        complete=True,
        seconds=0.0,
    )


# -- worlds that are not learned --------------------------------------------------------------


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


# -- how well they do -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How a problem went.

    Attributes:
        success: see `Problem.success`, after the last action.
        distance_metres, first_distance_metres: at the end and at the start.
        num_actions: that were taken.
        reason, error: of the loop, see `planning.mpc.Episode`.
    """

    success: bool
    distance_metres: float
    first_distance_metres: float
    num_actions: int
    reason: str
    error: str


def attempt(problem: Problem, robot: SimulatedArm, loop: RecedingHorizon) -> Attempt:
    """Let a loop drive the robot from a problem's start."""
    robot.start = problem.start
    robot.place(problem.start)
    first = problem.distance_metres(robot)
    episode = loop.run(robot)
    return Attempt(
        success=problem.success(robot),
        distance_metres=problem.distance_metres(robot),
        first_distance_metres=first,
        num_actions=sum(step.action is not None for step in episode.trace.steps),
        reason=episode.reason,
        error=episode.error,
    )


def baseline_loop(
    name: BaselineName,
    problem: Problem,
    robot: SimulatedArm,
    *,
    seed: int = 0,
    samples: int = 32,
    iterations: int = 4,
) -> RecedingHorizon:
    """A baseline for a problem, with the published kind of actions: x, y, z and the gripper.

    Args:
        name: of `BASELINES`.
        problem: of this robot.
        seed: of its random numbers.
        samples, iterations: of the search, one step ahead.

    Raises:
        ConfigError: no such baseline, or numbers that make no sense.
    """
    check_choice("Baseline", name, BASELINES)
    world: WorldModel
    objectives: tuple[Objective, ...]
    planner: Planner
    if name in ("true_state", "true_pixels"):
        true = TrueWorld(robot, seen_by="state" if name == "true_state" else "pixels")
        world = true
        objectives = tuple(LatentGoal(true.goal(goal)) for goal in problem.goals)
    else:
        world = StateWorld()
        weights = torch.tensor(STATE_WEIGHTS)
        objectives = tuple(StateGoal(goal.state, weights) for goal in problem.goals)
    if name == "random":
        planner = RandomActions()
    elif name == "zero":
        planner = ZeroActions()
    else:
        few = max(2, samples // 4)
        planner = ImprovedCEM(
            CEMSettings(
                horizon=1,
                samples=samples,
                iterations=iterations,
                top_k=few,
                keep=min(2, few),
                least_samples=min(samples, 2 * few),
            )
        )
    return RecedingHorizon(
        world,
        planner,
        published_space(max_norm=LONGEST),
        GoalSchedule(objectives, counts=tuple(goal.num_actions for goal in problem.goals)),
        pixels=picture,
        max_steps=problem.num_actions,
        robot_timeout_seconds=None,
        seed=seed,
    )
