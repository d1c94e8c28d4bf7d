"""Recipes of anticipation: every function without an argument is one, by its name.

    recipe                  frames, rate   horizon (training)   probes    encoder
    ek100                   32, 8/s        1 s (0.25 to 1.75)   20        published, frozen
    ek100_published_anchor  the same, contexts counted back from the *stop* of events
    small                   16, 4/s        1 s (0.5 to 2)       3         any, frozen
    from_scratch            16, 4/s        1 s                  1         fresh and small, trained

The first two are arXiv:2506.09985, section 6 and appendix, and its configuration files. Different
from the published code, on purpose: positions of several steps (`future.positions`), classes that
are numbered by `data.options.class_order`, and one probe for all measures, where the original
reports the best probe of each measure.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vjepa2.data.event_clips import EventClipConfig
from vjepa2.data.views import TrainViewConfig
from vjepa2.models.anticipation import AnticipationSettings
from vjepa2.models.config_file import CONFIG_NAME as NETWORK_FILE
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.recipes.named import first_config, first_lines, named_recipes
from vjepa2.tasks.anticipate_config import AnticipateConfig, EventDataConfig, EventProbeConfig
from vjepa2.tasks.finetune_config import EpochScheduleConfig
from vjepa2.tasks.finetune_networks import find_start
from vjepa2.tasks.pretrain_config import NetworkConfig, RuntimeConfig

SMALL = "small"


def ek100() -> AnticipateConfig:
    """EPIC-KITCHENS-100 as the paper describes it: contexts end 1 s before the start of actions."""
    return _ek100("ek100", EventClipConfig())


def ek100_published_anchor() -> AnticipateConfig:
    """EPIC-KITCHENS-100 as the published code does it: contexts end 1 s before the stop."""
    return _ek100("ek100_published_anchor", EventClipConfig(anchor="published"))


def small() -> AnticipateConfig:
    """Your own videos and a frozen encoder on one machine: 4 s of context, probes of depth 1."""
    return AnticipateConfig(
        recipe=SMALL,
        data=EventDataConfig(workers=1),
        clips=EventClipConfig(num_frames=16, fps=4.0, train_seconds=(0.5, 2.0)),
        augment=TrainViewConfig(rand_augment=None, scale=(0.5, 1.0), erase=0.0),
        probe=EventProbeConfig(num_self_blocks=0, lrs=(1e-3, 3e-4, 1e-4)),
        batch_size=16,
        schedule=EpochScheduleConfig(epochs=20, warmup_epochs=1, final_lr=0),
    )


def from_scratch() -> AnticipateConfig:
    """A small encoder and predictor of your own, learned from the labels alone, on a CPU."""
    return AnticipateConfig(
        recipe="from_scratch",
        network=NetworkConfig(
            hidden_size=96,
            num_layers=3,
            num_heads=4,
            mlp_ratio=2.0,
            pred_hidden_size=48,
            pred_num_layers=1,
            pred_num_heads=2,
            patch_size=8,
            initializer_range=0.1,
        ),
        learn="all",
        data=EventDataConfig(workers=1),
        clips=EventClipConfig(num_frames=16, fps=4.0, train_seconds=None),
        # The mask token that learns along; the others stay what they are.
        future=AnticipationSettings(mask_index=0),
        crop_size=32,
        augment=TrainViewConfig(rand_augment=None, scale=(0.75, 0.95), ratio=(1.0, 1.0), erase=0.0),
        probe=EventProbeConfig(num_self_blocks=0, lrs=(1e-3,)),
        loss="cross_entropy",
        batch_size=32,
        schedule=EpochScheduleConfig(epochs=10, warmup_epochs=0.3, lr=1e-3, final_lr=0),
        runtime=RuntimeConfig(checkpoint_every=100),
    )


def _ek100(name: str, clips: EventClipConfig) -> AnticipateConfig:
    return AnticipateConfig(
        recipe=name,
        data=EventDataConfig(workers=12, layout="epic_kitchens"),
        clips=clips,
        augment=TrainViewConfig(flip=0.5),
        probe=EventProbeConfig(
            num_heads=16,
            lrs=(5e-3, 3e-3, 1e-3, 3e-4, 1e-4),
            weight_decays=(1e-4, 1e-3, 1e-2, 1e-1),
        ),
        batch_size=128,
        schedule=EpochScheduleConfig(epochs=20, warmup_epochs=0, final_lr=0),
        runtime=RuntimeConfig(dtype="bfloat16"),
    )


def recipes() -> Mapping[str, Callable[[], AnticipateConfig]]:
    """All recipes of anticipation by name, alphabetically."""
    return named_recipes(AnticipateConfig, sys.modules[__name__])


def describe_recipes() -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return first_lines(recipes())


def run_config(
    folder: str | os.PathLike[str],
    *,
    train: str | None = None,
    val: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    horizons: tuple[float, ...] = (),
    settings: Iterable[str] = (),
) -> AnticipateConfig:
    """The configuration of a new run, or of the one in `folder` that goes on.

    Args:
        folder: of the run.
        train, val: lists of events; None: those of the run or of `settings`.
        model: encoder and predictor; None likewise.
        recipe: name; None: that of the run in `folder`, or "small" where there is none.
        horizons: anticipation times that are measured.
        settings: changes, `name=value`.

    Raises:
        UnknownOptionError: a setting does not exist.
        ConfigError: no such recipe, a value is not allowed, or there is neither data nor a run.
    """
    config, is_new = first_config(
        folder,
        AnticipateConfig,
        recipes(),
        recipe=recipe,
        default=None if train is None else SMALL,
        needs="lists of events (--train, --val) and an encoder (--model, or --recipe from_scratch)",
    )
    values = config.model_dump()
    values["data"] |= {name: text for name, text in (("train", train), ("val", val)) if text}
    if model is not None:
        values["start_from"] = model
    if horizons:
        values["horizons"] = horizons
    if is_new and config.recipe == SMALL and model is not None:
        values |= _size_of(model)
    return AnticipateConfig(**values).override(settings)


def _size_of(model: str) -> dict[str, Any]:
    """The size of frames that a model was trained on, where a configuration tells it."""
    start = find_start(model)
    if start.is_run or not (Path(start.name) / NETWORK_FILE).is_file():
        return {}
    return {"crop_size": VJEPA2Config.from_pretrained(start.name).crop_size}
