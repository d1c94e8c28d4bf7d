"""Problems for the simulated arm: reach a place, push the cube, pick it up and place it.

    problem = make_problem("reach", robot, seed=0, number=3)
    robot.start = problem.start                        # where robot.reset() begins
    loop = RecedingHorizon(..., max_steps=problem.num_actions, goals=... problem.goals[0].frame ...)
    loop.run(robot)
    problem.success(robot), problem.distance_metres(robot)

A goal is a picture, with the state of the arm that it shows. How near the arm came is read from the
simulator, never from pictures.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import check_choice
from vjepa2.simulation.arm import Pose
from vjepa2.simulation.draws import EpisodeDraws, Purpose
from vjepa2.simulation.robot import (
    CLEAR,
    CUBE_HIGH,
    CUBE_LOW,
    RAISED,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    SimulatedArm,
    Start,
    random_start,
)
from vjepa2.simulation.scene import CUBE_SIDE, FINGER_TRAVEL
from vjepa2.simulation.scripts import (
    HIGH_HAND,
    LOW_HAND,
    PUSHING_HEIGHT,
    Script,
    carry,
    grasp,
    push_to,
    reach_to,
    release,
    touching,
)

ProblemName = Literal["reach", "push", "pick_place"]
PROBLEMS: tuple[str, ...] = get_args(ProblemName)
Numbers = NDArray[np.float64]

# A place is reached when what is to be there is no farther from it, metres.
NEAR = 0.05
REACH_ACTIONS, PUSH_ACTIONS = 12, 10
# Per goal: grasp, carry, place.
PICK_ACTIONS = (6, 6, 6)
LEAST_REACH = 0.15
PUSH_DISTANCE = (0.12, 0.16)
LEAST_CARRY = 0.12
BEHIND = 0.06  # a hand that is about to push, from the cube's side
# How closed a hand is that holds the cube: a little more than the cube is wide.
HELD = 1 - CUBE_SIDE / 2 / FINGER_TRAVEL + 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class Goal:
    """What is to be seen.

    Attributes:
        name: in a word.
        frame: uint8 [H, W, 3], what the camera sees when it is reached.
        state: float32 [7] of the arm then.
        cube: float32 [3], its centre then, metres.
        num_actions: that a planner gets for it.
    """

    name: str
    frame: UInt8[Tensor, "H W 3"]
    state: Float32[Tensor, "7"]
    cube: Float32[Tensor, "3"]
    num_actions: int

    @property
    def frames(self) -> UInt8[Tensor, "1 3 H W"]:
        """The picture as a clip of one frame, channels first."""
        return self.frame.permute(2, 0, 1)[None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A start and what is to be reached from it.

    Attributes:
        name: "reach", "push" or "pick_place".
        seed, number: which one.
        start: for `SimulatedArm.start`.
        goals: one after the other.
        place: [3] where the hand ("reach") or the cube's centre is to be in the end, metres.
    """

    name: ProblemName
    seed: int
    number: int
    start: Start
    goals: tuple[Goal, ...]
    place: Float64[np.ndarray, "3"]

    @property
    def num_actions(self) -> int:
        """Of all goals together, at most."""
        return sum(goal.num_actions for goal in self.goals)

    def distance_metres(self, robot: SimulatedArm) -> float:
        """How far the hand, or the cube, is from where it is to be."""
        there = robot.pose()[:3] if self.name == "reach" else robot.cube()
        return float(np.linalg.norm(there - self.place))

    def success(self, robot: SimulatedArm) -> bool:
        """Whether it is within 5 cm of there now; a cube that is placed must not be held."""
        near = self.distance_metres(robot) <= NEAR
        if self.name != "pick_place":
            return near
        return near and float(robot.pose()[6]) < HELD / 2


def make_problem(name: ProblemName, robot: SimulatedArm, *, seed: int, number: int = 0) -> Problem:
    """A problem; the same for the same arguments.

    Args:
        name: "reach": a place at least 15 cm away, 12 actions. "push": the cube 12 to 16 cm along x
            or y, from a hand behind it, 10 actions. "pick_place": take the cube, carry it at least
            12 cm, put it down; a goal for each.
        robot: draws the goals, in the size of its pictures; it is left at the problem's start.
        seed, number: which one.

    Raises:
        ConfigError: no such problem, or a number is negative.
        RobotError: there are no graphics.
    """
    check_choice("Problem", name, PROBLEMS)
    makers = {"reach": _reach, "push": _push, "pick_place": _pick_place}
    problem = makers[name](robot, seed, number)
    robot.place(problem.start)
    return problem


