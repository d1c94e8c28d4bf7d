"""`vjepa2 world-model`: world models of robots, from recordings to plans."""

from pathlib import Path
from typing import Annotated, cast

import typer

from vjepa2.cli import world_model_sim
from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Json, Quiet
from vjepa2.cli.run_options import Changes, ListRecipes, RunFolder, StopAt, put_recipes

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="World models of robots: record, check, train, judge, drive.",
)


@app.callback()
def _verbs() -> None:
    """World models of robots: record, check, train, judge, drive."""


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
            episodes = read_episodes(data, layout=kind, fps=spec.control_rate_hz)
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


@app.command("train")
def train(
    out: RunFolder = "",
    data: Annotated[
        str | None,
        typer.Option(
            help="Recordings: LeRobot folder, DROID folder or list, .npz, .csv with .mp4."
        ),
    ] = None,
    robot: Annotated[
        Path | None, typer.Option(help="What the numbers mean: a RobotSpec as JSON.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Of the frames, frozen: published name, folder, pretraining run."),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option(help="Action-conditioned model to train on: name, folder, run.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Sizes and schedule. Default: tiny_cpu, on a GPU one_gpu.")
    ] = None,
    settings: Changes = None,
    stop_at: StopAt = None,
    recipes: ListRecipes = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn what actions lead to, from recordings of a robot.

    Interrupted by Ctrl-C, SIGTERM or SIGUSR1 it saves and stops; started again with the same
    --out it goes on where it was. The result is a folder that `vjepa2 plan` takes.

    \b
    Examples:
      vjepa2 world-model train --data DATA --robot robot.json --encoder vjepa2-vitl --out run
      vjepa2 world-model train --out run
    """
    with answering(as_json=json) as answer:
        from vjepa2.recipes.world_model import describe_recipes, run_config
        from vjepa2.tasks.world_model import train_world_model

        if recipes:
            put_recipes(answer, describe_recipes())
            return
        config = run_config(
            out,
            data=data,
            robot=robot,
            encoder=encoder,
            start_from=start_from,
            recipe=recipe,
            settings=settings or (),
        )
        result = train_world_model(config, out, stop_at=stop_at, quiet=quiet)
        answer.put(result.as_dict(), text=str(result) if result.is_first else "")


@app.command("report")
def report(
    model: Annotated[str, typer.Argument(help="Folder of a world model or of its run, or a name.")],
    data: Annotated[
        Path, typer.Argument(help="Recordings, best some that the model has not seen.")
    ],
    robot: Annotated[
        Path | None, typer.Option(help="RobotSpec of the recordings. Default: as in training.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    layout: Annotated[str, typer.Option(help="auto, lerobot, droid, npz or csv.")] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a size: --set starts=32"),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Judge a world model offline, and the recordings with it.

    The exit code is 1 where something is wrong with the data. The score ranks models on the same
    recordings. Exchanged axes or mirrored pictures are found by a model of sound data only.

    \b
    Examples:
      vjepa2 world-model report run DATA
      vjepa2 world-model report run DATA --robot robot.json --out page.html --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.data.robot_layouts import RobotLayout
        from vjepa2.data.robot_spec import RobotSpec
        from vjepa2.features.report_card_page import write_report_card_page
        from vjepa2.tasks.report_card import report_card
        from vjepa2.tasks.report_card_config import ReportCardConfig
        from vjepa2.tasks.world_folder import load_world

        config = ReportCardConfig().override(settings or ())
        spec = None if robot is None else RobotSpec.from_file(robot)
        card = report_card(
            load_world(model, device=device),
            data,
            spec,
            layout=cast(RobotLayout, layout),
            config=config,
            quiet=quiet,
        )
        values, text = card.values(), card.text()
        if out is not None:
            write_report_card_page(
                out,
                model=model,
                data=str(data),
                rows=card.rows(),
                verdict=card.verdict,
                findings=card.findings,
                errors=card.errors(),
                curves=card.curves(),
                lags=card.inverse.lags,
                landscape=card.example,
            )
            values, text = values | {"page": str(out)}, f"{text}\nPage: {out}"
        answer.put(values, text=text, failed=card.serious)


app.command("collect")(world_model_sim.collect)
app.command("drive")(world_model_sim.drive)
app.command("demo")(world_model_sim.demo)
