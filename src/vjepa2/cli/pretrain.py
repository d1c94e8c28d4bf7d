"""`vjepa2 pretrain`: learn an encoder from unlabelled videos."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json, Quiet
from vjepa2.cli.run_options import Changes, ListRecipes, RunFolder, StopAt, put_recipes


def pretrain(
    out: RunFolder = "",
    data: Annotated[
        list[str] | None,
        typer.Option(help="Folder, list or shards of videos. Repeatable. Not needed to go on."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="What to train and how; --recipes lists them.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Of published recipes: paper, or published_config where that differs."),
    ] = None,
    settings: Changes = None,
    stop_at: StopAt = None,
    export: Annotated[
        str | None,
        typer.Option(help="Only write the model of a checkpoint: best, healthy, latest or N."),
    ] = None,
    recipes: ListRecipes = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn an encoder from unlabelled videos.

    Interrupted by Ctrl-C, SIGTERM or SIGUSR1 it saves and stops; started again with the same
    --out it goes on where it was. Several processes: torchrun --nproc-per-node N --no-python
    vjepa2 pretrain ...

    \b
    Examples:
      vjepa2 pretrain --data videos/ --recipe tiny_cpu --out run
      vjepa2 pretrain --out run
      vjepa2 report run
    """
    with answering(as_json=json) as answer:
        from vjepa2.errors import ConfigError
        from vjepa2.recipes.pretrain import describe_recipes, run_config
        from vjepa2.tasks.pretrain import pretrain as run_pretraining

        if recipes:
            put_recipes(answer, describe_recipes())
            return
        if not out:
            raise ConfigError("Name the folder of the run: --out RUN.")
        if export is not None:
            from vjepa2.tasks.pretrain_export import export_checkpoint

            model = str(export_checkpoint(out, export))
            answer.put({"model": model}, text=f"Model:  {model}")
            return
        config = run_config(out, data=data or (), recipe=recipe, mode=mode, settings=settings or ())
        result = run_pretraining(config, out, stop_at=stop_at, quiet=quiet)
        answer.put(
            result.as_dict(),
            text=str(result) if result.is_first else "",
            failed=result.reason == "alarm",
        )
