"""What the arm does while it is recorded: wandering, reaching, pushing, picking.

A script is a generator of actions [7]; it looks at the robot before each one. It never ends: what
it was about is done again with something else.
"""

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from vjepa2.errors import check_choice
from vjepa2.simulation.draws import EpisodeDraws, Purpose
from vjepa2.simulation.robot import WORKSPACE_HIGH, WORKSPACE_LOW, SimulatedArm
from vjepa2.simulation.scene import CUBE_SIDE

Task = Literal["wander", "turn", "reach", "push", "pick", "mixture"]
TASKS: tuple[str, ...] = get_args(Task)
WORDS = {
    "wander": "move around",
    "turn": "move and turn around",
    "reach": "reach a place",
    "push": "push the cube",
    "pick": "pick up the cube and put it down",
}
# How often each is part of a mixture.
SHARES = {"wander": 0.45, "reach": 0.2, "push": 0.2, "pick": 0.15}

Action = Float64[np.ndarray, "7"]
Script = Iterator[Action]
Numbers = NDArray[np.float64]

# Metres per action and axis.
LONGEST = 0.075
# Of wandering: what is kept of the last move, and the deviation of what is added.
KEPT, ADDED = 0.7, 0.04
TURN_KEPT, TURN_ADDED, TURN_LONGEST = 0.7, 0.08, 0.2
TILT, TURN = 0.35, 0.9
GRIPPER_CHANCE = 0.15
# Of movements towards a place: deviation of what goes wrong, and when the place is reached.
NOISE, REACHED = 0.004, 0.012

LOW_HAND, PUSHING_HEIGHT, HIGH_HAND = 0.022, 0.028, 0.14
BESIDE = 0.085  # from the cube's centre, where a push begins
GOAL_LOW, GOAL_HIGH = (0.38, -0.14), (0.64, 0.14)
SCRIPT_TRIES = 20


def script(task: Task, robot: SimulatedArm, *, seed: int, episode: int) -> tuple[str, Script]:
    """The actions of an episode, and what is done in words.

    Args:
        task: of `TASKS`; of "mixture" the episode's number decides which.
        robot: at its start.
        seed, episode: decide every random number.

    Raises:
        ConfigError: no such task.
    """
    check_choice("Task", task, TASKS)
    chosen: str = task
    if task == "mixture":
        at = float(EpisodeDraws(seed, episode, Purpose.CHOICE).uniform())
        ends = np.cumsum(list(SHARES.values()))
        chosen = list(SHARES)[int(np.searchsorted(ends, at, side="right").clip(0, len(ends) - 1))]
    makers: dict[str, Callable[[SimulatedArm, EpisodeDraws], Script]] = {
        "wander": _wander,
        "turn": _turn,
        "reach": _reach,
        "push": _push,
        "pick": _pick,
    }
    return WORDS[chosen], makers[chosen](robot, EpisodeDraws(seed, episode, Purpose.SCRIPT))


def _wander(robot: SimulatedArm, draws: EpisodeDraws) -> Script:
    """Moves that are like the one before (an Ornstein-Uhlenbeck process), turned at the borders."""
    move = ADDED * draws.normal(3)
    while True:
        action = np.zeros(7)
        move = _inside(robot.pose()[:3], move)
        action[:3] = move
        action[6] = _open_or_close(robot, draws)
        yield action
        move = KEPT * move + ADDED * draws.normal(3)


def _turn(robot: SimulatedArm, draws: EpisodeDraws) -> Script:
    """Wandering of position and orientation."""
    turning = np.zeros(3)
    for action in _wander(robot, draws):
        turning = TURN_KEPT * turning + TURN_ADDED * draws.normal(3)
        angles = robot.pose()[3:6]
        most = np.array([TILT, TILT, TURN])
        turning = np.where(np.abs(angles + turning) > most, -turning, turning)
        action[3:6] = turning.clip(-TURN_LONGEST, TURN_LONGEST)
        yield action


def _reach(robot: SimulatedArm, draws: EpisodeDraws) -> Script:
    """One place after the other."""
    while True:
        place = draws.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
        yield from _go(robot, draws, place, closed=float(draws.below(2)))
        for _ in range(draws.below(3)):
            yield np.zeros(7)


def reach_to(
    robot: SimulatedArm, place: Float64[np.ndarray, "3"], draws: EpisodeDraws | None = None
) -> Script:
    """Go straight to a place with the hand as it is."""
    yield from _go(robot, draws, place, closed=float(robot.pose()[6]))


def _push(robot: SimulatedArm, draws: EpisodeDraws) -> Script:
    """Go beside the cube, down, and push it towards a place; then to another one."""
    while True:
        goal = draws.uniform(GOAL_LOW, GOAL_HIGH)
        yield from push_to(robot, goal, draws)
        yield from _go(robot, draws, np.array([*robot.pose()[:2], HIGH_HAND]), closed=1.0)


