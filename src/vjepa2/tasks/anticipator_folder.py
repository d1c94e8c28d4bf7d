"""A model that anticipates, as a folder; and published probes on a published encoder.

FOLDER/anticipation.json   frames, future, pixels, meaning of the scores, which encoder
FOLDER/probe/              a `VJEPA2AttentiveProbe`
FOLDER/encoder/            encoder and predictor, where they were trained along
FOLDER/labels.json         names of the classes
FOLDER/training.json       what it was trained on, see `tasks.probe_folder`
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from vjepa2.data.event_clips import EventClipConfig
from vjepa2.data.labelled import LabelMap
from vjepa2.data.views import ViewConfig
from vjepa2.errors import CheckpointFormatError, CheckpointNotFoundError, ConfigError, LabelError
from vjepa2.files import write_json
from vjepa2.models.anticipation import AnticipationSettings, Anticipator
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.runtime import resolve_device
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.tasks.pretrain_folder import MODEL_NAME, is_run
from vjepa2.tasks.pretrain_networks import averaged_model

FILE_NAME = "anticipation.json"
PROBE_NAME = "probe"
ENCODER_NAME = "encoder"


class AnticipatorFile(StrictConfig):
    """What `anticipation.json` holds.

    Attributes:
        clips: which frames are seen.
        future: how the future is filled in, and what the probe reads.
        views: size and normalisation of the pixels; of its frames only number and rate say
            something, and they are those of `clips`.
        loss: what the scores mean: "focal" or "cross_entropy".
        encoder: name, folder or file of the encoder; "" where it lies in the folder.
        encoder_mark: see the function of this name; "" where the encoder lies in the folder.
        version: of this layout.
    """

    clips: EventClipConfig = EventClipConfig()
    future: AnticipationSettings = AnticipationSettings()
    views: ViewConfig = ViewConfig(num_frames=32, fps=8.0)
    loss: str = Field("focal", pattern="^(focal|cross_entropy)$")
    encoder: str = ""
    encoder_mark: str = ""
    version: int = Field(1, ge=1, le=1)


@dataclass(frozen=True)
class LoadedAnticipator:
    """A model that anticipates, ready to use.

    Attributes:
        network: in evaluation mode, on its device.
        label_map: names of the classes of every head.
        settings: how its pixels are made and its scores are meant.
        name: for messages.
    """

    network: Anticipator
    label_map: LabelMap
    settings: AnticipatorFile
    name: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.tokens.model.device


def load_anticipation_model(name: str) -> VJEPA2Model:
    """Encoder and predictor by name, folder or file, or of the folder of a pretraining run.

    Raises:
        WeightsError, ConfigError: there is no such model.
    """
    folder = Path(name)
    if (folder / MODEL_NAME / CONFIG_NAME).is_file():
        return VJEPA2Model.from_pretrained(os.fspath(folder / MODEL_NAME))
    if is_run(folder):
        return averaged_model(folder)
    return VJEPA2Model.from_pretrained(name)


def save_anticipator(
    folder: str | os.PathLike[str],
    network: Anticipator,
    label_map: LabelMap,
    settings: AnticipatorFile,
    *,
    with_encoder: bool,
) -> None:
    """Write a model; the encoder only where it belongs to this model alone.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = Path(folder)
    network.probe.save_pretrained(target / PROBE_NAME)
    if with_encoder:
        network.tokens.model.save_pretrained(target / ENCODER_NAME)
    label_map.save(target)
    write_json(target / FILE_NAME, settings.model_dump(mode="json"))


def encoder_mark(model: VJEPA2Model, future: AnticipationSettings) -> str:
    """Mark of all weights that a probe's tokens come from: the predictor's too, if it is read.

    As float32, in which training holds them: a file may hold the same values in half precision.
    """
    source = model.encoder if future.tokens == "encoder" else model
    return weights_mark(
        {
            name: value.float() if value.is_floating_point() else value
            for name, value in source.state_dict().items()
        }
    )


def has_fresh_predictor(model: VJEPA2Model) -> bool:
    """Whether a predictor looks as if it was never trained: not one of its biases has moved."""
    named = model.predictor.named_parameters()
    return not any(bool(value.any()) for name, value in named if name.endswith("bias"))


