"""The command `vjepa2`. Verbs import torch and FFmpeg when they run, so help comes at once."""

import sys
from typing import Annotated, cast

import typer

from vjepa2._version import __version__
from vjepa2.cli.answer import refuse_usage
from vjepa2.cli.anticipate import anticipate
from vjepa2.cli.classify import classify
from vjepa2.cli.compare import compare
from vjepa2.cli.convert import convert
from vjepa2.cli.demo import demo
from vjepa2.cli.embed import embed
from vjepa2.cli.evaluate import evaluate
from vjepa2.cli.finetune import finetune
from vjepa2.cli.info import info
from vjepa2.cli.inspect import inspect
from vjepa2.cli.plan import plan
from vjepa2.cli.pretrain import pretrain
from vjepa2.cli.probe import probe
from vjepa2.cli.report import report
from vjepa2.cli.world_model import app as world_model

# Plain help: rich would cost more time than everything else here together.
app = typer.Typer(
    name="vjepa2",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vjepa2 {__version__}")
        raise typer.Exit


@app.callback()
def _command(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Understand video with V-JEPA 2: files in, features and labels out.

    \b
    Start with:
      vjepa2 demo
    """


for verb in (
    demo,
    embed,
    classify,
    inspect,
    convert,
    compare,
    pretrain,
    probe,
    finetune,
    anticipate,
    evaluate,
    plan,
    report,
    info,
):
    app.command()(verb)
app.add_typer(world_model, name="world-model")


# Of Click, which typer brings along under another name in each release.
_UsageError = cast(type[Exception], typer.BadParameter.__base__)


def run() -> None:
    """Entry point of the console command."""
    if "--json" not in sys.argv:
        app()
    try:
        code = app(standalone_mode=False)  # errors in the arguments come here
    except _UsageError as error:
        refuse_usage(error)
    sys.exit(code)
