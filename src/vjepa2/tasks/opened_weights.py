"""Tensors of a checkpoint under our names, from a file, a folder, a hub name or a preset.

What the three tasks on checkpoints (inspect, convert, compare) share: they look at tensors without
building a network, and can tell which class a network of these tensors has.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vjepa2.errors import ConfigError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.presets import Preset, find_preset
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.models.weights_file import FileChoice, with_probe
from vjepa2.weights.download import fetch
from vjepa2.weights.hub import FolderSource, open_source
from vjepa2.weights.original import WeightsFile, read_weights_file
from vjepa2.weights.read import Checkpoint, read_checkpoint


@dataclass(frozen=True, kw_only=True)
class OpenedWeights:
    """A checkpoint, opened but not loaded into anything.

    Attributes:
        name: what the user gave.
        form: "original training checkpoint", "weights file", "folder" or "repository".
        checkpoint: tensors by our names, with the files they lie in.
        config: the configuration beside the weights; None for a single file.
        preset: the published artefact that was asked for by its name.
        file: content of a single weights file.
    """

    name: str
    form: str
    checkpoint: Checkpoint
    config: VJEPA2Config | None = None
    preset: Preset | None = None
    file: WeightsFile | None = None

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """By our names; names of a classifier's base without their `vjepa2.`."""
        return {
            name.removeprefix("vjepa2."): tensor for name, tensor in self.checkpoint.tensors.items()
        }

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self.checkpoint.paths)


def open_weights(name: str | os.PathLike[str], *, from_key: str | None = None) -> OpenedWeights:
    """Open a checkpoint.

    Args:
        name: a weights file, a folder, `owner/name` of a hub repository, or a preset's name, which
            is downloaded on first use.
        from_key: sub-dictionary of the encoder in an original file; None for the preferred one.

    Raises:
        CheckpointNotFoundError, CheckpointFormatError, UnsafeCheckpointError: see
            `vjepa2.weights`.
        ConfigError: `from_key` for a checkpoint without sub-dictionaries.
    """
    preset = find_preset(os.fspath(name))
    path = fetch(preset.file, sha256=preset.sha256) if preset else Path(name).expanduser()
    if path.is_file():
        file = read_weights_file(path)
        return OpenedWeights(
            name=os.fspath(name),
            form=_form(file),
            checkpoint=_checkpoint(file, from_key=from_key),
            preset=preset,
            file=file,
        )
    if from_key is not None:
        raise ConfigError(
            f"from_key={from_key!r} names a part of one original file; {os.fspath(name)} is a "
            "folder or repository, which holds one network."
        )
    source = open_source(name)
    found = source.find(CONFIG_NAME)
    return OpenedWeights(
        name=os.fspath(name),
        form="folder" if isinstance(source, FolderSource) else "repository",
        checkpoint=read_checkpoint(source),
        config=None if found is None else VJEPA2Config.from_json_file(found),
    )


def _checkpoint(file: WeightsFile, *, from_key: str | None) -> Checkpoint:
    """All networks of the file: encoder and predictor, probe, or all three."""
    if file.heads and not file.encoder_keys:
        return file.probe()
    base = file.checkpoint(from_key=from_key)
    return with_probe(base, FileChoice(probe=file.path)) if file.heads else base


def _form(file: WeightsFile) -> str:
    return "original training checkpoint" if file.layout == "nested" else "weights file"


def class_for(names: Iterable[str], *, model_type: str) -> type[PretrainedModel]:
    """The class whose network has these tensors.

    Args:
        names: of the tensors, ours.
        model_type: family, see `VJEPA2Config`.
    """
    roots = {name.removeprefix("vjepa2.").partition(".")[0] for name in names}
    if "pooler" in roots:
        return VJEPA2ForVideoClassification if "encoder" in roots else VJEPA2AttentiveProbe
    return VJEPA2ActionModel if model_type == "vjepa2_ac" else VJEPA2Model


def read_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["num_attention_heads=4"]` as configuration fields; values are read as JSON, else as text.

    Raises:
        ConfigError: an assignment has no `=`.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"Expected NAME=VALUE, got {assignment!r}.")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text.strip()
    return values


@dataclass(frozen=True, kw_only=True)
class Part:
    """Counts of one group of tensors.

    Attributes:
        num_tensors, num_parameters, size_bytes: counts.
        dtypes: element types, without "torch.".
    """

    num_tensors: int
    num_parameters: int
    size_bytes: int
    dtypes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "Part":
        """Count tensors."""
        listed = list(tensors)
        return cls(
            num_tensors=len(listed),
            num_parameters=sum(tensor.numel() for tensor in listed),
            size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in listed),
            dtypes=sorted({str(tensor.dtype).removeprefix("torch.") for tensor in listed}),
        )

    def __str__(self) -> str:
        return (
            f"{self.num_tensors} tensors, {self.num_parameters:,} parameters, "
            f"{self.size_bytes / 1e6:,.1f} MB, {', '.join(self.dtypes) or 'empty'}"
        )
