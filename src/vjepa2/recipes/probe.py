"""All recipes of attentive probes by name, and the configuration of a run.

Every public function of `recipes.video_probe` and `recipes.image_probe` that returns an
`AttentiveProbeConfig` and needs no argument is a recipe of `vjepa2 probe`.
"""

import os
from collections.abc import Callable, Iterable, Mapping

from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.weights_file import weights_path
from vjepa2.recipes import image_probe, video_probe
from vjepa2.recipes.named import first_config, first_lines, named_recipes
from vjepa2.recipes.video_probe import SMALL
from vjepa2.tasks.finetune_networks import find_start
from vjepa2.tasks.probe_config import AttentiveProbeConfig, with_sources

# Fields that say which clips are seen: recipe "small" takes them from the model.
OF_THE_MODEL = ("num_frames", "crop_size")


def recipes() -> Mapping[str, Callable[[], AttentiveProbeConfig]]:
    """All probe recipes by name, alphabetically."""
    return named_recipes(AttentiveProbeConfig, video_probe, image_probe)


def describe_recipes() -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return first_lines(recipes())


def run_config(
    folder: str | os.PathLike[str],
    *,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
) -> AttentiveProbeConfig:
    """The configuration of a new run, or of the one in `folder` that goes on.

    Args:
        folder: of the run.
        train, val, test: labelled videos; None: those of the run or of `settings`.
        model: encoder; None likewise.
        recipe: name; None: that of the run in `folder`, or "small" where there is none.
        settings: changes, `name=value`.

    Raises:
        UnknownOptionError: a setting does not exist.
        ConfigError: no such recipe, a value is not allowed, or there is neither data nor a run.
    """
    settings = list(settings)
    config, is_new = first_config(
        folder,
        AttentiveProbeConfig,
        recipes(),
        recipe=recipe,
        default=None if train is None else SMALL,
        needs="labelled videos (--train, --val) and a model (--model)",
    )
    if not is_new:
        return with_sources(config.override(settings), train=train, val=val, test=test, model=model)
    config = with_sources(config, train=train, val=val, test=test, model=model)
    if config.recipe == SMALL and config.model is not None:
        config = with_clips_of_model(config)
    return config.override(settings)


def with_clips_of_model(config: AttentiveProbeConfig) -> AttentiveProbeConfig:
    """The same with frames and size of the clips that the model was trained on."""
    assert config.model is not None
    start = find_start(config.model)
    if start.is_run or weights_path(start.name) is not None:
        return config  # an original file does not say all of it
    network = VJEPA2Config.from_pretrained(start.name)
    values = config.model_dump()
    values["views"] |= dict(
        zip(OF_THE_MODEL, (network.frames_per_clip, network.crop_size), strict=True)
    )
    return AttentiveProbeConfig(**values)
