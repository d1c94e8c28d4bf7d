"""A model from one weights file, without a `config.json`: the numbers come from the shapes.

`open_file` reads an original `.pt` (or a bare dictionary of tensors) and finds its configuration;
`with_probe` adds the pooler and classifier of an original probe file.
"""

import dataclasses
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    check_kind,
    check_path,
    checked_integer,
)
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.weights.geometry import infer_geometry
from vjepa2.weights.hub import expanded
from vjepa2.weights.load import HEADS
from vjepa2.weights.original import WeightsFile, read_weights_file
from vjepa2.weights.read import Checkpoint, Origin
from vjepa2.weights.signature import SUFFIXES

# Mask tokens of V-JEPA 1, whose files have the same names but fixed positions.
_VJEPA1_MASK_TOKENS = 2
_PROBE_ASSUMED = ("num_pooler_attention_heads", "pooler_layer_norm_eps")


class Opened(NamedTuple):
    """Weights and the configuration that belongs to them.

    Attributes:
        config: with the user's own values in place.
        checkpoint: under our names.
        assumed: field to the reason for its value, where nothing in the file tells it.
    """

    config: VJEPA2Config
    checkpoint: Checkpoint
    assumed: Mapping[str, str]


class FileChoice(NamedTuple):
    """What to take of original files.

    Attributes:
        from_key: sub-dictionary of the encoder; None for the preferred one.
        probe: original probe file whose pooler and classifier are added.
        head: which of several probes in a file.
    """

    from_key: str | None = None
    probe: str | os.PathLike[str] | None = None
    head: int | None = None


def check_choice_of_parts(choice: FileChoice, *, parts: Container[str], owner: str) -> None:
    """Refuse values of a wrong kind, and what the model class `owner`, made of `parts`, lacks.

    Raises:
        ConfigError: with the argument and what it is for.
    """
    if choice.from_key is not None:
        check_kind("from_key", choice.from_key, str, words="the name of a sub-dictionary")
    if choice.head is not None:
        checked_integer("head", choice.head)
    if choice.probe is not None:
        check_path("probe", choice.probe)
    if choice.probe is not None and not ("encoder" in parts and "probe" in parts):
        raise ConfigError(
            f"probe= adds a pooler and classifier, which {owner} does not have beside an encoder. "
            "Use VJEPA2ForVideoClassification, or VJEPA2AttentiveProbe for the probe alone."
        )
    if choice.head is not None and choice.probe is None and "encoder" in parts:
        raise ConfigError("head= says which probe of the file probe=... to use; give both.")
    if choice.from_key is not None and "encoder" not in parts:
        raise ConfigError(f"from_key= names an encoder; {owner} has none.")


def refuse_folder_options(**options: str | None) -> None:
    """Raise `ConfigError` for the first option that has a value: none means anything for a file."""
    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}={value!r} is for folders and repositories, not for a file.")


def weights_path(name_or_path: str | os.PathLike[str]) -> Path | None:
    """The path of a weights file; None for a folder or the name of a repository.

    Raises:
        CheckpointNotFoundError: it ends like a weights file and there is none.
        ConfigError: it is a file of another kind.
    """
    text = os.fspath(name_or_path)
    path = expanded(text, what="The path")
    if path.is_dir():
        return None
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConfigError(
                f"{text} is a file, but none with weights (those end with {', '.join(SUFFIXES)}). "
                "Give a weights file, or the folder that save_pretrained wrote."
            )
        return path
    if text.endswith(SUFFIXES):
        folder = path.parent if path.parent.is_dir() else Path.cwd()
        near = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIXES))
        raise CheckpointNotFoundError(
            f"There is no file {path.absolute()}. Weights files in {folder}: "
            f"{', '.join(near[:12]) or 'none'}."
        )
    return None


