"""The labelled videos of a fine-tuning run, checked before anything is computed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.data.labelled import LabelledSet, LabelMap
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.splits import check_splits, content_hashes
from vjepa2.errors import LabelError
from vjepa2.tasks.finetune_config import FineTuneConfig


@dataclass(frozen=True)
class FineTuneData:
    """What is learned from and what is measured on.

    Attributes:
        train, val: labelled videos with one label map; without `val` nothing is measured.
        head: name of the label that is learned.
        notes: what is worth knowing about them, in words.
    """

    train: LabelledSet
    val: LabelledSet | None
    head: str
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by number."""
        return self.train.label_map.class_names(self.head)

    @property
    def label_column(self) -> int:
        """Which number of an item's labels is learned."""
        return list(self.train.label_map.heads).index(self.head)

    def fingerprints(self) -> dict[str, str]:
        """Marks of both sets: which files, named how, with which labels and stretches."""
        sets = {"train": self.train, "val": self.val}
        return {name: set_mark(found) for name, found in sets.items() if found is not None}


def read_data(config: FineTuneConfig, *, known: tuple[str, ...] = ()) -> FineTuneData:
    """Read the labelled videos of a run.

    Args:
        config: of the run.
        known: class names of a classifier that is trained further, by number; its numbers are
            kept where it knows every class.

    Raises:
        LabelError: no such label, one class only, or a class is measured that is never learned.
        DataError: a list is malformed, or its files are not there.
    """
    wanted, head = config.data, config.data.head
    assert wanted.train is not None  # `check_complete` was called
    train = read_labelled(
        wanted.train, layout=wanted.layout, split=wanted.train_split, options=wanted.options
    )
    names = train.label_map.class_names(head)
    if len(names) < 2:
        raise LabelError(
            f"{wanted.train} has one class only, {names[0]!r}: there is nothing to tell apart. "
            "Add videos of another class."
        )
    if set(names) <= set(known):
        train = read_labelled(
            wanted.train,
            label_map=LabelMap({**train.label_map.heads, head: known}),
            layout=wanted.layout,
            split=wanted.train_split,
            options=wanted.options,
        )
    val = None
    notes = list(train.notes)
    if wanted.val is not None:
        val = read_labelled(
            wanted.val,
            label_map=train.label_map,
            layout=wanted.layout,
            split=wanted.val_split,
            options=wanted.options,
        )
        notes += val.notes
    return FineTuneData(train, val, head, tuple(notes))


def check_data(data: FineTuneData, *, quiet: bool = False) -> dict[str, Any]:
    """Read all files once: refuse a video in both sets, and remember what was trained on.

    Args:
        data: of the run.
        quiet: no progress on stderr.

    Returns:
        JSON values: "train" and "val", the sorted content hashes of their files; "notes", what is
        worth knowing in words; "fingerprints".

    Raises:
        LeakError: a file or group is in both sets.
        LabelError: a class is measured that is never learned.
    """
    sets = {"train": data.train} if data.val is None else {"train": data.train, "val": data.val}
    notes = check_splits(sets, quiet=quiet)
    return {
        "train": marks_of(data.train, quiet=quiet),
        "val": marks_of(data.val, quiet=quiet),
        "notes": list(notes),
        "fingerprints": data.fingerprints(),
    }


def marks_of(labelled: LabelledSet | None, *, quiet: bool = False) -> list[str]:
    """Sorted content hashes of a set's files, by which an evaluation knows them again."""
    if labelled is None:
        return []
    paths = (item.path for item in labelled.items)
    hashes = content_hashes(paths, quiet=quiet, description="Marking files")
    return sorted(set(hashes.values()))


def set_mark(labelled: LabelledSet) -> str:
    """Sixteen digits; the folder that the files lie in does not count."""
    digest = hashlib.sha256(json.dumps(dict(labelled.label_map.heads)).encode())
    for item in labelled.items:
        facts = (
            Path(item.path).name,
            item.labels,
            (item.start_seconds, item.end_seconds, item.start_frame, item.end_frame),
        )
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()[:16]
