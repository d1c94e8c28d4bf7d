"""Tensors of a checkpoint under our names, from a file, a folder, a hub name or a preset.

What the three tasks on checkpoints (inspect, convert, compare) share: they look at tensors without
building a network, and can tell which class a network of these tensors has.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vjepa2.errors import ConfigError, check_path
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.preset_files import named_preset
from vjepa2.models.presets import Preset
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.models.weights_file import weights_path
from vjepa2.weights.download import fetch
from vjepa2.weights.geometry import Geometry, infer_geometry
from vjepa2.weights.hub import FolderSource, open_source
from vjepa2.weights.original import WeightsFile, read_weights_file
from vjepa2.weights.pages import FilePages
from vjepa2.weights.read import Checkpoint, Origin, read_checkpoint
from vjepa2.weights.values import check_values


@dataclass(frozen=True, kw_only=True)
class OpenedWeights:
    """A checkpoint, opened but not loaded into anything.

    Attributes:
        name: what the user gave.
        form: "original training checkpoint", "weights file", "folder" or "repository".
        checkpoint: tensors by our names, with the files they lie in.
        config: the configuration beside the weights, or the published one; None without.
        config_path: where the one beside a single file lies; None otherwise.
        preset: the published artefact that was asked for by its name.
        file: content of a single weights file.
        from_key: sub-dictionary of the encoder that was asked for.
        head: which of several probes in a file was asked for.
    """

    name: str
    form: str
    checkpoint: Checkpoint
    config: VJEPA2Config | None = None
    config_path: Path | None = None
    preset: Preset | None = None
    file: WeightsFile | None = None
    from_key: str | None = None
    head: int | None = None

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """By our names; names of a classifier's base without their `vjepa2.`."""
        return {
            name.removeprefix("vjepa2."): tensor for name, tensor in self.checkpoint.tensors.items()
        }

    @cached_property
    def geometry(self) -> Geometry:
        """What the shapes tell of the network."""
        return infer_geometry(self.tensors, where=self.name)

    @property
    def model_class(self) -> type[PretrainedModel]:
        """The class whose network has these tensors."""
        roots = {name.partition(".")[0] for name in self.tensors}
        if "pooler" in roots:
            return VJEPA2ForVideoClassification if "encoder" in roots else VJEPA2AttentiveProbe
        is_action = self.geometry.values["model_type"] == "vjepa2_ac"
        return VJEPA2ActionModel if is_action else VJEPA2Model

    @property
    def origin(self) -> Origin:
        """Which parts of an original file the tensors came from; empty for other checkpoints."""
        return self.checkpoint.origin or Origin()

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self.checkpoint.paths)

    def load(
        self,
        settings: Mapping[str, Any],
        *,
        probe: str | os.PathLike[str] | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> PretrainedModel:
        """The network, complete, in evaluation mode.

        Args:
            settings: from `checked_settings`.
            probe: original probe file to put on the encoder.
            dtype: element type to convert to; None keeps the stored one.

        Raises:
            VJEPAError: it cannot be loaded completely.
        """
        model_class = self.model_class if probe is None else VJEPA2ForVideoClassification
        if self.head is not None and probe is None and model_class is VJEPA2ForVideoClassification:
            probe = self.checkpoint.paths[0]  # its own
        return model_class.from_pretrained(
            self.name,
            config=self.config_path,
            from_key=self.from_key,
            head=self.head,
            probe=probe,
            dtype=dtype,
            **settings,
        )

    def check_values(self) -> None:
        """Look at every value, also of a folder, where loading does not.

        Raises:
            CheckpointFormatError: NaN, infinity, or weights that are zero throughout.
        """
        check_values(
            self.tensors,
            names=self.origin.names,
            where=", ".join(str(path) for path in self.checkpoint.paths),
            pages=FilePages(self.checkpoint.paths),
        )


def open_weights(
    name: str | os.PathLike[str], *, from_key: str | None = None, head: int | None = None
) -> OpenedWeights:
    """Open a checkpoint; names mean what they mean for `from_pretrained`.

    Args:
        name: a weights file, a folder, `owner/name` of a hub repository, or the name of a published
            model, which is downloaded on first use.
        from_key: sub-dictionary of the encoder in an original file; None for the preferred one.
        head: which of several probes in a file.

    Raises:
        CheckpointNotFoundError, CheckpointFormatError, UnsafeCheckpointError: see
            `vjepa2.weights`.
        ConfigError: `from_key` or `head` for a checkpoint without such parts.
    """
    check_path("The checkpoint", name)
    text = os.fspath(name)
    path, preset = weights_path(name), None
    if path is None and (preset := named_preset(name)):
        path = fetch(preset.file, sha256=preset.sha256)
    if path is not None:
        file = read_weights_file(path)
        beside = path.parent / CONFIG_NAME
        has_config = preset is None and file.layout == "ours" and beside.is_file()
        config = VJEPA2Config.from_json_file(beside) if has_config else None
        return OpenedWeights(
            name=text,
            form="original training checkpoint" if file.layout == "nested" else "weights file",
            checkpoint=_checkpoint(file, from_key=from_key, head=head),
            config=preset.to_config() if preset else config,
            config_path=beside if has_config else None,
            preset=preset,
            file=file,
            from_key=from_key,
            head=head,
        )
    for option, value in (("from_key", from_key), ("head", head)):
        if value is not None:
            raise ConfigError(
                f"{option}={value!r} names a part of one original file; {text} is a folder or "
                "repository, which holds one network."
            )
    source = open_source(name)
    found = source.find(CONFIG_NAME)
    return OpenedWeights(
        name=text,
        form="folder" if isinstance(source, FolderSource) else "repository",
        checkpoint=read_checkpoint(source),
        config=None if found is None else VJEPA2Config.from_json_file(found),
    )


def _checkpoint(file: WeightsFile, *, from_key: str | None, head: int | None) -> Checkpoint:
    """All networks of the file: encoder and predictor, probe, or all three."""
    if file.heads and not file.encoder_keys:
        return file.probe(head=head)
    base = file.checkpoint(from_key=from_key)
    if not file.heads:
        return base
    probe = file.probe(head=head)
    tensors = {**base.tensors, **probe.tensors}
    first, second = base.origin or Origin(), probe.origin or Origin()
    origin = dataclasses.replace(first, names={**first.names, **second.names})
    return Checkpoint(tensors, dict.fromkeys(tensors, file.path), origin)
