"""Recipes by name, and the configuration of a run that begins with one or goes on with its own."""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vjepa2.errors import ConfigError, check_choice, check_path
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.pretrain_folder import CONFIG_NAME, is_run, stored_config

Config = TypeVar("Config", bound=StrictConfig)


def named_recipes(kind: type[Config], *modules: ModuleType) -> dict[str, Callable[[], Config]]:
    """The recipes of some modules, alphabetically.

    A recipe is a public function of the module itself that returns `kind` and needs no argument: a
    new one needs no entry elsewhere.

    Args:
        kind: of the configurations.
        modules: where to look.
    """
    found: dict[str, Callable[[], Config]] = {}
    for module in modules:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            signature = inspect.signature(function)
            needs = [p for p in signature.parameters.values() if p.default is p.empty]
            is_own = function.__module__ == module.__name__ and not name.startswith("_")
            if is_own and signature.return_annotation is kind and not needs:
                found[name] = function
    return dict(sorted(found.items()))


def first_lines(recipes: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return {
        name: (inspect.getdoc(function) or "").partition("\n")[0]
        for name, function in recipes.items()
    }


def first_config(
    folder: str | os.PathLike[str],
    kind: type[Config],
    recipes: Mapping[str, Callable[[], Config]],
    *,
    recipe: str | None,
    default: str | None,
    needs: str,
) -> tuple[Config, bool]:
    """The configuration that a run begins with, before any change to it.

    Args:
        folder: of the run.
        kind: of its configuration.
        recipes: by name.
        recipe: the one that was asked for; None: that of the run in `folder`.
        default: the one where there is no run; None where a new run cannot begin.
        needs: what a new run needs, for messages.

    Returns:
        the configuration, and whether it is that of a new run.

    Raises:
        ConfigError: no such recipe, or neither a run nor what a new one needs.
    """
    check_path("The folder of the run (--out)", folder)
    if recipe is not None:
        check_choice("Recipe", recipe, recipes)
        return recipes[recipe](), True
    if (Path(folder) / CONFIG_NAME).exists() or is_run(folder):
        return kind(**stored_config(folder)), False
    if default is None:
        raise ConfigError(f"There is no run in {folder} to go on with. Give {needs} to start one.")
    return recipes[default](), True