def push_to(
    robot: SimulatedArm, goal: Float64[np.ndarray, "2"], draws: EpisodeDraws | None = None
) -> Script:
    """Push the cube from where it is to a place on the table, by its nearest side: along x or y,
    whichever is farther.

    Args:
        robot: with any pose.
        goal: x and y of the cube.
        draws: of small mistakes; None: none.
    """
    for _ in range(SCRIPT_TRIES):
        cube = robot.cube()[:2]
        away = goal - cube
        if np.abs(away).max() < REACHED:
            return
        axis = int(np.abs(away).argmax())
        way = np.zeros(2)
        way[axis] = np.sign(away[axis])
        begin, end = cube - BESIDE * way, cube + way * (np.abs(away[axis]) - touching(axis))
        if robot.pose()[2] < HIGH_HAND - 2 * REACHED:
            yield from _go(robot, draws, np.array([*robot.pose()[:2], HIGH_HAND]), closed=1.0)
        yield from _go(robot, draws, np.array([*begin, HIGH_HAND]), closed=1.0)
        yield from _go(robot, draws, np.array([*begin, PUSHING_HEIGHT]), closed=1.0)
        yield from _go(robot, draws, np.array([*end, PUSHING_HEIGHT]), closed=1.0, longest=0.05)


def touching(axis: int) -> float:
    """Metres between the centres of a closed hand and a cube that it pushes along x or y."""
    return CUBE_SIDE / 2 + (0.02, 0.024)[axis]


def _pick(robot: SimulatedArm, draws: EpisodeDraws) -> Script:
    """Take the cube, carry it to another place, put it down."""
    while True:
        goal = draws.uniform(GOAL_LOW, GOAL_HIGH)
        yield from grasp(robot, draws)
        yield from carry(robot, goal, draws)
        yield from release(robot, goal, draws)
        yield from _go(robot, draws, np.array([*goal, HIGH_HAND]), closed=0.0)


def grasp(robot: SimulatedArm, draws: EpisodeDraws | None = None) -> Script:
    """Close the hand around the cube where it lies."""
    x, y = robot.cube()[:2].tolist()
    yield from _go(robot, draws, np.array([x, y, HIGH_HAND]), closed=0.0)
    yield from _go(robot, draws, np.array([x, y, LOW_HAND]), closed=0.0)
    for _ in range(2):
        yield _gripper_only(robot, 1.0)


def carry(
    robot: SimulatedArm, goal: Float64[np.ndarray, "2"], draws: EpisodeDraws | None = None
) -> Script:
    """Lift what the hand holds, and bring it above a place."""
    yield from _go(robot, draws, np.array([*robot.pose()[:2], HIGH_HAND]), closed=1.0)
    yield from _go(robot, draws, np.array([*goal, HIGH_HAND]), closed=1.0)


def release(
    robot: SimulatedArm, goal: Float64[np.ndarray, "2"], draws: EpisodeDraws | None = None
) -> Script:
    """Put the cube down at a place, and let go."""
    yield from _go(robot, draws, np.array([*goal, LOW_HAND + 0.004]), closed=1.0)
    for _ in range(2):
        yield _gripper_only(robot, 0.0)


def _go(
    robot: SimulatedArm,
    draws: EpisodeDraws | None,
    place: Numbers,
    *,
    closed: float,
    longest: float = LONGEST,
) -> Script:
    """Straight to a place, upright, with small mistakes that the next action mends."""
    place = place.clip(WORKSPACE_LOW, WORKSPACE_HIGH)
    for _ in range(SCRIPT_TRIES):
        away = place - robot.pose()[:3]
        if np.abs(away).max() < REACHED:
            return
        action = _gripper_only(robot, closed)
        action[:3] = away * min(1.0, longest / np.abs(away).max())
        if draws is not None:
            action[:3] += NOISE * draws.normal(3)
        yield action


def _gripper_only(robot: SimulatedArm, closed: float) -> Action:
    action = np.zeros(7)
    change = closed - robot.pose()[6]
    action[6] = change if abs(change) > 0.05 else 0.0
    return action


def _inside(place: Numbers, move: Numbers) -> Numbers:
    """A move that does not leave the workspace: turned round where it would."""
    after = place + move
    outside = (after < WORKSPACE_LOW) | (after > WORKSPACE_HIGH)
    turned: Numbers = np.where(outside, -move, move).clip(-LONGEST, LONGEST)
    return turned


def _open_or_close(robot: SimulatedArm, draws: EpisodeDraws) -> float:
    chance, wanted = draws.uniform([0, 0], [1, 1]).tolist()
    return wanted - float(robot.pose()[6]) if chance < GRIPPER_CHANCE else 0.0
