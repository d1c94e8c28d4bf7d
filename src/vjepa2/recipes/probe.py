"""Recipes of attentive probes: every function without an argument is one, by its name.

The published ones are those of V-JEPA 2 (arXiv:2506.09985, appendix, and its evaluation configs):

    recipe      classes  frames x segments x views, step  batch  epochs  heads
    ssv2            174  16 x 2 x 3, 4                      256      20     20
    ssv2_384        174  64 x 2 x 3, 2 (384 px)             256      20     20
    kinetics        400  16 x 8 x 3, 4                      256      20     20
    coin            180  16 x 8 x 3, 4 (paper: 32 x 8 x 3)  128      20     20
    diving48         48  32 x 4 x 3, 2                      128     100      3
    jester           27  32 x 4 x 3, 2                      128     100      3
    imagenet       1000  16 (one still image), 1 view      1024      20     20

What differs from the published code, on purpose: validation clips are at fixed places
(`views.moment=random` is the published choice), and matrix products are in bfloat16, not float16.
The 21st published head of ImageNet (weight decay falling to 0) is left out.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vjepa2.data.views import TrainViewConfig, ViewConfig
from vjepa2.errors import ConfigError, check_choice, check_path
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.weights_file import weights_path
from vjepa2.tasks.finetune_networks import find_start
from vjepa2.tasks.pretrain_folder import CONFIG_NAME, is_run, stored_config
from vjepa2.tasks.probe_config import (
    AttentiveProbeConfig,
    CacheConfig,
    HeadsConfig,
    ProbeLabelsConfig,
    ProbeScheduleConfig,
    with_sources,
)

SMALL = "small"
# Fields that say which clips are seen: recipe "small" takes them from the model.
OF_THE_MODEL = ("num_frames", "crop_size")


def ssv2() -> AttentiveProbeConfig:
    """Something-Something v2 as published for 256 px encoders: 16 frames x 2 segments x 3 views."""
    return _published("ssv2", ViewConfig(num_frames=16, frame_step=4, num_segments=2, num_views=3))


def ssv2_384() -> AttentiveProbeConfig:
    """Something-Something v2 as published for ViT-g 384: 64 frames x 2 segments x 3 views."""
    views = ViewConfig(num_frames=64, frame_step=2, num_segments=2, num_views=3, crop_size=384)
    return _published("ssv2_384", views)


def kinetics() -> AttentiveProbeConfig:
    """Kinetics-400 as published: 16 frames x 8 segments x 3 views."""
    views = ViewConfig(num_frames=16, frame_step=4, num_segments=8, num_views=3)
    return _published("kinetics", views)


def coin() -> AttentiveProbeConfig:
    """COIN as in the published configuration: 16 frames x 8 segments x 3 views."""
    views = ViewConfig(num_frames=16, frame_step=4, num_segments=8, num_views=3)
    return _published("coin", views, batch_size=128)


def diving48() -> AttentiveProbeConfig:
    """Diving48 as published for ViT-L: 32 frames x 4 segments x 3 views, four levels."""
    return _motion("diving48")


def jester() -> AttentiveProbeConfig:
    """Jester as published for ViT-L: 32 frames x 4 segments x 3 views, four levels."""
    return _motion("jester")


def imagenet() -> AttentiveProbeConfig:
    """ImageNet as published: a still image shown 16 times, warm-up of 5 epochs."""
    return _published(
        "imagenet",
        ViewConfig(num_frames=16),
        heads=_heads((5e-4, 1e-3, 1.5e-3, 2e-3), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)),
        schedule=ProbeScheduleConfig(epochs=20, warmup_epochs=5, start_lr=2e-4),
        batch_size=1024,
    )


def small() -> AttentiveProbeConfig:
    """Your own videos on one machine: the model's clips, features kept on the disk, 20 heads.

    Depth 1, no augmentation, so that every clip is encoded once; frames resized as
    `vjepa2 classify` does. Frames and size are those of the model.
    """
    return AttentiveProbeConfig(
        recipe=SMALL,
        data=ProbeLabelsConfig(workers=1),
        views=ViewConfig(resize="antialiased"),
        heads=HeadsConfig(),
        schedule=ProbeScheduleConfig(epochs=20, warmup_epochs=1),
        batch_size=16,
    )


def _heads(
    lrs: tuple[float, ...], weight_decays: tuple[float, ...], levels: tuple[int, ...] | None = None
) -> HeadsConfig:
    return HeadsConfig(
        depth=4,
        lrs=lrs,
        weight_decays=weight_decays,
        num_heads=16,
        layer_norm_eps=1e-5,
        initializer_range=0.02,
        levels=levels,
    )


def _published(
    name: str,
    views: ViewConfig,
    *,
    heads: HeadsConfig | None = None,
    schedule: ProbeScheduleConfig | None = None,
    batch_size: int = 256,
) -> AttentiveProbeConfig:
    return AttentiveProbeConfig(
        recipe=name,
        data=ProbeLabelsConfig(workers=12),
        views=views,
        augment=TrainViewConfig(),
        heads=heads or _heads((5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8)),
        schedule=schedule or ProbeScheduleConfig(epochs=20),
        cache=CacheConfig(use=False),
        batch_size=batch_size,
        micro_batch=4,
        recompute=True,
        dtype="bfloat16",
    )


def _motion(name: str) -> AttentiveProbeConfig:
    """Settings that Diving48 and Jester share; levels are those of ViT-L's 24 blocks."""
    return _published(
        name,
        ViewConfig(num_frames=32, frame_step=2, num_segments=4, num_views=3),
        heads=_heads((1e-3, 3e-4, 1e-4), (0.8,), levels=(17, 19, 21, 23)),
        schedule=ProbeScheduleConfig(epochs=100),
        batch_size=128,
    )


def recipes() -> Mapping[str, Callable[[], AttentiveProbeConfig]]:
    """All probe recipes by name, alphabetically."""
    found = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return {
        name: function
        for name, function in found
        if inspect.signature(function).return_annotation is AttentiveProbeConfig
        and not inspect.signature(function).parameters
    }


def describe_recipes() -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return {
        name: (inspect.getdoc(function) or "").partition("\n")[0]
        for name, function in recipes().items()
    }


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
    check_path("The folder of the run (--out)", folder)
    settings = list(settings)
    if recipe is not None:
        check_choice("Recipe", recipe, recipes())
        config = recipes()[recipe]()
    elif (Path(folder) / CONFIG_NAME).exists() or is_run(folder):
        config = AttentiveProbeConfig(**stored_config(folder))
        return with_sources(config.override(settings), train=train, val=val, test=test, model=model)
    elif train is None:
        raise ConfigError(
            f"There is no run in {folder} to go on with. Give labelled videos (--train, --val) and "
            "a model (--model) to start one."
        )
    else:
        config = small()
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
