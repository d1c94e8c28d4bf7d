"""Which columns of a labelled list mean what, and what stands in them."""

import difflib
import math
import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.data.file_table import is_integer
from vjepa2.data.label_options import LabelOptions
from vjepa2.data.label_rows import SINGLE_HEAD, LabelRow, segment_problem
from vjepa2.data.records import printable
from vjepa2.data.suffixes import file_kind
from vjepa2.errors import ListError
from vjepa2.video.sources import is_url

PATH_COLUMNS = ("path", "video", "video_path", "file", "filename", "file_name", "image")
SINGLE_LABEL_COLUMNS = ("label", "class")
GROUP_COLUMN = "group"
SPLIT_COLUMN = "split"
START_SECONDS = ("t_start", "start_seconds", "start_time", "start_timestamp", "time_start")
END_SECONDS = (
    *("t_end", "end_seconds", "stop_seconds", "end_time", "stop_time"),
    *("end_timestamp", "stop_timestamp", "time_end"),
)
START_FRAME = ("start_frame",)
END_FRAME = ("stop_frame", "end_frame")
WITHOUT_UNIT = ("start", "begin", "end", "stop")
MAX_SHOWN_COLUMNS = 12
Segment = tuple[float | None, float | None, int | None, int | None]
_SPELLING = 0.8  # how alike a column's name must be to count as a misspelled one


@dataclass(frozen=True)
class ListColumns:
    """Places of the columns of one list; None where there is no such column."""

    path: int
    labels: tuple[int, ...]
    heads: tuple[str, ...]
    start_seconds: int | None
    end_seconds: int | None
    start_frame: int | None
    end_frame: int | None
    group: int | None
    split: int | None

    @property
    def has_segments(self) -> bool:
        """Whether rows may be stretches of files."""
        edges = (self.start_seconds, self.end_seconds, self.start_frame, self.end_frame)
        return any(edge is not None for edge in edges)


def find_columns(names: Sequence[str], options: LabelOptions, path: Path) -> ListColumns:
    """Return where the columns of a list stand.

    Args:
        names: its header.
        options: names that were asked for.
        path: of the list, for messages.

    Raises:
        ListError: no column of paths or labels, a segment without a unit, or a misspelled one.
    """
    path_names = (options.path_column,) if options.path_column else PATH_COLUMNS
    at_path = _first(names, path_names)
    if at_path is None:
        raise _missing(path, names, "path", path_names, option="path_column")
    label_names = options.label_columns or _label_columns(names)
    absent = [name for name in label_names if name not in names]
    if absent or not label_names:
        wanted = absent or [*SINGLE_LABEL_COLUMNS, "label_..., ..._label or ..._class"]
        raise _missing(path, names, "labels", wanted, option="label_columns")
    for name in names:
        if name in WITHOUT_UNIT:
            raise ListError(
                f"{path}: the column {name!r} does not say whether it counts seconds or frames. "
                "Call it t_start and t_end (seconds) or start_frame and stop_frame (frames)."
            )
    _check_spelling(path, names, used=(names[at_path], *label_names))
    single = len(label_names) == 1
    return ListColumns(
        path=at_path,
        labels=tuple(names.index(name) for name in label_names),
        heads=(SINGLE_HEAD,) if single else tuple(_head(name) for name in label_names),
        start_seconds=_first(names, START_SECONDS),
        end_seconds=_first(names, END_SECONDS),
        start_frame=_first(names, START_FRAME),
        end_frame=_first(names, END_FRAME),
        group=_first(names, (GROUP_COLUMN,)),
        split=_first(names, (SPLIT_COLUMN,)),
    )


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _label_columns(names: Sequence[str]) -> tuple[str, ...]:
    single = [name for name in SINGLE_LABEL_COLUMNS if name in names]
    if single:
        return (single[0],)
    return tuple(name for name in names if _head(name) != name)


def _head(name: str) -> str:
    """`verb` of verb_class, verb_label and label_verb; other names as they are."""
    for suffix in ("_class", "_label"):
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name.removeprefix("label_") or name


def _check_spelling(path: Path, names: Sequence[str], *, used: Sequence[str]) -> None:
    """A misspelled column of segments would be left out and whole files taken."""
    known = (*START_SECONDS, *END_SECONDS, *START_FRAME, *END_FRAME, GROUP_COLUMN, SPLIT_COLUMN)
    for name in set(names) - set(known) - set(used):
        near = difflib.get_close_matches(name, known, n=1, cutoff=_SPELLING)
        if near and near[0] not in names:
            raise ListError(
                f"{path} has a column {name!r}, which means nothing. Did you mean {near[0]!r}? "
                "Rename it; a column that is to be left alone needs a name less alike."
            )


