"""Recipes of supervised fine-tuning: every function without an argument is one, by its name.

None is of a published run: V-JEPA 2 publishes frozen probes only. The rates are those usual for
fine-tuning vision transformers (arXiv:2106.08254, arXiv:2203.12602), at batches for one GPU.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping

from vjepa2.data.views import ViewConfig
from vjepa2.recipes.named import first_config, first_lines, named_recipes
from vjepa2.tasks.finetune_config import (
    BatchConfig,
    EpochScheduleConfig,
    FineTuneConfig,
    HeadConfig,
    LabelsConfig,
    MixConfig,
    with_paths,
)
from vjepa2.tasks.pretrain_config import AdapterConfig, RuntimeConfig
from vjepa2.training.optim import OptimConfig


def full() -> FineTuneConfig:
    """All of the encoder, deep blocks faster than shallow ones: thousands of videos.

    16 frames of 256 px at 4 fps, 32 videos an update, 4 in memory at once: the forecast for ViT-L
    is 8 GiB on a GPU, 5 with the recipes below.
    """
    return FineTuneConfig(
        recipe="full",
        method="full",
        drop_path_rate=0.1,
        data=LabelsConfig(workers=12),
        views=ViewConfig(num_frames=16, fps=4, crop_size=256),
        head=HeadConfig(lr_factor=5.0),
        batch=BatchConfig(batch_size=32, micro_batch=4),
        mix=MixConfig(mixup=0.2, label_smoothing=0.1),
        optim=OptimConfig(layer_decay=0.75, clip_norm=1.0),
        schedule=EpochScheduleConfig(epochs=20, warmup_epochs=2, lr=2e-4, weight_decay=0.05),
        runtime=RuntimeConfig(dtype="bfloat16", recompute=True, checkpoint_every=200),
    )


def last_blocks() -> FineTuneConfig:
    """Only the last four blocks and the head: hundreds of videos, less memory."""
    return _changed(
        full(),
        recipe="last_blocks",
        method="last_blocks",
        last_blocks=4,
        drop_path_rate=0.0,
        optim={"layer_decay": 1.0, "clip_norm": 1.0},
        schedule={"lr": 1e-4},
    )


def lora() -> FineTuneConfig:
    """Low-rank adapters and the head: few videos, little memory for the optimizer. Needs peft."""
    return _changed(
        full(),
        recipe="lora",
        method="lora",
        adapters=AdapterConfig(
            rank=16, alpha=32.0, targets=("query", "value", "proj", "fc1", "fc2")
        ).model_dump(),
        drop_path_rate=0.0,
        optim={"layer_decay": 1.0, "clip_norm": 1.0},
        schedule={"lr": 3e-4},
        head={"lr_factor": 2.0},
    )


def tiny_cpu() -> FineTuneConfig:
    """Small clips on two CPU cores, in minutes: to try the whole chain on your own videos.

    8 frames of 64 px, spread over the whole video: made for small encoders such as that of the
    pretraining recipe of the same name.
    """
    return FineTuneConfig(
        recipe="tiny_cpu",
        data=LabelsConfig(workers=0),  # starts at once
        views=ViewConfig(num_frames=8, crop_size=64),
        augment={"rand_augment": None, "scale": (0.5, 1.0), "erase": 0.0},
        head=HeadConfig(num_self_blocks=0),
        batch=BatchConfig(batch_size=8),
        optim=OptimConfig(layer_decay=0.8),
        schedule=EpochScheduleConfig(epochs=10, warmup_epochs=1, lr=1e-3),
        runtime=RuntimeConfig(checkpoint_every=50),
    )


def recipes() -> Mapping[str, Callable[[], FineTuneConfig]]:
    """All fine-tuning recipes by name, alphabetically."""
    return named_recipes(FineTuneConfig, sys.modules[__name__])


def describe_recipes() -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return first_lines(recipes())


def run_config(
    folder: str | os.PathLike[str],
    *,
    train: str | None = None,
    val: str | None = None,
    start_from: str | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
) -> FineTuneConfig:
    """The configuration of a new run, or of the one in `folder` that goes on.

    Args:
        folder: of the run.
        train, val: labelled videos; None: those of the run or of `settings`.
        start_from: model to train on; None likewise.
        recipe: name; None: that of the run in `folder`, or "full" where there is none.
        settings: changes, `name=value`.

    Raises:
        UnknownOptionError: a setting does not exist.
        ConfigError: no such recipe, a value is not allowed, or there is neither data nor a run.
    """
    config, _ = first_config(
        folder,
        FineTuneConfig,
        recipes(),
        recipe=recipe,
        default=None if train is None else "full",
        needs="labelled videos (--train) and a model (--start-from)",
    )
    config = config.override(settings)
    return with_paths(config, train=train, val=val, start_from=start_from)


def _changed(config: FineTuneConfig, **changes: object) -> FineTuneConfig:
    """The same with other values; of sections only those given."""
    values = config.model_dump()
    for name, value in changes.items():
        section = values[name]
        values[name] = {**section, **value} if isinstance(value, dict) else value
    return FineTuneConfig(**values)
