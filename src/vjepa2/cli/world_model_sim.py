"""Verbs of `vjepa2 world-model` that need the simulated arm: collect, drive, demo."""

from pathlib import Path
from typing import Annotated, cast

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Json, Quiet

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a setting: --set films=3"),
]


def collect(
    out: Annotated[Path, typer.Option(help="Folder of the data set.")],
    episodes: Annotated[int, typer.Option(help="How many.")] = 300,
    steps: Annotated[int, typer.Option(help="Actions of each, four a second.")] = 24,
    task: Annotated[
        str, typer.Option(help="wander, turn, reach, push, pick or mixture.")
    ] = "wander",
    size: Annotated[int, typer.Option(help="Height and width of the pictures.")] = 96,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Record the simulated arm, as a LeRobot data set.

    Interrupted, the same command goes on. Needs the extra `sim`.

    \b
    Examples:
      vjepa2 world-model collect --out recordings
      vjepa2 world-model collect --out pushes --task push --episodes 100 --seed 1
    """
    with answering(as_json=json) as answer:
        from vjepa2.simulation import collect as recorder
        from vjepa2.simulation.scripts import Task

        folder = recorder.collect(
            out,
            episodes=episodes,
            steps=steps,
            seed=seed,
            task=cast(Task, task),
            size=size,
            quiet=quiet,
        )
        robot = folder / recorder.ROBOT_NAME
        answer.put(
            {"data": str(folder), "robot": str(robot), "episodes": episodes},
            text=f"{episodes} episodes: {folder}\nRobot: {robot}",
        )


def drive(
    model: Annotated[str, typer.Argument(help="Folder of a world model, or of its run.")],
    out: Annotated[Path, typer.Option(help="Folder of attempts, traces and films.")],
    problem: Annotated[str, typer.Option(help="reach, push or pick_place.")] = "reach",
    episodes: Annotated[int, typer.Option(help="How many problems are tried.")] = 10,
    baselines: Annotated[
        str, typer.Option(help="Also: random,zero,state,true_state,true_pixels")
    ] = "",
    settings: Settings = None,
    device: Device = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Drive the simulated arm to goals given as pictures.

    Interrupted, the same command goes on; with more episodes it adds to those that are there.
    Needs the extra `sim`.

    \b
    Examples:
      vjepa2 world-model drive run --out drive --episodes 50 --baselines random,zero
      vjepa2 world-model drive run --out push --problem push --set planner=mppi
    """
    with answering(as_json=json) as answer:
        from vjepa2.tasks.closed_loop import DriveConfig
        from vjepa2.tasks.closed_loop import drive as run_drive
        from vjepa2.tasks.world_folder import load_world

        names = tuple(name for name in baselines.split(",") if name)
        config = DriveConfig.model_validate(
            {"problem": problem, "episodes": episodes, "baselines": names}
        ).override(settings or ())
        result = run_drive(load_world(model, device=device), out, config=config, quiet=quiet)
        answer.put(result.as_dict(), text=str(result))


def demo(
    out: Annotated[Path, typer.Option(help="Folder of everything.")] = Path("world-demo"),
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Record, learn, judge, drive and film a simulated arm.

    Needs the extra `sim`. Interrupted, the same command goes on.

    \b
    Examples:
      vjepa2 world-model demo
      vjepa2 world-model demo --out demo --set drive.episodes=20
    """
    with answering(as_json=json) as answer:
        from vjepa2.recipes.world_demo import DemoConfig, run_world_demo

        result = run_world_demo(out, config=DemoConfig().override(settings or ()), quiet=quiet)
        answer.put(result.as_dict(), text=str(result))
