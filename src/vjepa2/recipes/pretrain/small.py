"""Runs for one machine: minutes on a CPU, or a weekend on one GPU."""

from vjepa2.data.settings import DataConfig
from vjepa2.masking import MaskConfig
from vjepa2.tasks.pretrain_config import (
    ClipConfig,
    NetworkConfig,
    ObjectiveConfig,
    PretrainConfig,
    RuntimeConfig,
)
from vjepa2.training.health import HealthConfig
from vjepa2.training.schedules import ScheduleConfig


def tiny_cpu() -> PretrainConfig:
    """A small encoder on two CPU cores, in minutes: to try the whole chain on your own videos.

    8 frames of 64 px at 8 fps, patches of 8 px: 256 tokens, width 128. It learns what a few
    hundred updates can teach; for features to use, train longer or take a published model.
    """
    return PretrainConfig(
        recipe="tiny_cpu",
        network=NetworkConfig(
            hidden_size=128,
            num_layers=4,
            num_heads=4,
            patch_size=8,
            pred_hidden_size=96,
            pred_num_layers=3,
            pred_num_heads=4,
            pred_num_mask_tokens=1,
            initializer_range=0.05,
        ),
        data=DataConfig(workers=1),
        fps=8.0,
        clip=ClipConfig(num_frames=8, crop_size=64, batch_size=16),
        masks=(
            MaskConfig(num_blocks=4, spatial_scale=(0.15, 0.15), min_context=0.05),
            MaskConfig(num_blocks=2, spatial_scale=(0.5, 0.5), min_context=0.05),
        ),
        schedule=ScheduleConfig(
            num_steps=600,
            warmup_share=0.1,
            cooldown_share=0.2,
            start_lr=1e-4,
            lr=1e-3,
            momentum=0.998,
        ),
        health=HealthConfig(every=100, num_clips=16),
        runtime=RuntimeConfig(checkpoint_every=100),
    )


def one_gpu_weekend() -> PretrainConfig:
    """ViT-S from nothing on one GPU of 24 GB or more, over a weekend.

    16 frames of 224 px at 4 fps; 100,000 updates of 128 clips. Start here with a few thousand
    videos of your own; with fewer, continue from a published model (`continued`).
    """
    return PretrainConfig(
        recipe="one_gpu_weekend",
        network=NetworkConfig(
            hidden_size=384, num_layers=12, num_heads=6, pred_num_layers=6, pred_num_mask_tokens=1
        ),
        data=DataConfig(workers=12),
        clip=ClipConfig(num_frames=16, crop_size=224, batch_size=128, micro_batch=32),
        schedule=ScheduleConfig(
            num_steps=100_000,
            warmup_share=0.05,
            cooldown_share=0.1,
            start_lr=5e-5,
            lr=4e-4,
            momentum=0.9985,
            final_momentum=0.9998,
        ),
        health=HealthConfig(every=500, num_clips=32),
        runtime=RuntimeConfig(dtype="bfloat16", compile=True, checkpoint_every=500),
    )


def continued() -> PretrainConfig:
    """Go on training a published encoder on your own videos: set `start_from`.

    The settings of the published cool-down, as its authors advise for this, at a lower rate; deep
    layers learn faster than shallow ones. Set `objective.context_weight` for V-JEPA 2.1.
    """
    return PretrainConfig(
        recipe="continued",
        network=None,
        data=DataConfig(workers=12),
        clip=ClipConfig(num_frames=16, crop_size=256, batch_size=64, micro_batch=8),
        optim={"layer_decay": 0.9},
        objective=ObjectiveConfig(),
        schedule=ScheduleConfig(
            num_steps=5_000,
            warmup_share=0.05,
            cooldown_share=0.95,
            start_lr=1e-6,
            lr=1e-4,
            momentum=0.9995,
        ),
        health=HealthConfig(every=200, num_clips=32),
        runtime=RuntimeConfig(dtype="bfloat16", recompute=True, checkpoint_every=200),
    )


def continued_with_adapters() -> PretrainConfig:
    """As `continued`, training only low-rank adapters and the predictor: needs `peft`."""
    base = continued()
    return PretrainConfig(
        **{
            **base.model_dump(),
            "recipe": "continued_with_adapters",
            "optim": {"layer_decay": 1.0},
            "adapters": {"rank": 16, "alpha": 32.0},
        }
    )
