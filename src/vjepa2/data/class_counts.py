"""Whether the classes of splits can be learned and measured: errors, and warnings with numbers."""

from collections.abc import Mapping

import numpy as np

from vjepa2.data.label_rows import split_name
from vjepa2.data.labelled import LabelledSet
from vjepa2.errors import LabelError

FEW_FILES = 5
MANY_CLASSES = 1000
FEW_FOR_MANY = 10
LARGE_SHARE = 0.5
MAX_SHOWN = 5


def class_warnings(sets: Mapping[str, LabelledSet]) -> list[str]:
    """Return what is worth knowing about the classes of splits.

    Args:
        sets: by name; "train" is the one that is learned from.

    Raises:
        LabelError: the splits number their classes differently, "train" has one class only, or
            another split has a class that "train" has not.
    """
    names = list(sets)
    for name in names[1:]:
        sets[names[0]].label_map.check_same(
            sets[name].label_map, what=f"that of split {name!r} (against {names[0]!r})"
        )
    train = next((name for name in names if split_name(name) == "train"), None)
    warnings: list[str] = []
    for head in sets[names[0]].label_map.heads if names else ():
        if train is not None:
            warnings += _of_training(sets[train], head)
        for name in names:
            if name != train:
                learned = sets[train] if train is not None else None
                warnings += _of_measuring(sets[name], name, head, learned)
    return warnings


def _of_training(train: LabelledSet, head: str) -> list[str]:
    counts = train.counts(head)
    names = train.label_map.class_names(head)
    present = int((counts > 0).sum())
    if present < 2:
        only = names[int(counts.argmax())] if present else "none"
        raise LabelError(
            f"The training files have one class only (head {head!r}: {only!r}): there is nothing "
            "to tell apart. Add files of another class."
        )
    few = [names[place] for place in np.flatnonzero(counts < FEW_FILES)]
    if not few:
        return []
    middle = float(np.median(counts))
    warning = (
        f"head {head!r}: {len(few)} of {len(names)} classes have fewer than {FEW_FILES} training "
        f"files ({len(names) - present} have none), such as {', '.join(few[:MAX_SHOWN])}; a class "
        f"has {middle:g} in the middle, {int(counts.max())} at most"
    )
    if len(names) >= MANY_CLASSES and middle < FEW_FOR_MANY:
        warning += (
            f". With {len(names)} classes and {len(train)} files, report means over classes, and "
            "expect little of the rare ones"
        )
    return [warning]


def _of_measuring(
    labelled: LabelledSet, split: str, head: str, train: LabelledSet | None
) -> list[str]:
    counts = labelled.counts(head)
    names = labelled.label_map.class_names(head)
    warnings = []
    if train is not None:
        learned = train.counts(head)
        unseen = np.flatnonzero((counts > 0) & (learned == 0))
        if len(unseen):
            shown = ", ".join(f"{names[p]!r} ({counts[p]} files)" for p in unseen[:MAX_SHOWN])
            more = f" and {len(unseen) - MAX_SHOWN} more" if len(unseen) > MAX_SHOWN else ""
            raise LabelError(
                f"{len(unseen)} classes of split {split!r} (head {head!r}) have no training file: "
                f"{shown}{more}. They can never be answered right: add training files of them, or "
                f"leave them out of {split!r}."
            )
        absent = int(((learned > 0) & (counts == 0)).sum())
        if absent:
            warnings.append(
                f"head {head!r}: {absent} of {int((learned > 0).sum())} classes that are trained "
                f"have no file in split {split!r} and are not measured there"
            )
    if len(labelled) and counts.max() > LARGE_SHARE * len(labelled):
        largest = names[int(counts.argmax())]
        warnings.append(
            f"head {head!r}: {counts.max() / len(labelled):.0%} of split {split!r} are "
            f"{largest!r}, so that always answering this scores as much; report means over classes"
        )
    return warnings
