"""What the verbs that train share: options, and the list of recipes."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vjepa2.cli.answer import Answer

RunFolder = Annotated[str, typer.Option(help="Folder of the run; one that stopped goes on.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a setting: --set schedule.lr=1e-4"),
]
StopAt = Annotated[
    int | None, typer.Option(help="Stop before this update; the same command goes on.")
]
ListRecipes = Annotated[bool, typer.Option("--recipes", help="List the recipes.")]


def put_recipes(answer: Answer, described: Mapping[str, str]) -> None:
    """Answer with all recipes, one a line with its first sentence."""
    width = max(map(len, described))
    text = "\n".join(f"{name:{width}} {words}" for name, words in described.items())
    answer.put({"recipes": dict(described)}, text=text)
