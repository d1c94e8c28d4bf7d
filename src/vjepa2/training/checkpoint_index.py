"""`checkpoint.json`: what a checkpoint holds, checked field by field when it is read.

Nothing in a checkpoint is pickled, so that reading one from a stranger runs no code.
"""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.strict_config import StrictConfig
from vjepa2.training.parts import DTYPES, Rows, StoredTensor

INDEX_NAME = "checkpoint.json"
PART_NAME = r"part-\d{4,}\.safetensors"
DTYPE_NAMES = {str(dtype).removeprefix("torch.") for dtype in DTYPES}


class PartFile(StrictConfig):
    """Size and CRC-32 of one part file."""

    num_bytes: int = Field(ge=0)
    checksum: int = Field(ge=0)


class TensorEntry(StrictConfig):
    """One tensor: type, shape, and (file, first row, row after the last) of its parts."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, int, int], ...]

    def stored(self) -> StoredTensor:
        """The same as the reader takes it."""
        return StoredTensor(self.dtype, self.shape, tuple(Rows(*part) for part in self.parts))


class CheckpointIndex(StrictConfig):
    """Contents of `checkpoint.json`.

    Attributes:
        format: of this file.
        step: updates that were made.
        world_size: processes that wrote it.
        config: resolved configuration of the run.
        versions: of vjepa2, torch and Python, for people.
        values: small facts of the run.
        files: part files by name.
        tensors: by name.
        checksum: CRC-32 of all the above, see `index_text`.
    """

    format: Literal["vjepa2-training-1"] = "vjepa2-training-1"
    step: int = Field(ge=0)
    world_size: int = Field(ge=1)
    config: dict[str, Any]
    versions: dict[str, str]
    values: dict[str, Any]
    files: dict[str, PartFile]
    tensors: dict[str, TensorEntry]
    checksum: int


def index_text(values: Mapping[str, Any]) -> str:
    """Text of `checkpoint.json` with its checksum.

    Args:
        values: fields of `CheckpointIndex`, without the checksum.

    Raises:
        ConfigError: they are not as they must be.
    """
    index = CheckpointIndex(**values, checksum=0).model_dump(mode="json")
    return json.dumps({**index, "checksum": _checksum(index)})


def _checksum(values: Mapping[str, Any]) -> int:
    """CRC-32 of JSON values by sorted name, whatever the checksum among them says."""
    others = {name: value for name, value in values.items() if name != "checksum"}
    return zlib.crc32(json.dumps(others, sort_keys=True).encode())


def read_index(folder: Path) -> CheckpointIndex:
    """The index of a checkpoint whose files are all there, in their full size.

    Raises:
        CheckpointFormatError: something is missing, cut off or contradictory.
    """
    path = folder / INDEX_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        checksum = _checksum(values) if isinstance(values, dict) else None
    except (OSError, ValueError, RecursionError) as error:  # also thousands of digits or brackets
        raise CheckpointFormatError(f"{path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointFormatError(f"{path} is no JSON object.")
    try:
        index = CheckpointIndex(**values)
    except (ConfigError, ValidationError) as error:
        raise CheckpointFormatError(f"{path} is not as this version writes it: {error}") from error
    for name, file in index.files.items():
        if not re.fullmatch(PART_NAME, name):
            raise CheckpointFormatError(f"{path} names a file {name!r} that is no part file.")
        part = folder / name
        found = part.stat().st_size if part.is_file() else None
        if found != file.num_bytes:
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise CheckpointFormatError(f"{part} {state}; it must have {file.num_bytes:,}.")
    for name, tensor in index.tensors.items():
        if problem := _problem(tensor, index.files):
            raise CheckpointFormatError(f"{path}: tensor {name!r} {problem}.")
    if index.checksum != checksum:
        raise CheckpointFormatError(f"{path} was changed or damaged: its checksum is wrong.")
    return index


def _problem(tensor: TensorEntry, files: Mapping[str, PartFile]) -> str:
    """What is wrong with an entry, in words; nothing if all is well."""
    if tensor.dtype not in DTYPE_NAMES:
        return f"is of type {tensor.dtype!r}"
    if any(size < 0 for size in tensor.shape):
        return f"has shape {tensor.shape}"
    rows = 0
    for file, start, stop in tensor.parts:
        if file not in files:
            return f"lies in {file!r}, which is not listed"
        if start != rows or stop < start:
            return f"lacks rows from {rows} on"
        rows = stop
    needed = tensor.shape[0] if tensor.shape else 1
    return "" if rows == needed else f"has {rows} of {needed} rows"


def config_differences(
    stored: Mapping[str, Any], own: Mapping[str, Any], *, may_differ: tuple[str, ...]
) -> list[str]:
    """`field: stored value, own value` of every field that differs, sorted.

    Args:
        stored, own: configurations as JSON values, nested by section.
        may_differ: fields and whole sections ("runtime", "data.workers") that are passed over.
    """
    left, right = _flat(stored), _flat(own)
    absent = object()
    lines = []
    for name in sorted(left.keys() | right.keys()):
        if any(name == free or name.startswith(f"{free}.") for free in may_differ):
            continue
        old, new = left.get(name, absent), right.get(name, absent)
        if old != new or isinstance(old, bool) != isinstance(new, bool):
            shown = ["absent" if value is absent else json.dumps(value) for value in (old, new)]
            lines.append(f"{name}: {shown[0]} in the checkpoint, {shown[1]} now")
    return lines


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted name; items of lists by their number; empty sections are leaves."""
    if isinstance(values, Mapping):
        items = [(str(name), value) for name, value in values.items()]
    elif isinstance(values, list | tuple):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {prefix: values}
    if not items:
        return {prefix: type(values)() if isinstance(values, Mapping) else []}
    leaves: dict[str, Any] = {}
    for name, value in items:
        leaves |= _flat(value, f"{prefix}.{name}" if prefix else name)
    return leaves
