"""Columns of Parquet files as arrays: what the readers of robots' data sets need of pyarrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vjepa2.data.trajectories import Numbers
from vjepa2.errors import (
    DataNotFoundError,
    EpisodeError,
    ListError,
    MissingExtraError,
    nearest_hint,
)


def import_pyarrow() -> tuple[Any, Any]:
    """pyarrow and its module for Parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "pyarrow", extra="parquet", needed_for="Reading and writing Parquet files"
        ) from error
    return pyarrow, pyarrow.parquet


def read_columns(
    path: Path, columns: Sequence[str] | None = None, *, equal: tuple[str, int] | None = None
) -> Any:
    """Columns of a Parquet file as a pyarrow table.

    Args:
        columns: names; None: all.
        equal: (column, value): only rows whose value is that.

    Raises:
        DataNotFoundError: no such file.
        ListError: it is damaged, no Parquet, or lacks a column.
    """
    arrow, parquet = import_pyarrow()
    if not path.is_file():
        raise DataNotFoundError(f"{path} does not exist, but the data set names it.")
    filters = None if equal is None else [(equal[0], "=", equal[1])]
    try:
        there = parquet.read_schema(path).names
        for name in columns or ():
            if name not in there:
                raise ListError(f"{path} has no column {name!r}. {nearest_hint(name, there)}")
        return parquet.read_table(
            path, columns=None if columns is None else list(columns), filters=filters
        )
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ListError(f"{path} cannot be read as Parquet: {reason}.") from error


def numbers_of(table: Any, name: str, *, episode: str) -> Numbers:
    """float64 [T, K] of a column of equally long lists, or of plain numbers with K = 1.

    Raises:
        EpisodeError: lists of different lengths, or no numbers; empty places become NaN.
    """
    arrow, _ = import_pyarrow()
    column = table.column(name).combine_chunks()
    rows, flat = len(column), column
    if arrow.types.is_list(column.type) or arrow.types.is_large_list(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        if len(lengths) and ((lengths != lengths[0]).any() or column.null_count):
            raise EpisodeError(
                f"Episode {episode!r}: column {name!r} holds lists of {lengths.min()} to "
                f"{lengths.max()} numbers; all rows must have equally many."
            )
        flat = column.flatten()
    elif arrow.types.is_fixed_size_list(column.type):
        if column.null_count:
            raise EpisodeError(f"Episode {episode!r}: column {name!r} has empty rows.")
        flat = column.flatten()
    kind = flat.type
    if not (arrow.types.is_floating(kind) or arrow.types.is_integer(kind)):
        raise EpisodeError(f"Episode {episode!r}: column {name!r} is no column of numbers: {kind}.")
    values = flat.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.array(values, dtype=np.float64).reshape(rows, -1)
