"""Labelled lists: separated with a header, JSON lines, Parquet, and lines of `path label`."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from vjepa2.data.label_columns import (
    PATH_COLUMNS,
    ListColumns,
    find_columns,
    labelled_row,
)
from vjepa2.data.label_options import LabelOptions
from vjepa2.data.label_rows import SINGLE_HEAD, LabelRow, LabelTable, same_split
from vjepa2.data.lists import published_row
from vjepa2.data.records import (
    first_line,
    json_objects,
    parquet_rows,
    printable,
    separated_rows,
)
from vjepa2.data.suffixes import suffix_of
from vjepa2.errors import DataError, DataNotFoundError, ListError

LABEL_LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".list", ".jsonl", ".parquet")
_PUBLISHED = ListColumns(0, (1,), (SINGLE_HEAD,), None, None, None, None, None, None)


def read_label_list(path: Path, options: LabelOptions, *, split: str | None = None) -> LabelTable:
    """Return the rows of a labelled list.

    Args:
        path: of the list, whose suffix says its format. One without a header holds lines of
            `path label` or `path::label` with an integer label, or the columns of `options`.
        options: names of columns, and the folder at which paths begin.
        split: keeps only rows of this split, by the column "split".

    Raises:
        ListError: columns or labels are missing, a line or a segment is malformed.
        DataError: no rows.
        DataNotFoundError: the list cannot be read.
        MissingExtraError: Parquet without pyarrow.
    """
    folder = Path(options.root) if options.root else path.parent
    rows: list[LabelRow] = []
    heads: tuple[str, ...] = (SINGLE_HEAD,)
    seen: set[str] = set()
    try:
        for number, values, columns in _records(path, options):
            place = f"{path}, line {number}"
            heads = columns.heads
            if split is not None:
                if columns.split is None:
                    raise ListError(
                        f"{path} has no column 'split', so that its {split!r} part cannot be "
                        "taken. Add the column, or give one list a split and no split."
                    )
                seen.add(str(values[columns.split]).strip())
                if not same_split(str(values[columns.split]), split):
                    continue
            rows.append(labelled_row(values, columns, folder=folder, place=place))
    except csv.Error as error:
        raise ListError(f"{path} cannot be read: {error}.") from error
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataNotFoundError(f"The list {path} cannot be read: {error}.") from error
    if not rows:
        there = f" Splits in it: {', '.join(sorted(seen))}." if seen else ""
        what = "is empty" if split is None else f"has no rows of split {split!r}"
        raise DataError(f"The list {path} {what}.{there} Write one file and its label a line.")
    return LabelTable(heads, tuple(rows), {})


Record = tuple[int, list[Any] | tuple[Any, ...], ListColumns]


def _records(path: Path, options: LabelOptions) -> Iterator[Record]:
    suffix = suffix_of(path.name)
    if suffix not in LABEL_LIST_SUFFIXES:
        raise ListError(
            f"{path} is no labelled list ({suffix or 'no suffix'}). Allowed: "
            f"{', '.join(LABEL_LIST_SUFFIXES)}, or a folder with one subfolder a class."
        )
    if suffix == ".parquet":
        names: list[str] = []

        def all_of(found: list[str]) -> list[str]:
            names.extend(found)
            columns = find_columns(found, options, path)
            return [found[place] for place in _places(columns)]

        for number, row in parquet_rows(path, all_of):
            columns = find_columns(names, options, path)
            by_place = dict(zip(_places(columns), row, strict=True))
            yield number, [by_place.get(place) for place in range(len(names))], columns
        return
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = _json_lines if suffix == ".jsonl" else _text
        yield from reader(file, path, options)


def _places(columns: ListColumns) -> list[int]:
    """Places of the columns that are used, each once."""
    others = (
        *(columns.start_seconds, columns.end_seconds, columns.start_frame, columns.end_frame),
        *(columns.group, columns.split),
    )
    used = (columns.path, *columns.labels, *(place for place in others if place is not None))
    return sorted(set(used))


def _json_lines(file: TextIO, path: Path, options: LabelOptions) -> Iterator[Record]:
    names: list[str] = []
    columns: ListColumns | None = None
    for number, row in json_objects(file, path):
        # A key that the first line lacks (an open segment, for example) may come later.
        fresh = [name for name in row if name not in names]
        if columns is None or fresh:
            names += fresh
            columns = find_columns(names, options, path)
        yield number, [row.get(name) for name in names], columns


def _text(file: TextIO, path: Path, options: LabelOptions) -> Iterator[Record]:
    """Lines with a header, with the columns of the options, or as published."""
    first = first_line(file, path)
    if first is None:
        return
    if options.columns:
        columns = find_columns(options.columns, options, path)
        for number, line in _lines(first.text, file):
            yield number, _fields(line, number, path, options.columns), columns
        return
    wanted = {options.path_column} if options.path_column else set(PATH_COLUMNS)
    spaced = first.text.split()
    if wanted & set(first.header) and len(first.header) > 1:
        columns = find_columns(first.header, options, path)
        rows = separated_rows(file, path, header=first.header, separator=first.separator)
        for number, fields in rows:
            yield number, fields, columns
    elif len(first.header) == 1 and len(spaced) > 1 and wanted & set(spaced):
        columns = find_columns(spaced, options, path)
        for number, line in _lines("", file):
            yield number, _fields(line, number, path, spaced), columns
    elif published_row(first.text) is None:
        find_columns(first.header, options, path)  # says which columns are missing
        raise ListError(_no_label(path, 1, first.text))
    else:
        for number, line in _lines(first.text, file):
            row = published_row(line)
            if row is None:
                raise ListError(_no_label(path, number, line))
            yield number, row, _PUBLISHED


def _lines(first: str, rest: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(itertools.chain([first], rest), start=1):
        if line.strip():
            yield number, line.strip("\r\n")


def _fields(line: str, number: int, path: Path, names: list[str] | tuple[str, ...]) -> list[str]:
    """The fields of a line without a header's separator: by tab, semicolon, comma or spaces."""
    for mark in "\t;,":
        if line.count(mark) == len(names) - 1:
            return [field.strip() for field in next(csv.reader([line], delimiter=mark))]
    # The path, where it comes first, may have spaces in it.
    at_first = names[0] in PATH_COLUMNS
    fields = line.rsplit(maxsplit=len(names) - 1) if at_first else line.split()
    if len(fields) != len(names):
        raise ListError(
            f"{path}, line {number}: {len(fields)} fields, expected {len(names)} "
            f"({', '.join(names)}): {printable(line)!r}."
        )
    return fields


def _no_label(path: Path, number: int, line: str) -> str:
    return (
        f"{path}, line {number}: {printable(line.strip())!r} is no 'path label' or 'path::label' "
        "with an integer label. Labels that are names need a list with a header: path,label."
    )
