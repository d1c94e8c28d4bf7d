"""`vjepa2 plan`: the energy of actions between two recorded frames, and the action a planner takes.

The published example (arXiv:2506.09985, section 4): from the first frame, 5 x 5 x 5 actions that
only move the hand are tried; the energy of each is the mean absolute difference between the
predicted features and those of the second frame. A good model has its minimum near the action that
was really taken. Writes `plan.json` and `plan.safetensors`.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from vjepa2.data.episode_files import read_npz
from vjepa2.data.trajectories import Numbers
from vjepa2.errors import ConfigError, EpisodeError, check_path
from vjepa2.files import atomic_folder, write_json
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.planning.by_name import PlannerName, make_planner, space_for
from vjepa2.planning.objective import LatentGoal
from vjepa2.planning.plan import Plan, cost_of
from vjepa2.poses import POSE_STATE_SIZE, pose_difference
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.world_folder import LoadedWorld, as_world, load_world

WORDS, ARRAYS = "plan.json", "plan.safetensors"


class PlanConfig(StrictConfig):
    """What is tried and searched.

    Attributes:
        planner: "published", "cem", "mppi", "gradient" or "hybrid".
        horizon, samples, iterations: of the planner; None: its defaults.
        max_norm: of a movement, metres; also half the width of the grid.
        points: of the grid along x, y and z.
        reverse: whether time runs backwards.
        deadline_seconds: for the planner; None: none.
        seed: of the planner's random numbers.
    """

    planner: PlannerName = "published"
    horizon: int | None = Field(None, ge=1, le=64)
    samples: int | None = Field(None, ge=1)
    iterations: int | None = Field(None, ge=1)
    max_norm: float = Field(0.075, gt=0, le=1)
    points: int = Field(5, ge=2, le=41)
    reverse: bool = False
    deadline_seconds: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """What was found.

    Attributes:
        folder: with `plan.json` and `plan.safetensors`.
        energies: [points, points, points] over the movement along x, y, z.
        true_action: [7] between the two frames.
        best_action: [7] of the grid's minimum.
        offset_metres: between the positions of these two.
        rank: of the grid point nearest to the true action among all, 0 the best.
        plan: of the planner.
    """

    folder: Path
    energies: Float[Tensor, "x y z"]
    true_action: Float[Tensor, " 7"]
    best_action: Float[Tensor, " 7"]
    offset_metres: float
    rank: int
    plan: Plan

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "true_action": self.true_action.tolist(),
            "best_action": self.best_action.tolist(),
            "offset_centimetres": 100 * self.offset_metres,
            "rank_of_nearest": self.rank,
            "num_points": self.energies.numel(),
            "plan": {
                "actions": self.plan.actions.tolist(),
                "cost": self.plan.cost,
                "samples": self.plan.samples,
                "iterations": self.plan.iterations,
                "seconds": self.plan.seconds,
                "complete": self.plan.complete,
            },
        }

    def __str__(self) -> str:
        return (
            f"True movement:     {_centimetres(self.true_action)}\n"
            f"Energy is least at {_centimetres(self.best_action)}, "
            f"{100 * self.offset_metres:.1f} cm away\n"
            f"Planned:           {_centimetres(self.plan.actions[0])}, gripper "
            f"{self.plan.actions[0, -1].item():+.2f} ({self.plan.samples} samples, "
            f"{self.plan.seconds:.2f} s)"
        )


def _centimetres(action: Tensor) -> str:
    x, y, z = (100 * action[:3]).tolist()
    return f"x {x:+.1f}, y {y:+.1f}, z {z:+.1f} cm"


def plan(
    episode: str | os.PathLike[str],
    model: str | os.PathLike[str] | VJEPA2ActionModel,
    out: str | os.PathLike[str],
    *,
    config: PlanConfig | None = None,
    device: str | None = None,
) -> PlanResult:
    """Compute the energies between the first two frames of an episode, and plan.

    Args:
        episode: `.npz` file of at least two moments, see `data.episode_files`; its states are what
            the robot's specification in the model's folder says they are.
        model: folder, hub name or loaded model with seven actions and states.
        out: folder for the results.
        config: None: the defaults.
        device: None: the best there is; a loaded model stays where it is.

    Raises:
        ConfigError: settings that make no sense, or a model of another robot.
        DataError: the episode cannot be used.
        ShapeError: its states have fewer numbers than the robot's specification names.
        WeightsError: the model cannot be loaded.
        OutputError: the folder cannot be written.
    """
    config = PlanConfig() if config is None else config
    check_path("The folder for the plan", out)
    planner = make_planner(
        config.planner,
        horizon=config.horizon,
        samples=config.samples,
        iterations=config.iterations,
    )
    space = space_for(config.planner, max_norm=config.max_norm)
    frames, recorded = _two_moments(episode, reverse=config.reverse)
    loaded = _loaded(model, device)
    states = loaded.spec.states(recorded)
    # The pictures are seen as the model was trained; a published one sees the whole picture.
    latents = loaded.encode(frames.contiguous())
    situation = loaded.world.begin(latents[:1], states[:1])
    cost = cost_of(loaded.world, situation, LatentGoal(latents[1]))
    axis = torch.linspace(-config.max_norm, config.max_norm, config.points)
    grid = torch.zeros(config.points**3, 1, POSE_STATE_SIZE)
    grid[:, 0, :3] = torch.cartesian_prod(axis, axis, axis)
    begun = time.perf_counter()
    with torch.no_grad():
        energies = cost(grid).float().cpu()
    seconds = time.perf_counter() - begun
    chosen = planner.plan(
        cost,
        space,
        deadline_seconds=config.deadline_seconds,
        generator=torch.Generator().manual_seed(config.seed),
    )
    true = pose_difference(states[0], states[1])
    best = grid[energies.argmin(), 0]
    nearest = (grid[:, 0, :3] - true[:3]).norm(dim=1).argmin()
    result = PlanResult(
        folder=Path(out),
        energies=energies.unflatten(0, (config.points,) * 3),
        true_action=true,
        best_action=best,
        offset_metres=(best[:3] - true[:3]).norm().item(),
        rank=int((energies < energies[nearest]).sum()),
        plan=chosen,
    )
    _write(result, config, axis=axis, grid_seconds=seconds, frames=frames.permute(0, 2, 3, 1))
    return result


def _loaded(model: str | os.PathLike[str] | VJEPA2ActionModel, device: str | None) -> LoadedWorld:
    loaded = (
        as_world(model)
        if isinstance(model, VJEPA2ActionModel)
        else load_world(model, device=device)
    )
    if loaded.spec.kind != "arm_pose":
        raise ConfigError(
            f"This model is of a robot of kind {loaded.spec.kind!r}, with states of "
            f"{loaded.spec.state_size} numbers; the example is of an arm with seven. Use "
            "load_world and a planner in Python."
        )
    if loaded.settings.num_views > 1:
        raise ConfigError(
            f"This model sees the cameras {', '.join(loaded.settings.cameras)} at once; the "
            "example has one. Use load_world and a planner in Python."
        )
    return loaded


def _two_moments(
    path: str | os.PathLike[str], *, reverse: bool
) -> tuple[UInt8[Tensor, "2 C H W"], Numbers]:
    """Pictures and states as recorded: of the first two moments, or of the last two backwards."""
    check_path("The episode", path)
    episode = read_npz(Path(path))[0]
    if len(episode) < 2:
        raise EpisodeError(f"{path} holds one moment; an action lies between two.")
    pair = [len(episode) - 1, len(episode) - 2] if reverse else [0, 1]
    return episode.frames(indices=pair), episode.states[pair]


def _write(
    result: PlanResult,
    config: PlanConfig,
    *,
    axis: Tensor,
    grid_seconds: float,
    frames: UInt8[Tensor, "2 H W 3"],
) -> None:
    words = {
        **result.as_dict(),
        "config": config.model_dump(),
        "axis_metres": axis.tolist(),
        "grid_seconds": grid_seconds,
        "history": [
            {"best_cost": item.best_cost, "samples": item.samples, "seconds": item.seconds}
            for item in result.plan.history
        ],
    }
    arrays = {
        "energies": result.energies.contiguous(),
        "plan": result.plan.actions.contiguous(),
        "frames": frames.contiguous(),
    }
    with atomic_folder(result.folder) as temporary:
        save_file(arrays, temporary / ARRAYS)
        write_json(temporary / WORDS, {**words, "folder": "."})
