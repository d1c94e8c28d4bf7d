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

from vjepa2._version import __version__
from vjepa2.errors import (
    InputError,
    MissingExtraError,
    OutputError,
    ShapeError,
    check_kind,
    check_path,
)
from vjepa2.features.rows import ClipFeatures
from vjepa2.files import atomic_path, write_json
from vjepa2.shapes import TokenGrid

HEADER_KEY = "vjepa2.features"
FORMAT_VERSION = 1

# safetensors and Parquet refuse to read headers of 100 million bytes.
MAX_HEADER_BYTES = 90_000_000

_FACTS = ("source", "stamp", "model", "t_start", "t_end", "sees_until")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a feature file says about itself, without its arrays.

    Attributes:
        settings: all that decides what the features are (`Embedder.settings`).
        rows: for each row its fields but the arrays.
    """

    settings: dict[str, Any]
    rows: list[dict[str, Any]]


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
    if header is None:
        raise InputError(
            f"{path} is damaged or no feature file of this package. Make it again with "
            "`vjepa2 embed`."
        )
    embedding, tokens = _format_of(path).read_arrays(Path(path))
    rows = [
        ClipFeatures(
            **{name: facts[name] for name in _FACTS},
            grid=TokenGrid(*facts["grid"]),
            pts_seconds=None if facts["pts_seconds"] is None else tuple(facts["pts_seconds"]),
            embedding=embedding[number],
            tokens=None if tokens is None else tokens[number],
        )
        for number, facts in enumerate(header.rows)
    ]
    return rows, header.settings


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


def _plain(settings: object) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    check_kind("settings", settings, Mapping, words="a mapping of JSON values", error=InputError)
    try:
        values = json.loads(json.dumps(dict(settings), allow_nan=False))  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise InputError(f"settings must be JSON values: {error}.") from error
    assert isinstance(values, dict)
    return values


def _check_alike(rows: Sequence[ClipFeatures]) -> None:
    check_kind("rows", rows, Sequence, words="a list of ClipFeatures", error=InputError)
    for row in rows:
        check_kind("A row", row, ClipFeatures, words="a ClipFeatures", error=InputError)
    shapes = {
        (tuple(row.embedding.shape), None if row.tokens is None else tuple(row.tokens.shape))
        for row in rows
    }
    if len(shapes) != 1:
        found = ", ".join(f"embedding {a} tokens {b}" for a, b in sorted(shapes, key=str)) or "none"
        raise ShapeError(
            f"One file holds rows of one shape, got {found}. Write a file per video: give a folder."
        )


def _facts(row: ClipFeatures) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(row, name) for name in _FACTS}
    return facts | {
        "grid": list(row.grid),
        "pts_seconds": None if row.pts_seconds is None else list(row.pts_seconds),
    }


def _header_text(rows: Sequence[ClipFeatures], settings: Mapping[str, Any]) -> str:
    text = json.dumps(
        {
            "version": FORMAT_VERSION,
            "vjepa2": __version__,
            "settings": settings,
            "rows": [_facts(row) for row in rows],
        }
    )
    if len(text) > MAX_HEADER_BYTES:
        raise OutputError(
            f"{len(rows)} rows are too many for one file ({len(text)} bytes of header). "
            "Write a file per video: give a folder."
        )
    return text


def _parse_header(text: str | bytes) -> Header | None:
    try:
        values = json.loads(text)
    except ValueError:
        return None
    if not isinstance(values, dict) or values.get("version") != FORMAT_VERSION:
        return None
    return Header(settings=values["settings"], rows=values["rows"])


def _stacked(rows: Sequence[ClipFeatures]) -> tuple[Tensor, Tensor | None]:
    """Embeddings [rows, D] and tokens [rows, N, D]."""
    tokens = [row.tokens for row in rows if row.tokens is not None]
    embedding = torch.stack([row.embedding for row in rows])
    return embedding, torch.stack(tokens) if tokens else None


# -- safetensors ------------------------------------------------------------------------------


def _write_safetensors(
    path: Path, rows: Sequence[ClipFeatures], settings: Mapping[str, Any]
) -> None:
    text = _header_text(rows, settings)
    embedding, tokens = _stacked(rows)
    tensors = {"embedding": embedding} | ({} if tokens is None else {"tokens": tokens})
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER_KEY: text})


def _read_safetensors_header(path: Path) -> Header | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError):
        return None
    return _parse_header(metadata.get(HEADER_KEY, ""))


def _read_safetensors_arrays(path: Path) -> tuple[Tensor, Tensor | None]:
    tensors = safetensors.torch.load_file(path)
    return tensors["embedding"], tensors.get("tokens")


# -- npy --------------------------------------------------------------------------------------


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _write_npy(path: Path, rows: Sequence[ClipFeatures], settings: Mapping[str, Any]) -> None:
    text = _header_text(rows, settings)
    embedding, tokens = _stacked(rows)
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
        text = _beside(path).read_text(encoding="utf-8")
        whole = _checksum(path) == json.loads(text).get("crc32")
    except (OSError, ValueError):
        return None
    return _parse_header(text) if whole else None


def _read_npy_arrays(path: Path) -> tuple[Tensor, Tensor | None]:
    array = torch.from_numpy(np.load(path, allow_pickle=False))
    if array.ndim == 2:
        return array, None
    return array.mean(dim=1, dtype=torch.float32), array


# -- Parquet ----------------------------------------------------------------------------------


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "pyarrow", extra="parquet", needed_for="Reading and writing Parquet files"
        ) from error
    return pyarrow, pyarrow.parquet


def _write_parquet(path: Path, rows: Sequence[ClipFeatures], settings: Mapping[str, Any]) -> None:
    arrow, parquet = _pyarrow()
    width = rows[0].embedding.shape[0]
    vector = arrow.list_(arrow.float32(), width)
    text = {name: arrow.string() for name in ("source", "stamp", "model")}
    seconds = {name: arrow.float64() for name in ("t_start", "t_end", "sees_until")}
    columns: dict[str, Any] = {}
    for name, kind in text.items():
        # A file name need not be valid text; the header keeps it exactly.
        values = [str(getattr(row, name)).encode("utf-8", "replace") for row in rows]
        columns[name] = arrow.array(values).cast(kind)
    columns |= {
        name: arrow.array([getattr(row, name) for row in rows], type=kind)
        for name, kind in seconds.items()
    }
    columns["grid"] = arrow.array([list(row.grid) for row in rows], type=arrow.list_(arrow.int32()))
    columns["pts_seconds"] = arrow.array(
        [row.pts_seconds for row in rows], type=arrow.list_(arrow.float64())
    )
    embedding, tokens = _stacked(rows)
    columns["embedding"] = _vectors(arrow, embedding, vector)
    if tokens is not None:
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * tokens.shape[1]
        columns["tokens"] = arrow.ListArray.from_arrays(
            offsets, _vectors(arrow, tokens.flatten(0, 1), vector)
        )
    table = arrow.table(columns).replace_schema_metadata({HEADER_KEY: _header_text(rows, settings)})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)


def _vectors(arrow: Any, values: Tensor, kind: Any) -> Any:
    """[n, D] as a column of vectors, without a copy where the element type fits."""
    flat = np.ascontiguousarray(values.float().numpy()).reshape(-1)
    return arrow.FixedSizeListArray.from_arrays(arrow.array(flat), type=kind)


def _read_parquet_header(path: Path) -> Header | None:
    arrow, parquet = _pyarrow()
    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (arrow.ArrowException, OSError):
        return None
    return _parse_header(metadata.get(HEADER_KEY.encode(), b""))


def _read_parquet_arrays(path: Path) -> tuple[Tensor, Tensor | None]:
    _, parquet = _pyarrow()
    table = parquet.read_table(path).combine_chunks()
    column = table.column("embedding")
    count, width = len(column), column.type.list_size
    embedding = torch.tensor(column.combine_chunks().flatten().to_numpy()).view(count, width)
    if "tokens" not in table.column_names:
        return embedding, None
    flat = table.column("tokens").combine_chunks().flatten().flatten().to_numpy()
    return embedding, torch.tensor(flat).view(count, -1, width)


@dataclass(frozen=True)
class _Format:
    write: Callable[[Path, Sequence[ClipFeatures], Mapping[str, Any]], None]
    read_header: Callable[[Path], Header | None]
    read_arrays: Callable[[Path], tuple[Tensor, Tensor | None]]


FORMATS = {
    ".safetensors": _Format(_write_safetensors, _read_safetensors_header, _read_safetensors_arrays),
    ".npy": _Format(_write_npy, _read_npy_header, _read_npy_arrays),
    ".parquet": _Format(_write_parquet, _read_parquet_header, _read_parquet_arrays),
}


def _format_of(path: str | os.PathLike[str]) -> _Format:
    check_path("path", path, error=InputError)
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path} is no feature file; these end in {', '.join(FORMATS)}.")
    return FORMATS[suffix]
