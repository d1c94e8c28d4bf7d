"""`vjepa2 plan`: which action leads from one recorded frame to the next?"""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Json


def plan(
    episode: Annotated[str, typer.Argument(help="An .npz with observations and states.")],
    model: Annotated[str, typer.Option(help="Folder or hub name of an action-conditioned model.")],
    out: Annotated[str, typer.Option(help="Folder for numbers and page.")],
    planner: Annotated[
        str, typer.Option(help="published, cem, mppi, gradient or hybrid.")
    ] = "published",
    horizon: Annotated[int | None, typer.Option(help="Actions of a plan.")] = None,
    samples: Annotated[int | None, typer.Option(help="Candidates per iteration.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Iterations at most.")] = None,
    max_norm: Annotated[float, typer.Option(help="Largest movement, in metres.")] = 0.075,
    deadline: Annotated[float | None, typer.Option(help="Seconds that planning may take.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Play the episode backwards.")] = False,
    seed: Annotated[int, typer.Option(help="Of the planner's random numbers.")] = 0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Plan an action toward a goal frame, and draw the energy.

    The published planner moves and grips only; the others search rotations too.

    \b
    Examples:
      vjepa2 plan franka_example_traj.npz --model MODEL --out plan
      vjepa2 plan EPISODE.npz --model MODEL --planner cem --deadline 0.2 --out plan
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.plan_report import write_plan_report
        from vjepa2.tasks.plan import PlanConfig
        from vjepa2.tasks.plan import plan as run_plan

        config = PlanConfig().override(
            f"{name}={value}"
            for name, value in {
                "planner": planner,
                "horizon": horizon,
                "samples": samples,
                "iterations": iterations,
                "max_norm": max_norm,
                "deadline_seconds": deadline,
                "reverse": str(reverse).lower(),
                "seed": seed,
            }.items()
            if value is not None
        )
        result = run_plan(episode, model, out, config=config, device=device)
        page = write_plan_report(result.folder)
        answer.put(
            {**result.as_dict(), "report": str(page)},
            text=f"{result}\nReport:            {page}",
        )
