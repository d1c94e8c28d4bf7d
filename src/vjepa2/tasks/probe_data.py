"""The labelled videos of a probe run, checked before anything is computed."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from vjepa2.data.labelled import LabelledSet, LabelMap
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.splits import check_splits
from vjepa2.errors import LabelError
from vjepa2.tasks.finetune_data import marks_of, set_mark
from vjepa2.tasks.probe_config import ProbeLabelsConfig


@dataclass(frozen=True)
class ProbeData:
    """Labelled videos with one label map.

    Attributes:
        sets: "train", and "val" and "test" where they were given.
        head: name of the label that is learned.
        notes: what is worth knowing about them, in words.
    """

    sets: dict[str, LabelledSet]
    head: str
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> LabelledSet:
        """What is learned from."""
        return self.sets["train"]

    @property
    def label_map(self) -> LabelMap:
        """Names of the classes."""
        return self.train.label_map

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the head that is learned, by number."""
        return self.label_map.class_names(self.head)

    def labels(self, name: str) -> Int[Tensor, " n"]:
        """Class numbers of a set's files, int64."""
        return torch.from_numpy(self.sets[name].labels(self.head))

    def fingerprints(self) -> dict[str, str]:
        """Marks of all sets: which files, named how, with which labels and stretches."""
        return {name: set_mark(found) for name, found in self.sets.items()}

    def baselines(self, labels: Int[Tensor, " n"]) -> dict[str, float]:
        """What no look at the videos reaches on some of them.

        Args:
            labels: class numbers of the videos that were measured.

        Returns:
            "chance": accuracy of guessing evenly; "majority": of always naming the class that is
            most frequent in training.
        """
        most = int(self.train.counts(self.head).argmax())
        share = float((labels == most).double().mean())
        return {"chance": 1 / len(self.class_names), "majority": share}


def read_probe_data(config: ProbeLabelsConfig) -> ProbeData:
    """Read the lists; no video is opened yet.

    Raises:
        LabelError: no such label, one class only, or classes that are measured but never learned.
        DataError: a list is malformed, or its files are not there.
    """
    assert config.train is not None  # `check_complete` was called
    places = {
        "train": (config.train, config.train_split),
        "val": (config.val, config.val_split),
        "test": (config.test, config.test_split),
    }
    sets: dict[str, LabelledSet] = {}
    notes: list[str] = []
    for name, (path, split) in places.items():
        if path is None:
            continue
        sets[name] = read_labelled(
            path,
            label_map=sets["train"].label_map if sets else None,
            layout=config.layout,
            split=split,
            options=config.options,
        )
        notes += sets[name].notes
    names = sets["train"].label_map.class_names(config.head)
    if len(names) < 2:
        raise LabelError(
            f"{config.train} has one class only, {names[0]!r}: there is nothing to tell apart. "
            "Add videos of another class."
        )
    return ProbeData(sets, config.head, tuple(notes))


def check_probe_data(data: ProbeData, *, quiet: bool = False) -> dict[str, Any]:
    """Look at all files once: refuse a video in two sets, and remember what is trained on.

    Returns:
        JSON values: "train" and "val", sorted content hashes of their files; "notes";
        "fingerprints".

    Raises:
        LeakError: a file or group is in two sets.
        LabelError: a segment lies outside its file.
    """
    notes = check_splits(data.sets, quiet=quiet)
    return {
        "train": marks_of(data.train, quiet=quiet),
        "val": marks_of(data.sets.get("val"), quiet=quiet),
        "notes": list(notes),
        "fingerprints": data.fingerprints(),
    }
