"""`vjepa2 inspect`: what a checkpoint is."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import FromKey, Head, Json, Settings


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="File, folder, hub name or preset.")],
    from_key: FromKey = None,
    head: Head = None,
    settings: Settings = None,
    fingerprint: Annotated[
        bool, typer.Option(help="Also load it completely and run it once.")
    ] = True,
    json: Json = False,
) -> None:
    """Say what a checkpoint is and whether it loads.

    \b
    Examples:
      vjepa2 inspect motion-tiny
      vjepa2 inspect motion-tiny --no-fingerprint --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.tasks.checkpoint_settings import read_assignments
        from vjepa2.tasks.inspect_checkpoint import inspect_checkpoint

        facts = inspect_checkpoint(
            checkpoint,
            from_key=from_key,
            head=head,
            fingerprint=fingerprint,
            settings=read_assignments(settings or ()),
        )
        answer.put(facts.as_dict(), text=str(facts), failed=bool(facts.problem))
