"""Lists of files: comma-separated, JSON lines, Parquet, plain text, and the published format.

Every reader yields (path, label) with the label as it stands there: an integer, text, or None.
"""

import csv
import difflib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from vjepa2.data.array_file import UNREADABLE
from vjepa2.data.file_table import MAX_DIGITS, is_integer
from vjepa2.data.records import (
    first_line,
    json_objects,
    parquet_rows,
    printable,
    separated_rows,
)
from vjepa2.data.suffixes import file_kind, suffix_of
from vjepa2.errors import ListError

Row = tuple[str, int | str | None]
PUBLISHED_SEPARATORS = (" ", "::")
MAX_SHOWN_COLUMNS = 12


def read_list(path: Path, *, path_column: str, label_column: str) -> Iterator[Row]:
    """Yield the rows of a list, by its suffix.

    A `.csv` without a header is taken for the published format, lines of `path label`.

    Raises:
        ListError: columns are missing, a line is malformed, or the file is of another kind.
        MissingExtraError: Parquet without pyarrow.
        OSError: the list cannot be read.
    """
    suffix = suffix_of(path.name)
    columns = (path_column, label_column)
    if suffix == ".parquet":
        yield from _parquet(path, *columns)
    elif suffix == ".npy":
        yield from _array(path)
    else:
        try:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                if suffix == ".jsonl":
                    yield from _json_lines(file, path, *columns)
                elif suffix in (".csv", ".tsv"):
                    yield from _separated(file, path, *columns)
                else:
                    yield from _plain(file, path.parent)
        except csv.Error as error:
            raise ListError(f"{path} cannot be read: {error}.") from error


def _plain(file: TextIO, folder: Path) -> Iterator[Row]:
    """One path a line, or published `path label` lines.

    A line such as `frames 12` is a path if there is something of that name, a labelled one if not.
    """
    for line in file:
        text = line.strip("\r\n")
        if text.strip():
            row = published_row(text)
            is_path = row is None or (file_kind(row[0]) is None and _exists(folder / text.strip()))
            yield row if row is not None and not is_path else (text.strip(), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def published_row(line: str) -> tuple[str, int] | None:
    """Split `path label` at its last space, or `path::label`; None if the end is no integer."""
    for separator in PUBLISHED_SEPARATORS:
        path, found, label = line.strip().rpartition(separator)
        if found and is_integer(label):
            return path.strip().strip('"'), int(label)
    return None


def _separated(file: TextIO, path: Path, path_column: str, label_column: str) -> Iterator[Row]:
    first = first_line(file, path)
    if first is None:
        return  # the caller says that the list is empty
    if path_column not in first.header:
        if published_row(first.text) is None:
            raise _wrong_columns(path, first.header, path_column, label_column)
        yield from _published(first.text, file, path)
        return
    at_path, at_label = _positions(path, first.header, path_column, label_column)
    rows = separated_rows(file, path, header=first.header, separator=first.separator)
    for _, row in rows:
        yield row[at_path], None if at_label is None else row[at_label]


def _published(first: str, rest: TextIO, path: Path) -> Iterator[Row]:
    for number, line in enumerate(itertools.chain([first], rest), start=1):
        if line.strip():
            yield _checked_row(line, number, path)


def _checked_row(line: str, number: int, path: Path) -> Row:
    row = published_row(line)
    if row is None:
        raise ListError(
            f"{path}, line {number}: {line.strip()[:80]!r} is no 'path label' or 'path::label' "
            "with an integer label, as the lines before it."
        )
    return row


def _json_lines(file: TextIO, path: Path, path_column: str, label_column: str) -> Iterator[Row]:
    has_label: bool | None = None
    for number, row in json_objects(file, path):
        _positions(path, list(row), path_column, label_column, line=number)
        label = row.get(label_column)
        if has_label is None:
            has_label = label is not None
        if has_label != (label is not None):
            raise ListError(
                f"{path}, line {number}: {label_column!r} is "
                f"{'missing' if has_label else 'there'}, unlike in the lines before. Give it in "
                "every line or in none."
            )
        yield _text(row[path_column], path, number), _label(label, path, number)


def _parquet(path: Path, path_column: str, label_column: str) -> Iterator[Row]:
    def wanted(names: list[str]) -> list[str]:
        _, at_label = _positions(path, names, path_column, label_column)
        return [path_column] if at_label is None else [path_column, label_column]

    for number, row in parquet_rows(path, wanted):
        label = _label(row[1], path, number) if len(row) > 1 else None
        yield _text(row[0], path, number), label


def _array(path: Path) -> Iterator[Row]:
    """An array of paths; the published lists of this kind have no labels."""
    try:
        names = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ListError(
            f"{path} is no plain array of text: {error}. Arrays of Python objects are pickled and "
            "could run code: save them again with np.save(path, np.array(names, dtype=str))."
        ) from error
    if names.dtype.kind not in "US" or names.ndim != 1:
        raise ListError(
            f"{path} must hold one row of text, got {names.dtype} of shape {list(names.shape)}. "
            "For a clip that is stored as an array set kind='array'."
        )
    for name in names:
        yield name.decode() if isinstance(name, bytes) else str(name), None


def _positions(
    path: Path, found: list[str], path_column: str, label_column: str, *, line: int | None = None
) -> tuple[int, int | None]:
    """Where the path and the label stand; the default label may be missing."""
    if path_column not in found:
        raise _wrong_columns(path, found, path_column, label_column, line=line)
    if label_column in found:
        return found.index(path_column), found.index(label_column)
    near = [name for name in found if name.lower().rstrip("s") == label_column.lower()]
    if label_column != "label" or near:
        raise _wrong_columns(path, found, path_column, label_column, line=line)
    return found.index(path_column), None


def _wrong_columns(
    path: Path, found: list[str], path_column: str, label_column: str, *, line: int | None = None
) -> ListError:
    missing = path_column if path_column not in found else label_column
    place = "" if line is None else f", line {line}"
    shown = ", ".join(printable(name) for name in found[:MAX_SHOWN_COLUMNS])
    near = difflib.get_close_matches(missing, found, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return ListError(
        f"{path}{place} has no column {missing!r}. Found: {shown or 'nothing'}.{guess} "
        f"Allowed: {path_column!r} and, for labels, {label_column!r}; or lines of 'path label' "
        "without a header. Rename the column, or set path_column and label_column of the source."
    )


def _text(value: Any, path: Path, number: int) -> str:
    if not isinstance(value, str) or not value:
        raise ListError(f"{path}, row {number}: the path must be text, got {value!r}.")
    return value


def _label(value: Any, path: Path, number: int) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_DIGITS:
        return value
    raise ListError(f"{path}, row {number}: a label is an integer or text, got {value!r}.")