def expert(problem: Problem, robot: SimulatedArm) -> Script:
    """Actions of a script that knows where everything is: that the problem can be solved."""
    if problem.name == "reach":
        yield from reach_to(robot, problem.place)
    elif problem.name == "push":
        yield from push_to(robot, problem.place[:2])
    else:
        yield from grasp(robot)
        yield from carry(robot, problem.place[:2])
        yield from release(robot, problem.place[:2])


def _reach(robot: SimulatedArm, seed: int, number: int) -> Problem:
    start = random_start(seed, number)
    draws = EpisodeDraws(seed, number, Purpose.GOAL)
    place = start.pose[:3]
    while np.linalg.norm(place - start.pose[:3]) < LEAST_REACH:
        place = draws.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
        if np.hypot(*(place[:2] - start.cube)) < CLEAR:
            place[2] = max(place[2], RAISED)
    goal = _goal(
        robot,
        "reach",
        _pose(place, closed=0.0),
        start.cube,
        turn=start.cube_turn,
        num_actions=REACH_ACTIONS,
    )
    return _problem("reach", seed, number, start, (goal,), place)


def _push(robot: SimulatedArm, seed: int, number: int) -> Problem:
    draws = EpisodeDraws(seed, number, Purpose.GOAL)
    axis, side = draws.below(2), 2 * draws.below(2) - 1
    way = np.zeros(2)
    way[axis] = side
    distance = float(draws.uniform(*PUSH_DISTANCE))
    low, high = np.array(CUBE_LOW), np.array(CUBE_HIGH)
    # Only from where the push does not lead out of the region.
    low[axis] += distance if side < 0 else 0.0
    high[axis] -= distance if side > 0 else 0.0
    cube = draws.uniform(low, high)
    there = cube + distance * way
    hand = cube - (touching(axis) + BEHIND) * way
    start = Start(pose=_pose([*hand, PUSHING_HEIGHT], closed=1.0), cube=(cube[0], cube[1]))
    end = _pose([*(there - touching(axis) * way), PUSHING_HEIGHT], closed=1.0)
    goal = _goal(robot, "push", end, (there[0], there[1]), num_actions=PUSH_ACTIONS)
    return _problem("push", seed, number, start, (goal,), np.array([*there, CUBE_SIDE / 2]))


def _pick_place(robot: SimulatedArm, seed: int, number: int) -> Problem:
    draws = EpisodeDraws(seed, number, Purpose.GOAL)
    cube = there = draws.uniform(CUBE_LOW, CUBE_HIGH)
    while np.linalg.norm(there - cube) < LEAST_CARRY:
        there = draws.uniform(CUBE_LOW, CUBE_HIGH)
    beside = draws.uniform([-0.06, -0.06], [0.06, 0.06])
    here, goal_place = (cube[0], cube[1]), (there[0], there[1])
    start = Start(pose=_pose([*(cube + beside), HIGH_HAND], closed=0.0), cube=here)
    lifted = HIGH_HAND - LOW_HAND + CUBE_SIDE / 2
    shown = (
        ("grasp", _pose([*cube, LOW_HAND], closed=HELD), here, CUBE_SIDE / 2),
        ("carry", _pose([*there, HIGH_HAND], closed=HELD), goal_place, lifted),
        ("place", _pose([*there, LOW_HAND], closed=0.0), goal_place, CUBE_SIDE / 2),
    )
    goals = tuple(
        _goal(robot, name, pose, where, num_actions=count, height=height)
        for (name, pose, where, height), count in zip(shown, PICK_ACTIONS, strict=True)
    )
    place = np.array([*there, CUBE_SIDE / 2])
    return _problem("pick_place", seed, number, start, goals, place)


def _problem(
    name: ProblemName, seed: int, number: int, start: Start, goals: tuple[Goal, ...], place: Numbers
) -> Problem:
    return Problem(name=name, seed=seed, number=number, start=start, goals=goals, place=place)


def _goal(
    robot: SimulatedArm,
    name: str,
    pose: Pose,
    cube: tuple[float, float],
    *,
    num_actions: int,
    turn: float = 0.0,
    height: float = CUBE_SIDE / 2,
) -> Goal:
    """The goal that shows this."""
    robot.place(Start(pose=pose, cube=cube, cube_turn=turn, cube_height=height))
    frame = torch.from_numpy(robot.arm.render(robot.size))
    return Goal(
        name=name,
        frame=frame,
        state=robot.state(),
        cube=torch.from_numpy(robot.cube()).float(),
        num_actions=num_actions,
    )


def _pose(place: Numbers | list[float], *, closed: float) -> Pose:
    return np.array([*place, 0.0, 0.0, 0.0, closed])
