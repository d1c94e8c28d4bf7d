"""The published runs of V-JEPA 2 (arXiv:2506.09985); those of 2.1 are in `published_2_1`.

"paper" and "published_config" (the configuration files that came with the code) differ in the
ways that docs/how-to/pretrain.md lists. Batches are those of all processes together; `micro_batch`
is what one published GPU held. Data are to be given: `--data`, or `--set data.sources=...`.
"""

from typing import Literal

from vjepa2.recipes.pretrain import Mode
from vjepa2.tasks.pretrain_config import (
    ClipConfig,
    NetworkConfig,
    PretrainConfig,
    RuntimeConfig,
)
from vjepa2.training.schedules import PUBLISHED_STRETCH, ScheduleConfig

Size = Literal["B", "L", "H", "g", "G"]

# width, blocks, heads, MLP ratio; the fractions are exact.
SIZES: dict[Size, tuple[int, int, int, float]] = {
    "B": (768, 12, 12, 4.0),
    "L": (1024, 24, 16, 4.0),
    "H": (1280, 32, 16, 4.0),
    "g": (1408, 40, 22, 48 / 11),
    "G": (1664, 48, 26, 64 / 13),
}
WARMUP, MAIN, COOLDOWN = 12_000, 228_000, 12_000
GLOBAL_BATCH = 3072
ON_MANY_GPUS = RuntimeConfig(
    dtype="bfloat16", compile=True, recompute=True, checkpoint_every=300, sharding="auto"
)


def network(size: Size, *, predictor_depth: int = 12, **more: object) -> NetworkConfig:
    """Encoder of a published size and the predictor that goes with it."""
    width, depth, heads, ratio = SIZES[size]
    values = {
        "hidden_size": width,
        "num_layers": depth,
        "num_heads": heads,
        "mlp_ratio": ratio,
        "pred_num_layers": predictor_depth,
        **more,
    }
    return NetworkConfig(**values)


def vitl_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """ViT-L from nothing: 16 frames at 4 fps, 256 px; 240,000 updates of 3,072 clips.

    Cost: published on 128 GPUs of 80 GB.
    """
    return _pretrain("L", mode)


def vith_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """ViT-H from nothing, as `vitl_pretrain`."""
    return _pretrain("H", mode)


def vitg_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """ViT-g from nothing, as `vitl_pretrain`."""
    return _pretrain("g", mode)


def vitl_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of ViT-L: 64 frames, 256 px; set `start_from` to the folder of the first run.

    Cost: published on 256 GPUs of 80 GB.
    """
    return _cooldown("L", mode, crop_size=256, micro_batch=12)


def vith_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of ViT-H, as `vitl_cooldown`."""
    return _cooldown("H", mode, crop_size=256, micro_batch=12)


def vitg_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of ViT-g at 256 px, on 512 GPUs."""
    return _cooldown("g", mode, crop_size=256, micro_batch=6)


def vitg_cooldown_384(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of ViT-g at 384 px, on 512 GPUs."""
    return _cooldown("g", mode, crop_size=384, micro_batch=6)


def _pretrain(size: Size, mode: Mode) -> PretrainConfig:
    num_steps = WARMUP + MAIN
    return PretrainConfig(
        recipe=f"vit{size.lower()}_pretrain",
        seed=239,
        network=network(size),
        clip=ClipConfig(num_frames=16, crop_size=256, batch_size=GLOBAL_BATCH, micro_batch=24),
        schedule=ScheduleConfig(
            num_steps=num_steps,
            warmup_share=WARMUP / num_steps,
            cooldown_share=0.0,
            start_lr=1e-4,
            lr=5.25e-4,
            final_lr=5.25e-4,
            stretch=stretch_of(mode),
        ),
        truncation="micro_batch",
        runtime=ON_MANY_GPUS,
    )


def _cooldown(size: Size, mode: Mode, *, crop_size: int, micro_batch: int) -> PretrainConfig:
    return PretrainConfig(
        recipe=f"vit{size.lower()}_cooldown{'' if crop_size == 256 else f'_{crop_size}'}",
        seed=239,
        network=None,
        clip=ClipConfig(
            num_frames=64, crop_size=crop_size, batch_size=GLOBAL_BATCH, micro_batch=micro_batch
        ),
        schedule=only_cooldown(mode, lr=5.25e-4),
        truncation="micro_batch",
        runtime=ON_MANY_GPUS,
    )


def only_cooldown(mode: Mode, *, lr: float) -> ScheduleConfig:
    """The rate falls along a line, with no warm-up, from the first update on."""
    return ScheduleConfig(
        num_steps=COOLDOWN,
        warmup_share=0.0,
        cooldown_share=1.0,
        lr=lr,
        final_lr=1e-6,
        stretch=stretch_of(mode),
    )


def stretch_of(mode: Mode) -> float:
    """The configuration files make schedules longer than runs."""
    return 1.0 if mode == "paper" else PUBLISHED_STRETCH
