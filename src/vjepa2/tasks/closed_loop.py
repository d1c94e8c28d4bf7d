"""A world model drives the simulated arm: problems by number, attempts, baselines, a film.

    drive("run", "drive", config=DriveConfig(problem="reach", episodes=50))

FOLDER/drive.json           the settings, by which an interrupted run goes on
FOLDER/attempts/NAME-NNNN.json  of every contender and problem, as soon as it is over
FOLDER/results.json         success of every contender, with 95 % intervals
FOLDER/traces/NNNN          of the model's attempts (`planning.trace`)
FOLDER/NNNN.mp4             films: what was seen, the goal, the energy, the plan

A goal is a picture. The model plans towards its features as the published planner does (mean
absolute difference, arXiv:2506.09985, section 4). How near the hand came is read from the
simulator, never from pictures.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from vjepa2.errors import ConfigError, OutputError
from vjepa2.files import write_json
from vjepa2.planning.action_space import ActionSpace, arm_space, published_space
from vjepa2.planning.by_name import PlannerName, make_planner
from vjepa2.planning.mpc import RecedingHorizon
from vjepa2.planning.objective import GoalSchedule, LatentGoal
from vjepa2.planning.safety import SafetyFilter
from vjepa2.progress import track
from vjepa2.scoring.intervals import wilson_interval
from vjepa2.simulation.baselines import Attempt, BaselineName, attempt, baseline_loop
from vjepa2.simulation.film import write_film
from vjepa2.simulation.problems import Problem, ProblemName, make_problem
from vjepa2.simulation.robot import (
    CONTROL_HZ,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    SimulatedArm,
    robot_spec,
    workspace,
)
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.tasks.world_folder import LoadedWorld

MODEL: Literal["model"] = "model"
Contender = Literal["model"] | BaselineName
SETTINGS, ATTEMPTS, RESULTS = "drive.json", "attempts", "results.json"
FILM_SIDE = 384


class DriveConfig(StrictConfig):
    """What is tried, and how it is planned.

    Attributes:
        problem: "reach", "push" or "pick_place".
        episodes: problems 0 to episodes - 1 of the seed.
        seed: of problems and planners.
        planner: see `planning.by_name`.
        axes: what is searched: "position" (x, y, z and the gripper, as published) or "pose" (all
            seven numbers).
        horizon: actions of a plan; only the first is carried out.
        samples, iterations: of the search.
        max_norm: largest movement per axis, metres.
        deadline_seconds: of a plan; None: as long as it takes.
        picture_size: height and width of the camera's pictures.
        baselines: what else is tried on the same problems, with the same `max_norm`.
        baseline_samples, baseline_iterations: of those that search, one step ahead.
        films: episodes of the model that are filmed, from the first on.
    """

    problem: ProblemName = "reach"
    episodes: int = Field(50, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    planner: PlannerName = "cem"
    axes: Literal["position", "pose"] = "position"
    horizon: int = Field(2, ge=1, le=32)
    samples: int = Field(64, ge=4)
    iterations: int = Field(4, ge=1)
    max_norm: float = Field(0.075, gt=0, le=1)
    deadline_seconds: float | None = Field(None, gt=0)
    picture_size: int = Field(96, ge=16, le=512)
    baselines: tuple[BaselineName, ...] = ()
    baseline_samples: int = Field(32, ge=4)
    baseline_iterations: int = Field(4, ge=1)
    films: int = Field(1, ge=0)

    def space(self) -> ActionSpace:
        """What is allowed."""
        if self.axes == "position":
            return published_space(max_norm=self.max_norm)
        return arm_space(max_norm=self.max_norm)


@dataclass(frozen=True, kw_only=True)
class DriveResult:
    """How it went.

    Attributes:
        folder: of everything that was written.
        problem: that was tried.
        contenders: by name: "success" (value, low, high: 95 %, Wilson), "episodes",
            "mean_distance_cm" at the end, "seconds_per_action".
        films: that were written.
    """

    folder: Path
    problem: str
    contenders: dict[str, dict[str, Any]]
    films: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "problem": self.problem,
            "contenders": self.contenders,
            "films": [str(path) for path in self.films],
        }

    def __str__(self) -> str:
        lines = [f"{self.problem}, solved within the allowed actions (95 % interval):"]
        for name, row in self.contenders.items():
            value, low, high = (100 * row["success"][key] for key in ("value", "low", "high"))
            lines.append(
                f"  {name:12} {value:5.1f} % ({low:.0f} to {high:.0f}) of {row['episodes']}, "
                f"{row['mean_distance_cm']:.1f} cm from the goal at the end"
            )
        lines += [f"Film: {path}" for path in self.films[:1]]
        return "\n".join(lines)


def drive(
    world: LoadedWorld,
    folder: str | os.PathLike[str],
    *,
    config: DriveConfig | None = None,
    quiet: bool = False,
) -> DriveResult:
    """Try problems with a model and with baselines; goes on where it was interrupted.

    Args:
        world: see `world_folder.load_world`.
        folder: of the results.
        config: None: 50 times "reach", without baselines.
        quiet: no progress on stderr.

    Raises:
        ConfigError: the model is of another robot, or the folder holds other results.
        MissingExtraError: MuJoCo is not installed.
        OutputError: the folder cannot be written.
        RobotError: there are no graphics.
    """
    config = DriveConfig() if config is None else config
    check_fits(world)
    folder = Path(folder)
    _keep_settings(folder, config, world)
    robot = SimulatedArm(size=config.picture_size, seed=config.seed)
    wanted = [(name, n) for name in (MODEL, *config.baselines) for n in range(config.episodes)]
    missing = [
        (name, number)
        for name, number in wanted
        if not _file(folder, name, number).exists()
        or (name == MODEL and number < config.films and not (folder / _film_name(number)).exists())
    ]
    try:
        for name, number in track(missing, total=len(missing), description="tried", quiet=quiet):
            row = _try(world, robot, folder, config, name, number)
            write_json(_file(folder, name, number), row)
    finally:
        robot.close()
    result = DriveResult(
        folder=folder,
        problem=config.problem,
        contenders={
            name: _summary([_read(_file(folder, name, n)) for n in range(config.episodes)])
            for name in (MODEL, *config.baselines)
        },
        films=tuple(path for n in range(config.films) if (path := folder / _film_name(n)).exists()),
    )
    write_json(folder / RESULTS, result.as_dict())
    return result


def check_fits(world: LoadedWorld) -> None:
    """Refuse a model whose numbers do not mean what those of the simulated arm mean.

    Raises:
        ConfigError: poses, gripper or rate of the model's robot are others.
    """
    draw = np.random.default_rng(0)
    low = (*WORKSPACE_LOW, -0.5, -0.5, -0.5, 0.0)
    high = (*WORKSPACE_HIGH, 0.5, 0.5, 0.5, 1.0)
    poses = draw.uniform(low, high, (8, len(low)))
    advice = "Train on recordings of `vjepa2 world-model collect`, with their robot.json."
    size = (world.world.state_size, world.world.action_size)
    if size != (poses.shape[1], poses.shape[1]):
        raise ConfigError(
            f"The simulated arm has states and actions of {poses.shape[1]} numbers, this model "
            f"states of {size[0]} and actions of {size[1]}. {advice}"
        )
    own, its = robot_spec().states(poses), world.spec.states(poses)
    if not torch.allclose(own, its, rtol=0, atol=1e-4):
        raise ConfigError(
            "This model's robot is not the simulated arm: by its robot.json the pose "
            f"{np.round(own[0].numpy(), 3).tolist()} is {np.round(its[0].numpy(), 3).tolist()}. "
            f"{advice}"
        )
    if abs(world.fps / CONTROL_HZ - 1) > 0.01:
        raise ConfigError(
            f"The simulated arm takes {CONTROL_HZ:g} actions a second, this model predicts steps "
            f"at {world.fps:g} a second. {advice}"
        )


def model_loop(
    world: LoadedWorld, problem: Problem, config: DriveConfig, *, seed: int
) -> RecedingHorizon:
    """Plans of the model towards the pictures of a problem's goals."""
    goals = tuple(LatentGoal(world.encode(goal.frames)[-1]) for goal in problem.goals)
    return RecedingHorizon(
        world.world,
        make_planner(
            config.planner,
            horizon=config.horizon,
            samples=config.samples,
            iterations=config.iterations,
        ),
        config.space(),
        GoalSchedule(goals, counts=tuple(goal.num_actions for goal in problem.goals)),
        pixels=world.pixels,
        safety=SafetyFilter(space=config.space(), workspace=workspace()),
        max_steps=problem.num_actions,
        deadline_seconds=config.deadline_seconds,
        robot_timeout_seconds=None,
        seed=seed,
    )


