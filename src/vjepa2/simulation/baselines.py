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

import os
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.errors import check_choice
from vjepa2.planning.action_space import ActionSpace, published_space
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.mpc import Episode, RecedingHorizon
from vjepa2.planning.objective import GoalSchedule, LatentGoal, StateGoal
from vjepa2.planning.plan import Cost, Plan, Planner, checked_warm_start
from vjepa2.protocols import Objective, WorldModel
from vjepa2.simulation.film import FilmedRobot
from vjepa2.simulation.problems import Problem
from vjepa2.simulation.robot import SimulatedArm
from vjepa2.simulation.true_world import StateWorld, TrueWorld, picture

BaselineName = Literal["random", "zero", "state", "true_state", "true_pixels"]
BASELINES: tuple[str, ...] = get_args(BaselineName)

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


# -- how well they do -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How a problem went.

    Attributes:
        success: see `Problem.success`, after the last action.
        distance_metres, first_distance_metres: at the end and at the start.
        num_actions: that were taken.
        reason, error: of the loop, see `planning.mpc.Episode`.
        episode: of the loop, with its trace.
        frames: uint8 [H, W, 3], one per step of the trace; none where nothing was filmed.
    """

    success: bool
    distance_metres: float
    first_distance_metres: float
    num_actions: int
    reason: str
    error: str
    episode: Episode
    frames: tuple[UInt8[Tensor, "H W 3"], ...]


def attempt(
    problem: Problem,
    robot: SimulatedArm,
    loop: RecedingHorizon,
    *,
    film_size: int | None = None,
    trace_folder: str | os.PathLike[str] | None = None,
) -> Attempt:
    """Let a loop drive the robot from a problem's start.

    Args:
        problem: of this robot.
        robot: is left where the attempt ends.
        loop: for the problem.
        film_size: height and width of pictures to keep for `film.write_film`; None: none.
        trace_folder: where the trace is saved; None: nowhere.

    Raises:
        OutputError: the trace cannot be written.
    """
    robot.start = problem.start
    robot.place(problem.start)
    first = problem.distance_metres(robot)
    if film_size is None:
        frames: list[UInt8[Tensor, "H W 3"]] = []
        episode = loop.run(robot, trace_folder=trace_folder)
    else:
        filmed = FilmedRobot(robot, look=lambda: robot.arm.render(film_size))
        episode = loop.run(filmed, trace_folder=trace_folder)
        frames = filmed.frames
    return Attempt(
        success=problem.success(robot),
        distance_metres=problem.distance_metres(robot),
        first_distance_metres=first,
        num_actions=sum(step.action is not None for step in episode.trace.steps),
        reason=episode.reason,
        error=episode.error,
        episode=episode,
        frames=tuple(frames),
    )


def baseline_loop(
    name: BaselineName,
    problem: Problem,
    robot: SimulatedArm,
    *,
    seed: int = 0,
    samples: int = 32,
    iterations: int = 4,
    max_norm: float = LONGEST,
) -> RecedingHorizon:
    """A baseline for a problem, with the published kind of actions: x, y, z and the gripper.

    Args:
        name: of `BASELINES`.
        problem: of this robot.
        seed: of its random numbers.
        samples, iterations: of the search, one step ahead.
        max_norm: largest movement per axis, metres. The arm keeps to its workspace by itself.

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
        published_space(max_norm=max_norm),
        GoalSchedule(objectives, counts=tuple(goal.num_actions for goal in problem.goals)),
        pixels=picture,
        max_steps=problem.num_actions,
        robot_timeout_seconds=None,
        seed=seed,
    )
