"""`vjepa2 anticipate`: what comes next in videos, and learning to tell."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Json, Quiet
from vjepa2.cli.run_options import Changes, ListRecipes, RunFolder, StopAt, put_recipes


def anticipate(
    files: Annotated[
        list[str] | None, typer.Argument(help="Videos to look at; none to learn.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model that anticipates; to learn: encoder and predictor."),
    ] = None,
    every: Annotated[float, typer.Option(help="Seconds from one moment to the next.")] = 1.0,
    horizons: Annotated[
        str | None, typer.Option(help="Seconds into the future: 1,2,4 (default).")
    ] = None,
    top: Annotated[int, typer.Option(help="Labels to give of each head.")] = 5,
    probe: Annotated[
        str | None, typer.Option(help="Published probe to put on --model; needs --labels.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="labels.json with the classes of --probe, in its order.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Learn: list of events, with start_seconds and labels.")
    ] = None,
    val: Annotated[str | None, typer.Option(help="Events to measure on.")] = None,
    out: RunFolder = "",
    recipe: Annotated[str | None, typer.Option(help="How to learn; --recipes lists them.")] = None,
    settings: Changes = None,
    stop_at: StopAt = None,
    recipes: ListRecipes = False,
    page: Annotated[
        str | None, typer.Option(help="HTML page on the videos; a run has its own, report.html.")
    ] = None,
    quiet: Quiet = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Tell what will begin in a video soon, or learn to.

    At every moment only frames that are over by then are looked at. Results of learning come with
    those of the encoder alone, the predictor alone, chance and the label prior.

    \b
    Examples:
      vjepa2 anticipate --train train.csv --val val.csv --model vjepa2-vitl --out run
      vjepa2 anticipate clip.mp4 --model run/model --every 1 --horizons 1,2,4
    """
    with answering(as_json=json) as answer:
        from pathlib import Path

        from vjepa2.features.anticipation_report import write_forecast_page, write_table_page
        from vjepa2.recipes.anticipate import describe_recipes, run_config
        from vjepa2.tasks.anticipate import learn_to_anticipate
        from vjepa2.tasks.anticipate_files import anticipate_files, open_model, read_horizons

        if recipes:
            put_recipes(answer, describe_recipes())
            return
        if not files:
            config = run_config(
                out,
                train=train,
                val=val,
                model=model,
                recipe=recipe,
                horizons=read_horizons(horizons, default=()),
                settings=settings or (),
            )
            result = learn_to_anticipate(config, out, stop_at=stop_at, quiet=quiet)
            values, text = result.as_dict(), str(result)
            if result.model is not None:
                values["report"] = str(write_table_page(values, Path(out) / "report.html"))
                text = f"{text}\nReport: {values['report']}"
            # As `vjepa2 evaluate` does with the same findings; the model is saved all the same.
            wrong = any(finding.severity == "error" for finding in result.findings)
            answer.put(values, text=text, failed=wrong)
            return
        report = anticipate_files(
            files,
            open_model(model, probe=probe, labels=labels, device=device),
            every=every,
            horizons=read_horizons(horizons),
            top_k=top,
            quiet=quiet,
        )
        answer.warn(report.failed)
        values, text = report.as_dict(), str(report)
        if page is not None:
            values["report"] = str(write_forecast_page(values, page))
            text = f"{text}\nReport: {page}"
        answer.put(values, text=text, failed=bool(report.failed))
