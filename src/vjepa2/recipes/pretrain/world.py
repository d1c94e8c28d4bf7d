"""The run of `world-tiny`, the encoder inside the package that learned without labels."""

from vjepa2.data.settings import AugmentConfig, DataConfig
from vjepa2.masking import MaskConfig
from vjepa2.tasks.pretrain_config import (
    ClipConfig,
    NetworkConfig,
    PretrainConfig,
    RuntimeConfig,
)
from vjepa2.training.health import HealthConfig
from vjepa2.training.schedules import ScheduleConfig


def small_world() -> PretrainConfig:
    """A small encoder on one CPU core, in hours, from generated videos of moving objects.

    16 frames of 48 px at 6 fps, tokens of 12 x 12 px and 4 frames: 64 tokens, width 128. The
    videos are those of `vjepa2.video.synthetic_world_files.write_world_videos`; docs/reproduce.md
    says what was reached.
    """
    return PretrainConfig(
        recipe="small_world",
        network=NetworkConfig(
            variant="vjepa2",
            hidden_size=128,
            num_layers=4,
            num_heads=4,
            patch_size=12,
            tubelet_size=4,
            pred_hidden_size=64,
            pred_num_layers=2,
            pred_num_heads=4,
            pred_num_mask_tokens=1,
            initializer_range=0.08,
        ),
        data=DataConfig(workers=1),
        fps=6.0,
        augment=AugmentConfig(scale=(0.6, 1.0), ratio=(0.9, 1.1)),
        clip=ClipConfig(num_frames=16, crop_size=48, batch_size=24),
        masks=(
            MaskConfig(
                num_blocks=4,
                spatial_scale=(0.3, 0.4),
                temporal_scale=(0.5, 1.0),
                complement="targets",
                min_context=0.15,
            ),
        ),
        fit_masks=False,
        # No cool-down: the average of the weights is the result, at whatever step a run ends.
        schedule=ScheduleConfig(
            num_steps=20_000,
            warmup_share=0.015,
            cooldown_share=0.0,
            start_lr=1e-5,
            lr=1e-3,
            momentum=0.999,
        ),
        health=HealthConfig(every=250, num_clips=32),
        runtime=RuntimeConfig(checkpoint_every=250),
    )