def load_anticipator(
    folder: str | os.PathLike[str],
    *,
    encoder: str | None = None,
    device: str | torch.device | None = None,
) -> LoadedAnticipator:
    """Load what `save_anticipator` or `vjepa2 anticipate --train` wrote.

    Args:
        folder: of the model, or of the run that made it.
        encoder: where the encoder lies now, if it was moved.
        device: where to compute; None: the best there is.

    Raises:
        CheckpointNotFoundError: there is no such model.
        CheckpointFormatError: its settings are damaged.
        ConfigError: the encoder is not the one that the probe was trained on.
        WeightsError, LabelError: a part cannot be loaded.
    """
    target = Path(folder)
    if (target / MODEL_NAME / FILE_NAME).is_file():
        target = target / MODEL_NAME
    settings = _read_settings(target / FILE_NAME)
    label_map = LabelMap.load(target)
    own = target / ENCODER_NAME
    name = encoder or settings.encoder or os.fspath(own)
    model = load_anticipation_model(name)
    if settings.encoder_mark and encoder_mark(model, settings.future) != settings.encoder_mark:
        raise ConfigError(
            f"{name} is not the encoder and predictor that the probe in {target} was trained on: "
            "their weights differ (fingerprint). Give the right ones with encoder=, or train anew."
        )
    probe = VJEPA2AttentiveProbe.from_pretrained(os.fspath(target / PROBE_NAME))
    return _assembled(model, probe, label_map, settings, name=os.fspath(folder), device=device)


def join_published_probe(
    encoder: str,
    probe: str,
    label_map: LabelMap,
    *,
    settings: AnticipatorFile | None = None,
    head: int = 0,
    device: str | torch.device | None = None,
) -> LoadedAnticipator:
    """Put a published probe, such as those for EPIC-KITCHENS-100, on its encoder.

    Args:
        encoder: name, folder or file of encoder and predictor.
        probe: the original file (`classifiers`, a list of probes), or a folder.
        label_map: names of its classes in the order of the probe: of EPIC-KITCHENS-100 as
            `read_labelled(..., class_order="published")` numbers them.
        settings: default: the published ones: 32 frames at 8 per second, mask token 1, sigmoid
            scores.
        head: which of several probes in the file.
        device: where to compute.

    Raises:
        ConfigError, LabelError: probe, encoder and labels do not belong together.
        WeightsError: a part cannot be loaded.
    """
    model = load_anticipation_model(encoder)
    own: dict[str, Any] = {}
    if Path(probe).is_file():
        # The file does not say how many attention heads its encoder has.
        own = {"head": head, "num_attention_heads": model.config.num_attention_heads}
    loaded = VJEPA2AttentiveProbe.from_pretrained(probe, **own)
    size = model.config.crop_size
    crop = AnticipatorFile(views=ViewConfig(num_frames=32, fps=8.0, crop_size=size))
    return _assembled(
        model, loaded, label_map, settings or crop, name=f"{encoder} with {probe}", device=device
    )


def _assembled(
    model: VJEPA2Model,
    probe: VJEPA2AttentiveProbe,
    label_map: LabelMap,
    settings: AnticipatorFile,
    *,
    name: str,
    device: str | torch.device | None,
) -> LoadedAnticipator:
    sizes = probe.config.head_sizes or {"label": probe.config.num_labels}
    known = {head: len(names) for head, names in label_map.heads.items()}
    if probe.config.head_sizes is None and len(known) == 1:
        sizes = {next(iter(known)): probe.config.num_labels}
    if list(sizes.items()) != list(known.items()):
        raise LabelError(
            f"The probe scores {sizes} classes, the label map names {known}: they do not belong "
            "together. Use the labels.json that was saved with the probe."
        )
    network = Anticipator(model, probe, settings.future, fps=settings.clips.fps)
    network.to(resolve_device(device)).eval().requires_grad_(False)
    return LoadedAnticipator(network, label_map, settings, name)


def _read_settings(path: Path) -> AnticipatorFile:
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"{path} does not exist: {path.parent} holds no model that anticipates. Make one with "
            "vjepa2 anticipate --train LIST --val LIST --model ENCODER --out DIR."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return AnticipatorFile(**values)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointFormatError(
            f"{path} is damaged: {error}. Take the folder of the run again, or train anew."
        ) from error
