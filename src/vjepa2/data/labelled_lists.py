"""From a list, a class folder or a published layout to a set of labelled items."""

import os
from collections import Counter
from pathlib import Path

from vjepa2.data.label_numbers import new_classes, numbers_of, sparse_note
from vjepa2.data.label_options import LabelOptions, Layout
from vjepa2.data.label_rows import LabelRow, LabelTable
from vjepa2.data.labelled import LabelledItem, LabelledSet, LabelMap
from vjepa2.data.layouts import read_layout
from vjepa2.data.manifest import missing_files
from vjepa2.errors import LabelError

MAX_SHOWN = 5


def read_labelled(
    path: str | os.PathLike[str],
    *,
    label_map: LabelMap | None = None,
    layout: Layout = "auto",
    split: str | None = None,
    options: LabelOptions | None = None,
) -> LabelledSet:
    """Read labelled files from a list, a class folder or the layout of a published data set.

    Nothing is decoded. What is wrong with names, labels and segments is an error here; whether a
    segment lies inside its video is known when the video is opened (`segment_seconds`).

    Args:
        path: a list (`.csv`, `.tsv`, `.txt`, `.jsonl`, `.parquet`) or a folder.
        label_map: for validation, test and further training: the classes by which labels are
            numbered. None numbers the classes that are found.
        layout: "auto" tells by names of files and columns. "list", "folders" (one subfolder a
            class), "ssv2", "kinetics", "diving48", "imagenet", "epic_kitchens".
        split: which part of a folder with several, or of a list with a column "split".
        options: names of columns and where the files lie.

    Raises:
        LabelError: labels that are no class of `label_map`, or no whole numbers.
        ListError: the list is malformed: columns or labels are missing, a segment has no length.
        DataError: nothing in it.
        DataNotFoundError: there is nothing at `path`, or none of its files exists.
        MissingExtraError: Parquet without pyarrow.
    """
    source = str(path)
    known = None if label_map is None else label_map.heads
    table = read_layout(
        os.fspath(path), options or LabelOptions(), layout=layout, split=split, known=known
    )
    rows = table.rows
    notes = list(table.notes)
    missing = missing_files(len(rows), lambda index: rows[index].path, Path(source))
    if missing:
        notes.append(
            f"{len(missing)} of {len(rows)} files of {source} do not exist, such as "
            f"{', '.join(missing[:MAX_SHOWN])}"
        )
    chosen = _map_of(table, source) if label_map is None else label_map
    for head, names in chosen.heads.items() if label_map is None else ():
        if head not in table.class_names:
            notes += filter(None, [sparse_note(names, source=source, head=head)])
    numbers = _numbers(table, chosen, source)
    places = [table.heads.index(head) for head in chosen.heads]
    shared: dict[tuple[int, ...], tuple[int, ...]] = {}  # one tuple for all files of a class
    items = []
    for row in rows:
        labels = tuple(
            numbers[head][row.labels[place]]
            for head, place in zip(chosen.heads, places, strict=True)
        )
        items.append(LabelledItem(row.path, shared.setdefault(labels, labels), *row[2:]))
    notes += _contradictions(rows, source)
    return LabelledSet(tuple(items), chosen, source, tuple(notes))


def _map_of(table: LabelTable, source: str) -> LabelMap:
    heads = {}
    for place, head in enumerate(table.heads):
        texts = {row.labels[place] for row in table.rows}
        heads[head] = table.class_names.get(head) or new_classes(texts, source=source, head=head)
    return LabelMap(heads)


def _numbers(table: LabelTable, label_map: LabelMap, source: str) -> dict[str, dict[str, int]]:
    """Class number of each text of each head of the map."""
    numbers = {}
    for head, names in label_map.heads.items():
        if head not in table.heads:
            raise LabelError(
                f"{source} has labels {', '.join(map(repr, table.heads))}; the label map needs "
                f"{', '.join(map(repr, label_map.heads))}. Set options.label_columns, or use "
                "another label map."
            )
        place = table.heads.index(head)
        counts = Counter(row.labels[place] for row in table.rows)
        numbers[head] = numbers_of(counts, names, source=source, head=head)
    return numbers


def _contradictions(rows: tuple[LabelRow, ...], source: str) -> list[str]:
    """A note on stretches that are listed with different labels."""
    first: dict[tuple[object, ...], tuple[str, ...]] = {}
    twice = []
    for row in rows:
        key = (row.path, *row[2:6])
        if first.setdefault(key, row.labels) != row.labels:
            twice.append(row.path)
    if not twice:
        return []
    shown = ", ".join(twice[:MAX_SHOWN])
    return [f"{len(twice)} entries of {source} repeat a stretch with another label: {shown}"]
