"""Probes of the encoder's and the predictor's tokens alone, kept beside a model that anticipates.

FOLDER/ablations/encoder/, predictor/, both/    a `VJEPA2AttentiveProbe` each

They learned with the model and are evaluated with it: no number of an anticipation stands alone.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from vjepa2.errors import LabelError
from vjepa2.models.anticipation import TokenChoice
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.tasks.anticipate_scores import CHOICES
from vjepa2.tasks.anticipator_folder import FILE_NAME, LoadedAnticipator
from vjepa2.tasks.pretrain_folder import MODEL_NAME

ABLATIONS_NAME = "ablations"


def anticipator_folder(model: object) -> Path | None:
    """Folder of a model that anticipates, given by it or by that of its run; None for others."""
    if not isinstance(model, str | os.PathLike):
        return None
    named = Path(os.fspath(model))
    for folder in (named, named / MODEL_NAME):
        if (folder / FILE_NAME).is_file():
            return folder
    return None


def save_ablations(
    folder: str | os.PathLike[str], probes: Mapping[TokenChoice, VJEPA2AttentiveProbe]
) -> None:
    """Write probes beside a model.

    Raises:
        OutputError: the folder cannot be written.
    """
    for choice, probe in probes.items():
        probe.save_pretrained(Path(folder) / ABLATIONS_NAME / choice)


def load_ablations(
    folder: str | os.PathLike[str], model: LoadedAnticipator
) -> dict[TokenChoice, VJEPA2AttentiveProbe]:
    """Load the probes that were kept beside a model, in evaluation mode on its device.

    Raises:
        LabelError: a probe scores other classes than the model.
        WeightsError: a probe cannot be loaded.
    """
    found: dict[TokenChoice, VJEPA2AttentiveProbe] = {}
    own = model.network.probe.config
    for choice in CHOICES:
        target = Path(folder) / ABLATIONS_NAME / choice
        if choice == model.settings.future.tokens or not (target / CONFIG_NAME).is_file():
            continue
        probe = VJEPA2AttentiveProbe.from_pretrained(os.fspath(target), dtype=torch.float32)
        if (probe.config.head_sizes, probe.config.num_labels) != (own.head_sizes, own.num_labels):
            raise LabelError(
                f"The probe in {target} scores other classes than the model beside it. Take the "
                "folder of the run again, or remove it."
            )
        found[choice] = probe.to(model.device).eval().requires_grad_(False)
    return found
