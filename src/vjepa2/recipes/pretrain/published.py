"""The published runs: V-JEPA 2 (arXiv:2506.09985) and V-JEPA 2.1 (arXiv:2603.14482).

"paper" and "published_config" (the configuration files that came with the code) differ in the
ways that docs/how-to/pretrain.md lists. Batches are those of all processes together; `micro_batch`
is what one published GPU held. Data are to be given: `--data`, or `--set data.sources=...`.
"""

from typing import Literal

from vjepa2.data.settings import DataConfig
from vjepa2.masking import image_masks
from vjepa2.recipes.pretrain import Mode
from vjepa2.tasks.pretrain_config import (
    ClipConfig,
    ImageConfig,
    NetworkConfig,
    ObjectiveConfig,
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
_WARMUP, _MAIN, _COOLDOWN = 12_000, 228_000, 12_000
_GLOBAL_BATCH = 3072
_ON_MANY_GPUS = RuntimeConfig(
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


# -- V-JEPA 2 ------------------------------------------------------------------------------------


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
    num_steps = _WARMUP + _MAIN
    return PretrainConfig(
        recipe=f"vit{size.lower()}_pretrain",
        seed=239,
        network=network(size),
        clip=ClipConfig(num_frames=16, crop_size=256, batch_size=_GLOBAL_BATCH, micro_batch=24),
        schedule=ScheduleConfig(
            num_steps=num_steps,
            warmup_share=_WARMUP / num_steps,
            cooldown_share=0.0,
            start_lr=1e-4,
            lr=5.25e-4,
            final_lr=5.25e-4,
            stretch=_stretch(mode),
        ),
        truncation="micro_batch",
        runtime=_ON_MANY_GPUS,
    )


def _cooldown(size: Size, mode: Mode, *, crop_size: int, micro_batch: int) -> PretrainConfig:
    return PretrainConfig(
        recipe=f"vit{size.lower()}_cooldown{'' if crop_size == 256 else f'_{crop_size}'}",
        seed=239,
        network=None,
        clip=ClipConfig(
            num_frames=64, crop_size=crop_size, batch_size=_GLOBAL_BATCH, micro_batch=micro_batch
        ),
        schedule=_only_cooldown(mode, lr=5.25e-4),
        truncation="micro_batch",
        runtime=_ON_MANY_GPUS,
    )


# -- V-JEPA 2.1 ----------------------------------------------------------------------------------


def vjepa21_vitl_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-L from nothing: dense loss, four levels, images beside clips."""
    return _pretrain_2_1("L", mode)


def vjepa21_vitg_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-g, as `vjepa21_vitl_pretrain`."""
    return _pretrain_2_1("g", mode)


def vjepa21_vitG_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-G (1.8 billion parameters), as `vjepa21_vitl_pretrain`."""
    return _pretrain_2_1("G", mode)


def vjepa21_vitg_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of V-JEPA 2.1 ViT-g: 64 frames at 384 px, images at 512 px."""
    return _cooldown_2_1("g", mode)


def vjepa21_vitG_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of V-JEPA 2.1 ViT-G, as `vjepa21_vitg_cooldown`."""
    return _cooldown_2_1("G", mode)


def vjepa21_vitl_distilled() -> PretrainConfig:
    """ViT-L distilled from a frozen V-JEPA 2.1 ViT-G (section 3; no published code).

    16 frames at 256 px, then 64 frames at 384 px in the cool-down. The average of the student is
    the result, and never teaches. The paper takes the teacher from before its own cool-down for
    the first part; only the one from after it is published, so it teaches both.
    """
    return _distilled("L")


def vjepa21_vitb_distilled() -> PretrainConfig:
    """ViT-B distilled from V-JEPA 2.1 ViT-G, as `vjepa21_vitl_distilled`."""
    return _distilled("B")


def _objective_2_1(mode: Mode) -> ObjectiveConfig:
    """The context loss comes in between updates 15,000 and 30,000."""
    num_steps = _steps_2_1(mode)
    return ObjectiveConfig(
        context_weight=0.5, context_rise=(15_000 / num_steps, 30_000 / num_steps)
    )


def _steps_2_1(mode: Mode) -> int:
    return 135_000 if mode == "paper" else 300_000


def _images(mode: Mode, *, crop_size: int, micro_batch: int) -> ImageConfig:
    return ImageConfig(
        data=DataConfig(),
        crop_size=crop_size,
        batch_size=2304 if mode == "paper" else 64 * micro_batch,
        micro_batch=micro_batch,
        masks=image_masks(),
        context_weight=0.7 if mode == "paper" else 0.5,
    )


def _pretrain_2_1(size: Size, mode: Mode) -> PretrainConfig:
    num_steps = _steps_2_1(mode)
    on_paper = mode == "paper"
    per_gpu = 12 if size == "G" else 24
    return PretrainConfig(
        recipe=f"vjepa21_vit{size if size == 'G' else size.lower()}_pretrain",
        seed=239,
        network=network(size, predictor_depth=24, variant="vjepa2_1", pred_num_mask_tokens=8),
        clip=ClipConfig(
            num_frames=16,
            crop_size=256,
            batch_size=128 if on_paper else _GLOBAL_BATCH,
            micro_batch=2 if on_paper else per_gpu,
        ),
        images=_images(mode, crop_size=256, micro_batch=36 if size == "G" else 72),
        objective=_objective_2_1(mode),
        schedule=ScheduleConfig(
            num_steps=num_steps,
            warmup_share=_WARMUP / num_steps,
            cooldown_share=0.0,
            start_lr=1e-4,
            lr=5.25e-4 if on_paper else 6e-4,
            final_lr=5.25e-4 if on_paper else 6e-4,
            stretch=_stretch(mode),
        ),
        truncation="micro_batch",
        runtime=_ON_MANY_GPUS,
    )


def _cooldown_2_1(size: Size, mode: Mode) -> PretrainConfig:
    on_paper = mode == "paper"
    per_gpu = 6 if size == "G" else 12
    return PretrainConfig(
        recipe=f"vjepa21_vit{size}_cooldown",
        seed=239,
        network=None,
        clip=ClipConfig(
            num_frames=64,
            crop_size=384 if on_paper else 256,
            batch_size=128 if on_paper else _GLOBAL_BATCH,
            micro_batch=2 if on_paper else per_gpu,
        ),
        images=_images(
            mode, crop_size=512 if on_paper else 256, micro_batch=36 if size == "G" else 72
        ),
        # The configuration files switch the weights off; the paper does not say so.
        objective=ObjectiveConfig(context_weight=0.5, distance_weights=on_paper),
        schedule=_only_cooldown(mode, lr=6e-4),
        truncation="micro_batch",
        runtime=_ON_MANY_GPUS,
    )


def _distilled(size: Size) -> PretrainConfig:
    num_steps = 135_000 + _COOLDOWN
    return PretrainConfig(
        recipe=f"vjepa21_vit{size.lower()}_distilled",
        seed=239,
        network=network(
            size,
            predictor_depth=12,
            variant="vjepa2_1",
            pred_num_mask_tokens=8,
            pred_num_levels=1,
            pred_output_size=1664,
        ),
        clip=ClipConfig(num_frames=16, crop_size=256, batch_size=128, micro_batch=2),
        cooldown_clip=ClipConfig(num_frames=64, crop_size=384, batch_size=128, micro_batch=2),
        images=_images("paper", crop_size=256, micro_batch=72).model_copy(
            update={"cooldown_crop_size": 512}
        ),
        objective=ObjectiveConfig(
            context_weight=0.5,
            context_rise=(15_000 / num_steps, 30_000 / num_steps),
            teacher="vjepa2.1-vitG-384",
        ),
        schedule=ScheduleConfig(
            num_steps=num_steps,
            warmup_share=_WARMUP / num_steps,
            cooldown_share=_COOLDOWN / num_steps,
            lr=5.25e-4,
        ),
        truncation="micro_batch",
        runtime=_ON_MANY_GPUS,
    )


def _only_cooldown(mode: Mode, *, lr: float) -> ScheduleConfig:
    return ScheduleConfig(
        num_steps=_COOLDOWN,
        warmup_share=0.0,
        cooldown_share=1.0,
        lr=lr,
        final_lr=1e-6,
        stretch=_stretch(mode),
    )


def _stretch(mode: Mode) -> float:
    return 1.0 if mode == "paper" else PUBLISHED_STRETCH
