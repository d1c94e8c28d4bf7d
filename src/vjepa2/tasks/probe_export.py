"""From trained heads to a model folder that `vjepa2 classify` and `transformers` load."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vjepa2.errors import ConfigError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.finetune_export import processor_of
from vjepa2.tasks.probe_config import AttentiveProbeConfig
from vjepa2.tasks.probe_data import ProbeData
from vjepa2.tasks.probe_folder import EncoderIdentity, TrainedOn


def probe_network(
    encoder: VJEPA2Config, config: AttentiveProbeConfig, class_names: Sequence[str]
) -> VJEPA2Config:
    """Configuration of the run's probes.

    Args:
        encoder: configuration of the encoder.
        config: of the run.
        class_names: by number.

    Raises:
        ConfigError: a level does not exist, or the width is no multiple of the attention heads.
    """
    heads = config.heads
    if heads.levels is not None and heads.levels[-1] >= encoder.num_hidden_layers:
        raise ConfigError(
            f"heads.levels={list(heads.levels)} is a level set of another encoder: this one has "
            f"blocks 0 to {encoder.num_hidden_layers - 1}."
        )
    num_heads = heads.num_heads or encoder.num_attention_heads
    if encoder.hidden_size % num_heads:
        raise ConfigError(
            f"heads.num_heads={num_heads} does not divide the encoder's width of "
            f"{encoder.hidden_size}. Leave it out to take those of the encoder."
        )
    if config.views.crop_size < encoder.patch_size:
        raise ConfigError(
            f"views.crop_size={config.views.crop_size} is less than the encoder's patch of "
            f"{encoder.patch_size} px."
        )
    changes: dict[str, Any] = {
        "num_pooler_layers": heads.depth - 1,
        "num_pooler_attention_heads": heads.num_heads,
        "pooler_layer_norm_eps": heads.layer_norm_eps,
        "pooler_levels": None if heads.levels is None else list(heads.levels),
        "attention_dropout": 0.0,
        "head_sizes": None,
        "id2label": dict(enumerate(class_names)),
        "problem_type": "single_label_classification",
        "crop_size": config.views.crop_size,
        "frames_per_clip": config.views.num_frames,
    }
    if heads.initializer_range is not None:
        changes["initializer_range"] = heads.initializer_range
    return encoder.replaced(changes)


def transformers_note(network: VJEPA2Config, config: AttentiveProbeConfig) -> str:
    """Why transformers would not compute the same from the model's folder; "" where it does."""
    if network.model_type != "vjepa2":
        return f"it does not know {network.model_type}"
    if network.pooler_levels:
        return f"it reads the last block only, this head blocks {network.pooler_levels}"
    if network.pooler_heads != network.num_attention_heads:
        return (
            f"it gives the probe {network.num_attention_heads} attention heads, this one has "
            f"{network.pooler_heads} (heads.num_heads)"
        )
    if network.pooler_eps != network.layer_norm_eps:
        return (
            f"it takes eps {network.layer_norm_eps:g} in the probe's norms, this one has "
            f"{network.pooler_eps:g} (heads.layer_norm_eps; the difference is small)"
        )
    if config.views.num_segments > 1:
        return (
            f"it scores one clip, this head reads {config.views.num_segments} of a video together"
        )
    return ""


def save_probe(
    model: VJEPA2Model,
    probe: VJEPA2AttentiveProbe,
    folder: Path,
    *,
    config: AttentiveProbeConfig,
    data: ProbeData,
    encoder: EncoderIdentity,
    item_hashes: Sequence[str],
    val_hashes: Sequence[str],
    results: Mapping[str, Any],
) -> Path:
    """Write the classifier, its processor, `labels.json` and `training.json`.

    Args:
        model: whose encoder was read.
        probe: the head that was chosen.
        folder: made if needed.
        config: of the run.
        data: what was learned from.
        encoder: whose tokens the probe reads.
        item_hashes: content hashes of the training files.
        val_hashes: of those by which the head was chosen.
        results: of the run.

    Returns:
        `folder`.
    """
    model = model.cpu().eval()
    model.config = model.config.replaced({"crop_size": config.views.crop_size})
    classifier = VJEPA2ForVideoClassification.from_parts(model, probe.cpu())
    classifier.config.frames_per_clip = config.views.num_frames
    classifier.save_pretrained(folder)
    processor_of(config.views).save_pretrained(folder)
    sources = {name: found.source for name, found in data.sets.items()}
    trained_on = TrainedOn(
        label_map=data.label_map,
        views=config.views.model_dump(mode="json"),
        item_hashes=tuple(item_hashes),
        encoder=encoder,
        task="probe",
        head=data.head,
        details={
            **sources,
            "val_hashes": list(val_hashes),
            "best": dict(results["best"]),
            "test": results.get("test"),
            "baselines": results.get("baselines", {}),
            "transformers": transformers_note(probe.config, config),
            "settings": config.model_dump(mode="json"),
        },
    )
    trained_on.save(folder)
    return folder
