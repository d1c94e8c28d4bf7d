"""`vjepa2 finetune`: teach a model the classes of labelled videos, encoder included."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json, Quiet
from vjepa2.cli.run_options import Changes, ListRecipes, RunFolder, StopAt, put_recipes


def finetune(
    out: RunFolder = "",
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
    settings: Changes = None,
    stop_at: StopAt = None,
    recipes: ListRecipes = False,
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
            put_recipes(answer, describe_recipes())
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