def open_file(
    path: Path,
    *,
    kind: type[VJEPA2Config],
    parts: Container[str],
    config: VJEPA2Config | None,
    overrides: Mapping[str, Any],
    choice: FileChoice,
) -> Opened:
    """Read a weights file and find the configuration of its network.

    Args:
        path: an original checkpoint, or a bare dictionary of tensors.
        kind: class of the configuration.
        parts: what the model is made of: "encoder", "predictor", "probe".
        config: used in place of what the shapes tell.
        overrides: fields with another value.
        choice: what to take of the file.

    Raises:
        CheckpointFormatError, UnsafeCheckpointError: see `read_weights_file`; also a file of
            another kind of network.
        ConfigError: heads of an unpublished width are not given, or values do not fit.
    """
    file = read_weights_file(path)
    if "encoder" in parts:
        checkpoint = file.checkpoint(from_key=choice.from_key)
        _refuse_first_generation(file, checkpoint, confirmed=config is not None)
        if "probe" in parts and file.heads and choice.probe is None:
            choice = choice._replace(probe=path)  # one file with both, as `vjepa2 convert` writes
        if choice.probe is not None:
            checkpoint = with_probe(checkpoint, choice)
    else:
        checkpoint = file.probe(head=choice.head)
    if config is not None:
        return Opened(config.replaced(overrides), checkpoint, {})
    tensors = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if "probe" in parts or not name.startswith(HEADS)
    }
    original = file.layout != "ours" or choice.probe is not None
    geometry = infer_geometry(
        tensors,
        where=str(path),
        needs_encoder="encoder" in parts,
        original_probe=original,
    )
    values = geometry.completed(overrides, where=str(path))
    if "id2label" in overrides and "num_labels" not in overrides:
        values.pop("num_labels", None)  # the names tell more than their number
    try:
        own = kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    assumed = {name: why for name, why in geometry.assumed.items() if name not in overrides}
    return Opened(own, checkpoint, assumed)


def open_folder_with_probe(
    checkpoint: Checkpoint,
    config: VJEPA2Config,
    *,
    overrides: Mapping[str, Any],
    choice: FileChoice,
) -> Opened:
    """Add an original probe to the base model of a folder; see `open_file`."""
    joined = with_probe(checkpoint, choice)
    head = {name: tensor for name, tensor in joined.tensors.items() if name.startswith(HEADS)}
    geometry = infer_geometry(head, where=str(choice.probe))
    names = ("num_pooler_layers", "num_labels", "head_sizes", *_PROBE_ASSUMED)
    told = {name: geometry.values[name] for name in names if name in geometry.values}
    untold = _PROBE_ASSUMED if config.pooler_levels else (*_PROBE_ASSUMED, "pooler_levels")
    assumed = {name: geometry.assumed[name] for name in untold if name not in overrides}
    return Opened(config.replaced({**told, **overrides}), joined, assumed)


def with_probe(base: Checkpoint, choice: FileChoice) -> Checkpoint:
    """The tensors of a base model and of the probe file in `choice`.

    Raises:
        CheckpointNotFoundError: there is no such file.
        ConfigError: the base already has a head, or `head` does not name one of the file's.
        CheckpointFormatError, UnsafeCheckpointError: see `WeightsFile.probe`.
    """
    assert choice.probe is not None
    path = expanded(os.fspath(choice.probe), what="probe")
    if not path.is_file():
        raise CheckpointNotFoundError(f"There is no probe file {path.absolute()}.")
    if any(name.startswith(HEADS) for name in base.tensors):
        raise ConfigError(
            f"{base.paths[0]} already holds a pooler or classifier; probe= adds one to a base "
            "model."
        )
    found = read_weights_file(path).probe(head=choice.head)
    # Names of the file itself come from both: the base's origin tells the encoder.
    first, second = base.origin or Origin(), found.origin or Origin()
    origin = dataclasses.replace(
        first,
        names={**first.names, **second.names},
        dropped={**first.dropped, **second.dropped},
    )
    return Checkpoint({**base.tensors, **found.tensors}, {**base.files, **found.files}, origin)


def _refuse_first_generation(file: WeightsFile, checkpoint: Checkpoint, *, confirmed: bool) -> None:
    """V-JEPA 1 has the same names and shapes, but added fixed tables of positions to the tokens."""
    origin = checkpoint.origin or Origin()
    tables = [name for name in origin.dropped if name.endswith("pos_embed")]
    tokens = checkpoint.tensors.get("predictor.embeddings.mask_tokens")
    if confirmed or not tables or tokens is None or len(tokens) != _VJEPA1_MASK_TOKENS:
        return
    raise CheckpointFormatError(
        f"{file.path} looks like V-JEPA 1: fixed tables of positions ({', '.join(tables)}) and "
        f"{_VJEPA1_MASK_TOKENS} mask tokens. Its networks have no rotary positions, so V-JEPA 2 "
        "would give wrong features. If it was trained with rotary positions, pass config=."
    )
