"""Tables in files: comma-separated with a header, JSON lines, Parquet; row after row."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vjepa2.errors import ListError, MissingExtraError

_BATCH_ROWS = 65_536
MAX_SHOWN_CHARACTERS = 40


class FirstLine(NamedTuple):
    """How a separated file begins.

    Attributes:
        text: its first line that is not blank.
        separator: tab, semicolon or comma, whichever comes first in this order.
        header: the fields of that line.
    """

    text: str
    separator: str
    header: list[str]


def first_line(file: TextIO, path: Path) -> FirstLine | None:
    """Read the first line that is not blank; None if there is none.

    Raises:
        ListError: it holds zero bytes, as no text does.
    """
    text = file.readline()
    while text and not text.strip():
        text = file.readline()
    if not text:
        return None
    if "\0" in text:
        raise ListError(
            f"{path} is no list: it holds zero bytes, as videos and archives do. Give a text file "
            "with a header or lines of 'path label', or name the file with its own suffix."
        )
    separator = next((mark for mark in "\t;" if mark in text), ",")
    header = [name.strip() for name in next(csv.reader([text], delimiter=separator), [])]
    return FirstLine(text, separator, header)


def separated_rows(
    file: TextIO, path: Path, *, header: list[str], separator: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of what follows a header.

    Raises:
        ListError: a line has another number of fields than the header.
    """
    reader = csv.reader(file, delimiter=separator)
    for row in reader:
        if not row or not any(row):
            continue
        number = reader.line_num + 1
        if len(row) != len(header):
            raise ListError(
                f"{path}, line {number}: {len(row)} fields, the header has "
                f"{len(header)} ({', '.join(header)}). Put paths with commas into quotes."
            )
        yield number, row


def json_objects(file: TextIO, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of JSON lines.

    Raises:
        ListError: a line is no JSON object.
    """
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ListError(f"{path}, line {number}: no JSON object: {error}.") from error
        if not isinstance(row, dict):
            raise ListError(f"{path}, line {number}: no JSON object, got {type(row).__name__}.")
        yield number, row


def parquet_rows(
    path: Path, choose: Callable[[list[str]], list[str]]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield (row number from 1, values) of the columns that `choose` picks from all names.

    Raises:
        ListError: it cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(
            "pyarrow", extra="parquet", needed_for=f"Reading {path.name}"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            columns = choose(file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                values = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ListError(f"{path} cannot be read as Parquet: {error}.") from error


def printable(text: str) -> str:
    """The beginning of a text from a file, with escapes for what a terminal would act on."""
    short = text[:MAX_SHOWN_CHARACTERS]
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape", "surrogatepass").decode()
        for mark in short
    )
