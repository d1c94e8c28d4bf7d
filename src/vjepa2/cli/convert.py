"""`vjepa2 convert`: the same weights in another layout."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import FromKey, Head, Json, Settings


def convert(
    source: Annotated[str, typer.Argument(help="File, folder, hub name or preset.")],
    target: Annotated[str, typer.Argument(help="A folder, or a .pt file for --to meta.")],
    to: Annotated[str, typer.Option(help="Layout to write: hf, meta or vjepa2.")],
    from_key: FromKey = None,
    head: Head = None,
    probe: Annotated[
        str | None, typer.Option(help="Original probe file; makes a classifier of both.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Element type to write. Default: that of the source.")
    ] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a checkpoint there.")] = False,
    json: Json = False,
) -> None:
    """Write a checkpoint in another layout.

    \b
    Examples:
      vjepa2 convert motion-tiny converted --to hf
      vjepa2 convert motion-tiny converted.pt --to meta
    """
    with answering(as_json=json) as answer:
        from vjepa2.tasks.checkpoint_settings import read_assignments
        from vjepa2.tasks.convert_checkpoint import convert_checkpoint

        report = convert_checkpoint(
            source,
            target,
            to=to,
            from_key=from_key,
            head=head,
            probe=probe,
            dtype=dtype,
            overwrite=overwrite,
            settings=read_assignments(settings or ()),
        )
        answer.put(report.as_dict(), text=str(report))
