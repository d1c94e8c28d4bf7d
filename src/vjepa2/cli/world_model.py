"""`vjepa2 world-model`: world models of robots, from recordings to plans."""

from pathlib import Path
from typing import Annotated, cast

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json, Quiet

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="World models of robots: check recordings.",
)


@app.callback()
def _verbs() -> None:
    """World models of robots: check recordings."""


@app.command("check-data")
def check_data(
    data: Annotated[
        Path, typer.Argument(help="LeRobot folder, DROID folder or list, .npz, or .csv with .mp4.")
    ],
    robot: Annotated[Path, typer.Option(help="What the numbers mean: a RobotSpec as JSON.")],
    out: Annotated[Path | None, typer.Option(help="Page to write, with actions on frames.")] = None,
    layout: Annotated[str, typer.Option(help="auto, lerobot, droid, npz or csv.")] = "auto",
    fps: Annotated[float | None, typer.Option(help="Moments per second to train on.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Check recordings: units, ranges, rates, missing frames, lag.

    The exit code is 1 where something is wrong.

    \b
    Examples:
      vjepa2 world-model check-data DATA --robot robot.json
      vjepa2 world-model check-data DATA --robot robot.json --out page.html --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.data.robot_layouts import RobotLayout, read_episodes
        from vjepa2.data.robot_spec import RobotSpec
        from vjepa2.features.robot_data_page import write_robot_data_page
        from vjepa2.tasks.check_robot_data import check_robot_data

        spec = RobotSpec.from_file(robot)
        kind = cast(RobotLayout, layout)
        report = check_robot_data(data, spec, layout=kind, fps=fps, quiet=quiet)
        values, text = report.values(), report.text()
        if out is not None:
            broken = {finding.episode for finding in report.findings if finding.episode}
            episodes = read_episodes(data, layout=kind)
            names = [name for name in episodes.names if name not in broken]
            episode = episodes[episodes.names.index(names[0])] if names else None
            write_robot_data_page(
                out,
                summary=text.splitlines()[:3],
                rows=report.rows(),
                findings=report.findings,
                episode=episode,
                spec=spec,
            )
            values, text = values | {"page": str(out)}, f"{text}\nPage: {out}"
        answer.put(values, text=text, failed=report.serious)
