"""Rows of features in a file, and back.

    NAME.safetensors   tensors `embedding` [rows, D] and, if kept, `tokens` [rows, N, D]; the rest
                       is JSON in the header under `vjepa2.features`
    NAME.npy           one array, [rows, D], or [rows, N, D] if tokens are kept; the rest is in
                       NAME.npy.json beside it
    NAME.parquet       one row per clip with a column per field; settings in the schema's metadata
                       (needs the extra `parquet`)

`read_rows` gives the rows and the settings they were made with from any of the three. Files appear
complete or not at all.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vjepa2.errors import (
    InputError,
    ShapeError,
    check_kind,
    check_path,
)
from vjepa2.features.header import (
    HEADER_KEY,
    TEXT_FACTS,
    TIME_FACTS,
    Header,
    header_text,
    parse_header,
    read_object,
)
from vjepa2.features.parquet import read_parquet_arrays, read_parquet_header, write_parquet
from vjepa2.features.rows import Arrays, ClipFeatures, stacked
from vjepa2.files import atomic_path, write_json
from vjepa2.shapes import TokenGrid


def write_rows(
    path: str | os.PathLike[str], rows: Sequence[ClipFeatures], *, settings: Mapping[str, Any]
) -> None:
    """Write rows to one file; its suffix chooses the format.

    Args:
        path: ends in one of `FORMATS`.
        rows: at least one; all with tokens of one shape, or all without.
        settings: JSON values, read back by `read_header`.

    Raises:
        ShapeError: rows of different shapes, or none.
        OutputError: the file cannot be written.
        MissingExtraError: Parquet without pyarrow.
    """
    _check_alike(rows)
    settings = _plain(settings)
    _format_of(path).write(Path(path), rows, settings)


def read_rows(path: str | os.PathLike[str]) -> tuple[list[ClipFeatures], dict[str, Any]]:
    """Read back what `write_rows` wrote: the rows and their settings.

    Parquet and NumPy files give tokens as float32 where they were bfloat16.

    Raises:
        InputError: the file is damaged, or not a feature file of this package.
        MissingExtraError: Parquet without pyarrow.
    """
    header = read_header(path)
    arrays = None if header is None else _format_of(path).read_arrays(Path(path))
    if header is None or arrays is None or not _fits(header, *arrays):
        raise InputError(
            f"{path} is damaged or no feature file of this package. Make it again with "
            "`vjepa2 embed`."
        )
    embedding, tokens = arrays
    rows = [
        ClipFeatures(
            **{name: facts[name] for name in (*TEXT_FACTS, *TIME_FACTS)},
            grid=TokenGrid(*facts["grid"]),
            pts_seconds=None if facts["pts_seconds"] is None else tuple(facts["pts_seconds"]),
            embedding=embedding[number],
            tokens=None if tokens is None else tokens[number],
        )
        for number, facts in enumerate(header.rows)
    ]
    return rows, header.settings


def _fits(header: Header, embedding: Tensor, tokens: Tensor | None) -> bool:
    """Whether the arrays are those that the header describes."""
    count = len(header.rows)
    if embedding.ndim != 2 or len(embedding) != count:
        return False
    if tokens is None:
        return True
    if tokens.ndim != 3:
        return False
    grids = {TokenGrid(*facts["grid"]).num_tokens for facts in header.rows}
    width = embedding.shape[1]
    return grids == {tokens.shape[1]} and tokens.shape == (count, tokens.shape[1], width)


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """Read everything but the arrays; None for a missing, damaged or foreign file.

    Raises:
        InputError: `path` is no path, or ends in none of `FORMATS`.
        MissingExtraError: Parquet without pyarrow.
    """
    check_path("path", path, error=InputError)
    if not Path(path).is_file():
        return None
    return _format_of(path).read_header(Path(path))


def can_replace(path: str | os.PathLike[str]) -> bool:
    """Whether `write_rows` destroys nothing foreign: there is no file, or feature files.

    A NumPy file has a second one beside it, which is looked at as well.

    Raises:
        InputError: as `read_header`.
    """
    check_path("path", path, error=InputError)
    if os.path.lexists(path):
        return read_header(path) is not None
    beside = _beside(Path(path))
    if Path(path).suffix.lower() != ".npy" or not os.path.lexists(beside):
        return True
    try:
        return parse_header(beside.read_bytes()) is not None
    except OSError:
        return False


def _plain(settings: object) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    check_kind("settings", settings, Mapping, words="a mapping of JSON values", error=InputError)
    try:
        values = json.loads(json.dumps(dict(settings), allow_nan=False))  # type: ignore[call-overload]
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"settings must be JSON values: {error}.") from error
    assert isinstance(values, dict)
    return values


def _check_alike(rows: Sequence[ClipFeatures]) -> None:
    check_kind("rows", rows, Sequence, words="a list of ClipFeatures", error=InputError)
    for row in rows:
        check_kind("A row", row, ClipFeatures, words="a ClipFeatures", error=InputError)
        if row.tokens is not None and len(row.tokens) != row.grid.num_tokens:
            raise ShapeError(
                f"{row.source}: a grid of {tuple(row.grid)} has {row.grid.num_tokens} tokens, got "
                f"{len(row.tokens)}."
            )
    shapes = {
        (tuple(row.embedding.shape), None if row.tokens is None else tuple(row.tokens.shape))
        for row in rows
    }
    if len(shapes) != 1:
        found = ", ".join(f"embedding {a} tokens {b}" for a, b in sorted(shapes, key=str)) or "none"
        raise ShapeError(
            f"One file holds rows of one shape, got {found}. Write a file per video: give a folder."
        )


# -- safetensors ------------------------------------------------------------------------------


def _write_safetensors(
    path: Path, rows: Sequence[ClipFeatures], settings: Mapping[str, Any]
) -> None:
    text = header_text(rows, settings)
    embedding, tokens = stacked(rows)
    tensors = {"embedding": embedding} | ({} if tokens is None else {"tokens": tokens})
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER_KEY: text})


def _read_safetensors_header(path: Path) -> Header | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "embedding" not in file.keys():  # noqa: SIM118  # it is no mapping
                return None
            shape = file.get_slice("embedding").get_shape()
    except (safetensors.SafetensorError, OSError):
        return None
    return parse_header(metadata.get(HEADER_KEY, ""), num_rows=shape[0] if shape else 0)


def _read_safetensors_arrays(path: Path) -> Arrays | None:
    tensors = safetensors.torch.load_file(path)
    return tensors["embedding"], tensors.get("tokens")


# -- npy --------------------------------------------------------------------------------------


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _write_npy(path: Path, rows: Sequence[ClipFeatures], settings: Mapping[str, Any]) -> None:
    text = header_text(rows, settings)
    embedding, tokens = stacked(rows)
    array = embedding if tokens is None else tokens
    if array.dtype == torch.bfloat16:  # NumPy has no such type
        array = array.float()
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            np.save(file, array.numpy())
        checksum = _checksum(temporary)
    # The array goes first: if the process dies between the two, the checksum does not fit and the
    # pair counts as damaged.
    write_json(_beside(path), json.loads(text) | {"crc32": checksum})


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            value = zlib.crc32(chunk, value)
    return value


def _read_npy_header(path: Path) -> Header | None:
    try:
        text = _beside(path).read_bytes()
        values = read_object(text)
        if values is None or _checksum(path) != values.get("crc32"):
            return None
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError):
        return None
    return parse_header(text, num_rows=shape[0] if shape else 0)


def _read_npy_arrays(path: Path) -> Arrays | None:
    array = np.load(path, allow_pickle=False)
    if array.ndim not in (2, 3) or array.dtype not in (np.float16, np.float32, np.float64):
        return None
    values = torch.from_numpy(array)
    if array.ndim == 2:
        return values, None
    return values.mean(dim=1, dtype=torch.float32), values


@dataclass(frozen=True)
class _Format:
    write: Callable[[Path, Sequence[ClipFeatures], Mapping[str, Any]], None]
    read_header: Callable[[Path], Header | None]
    read_arrays: Callable[[Path], Arrays | None]


FORMATS = {
    ".safetensors": _Format(_write_safetensors, _read_safetensors_header, _read_safetensors_arrays),
    ".npy": _Format(_write_npy, _read_npy_header, _read_npy_arrays),
    ".parquet": _Format(write_parquet, read_parquet_header, read_parquet_arrays),
}


def _format_of(path: str | os.PathLike[str]) -> _Format:
    check_path("path", path, error=InputError)
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path} is no feature file; these end in {', '.join(FORMATS)}.")
    return FORMATS[suffix]