def _missing(
    path: Path, names: Sequence[str], what: str, wanted: Sequence[str], *, option: str
) -> ListError:
    shown = ", ".join(printable(name) for name in names[:MAX_SHOWN_COLUMNS])
    near = difflib.get_close_matches(wanted[0], names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return ListError(
        f"{path} has no column of {what}. Found: {shown or 'nothing'}.{guess} Allowed: "
        f"{', '.join(wanted)}. Rename the column or set {option}; a list without a header needs "
        "columns, or lines of 'path label' with an integer label."
    )


# ---- rows ----------------------------------------------------------------------------------


def labelled_row(
    values: Sequence[Any], columns: ListColumns, *, folder: Path, place: str
) -> LabelRow:
    """Turn the values of one line into a row.

    Args:
        values: of all columns: text, or numbers and None from JSON and Parquet.
        columns: what they mean.
        folder: at which relative paths begin.
        place: list and line, for messages.

    Raises:
        ListError: no path, a label is missing or no text or number, or a segment is malformed, has
            no length, or begins in one unit and ends in the other.
    """
    segment: Segment = (None, None, None, None)
    if columns.has_segments:
        segment = _segment_of(values, columns, place)
    path = absolute_path(values[columns.path], folder, place)
    labels = tuple(
        label_text(values[column], place, head=head)
        for column, head in zip(columns.labels, columns.heads, strict=True)
    )
    group = None if columns.group is None else values[columns.group]
    return LabelRow(
        path,
        labels,
        *segment,
        group="" if is_missing(group) else str(group).strip(),
        is_image=file_kind(path) == "image",
    )


def _segment_of(values: Sequence[Any], columns: ListColumns, place: str) -> Segment:
    def at(column: int | None) -> Any:
        return None if column is None else values[column]

    start, end = (seconds_of(at(c), place) for c in (columns.start_seconds, columns.end_seconds))
    first, last = (frame_of(at(c), place) for c in (columns.start_frame, columns.end_frame))
    problem = segment_problem(start, end, first, last)
    if problem is not None:
        raise ListError(f"{place}: {problem}.")
    return start, end, first, last


def absolute_path(value: Any, folder: Path, place: str) -> str:
    """The absolute path of a file; raises ListError for none, a URL or a null character."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ListError(f"{place}: the path must be text, got {value!r}.")
    if is_url(value):
        raise ListError(
            f"{place}: {printable(value)} is a URL. Labelled files are read many times: download "
            "them and give paths."
        )
    path = os.path.abspath(os.path.join(folder, value))  # noqa: PTH100, PTH118  # keeps links
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ListError(
            f"{place}: the path holds a character that no file name can hold: {value!a}."
        ) from error
    return path


def label_text(value: Any, place: str, *, head: str) -> str:
    """A label as text; raises ListError where it is missing or of another kind."""
    if is_missing(value):
        raise ListError(
            f"{place}: the label is missing (head {head!r}). Give every file a label; leave files "
            "without one out of the list."
        )
    if not isinstance(value, str | numbers.Real):
        raise ListError(
            f"{place}: a label is a name or an integer, got {value!r}. For several labels of one "
            "file give several columns."
        )
    return str(value).strip()


def is_missing(value: Any) -> bool:
    """True for nothing, empty text and NaN."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def seconds_of(value: Any, place: str) -> float | None:
    """Seconds of a number or of `hours:minutes:seconds`; None where there is nothing.

    Raises:
        ListError: it is neither.
    """
    if is_missing(value):
        return None
    try:
        if not isinstance(value, str):
            return float(value)
        seconds = 0.0
        for part in value.split(":"):
            seconds = 60 * seconds + float(part)
    except (ValueError, TypeError, OverflowError) as error:
        raise ListError(
            f"{place}: {value!r} is no time. Give seconds (12.5) or hours:minutes:seconds "
            "(00:00:12.5)."
        ) from error
    return seconds


def frame_of(value: Any, place: str) -> int | None:
    """A whole number of frames, None where there is nothing; raises ListError for others."""
    if is_missing(value):
        return None
    if isinstance(value, str) and is_integer(value):
        return int(value)
    # Columns of whole numbers in which some are missing are often stored as floats.
    if isinstance(value, int | float) and math.isfinite(value) and int(value) == value:
        return int(value)
    raise ListError(f"{place}: {value!r} is no number of a frame, a whole number from 0.")
