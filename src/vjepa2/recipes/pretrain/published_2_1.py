"""The published runs of V-JEPA 2.1 (arXiv:2603.14482), and its distillation.

Published runs give half of their GPUs clips and half images; here every process makes both, so
that half as many processes do the same. In mode "published_config" `micro_batch` is what one
published GPU held. The paper's updates are smaller than those of the configuration files: in mode
"paper" micro-batches of 2 clips and 36 images share them among up to 64 processes, whatever the
size. Data are to be given: `--data` and `--set images.data.sources=...`.
"""

from typing import NamedTuple

from vjepa2.data.settings import DataConfig
from vjepa2.masking import image_masks
from vjepa2.recipes.pretrain import Mode
from vjepa2.recipes.pretrain.published import (
    GLOBAL_BATCH,
    ON_MANY_GPUS,
    SIZES,
    WARMUP,
    Size,
    network,
    only_cooldown,
    stretch_of,
)
from vjepa2.tasks.pretrain_config import ClipConfig, ImageConfig, ObjectiveConfig, PretrainConfig
from vjepa2.training.schedules import ScheduleConfig

_TEACHER = "vjepa2.1-vitG-384"


class _Gpus(NamedTuple):
    """One published configuration of V-JEPA 2.1: how many GPUs, and what one of them was given."""

    nodes: int
    clips: int
    images: int

    @property
    def clips_held(self) -> int:
        """Clips on a GPU of the half that has clips: the whole batch is theirs."""
        return 2 * self.clips

    @property
    def image_batch(self) -> int:
        """Images of an update: those of the other half, whose number is not raised."""
        return self.nodes * 8 // 2 * self.images


_PRETRAIN_GPUS: dict[Size, _Gpus] = {
    "B": _Gpus(8, 48, 144),
    "L": _Gpus(16, 24, 72),
    "g": _Gpus(16, 24, 72),
    "G": _Gpus(32, 12, 36),
}
_COOLDOWN_GPUS: dict[Size, _Gpus] = {
    "B": _Gpus(16, 24, 144),
    "L": _Gpus(32, 12, 72),
    "g": _Gpus(32, 12, 72),
    "G": _Gpus(64, 6, 36),
}


def vjepa21_vitb_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-B from nothing, with a predictor of 12 blocks.

    The paper has a ViT-B only as a distilled one: mode "paper" is its schedule for larger sizes.
    """
    return _pretrain_2_1("B", mode)


def vjepa21_vitl_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-L from nothing: dense loss, four levels, images beside clips."""
    return _pretrain_2_1("L", mode)


def vjepa21_vitg_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-g, as `vjepa21_vitl_pretrain`."""
    return _pretrain_2_1("g", mode)


def vjepa21_vitG_pretrain(mode: Mode = "paper") -> PretrainConfig:
    """V-JEPA 2.1 ViT-G (1.8 billion parameters), as `vjepa21_vitl_pretrain`."""
    return _pretrain_2_1("G", mode)


def vjepa21_vitb_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of V-JEPA 2.1 ViT-B, as `vjepa21_vitg_cooldown`."""
    return _cooldown_2_1("B", mode)


def vjepa21_vitl_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of V-JEPA 2.1 ViT-L, as `vjepa21_vitg_cooldown`."""
    return _cooldown_2_1("L", mode)


def vjepa21_vitg_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of V-JEPA 2.1 ViT-g: 64 frames at 384 px, images at 512 px.

    Set `start_from` to the folder of the first run.
    """
    return _cooldown_2_1("g", mode)


def vjepa21_vitG_cooldown(mode: Mode = "paper") -> PretrainConfig:
    """Cool-down of V-JEPA 2.1 ViT-G, as `vjepa21_vitg_cooldown`."""
    return _cooldown_2_1("G", mode)


def vjepa21_vitl_distilled() -> PretrainConfig:
    """ViT-L distilled from a frozen V-JEPA 2.1 ViT-G, first part: 16 frames at 256 px.

    Section 3 of the paper; there is no published code. The average of the student never teaches,
    and is the result. The paper takes the teacher from before its own cool-down here; only the one
    from after it is published, and teaches both parts.
    """
    return _distilled("L")


def vjepa21_vitb_distilled() -> PretrainConfig:
    """ViT-B distilled from V-JEPA 2.1 ViT-G, first part, as `vjepa21_vitl_distilled`."""
    return _distilled("B")


def vjepa21_vitl_distilled_anneal() -> PretrainConfig:
    """Distillation of ViT-L, second part: 64 frames at 384 px, images at 512 px.

    Set `start_from` to the folder `model` of the first part's run (FIRST_RUN/model): that is the
    averaged student, as in the paper. (The run's own folder would go on with the student itself.)
    Of the length of this part the paper says "short"; here it is that of the cool-downs.
    """
    return _distilled_anneal("L")


