"""Rows of features as a Parquet table: one row per clip, a column per field."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vjepa2.data.parquet_columns import import_pyarrow
from vjepa2.features.header import HEADER_KEY, Header, header_text, parse_header
from vjepa2.features.rows import Arrays, ClipFeatures, stacked
from vjepa2.files import atomic_path


def write_parquet(path: Path, rows: Sequence[ClipFeatures], settings: Mapping[str, Any]) -> None:
    """Write rows to a Parquet file; errors as `store.write_rows`."""
    arrow, parquet = import_pyarrow()
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
    embedding, tokens = stacked(rows)
    columns["embedding"] = _vectors(arrow, embedding, vector)
    if tokens is not None:
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * tokens.shape[1]
        columns["tokens"] = arrow.ListArray.from_arrays(
            offsets, _vectors(arrow, tokens.flatten(0, 1), vector)
        )
    table = arrow.table(columns).replace_schema_metadata({HEADER_KEY: header_text(rows, settings)})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)


def _vectors(arrow: Any, values: Tensor, kind: Any) -> Any:
    """[n, D] as a column of vectors, without a copy where the element type fits."""
    flat = np.ascontiguousarray(values.float().numpy()).reshape(-1)
    return arrow.FixedSizeListArray.from_arrays(arrow.array(flat), type=kind)


def read_parquet_header(path: Path) -> Header | None:
    """Everything but the arrays; None for a damaged or foreign file."""
    arrow, parquet = import_pyarrow()
    try:
        facts = parquet.read_metadata(path)
    except (arrow.ArrowException, OSError):
        return None
    text = (facts.metadata or {}).get(HEADER_KEY.encode(), b"")
    return parse_header(text, num_rows=facts.num_rows)


def read_parquet_arrays(path: Path) -> Arrays | None:
    """The arrays; None where they are damaged or of another kind."""
    arrow, parquet = import_pyarrow()
    try:
        table = parquet.read_table(path).combine_chunks()
    except (arrow.ArrowException, OSError):
        return None
    if "embedding" not in table.column_names:
        return None
    column = table.column("embedding").combine_chunks()
    if not _is_vectors(arrow, column.type) or column.null_count:
        return None
    count, width = len(column), column.type.list_size
    embedding = _floats(column.flatten(), (count, width))
    if embedding is None or "tokens" not in table.column_names:
        return None if embedding is None else (embedding, None)
    column = table.column("tokens").combine_chunks()
    if not (arrow.types.is_list(column.type) and _is_vectors(arrow, column.type.value_type)):
        return None
    vectors = column.flatten()
    tokens = _floats(vectors.flatten(), (count, len(vectors) // count, width))
    return None if tokens is None else (embedding, tokens)


def _is_vectors(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_fixed_size_list(kind) and kind.value_type == arrow.float32())


def _floats(values: Any, shape: tuple[int, ...]) -> Tensor | None:
    """A flat column as a tensor; None where its numbers are not as many."""
    if values.null_count or len(values) != math.prod(shape):
        return None
    return torch.tensor(values.to_numpy()).view(shape)
