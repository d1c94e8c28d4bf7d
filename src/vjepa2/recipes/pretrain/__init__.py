"""Recipes of self-supervised pretraining.

Every public function in these modules that returns a `PretrainConfig` is a recipe, found by its
name: a new one needs no entry elsewhere.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from vjepa2.errors import ConfigError, UnknownOptionError, check_choice, nearest_hint
from vjepa2.tasks.pretrain_config import PretrainConfig

Mode = Literal["paper", "published_config"]


def recipes() -> Mapping[str, Callable[..., PretrainConfig]]:
    """All pretraining recipes by name, alphabetically."""
    found: dict[str, Callable[..., PretrainConfig]] = {}
    for module in pkgutil.iter_modules(__path__):
        part = importlib.import_module(f"{__name__}.{module.name}")
        for name, function in inspect.getmembers(part, inspect.isfunction):
            returns = inspect.signature(function).return_annotation
            is_recipe = returns is PretrainConfig and not name.startswith("_")
            if is_recipe and function.__module__ == part.__name__:
                found[name] = function
    return dict(sorted(found.items()))


def get_recipe(name: str, *, mode: str | None = None) -> PretrainConfig:
    """The configuration of a recipe.

    Args:
        name: of the recipe.
        mode: "paper" or "published_config", for recipes of published runs, whose paper and
            configuration files differ; None: as the paper says.

    Raises:
        UnknownOptionError: there is no such recipe.
        ConfigError: no such mode, or the recipe has only one.
    """
    known = recipes()
    if name not in known:
        raise UnknownOptionError(
            f"There is no pretraining recipe {name!r}. {nearest_hint(str(name), known)}"
        )
    if mode is None:
        return known[name]()
    check_choice("mode", mode, get_args(Mode))
    if "mode" not in inspect.signature(known[name]).parameters:
        raise ConfigError(f"Recipe {name!r} is not of a published run and has no mode.")
    return known[name](mode=mode)
