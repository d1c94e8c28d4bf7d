"""Recipes of self-supervised pretraining.

Every public function in these modules that returns a `PretrainConfig` is a recipe, found by its
name: a new one needs no entry elsewhere.
"""

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from vjepa2.errors import ConfigError, UnknownOptionError, check_choice, check_path, nearest_hint
from vjepa2.recipes.named import first_lines, named_recipes
from vjepa2.tasks.pretrain_config import PretrainConfig, with_data
from vjepa2.tasks.pretrain_folder import CONFIG_NAME, is_run, load_run_config

Mode = Literal["paper", "published_config"]


def recipes() -> Mapping[str, Callable[..., PretrainConfig]]:
    """All pretraining recipes by name, alphabetically."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return named_recipes(PretrainConfig, *modules)


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


def describe_recipes() -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return first_lines(recipes())


def run_config(
    folder: str | os.PathLike[str],
    *,
    data: Sequence[str] = (),
    recipe: str | None = None,
    mode: str | None = None,
    settings: Iterable[str] = (),
) -> PretrainConfig:
    """The configuration of a new run, or of the one in `folder` that goes on.

    Args:
        folder: of the run.
        data: folders, lists and shards, read at the recipe's `fps`; empty: those of the recipe's
            settings, or of the run.
        recipe: name; None: that of the run in `folder`.
        mode: see `get_recipe`.
        settings: changes, `name=value`.

    Raises:
        UnknownOptionError: the recipe or a setting does not exist.
        ConfigError: a value is not allowed, or there is neither a recipe nor a run.
    """
    check_path("The folder of the run (--out)", folder)
    if recipe is not None:
        config = get_recipe(recipe, mode=mode)
    elif mode is not None:
        raise ConfigError("mode chooses between forms of a recipe: name the recipe too.")
    elif (Path(folder) / CONFIG_NAME).exists() or is_run(folder):
        config = load_run_config(folder)
    else:
        raise ConfigError(
            f"There is no run in {folder} to go on with. Name a recipe to start one: "
            f"{', '.join(recipes())}."
        )
    settings = list(settings)
    if data and any(setting.strip().startswith("data.sources") for setting in settings):
        raise ConfigError("--data and data.sources both name the videos: give one of them.")
    of_images = any(setting.strip().startswith("images.") for setting in settings)
    if of_images and config.images is None:
        raise ConfigError(
            f"Recipe {config.recipe!r} learns from clips alone. Still images beside them belong to "
            "V-JEPA 2.1: take a recipe such as vjepa21_vitl_pretrain, or set images whole."
        )
    config = config.override(settings)
    return with_data(config, data) if data else config
