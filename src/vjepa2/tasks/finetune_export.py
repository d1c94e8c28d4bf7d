"""From a fine-tuning run to a model folder that `vjepa2 classify` and `transformers` load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from vjepa2.data.views import ViewConfig
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.finetune_data import FineTuneData
from vjepa2.tasks.pretrain_networks import with_adapters
from vjepa2.tasks.probe_folder import EncoderIdentity, TrainedOn
from vjepa2.video.processor import VJEPA2VideoProcessor


def finished_classifier(
    network: VJEPA2Config, state: dict[str, Tensor], config: FineTuneConfig
) -> VJEPA2ForVideoClassification:
    """The trained classifier with adapters merged into its weights.

    Args:
        network: its configuration.
        state: whole tensors, on the CPU.
        config: of the run.
    """
    model = VJEPA2ForVideoClassification(VJEPA2Config.from_dict(network.to_dict()))
    model.config.crop_size = config.views.crop_size
    model.config.frames_per_clip = config.views.num_frames
    adapted = None
    if config.method == "lora":
        adapted = with_adapters(model.vjepa2, config.adapters, seed=config.seed)
    model.load_state_dict(state)
    if adapted is not None:
        cast(Any, adapted).merge_and_unload()
    return model.eval().requires_grad_(True)


def save_classifier(
    model: VJEPA2ForVideoClassification,
    folder: Path,
    *,
    config: FineTuneConfig,
    data: FineTuneData,
    item_hashes: Sequence[str],
    val_hashes: Sequence[str],
    best: dict[str, Any] | None,
) -> None:
    """Write model, processor, `labels.json` and `training.json`.

    Args:
        model: finished.
        folder: made if needed.
        config: of the run.
        data: what was learned from.
        item_hashes: content hashes of the training files.
        val_hashes: of those by which the epoch was chosen.
        best: measures of the epoch that the weights are from; None where none was measured.
    """
    model.save_pretrained(folder)
    processor_of(config.views).save_pretrained(folder)
    network = model.config
    trained_on = TrainedOn(
        label_map=data.train.label_map,
        views=config.views.model_dump(mode="json"),
        item_hashes=tuple(item_hashes),
        encoder=EncoderIdentity(
            name=str(config.start_from),
            weights="",  # trained along
            width=network.hidden_size,
            num_blocks=network.num_hidden_layers,
            levels=tuple(network.pooler_levels or (network.num_hidden_layers - 1,)),
        ),
        task="finetune",
        head=data.head,
        details={
            "method": config.method,
            "train": data.train.source,
            "val": None if data.val is None else data.val.source,
            "val_hashes": list(val_hashes),
            "validation": best,
            "settings": config.model_dump(mode="json"),
        },
    )
    trained_on.save(folder)


def processor_of(views: ViewConfig) -> VJEPA2VideoProcessor:
    """The processor that makes frames as one view of the run's."""
    side = views.crop_size
    return VJEPA2VideoProcessor(
        crop_size={"height": side, "width": side}, image_mean=views.mean, image_std=views.std
    )
