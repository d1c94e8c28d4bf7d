"""`vjepa2 probe`: teach a frozen encoder's features the classes of labelled videos."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json, Quiet
from vjepa2.cli.run_options import Changes, ListRecipes, RunFolder, StopAt, put_recipes


def probe(
    out: RunFolder = "",
    train: Annotated[
        str | None,
        typer.Option(help="Labelled videos: a list, or a folder with one folder per class."),
    ] = None,
    val: Annotated[
        str | None, typer.Option(help="Others, by which the best of all heads is chosen.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Others still: the chosen head's number to report.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Encoder: hub name, folder, run, published name.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Clips, heads and rates; --recipes lists them.")
    ] = None,
    settings: Changes = None,
    stop_at: StopAt = None,
    recipes: ListRecipes = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a classifier on a frozen encoder: many rates at once.

    Interrupted by Ctrl-C, SIGTERM or SIGUSR1 it saves and stops; started again with the same
    --out it goes on where it was. The result is a folder that `vjepa2 classify` takes.

    \b
    Examples:
      vjepa2 probe --train train.csv --val val.csv --model vjepa2-vitl --out run
      vjepa2 probe --out run
      vjepa2 classify clip.mp4 --model run/model
    """
    with answering(as_json=json) as answer:
        from vjepa2.recipes.probe import describe_recipes, run_config
        from vjepa2.tasks.probe import probe as run_probe

        if recipes:
            put_recipes(answer, describe_recipes())
            return
        config = run_config(
            out,
            train=train,
            val=val,
            test=test,
            model=model,
            recipe=recipe,
            settings=settings or (),
        )
        result = run_probe(config, out, stop_at=stop_at, quiet=quiet)
        answer.put(result.as_dict(), text=str(result))
