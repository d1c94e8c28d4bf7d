"""Recipes of attentive probes on videos, see `recipes.probe`.

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

from vjepa2.data.views import TrainViewConfig, ViewConfig
from vjepa2.tasks.probe_config import (
    AttentiveProbeConfig,
    CacheConfig,
    HeadsConfig,
    ProbeLabelsConfig,
    ProbeScheduleConfig,
)

SMALL = "small"


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
    """ImageNet, a still image shown 16 times, changed as videos are (imagenet_v2: as published)."""
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
