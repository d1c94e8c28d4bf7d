"""What the readers of layouts share: lists of one split, tables, and videos found by their name."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vjepa2.data.label_rows import same_split
from vjepa2.data.manifest import natural, read_source
from vjepa2.data.records import first_line, printable, separated_rows
from vjepa2.data.settings import SourceConfig
from vjepa2.errors import DataNotFoundError, ListError

LIST_FOLDERS = ("", "labels", "annotations")
MAX_JSON_BYTES = 1 << 30
MAX_SHOWN = 5
Row = TypeVar("Row")


def find_lists(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """Lists of a layout by the name of their split, the group 1 of `pattern`.

    They lie in the folder itself, in `labels` or in `annotations`.
    """
    found: dict[str, Path] = {}
    for name in LIST_FOLDERS:
        place = folder / name
        files = sorted(place.iterdir(), key=_by_name) if place.is_dir() else []
        for file in files:
            match = pattern.fullmatch(file.name.lower())
            if match is not None:
                found.setdefault(match.group(1), file)
    return found


def _by_name(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    return natural(path.name)


def list_of_split(
    path: Path, pattern: re.Pattern[str], *, split: str | None, layout: str
) -> tuple[Path, Path]:
    """Return the list of one split and the folder of its layout.

    Args:
        path: the folder of the layout, or the list itself.
        pattern: names of its lists, whose group 1 is the split.
        split: which one; needed for a folder with several.
        layout: for messages.

    Raises:
        ListError: the split is not there, or is needed.
    """
    if not path.is_dir():
        inside = path.parent.name in LIST_FOLDERS
        return path, path.parent.parent if inside else path.parent
    lists = find_lists(path, pattern)
    if split is None and len(lists) == 1:
        return next(iter(lists.values())), path
    chosen = [file for name, file in lists.items() if split and same_split(name, split)]
    if not chosen:
        there = ", ".join(lists) or "none"
        wanted = f"has no list of split {split!r}" if split else "needs a split"
        raise ListError(
            f"{path} (layout {layout!r}) {wanted}. Splits there: {there}. Set split, or give the "
            "list itself."
        )
    return chosen[0], path


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        ListError: it is none, or larger than a gibibyte.
        DataNotFoundError: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ListError(f"{path} is larger than {MAX_JSON_BYTES:,} bytes; it was not read.")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataNotFoundError(f"{path} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ListError(f"{path} is no JSON file: {error}.") from error


def read_objects(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """A JSON list of objects that all have some keys; raises as `read_json`, and ListError."""
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise ListError(f"{path} must hold a list of objects with {', '.join(keys)}.")
    for number, item in enumerate(content, start=1):
        absent = [key for key in keys if not isinstance(item, dict) or key not in item]
        if absent:
            what = "the label is missing" if absent[0] in ("template", "label") else "malformed"
            raise ListError(f"{path}, entry {number}: {what}, there is no {absent[0]!r}.")
    return content


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, fields by column) of a separated file that must have some columns.

    Raises:
        ListError: columns are missing, or a line is malformed.
        DataNotFoundError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = first_line(file, path)
            header = first.header if first is not None else []
            absent = [name for name in columns if name not in header]
            if absent or first is None:
                shown = ", ".join(printable(name) for name in header) or "nothing"
                raise ListError(
                    f"{path} has no column {', '.join(map(repr, absent or columns))}. "
                    f"Found: {shown}."
                )
            rows = separated_rows(file, path, header=header, separator=first.separator)
            for number, fields in rows:
                yield number, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ListError(f"{path} cannot be read: {error}.") from error
    except OSError as error:
        if isinstance(error, DataNotFoundError):
            raise
        raise DataNotFoundError(f"{path} cannot be read: {error}.") from error


class VideoIndex:
    """Videos below a folder by their name without suffix.

    Args:
        root: searched with its subfolders.

    Raises:
        DataError: no video in it.
        DataNotFoundError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[str, str] = {}
        self._twice: dict[str, str] = {}
        table = read_source(SourceConfig(path=str(root), fps=1.0, kind="video"))
        for index in range(len(table)):
            path = os.path.abspath(table[index].path)  # noqa: PTH100  # keeps links
            stem = Path(path).stem
            if self._paths.setdefault(stem, path) != path:
                self._twice[stem] = path

    def find(self, *stems: str) -> str | None:
        """The video of the first name that is there; None for none.

        Raises:
            ListError: two videos have that name.
        """
        for stem in stems:
            if stem in self._twice:
                raise ListError(
                    f"Two videos are called {stem!r}: {self._paths[stem]} and "
                    f"{self._twice[stem]}. Set root to the folder of those that are meant."
                )
            if stem in self._paths:
                return self._paths[stem]
        return None


def with_videos(
    names: Sequence[Row], path_of: Callable[[Row], str | None], *, source: Path, root: Path
) -> tuple[list[tuple[Row, str]], tuple[str, ...]]:
    """Pair entries with their videos; published sets are rarely complete.

    Returns:
        Those that have one, and a note with the number of the others.

    Raises:
        DataNotFoundError: none has one.
    """
    found, missing = [], []
    for name in names:
        path = path_of(name)
        if path is None:
            missing.append(name)
        else:
            found.append((name, path))
    if not found:
        raise DataNotFoundError(
            f"None of the {len(names)} videos that {source} names lies below {root}, for example "
            f"{missing[0] if missing else 'none'}. Set root to the folder of the videos."
        )
    if not missing:
        return found, ()
    shown = ", ".join(str(name) for name in missing[:MAX_SHOWN])
    note = (
        f"{len(missing)} of {len(names)} videos of {source.name} are not below {root} and were "
        f"left out, such as {shown}"
    )
    return found, (note,)
