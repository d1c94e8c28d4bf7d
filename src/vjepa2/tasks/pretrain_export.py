"""From a run to a model folder: the average at its end, or that of any checkpoint that was kept."""

import os
from pathlib import Path
from typing import Any, cast

import torch

from vjepa2.data.settings import AugmentConfig
from vjepa2.errors import CheckpointNotFoundError
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.pretrain_config import AdapterConfig, ClipConfig, PretrainConfig
from vjepa2.tasks.pretrain_folder import MODEL_NAME, load_run_config
from vjepa2.tasks.pretrain_networks import averaged_model, newest_checkpoint, with_adapters
from vjepa2.training.distributed import one_process
from vjepa2.video.processor import VJEPA2VideoProcessor


def export_checkpoint(run: str | os.PathLike[str], which: str) -> Path:
    """Write the model of a checkpoint into the run's folder, beside `model`.

    Args:
        run: folder of the run, finished or not.
        which: "latest", "best" (chosen without labels), "healthy" (before an alarm), or the
            number of updates of a checkpoint that is there.

    Returns:
        The folder `model-WHICH`.

    Raises:
        CheckpointNotFoundError: there is no such checkpoint; the message lists what there is.
        WeightsError: it cannot be used.
        OutputError: the folder cannot be written.
    """
    config = load_run_config(run)
    store, newest = newest_checkpoint(run, one_process())
    known = {str(step): step for step in store.steps()} | store.protected() | {"latest": newest}
    if which not in known:
        raise CheckpointNotFoundError(
            f"{run} keeps no checkpoint {which!r}. There are: {', '.join(known)}. The best and the "
            "last healthy one are kept where a checkpoint and a measurement of health coincide."
        )
    step = known[which]
    model = averaged_model(run, step=step)
    clip = clip_of(config, step)
    _name_geometry(model.config, clip)
    folder = Path(run) / f"{MODEL_NAME}-{which}"
    save_finished_model(model.eval(), folder, clip=clip, augment=config.augment)
    return folder


def clip_of(config: PretrainConfig, step: int) -> ClipConfig:
    """Geometry of the last clips that `step` updates have seen."""
    seen = config.schedule.phase(max(0, step - 1))
    if seen == "cooldown" and config.cooldown_clip is not None:
        return config.cooldown_clip
    return config.clip


def finished_model(
    network: VJEPA2Config,
    encoder_state: dict[str, torch.Tensor],
    predictor_state: dict[str, Any],
    *,
    clip: ClipConfig,
    adapters: AdapterConfig | None = None,
) -> VJEPA2Model:
    """The averaged encoder with the student's predictor, as one model.

    Args:
        network: configuration of the student.
        encoder_state: whole tensors of the average, on the CPU.
        predictor_state: those of the student's predictor.
        clip: geometry of the last clips, which the configuration names.
        adapters: that were trained; they are merged into the weights.
    """
    config = VJEPA2Config.from_dict(network.to_dict())
    _name_geometry(config, clip)
    # A fresh one: the run's own may lie in slices on several processes.
    model = VJEPA2Model(config)
    adapted = None if adapters is None else with_adapters(model, adapters, seed=0)
    model.encoder.load_state_dict(encoder_state)
    model.predictor.load_state_dict(predictor_state)
    if adapted is not None:
        cast(Any, adapted).merge_and_unload()
    return model.eval().requires_grad_(True)


def save_finished_model(
    model: VJEPA2Model, folder: Path, *, clip: ClipConfig, augment: AugmentConfig
) -> None:
    """Write the model and its processor, so that `from_pretrained(folder)` has both.

    Processors make colour frames; networks of other channels have none.
    """
    model.save_pretrained(folder)
    if augment.num_channels != 3:
        return
    side = clip.crop_size
    processor = VJEPA2VideoProcessor(
        crop_size={"height": side, "width": side},
        image_mean=augment.mean,
        image_std=augment.std,
        rescale_factor=1 / augment.pixel_max,
    )
    processor.save_pretrained(folder)


def _name_geometry(config: VJEPA2Config, clip: ClipConfig) -> None:
    config.crop_size, config.frames_per_clip = clip.crop_size, clip.num_frames