def _try(
    world: LoadedWorld,
    robot: SimulatedArm,
    folder: Path,
    config: DriveConfig,
    name: Contender,
    number: int,
) -> dict[str, Any]:
    """One attempt, with its trace and film."""
    problem = make_problem(config.problem, robot, seed=config.seed, number=number)
    seed = config.seed * 10_000 + number
    if name != MODEL:
        loop = baseline_loop(
            name,
            problem,
            robot,
            seed=seed,
            samples=config.baseline_samples,
            iterations=config.baseline_iterations,
            max_norm=config.max_norm,
        )
        done = attempt(problem, robot, loop)
        return _row(name, number, done)
    is_filmed = number < config.films
    done = attempt(
        problem,
        robot,
        model_loop(world, problem, config, seed=seed),
        film_size=FILM_SIDE if is_filmed else None,
        trace_folder=folder / "traces" / f"{number:04d}",
    )
    if is_filmed:
        outcome = "reached" if done.success else "missed"
        write_film(
            folder / _film_name(number),
            done.frames,
            done.episode.trace,
            problem.goals,
            project=robot.arm.project,
            title=config.problem,
            ending=f"{outcome}, {100 * done.distance_metres:.1f} cm",
        )
    return _row(name, number, done)


def _row(name: str, number: int, done: Attempt) -> dict[str, Any]:
    return {
        "contender": name,
        "number": number,
        "success": done.success,
        "distance_metres": done.distance_metres,
        "first_distance_metres": done.first_distance_metres,
        "num_actions": done.num_actions,
        "reason": done.reason,
        "error": done.error,
        "seconds_per_action": _seconds(done),
    }


