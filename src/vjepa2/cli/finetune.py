"""`vjepa2 finetune`: teach a model the classes of labelled videos, encoder included."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json, Quiet


def finetune(
    out: Annotated[str, typer.Option(help="Folder of the run; one that stopped goes on.")] = "",
    train: Annotated[
        str | None,
        typer.Option(help="Labelled videos: a list, or a folder with one folder per class."),
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(help="Others to measure every epoch on; the best epoch is kept."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="Encoder or classifier: hub name, folder, run, published name."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="What is trained and how; --recipes lists them.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Change a setting: --set schedule.epochs=5"
        ),
    ] = None,
    stop_at: Annotated[
        int | None, typer.Option(help="Stop before this update; the same command goes on.")
    ] = None,
    recipes: Annotated[bool, typer.Option("--recipes", help="List the recipes.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train encoder and classifier on labelled videos.

    Interrupted by Ctrl-C, SIGTERM or SIGUSR1 it saves and stops; started again with the same
    --out it goes on where it was. The result is a folder that `vjepa2 classify` takes.

    \b
    Examples:
      vjepa2 finetune --train train.csv --val val.csv --start-from vjepa2-vitl --out run
      vjepa2 finetune --out run
      vjepa2 classify clip.mp4 --model run/model
    """
    with answering(as_json=json) as answer:
        from vjepa2.recipes.finetune import describe_recipes, run_config
        from vjepa2.tasks.finetune import finetune as run_finetuning

        if recipes:
            described = describe_recipes()
            text = "\n".join(f"{name:16} {words}" for name, words in described.items())
            answer.put({"recipes": described}, text=text)
            return
        config = run_config(
            out,
            train=train,
            val=val,
            start_from=start_from,
            recipe=recipe,
            settings=settings or (),
        )
        result = run_finetuning(config, out, stop_at=stop_at, quiet=quiet)
        answer.put(result.as_dict(), text=str(result) if result.is_first else "")
