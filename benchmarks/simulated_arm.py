"""World models that drive the simulated arm: success, and whether the report card ranks them.

    python -m benchmarks.simulated_arm --work DIR --part drive     # goes on where it stopped
    python -m benchmarks.simulated_arm --work DIR --part rank

drive   Recipe `simulated_arm` learns from recordings of a mixture of scripted work. It then tries
        50 problems "reach", 30 "push" and 30 "pick_place" to goals given as pictures, beside
        random actions, none, a search by state, and two searches with the simulator itself.
rank    Models of different quality (stopped early, small pictures, few recordings, actions that
        belong to other moments) are scored by their report card on held-out
        recordings and try the same 20 problems "reach"; Spearman's correlation of score and share
        of solved problems, and of score and final distance.

Needs the extra `sim` and graphics; everything runs on one core of a CPU.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import parser, save
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.files import write_json
from vjepa2.recipes.world_model import run_config
from vjepa2.simulation.baselines import BaselineName
from vjepa2.simulation.collect import ROBOT_NAME, collect
from vjepa2.simulation.problems import PROBLEMS
from vjepa2.tasks.closed_loop import DriveConfig, drive
from vjepa2.tasks.report_card import report_card
from vjepa2.tasks.world_folder import load_world
from vjepa2.tasks.world_model import train_world_model

EPISODES, STEPS, SIZE = 400, 24, 96
HELD_OUT_SEED, HELD_OUT = 1_000_003, 24
# With the simulator itself every action costs a search of seconds: of reaching only.
DRIVES = {"reach": 50, "push": 30, "pick_place": 30}
BASELINES: dict[str, tuple[BaselineName, ...]] = {
    "reach": ("random", "zero", "state", "true_state", "true_pixels"),
    "push": ("random", "zero", "true_state"),
    "pick_place": ("random", "zero", "true_state"),
}
PLANNING = {"horizon": 1, "samples": 64, "iterations": 4}
RANK_EPISODES, RANK_SEED = 20, 7
# Updates, changes of the recipe, how many recordings, and what is done to them.
MODELS: dict[str, tuple[int, tuple[str, ...], int, str]] = {
    "untrained": (1, (), EPISODES, ""),
    "15 updates": (15, (), EPISODES, ""),
    "40 updates": (40, (), EPISODES, ""),
    "100 updates": (100, (), EPISODES, ""),
    "250 updates": (250, (), EPISODES, ""),
    "2000 updates": (2000, (), EPISODES, ""),
    "48 px": (150, ("crop_size=48",), EPISODES, ""),
    "10 recordings": (120, (), 10, ""),
    "shuffled actions": (120, (), 100, "shuffled"),
}


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of ranks; equal values share their mean rank."""

    def ranks(values: Sequence[float]) -> np.ndarray:
        array = np.asarray(values)
        return np.array(
            [(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array]
        )

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def recordings(work: Path, *, held_out: bool = False) -> Path:
    """Recorded where they are missing."""
    return collect(
        work / ("held_out" if held_out else "recordings"),
        episodes=HELD_OUT if held_out else EPISODES,
        steps=STEPS,
        seed=HELD_OUT_SEED if held_out else 0,
        task="mixture",
        size=SIZE,
    )


def robot_of(data: Path) -> Path:
    """Where the specification of a set lies."""
    inside = data / ROBOT_NAME
    return inside if inside.exists() else data.with_name(f"{data.name}-{ROBOT_NAME}")


def spoiled(data: Path, folder: Path, *, count: int, how: str) -> Path:
    """Recordings as .npz files, some of them or spoiled."""
    from vjepa2.data.robot_layouts import read_episodes

    if folder.exists():
        return folder
    generator = np.random.default_rng(0)
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    episodes = read_episodes(data)
    for number in range(count):
        episode = episodes[number]
        frames = episode.frames(None).permute(0, 2, 3, 1).numpy()
        states = np.asarray(episode.states)
        if how == "shuffled":
            # States that belong to other moments: what is derived from them are other actions.
            states = states[generator.permutation(len(states))]
        np.savez(making / f"{number:04d}.npz", observations=frames, states=states)
    # The pictures of such files belong to a camera without a name.
    spec = RobotSpec.from_file(data / ROBOT_NAME).model_copy(update={"camera": None})
    write_json(robot_of(folder), spec.model_dump())
    making.rename(folder)
    return folder


def train(work: Path, name: str, *, data: Path, updates: int, settings: Sequence[str]) -> Path:
    """A run of the recipe; its folder."""
    run = work / name.replace(" ", "-")
    if not (run / "model").is_dir():
        # Frames are encoded once for all models that see them in the same way.
        latents = work / "-".join(["latents", data.name, *settings]).replace("=", "-")
        config = run_config(
            run,
            data=str(data),
            robot=robot_of(data),
            recipe="simulated_arm",
            settings=[
                *settings,
                f"schedule.num_steps={updates}",
                "health.every=100",
                f"cache.folder={latents}",
            ],
        )
        train_world_model(config, run)
    return run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--work", type=Path, required=True, help="folder of everything")
    arguments.add_argument("--part", choices=("drive", "rank"), required=True)
    arguments.add_argument("--updates", type=int, default=1500, help="of the model that drives")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    data, held_out = recordings(given.work), recordings(given.work, held_out=True)
    if given.part == "drive":
        run = train(given.work, "run", data=data, updates=given.updates, settings=())
        world = load_world(run)
        card = report_card(world, held_out)
        results: dict[str, Any] = {
            "updates": given.updates,
            "recordings": [EPISODES, STEPS],
            "planning": PLANNING,
            "score": card.score,
            "card": {name: value for name, value in card.values().items() if name != "path"},
        }
        for problem in PROBLEMS:
            config = DriveConfig(
                problem=problem,
                episodes=DRIVES[problem],
                baselines=BASELINES[problem],
                picture_size=SIZE,
                **PLANNING,
            )
            driven = drive(world, given.work / problem, config=config)
            print(driven)
            results[problem] = driven.contenders
        save("simulated_arm", results)
        return
    rows = []
    for name, (updates, settings, count, how) in MODELS.items():
        own = data
        if how or count < EPISODES:
            own = spoiled(data, given.work / f"data-{how or count}", count=count, how=how)
        run = train(given.work, name, data=own, updates=updates, settings=settings)
        world = load_world(run)
        config = DriveConfig(
            episodes=RANK_EPISODES, seed=RANK_SEED, films=0, picture_size=SIZE, **PLANNING
        )
        driven = drive(world, given.work / f"drive-{run.name}", config=config, quiet=True)
        row = driven.contenders["model"]
        rows.append(
            {
                "model": name,
                "score": report_card(world, held_out).score,
                "success": row["success"]["value"],
                "mean_distance_cm": row["mean_distance_cm"],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    scores = [row["score"] for row in rows]
    results = {
        "episodes": RANK_EPISODES,
        "rows": rows,
        "spearman_success": spearman(scores, [row["success"] for row in rows]),
        "spearman_distance": -spearman(scores, [row["mean_distance_cm"] for row in rows]),
    }
    print(results["spearman_success"], results["spearman_distance"])
    save("world_model_ranking", results)


if __name__ == "__main__":
    main()