def _seconds(done: Attempt) -> float:
    taken = [step.facts["seconds"] for step in done.episode.trace.steps if "seconds" in step.facts]
    return float(sum(taken) / max(1, len(taken)))


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    solved = sum(row["success"] for row in rows)
    count = len(rows)
    distances = torch.tensor([row["distance_metres"] for row in rows])
    seconds = torch.tensor([row["seconds_per_action"] for row in rows])
    low, high = wilson_interval(solved, count)
    return {
        "success": {"value": solved / count, "low": low, "high": high},
        "episodes": count,
        "mean_distance_cm": round(100 * float(distances.mean()), 2),
        "median_distance_cm": round(100 * float(distances.median()), 2),
        "seconds_per_action": round(float(seconds.mean()), 4),
        "failed": sum(bool(row["error"]) for row in rows),
    }


def _film_name(number: int) -> str:
    return f"{number:04d}.mp4"


def _file(folder: Path, name: str, number: int) -> Path:
    return folder / ATTEMPTS / f"{name}-{number:04d}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path} cannot be read: {error}. Delete it; the attempt is made again."
        ) from error
    return row


def _keep_settings(folder: Path, config: DriveConfig, world: LoadedWorld) -> None:
    """Write down how results come about; refuse to add to results of others.

    More episodes, baselines and films of the same settings are added to what is there.
    """
    may_grow = {"episodes", "baselines", "films"}
    settings = {
        "world": str(world.folder.absolute()),
        "weights": weights_mark(world.world.model.state_dict()),
        **config.model_dump(mode="json", exclude=may_grow),
    }
    path = folder / SETTINGS
    if path.exists():
        there = _read(path)
        if there != settings:
            changed = [name for name in settings if there.get(name) != settings[name]]
            raise ConfigError(
                f"{folder} holds attempts of another model or of other settings: "
                f"{', '.join(changed)} differ (see {SETTINGS} in it). Choose another folder."
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ATTEMPTS).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error}. Choose another folder.") from error
    write_json(path, settings)
