"""`vjepa2 compare`: how two checkpoints differ."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import FromKey, Json, Settings


def compare(
    first: Annotated[str, typer.Argument(help="File, folder, hub name or preset.")],
    second: Annotated[str, typer.Argument(help="Likewise.")],
    from_key: FromKey = None,
    second_key: Annotated[
        str | None, typer.Option(help="As --from-key, for the second checkpoint.")
    ] = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Say how two checkpoints differ.

    Exit code 0 also when they differ; --json has "same".

    \b
    Examples:
      vjepa2 compare motion-tiny motion-tiny
      vjepa2 compare motion-tiny motion-tiny --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.tasks.checkpoint_settings import read_assignments
        from vjepa2.tasks.compare_checkpoints import compare_checkpoints

        comparison = compare_checkpoints(
            first,
            second,
            from_key=from_key,
            second_key=second_key,
            settings=read_assignments(settings or ()),
        )
        answer.put(comparison.as_dict(), text=str(comparison))