def vjepa21_vitb_distilled_anneal() -> PretrainConfig:
    """Distillation of ViT-B, second part, as `vjepa21_vitl_distilled_anneal`."""
    return _distilled_anneal("B")


def _objective_2_1(mode: Mode) -> ObjectiveConfig:
    """The context loss comes in between updates 15,000 and 30,000."""
    num_steps = _steps_2_1(mode)
    return ObjectiveConfig(
        context_weight=0.5, context_rise=(15_000 / num_steps, 30_000 / num_steps)
    )


def _steps_2_1(mode: Mode) -> int:
    return 135_000 if mode == "paper" else 300_000


def _clips_2_1(mode: Mode, gpus: _Gpus, *, num_frames: int, crop_size: int) -> ClipConfig:
    on_paper = mode == "paper"
    return ClipConfig(
        num_frames=num_frames,
        crop_size=crop_size,
        batch_size=128 if on_paper else GLOBAL_BATCH,
        micro_batch=2 if on_paper else gpus.clips_held,
    )


def _images(mode: Mode, gpus: _Gpus, *, crop_size: int) -> ImageConfig:
    on_paper = mode == "paper"
    return ImageConfig(
        data=DataConfig(),
        crop_size=crop_size,
        batch_size=2304 if on_paper else gpus.image_batch,
        micro_batch=36 if on_paper else gpus.images,
        masks=image_masks(),
        context_weight=0.7 if on_paper else 0.5,
    )


def _pretrain_2_1(size: Size, mode: Mode) -> PretrainConfig:
    gpus = _PRETRAIN_GPUS[size]
    predictor_depth = 12 if size == "B" else 24
    return PretrainConfig(
        recipe=f"vjepa21_vit{_in_name(size)}_pretrain",
        seed=239,
        network=network(
            size, predictor_depth=predictor_depth, variant="vjepa2_1", pred_num_mask_tokens=8
        ),
        clip=_clips_2_1(mode, gpus, num_frames=16, crop_size=256),
        images=_images(mode, gpus, crop_size=256),
        objective=_objective_2_1(mode),
        schedule=_schedule_2_1(mode),
        truncation="micro_batch",
        runtime=ON_MANY_GPUS,
    )


def _schedule_2_1(mode: Mode) -> ScheduleConfig:
    num_steps, lr = _steps_2_1(mode), 5.25e-4 if mode == "paper" else 6e-4
    return ScheduleConfig(
        num_steps=num_steps,
        warmup_share=WARMUP / num_steps,
        cooldown_share=0.0,
        start_lr=1e-4,
        lr=lr,
        final_lr=lr,
        stretch=stretch_of(mode),
    )


def _cooldown_2_1(size: Size, mode: Mode) -> PretrainConfig:
    on_paper, gpus = mode == "paper", _COOLDOWN_GPUS[size]
    return PretrainConfig(
        recipe=f"vjepa21_vit{_in_name(size)}_cooldown",
        seed=239,
        network=None,
        clip=_clips_2_1(mode, gpus, num_frames=64, crop_size=384 if on_paper else 256),
        images=_images(mode, gpus, crop_size=512 if on_paper else 256),
        # The configuration files switch the weights off; the paper does not say so.
        objective=ObjectiveConfig(context_weight=0.5, distance_weights=on_paper),
        schedule=only_cooldown(mode, lr=6e-4),
        truncation="micro_batch",
        runtime=ON_MANY_GPUS,
    )


def _in_name(size: Size) -> str:
    """Only g and G differ by their case."""
    return size if size == "G" else size.lower()


def _distilled(size: Size) -> PretrainConfig:
    gpus = _PRETRAIN_GPUS["L"]
    return PretrainConfig(
        recipe=f"vjepa21_vit{size.lower()}_distilled",
        seed=239,
        network=network(
            size,
            predictor_depth=12,
            variant="vjepa2_1",
            pred_num_mask_tokens=8,
            pred_num_levels=1,
            pred_output_size=SIZES["G"][0],
        ),
        clip=_clips_2_1("paper", gpus, num_frames=16, crop_size=256),
        images=_images("paper", gpus, crop_size=256),
        objective=_objective_2_1("paper").model_copy(update={"teacher": _TEACHER}),
        schedule=_schedule_2_1("paper"),
        truncation="micro_batch",
        runtime=ON_MANY_GPUS,
    )


def _distilled_anneal(size: Size) -> PretrainConfig:
    cooldown = _cooldown_2_1(size, "paper")
    return cooldown.model_copy(
        update={
            "recipe": f"vjepa21_vit{size.lower()}_distilled_anneal",
            "objective": cooldown.objective.model_copy(update={"teacher": _TEACHER}),
        }
    )
