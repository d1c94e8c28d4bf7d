"""The events of a run that learns to anticipate, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass

from vjepa2.data.event_loader import subset, usable_events
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.splits import check_splits, content_hashes
from vjepa2.errors import LabelError
from vjepa2.tasks.anticipate_config import AnticipateConfig
from vjepa2.tasks.finetune_data import FineTuneData


@dataclass(frozen=True)
class EventSets:
    """Usable events of a run.

    Attributes:
        train, val: with one label map.
        hashes: of each path the content hash.
        notes: what was left out and why, and what is worth knowing, in words.
    """

    train: LabelledSet
    val: LabelledSet
    hashes: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def mark(self) -> str:
        """Changes with the events, not with the folder they lie in."""
        return " ".join(FineTuneData(self.train, self.val, "").fingerprints().values())


def read_events(config: AnticipateConfig, *, quiet: bool) -> EventSets:
    """Read and check the events of a complete configuration.

    Raises:
        LabelError, LeakError, DataError: see `anticipate.learn_to_anticipate`.
    """
    wanted = config.data
    assert wanted.train is not None and wanted.val is not None  # `check_complete` was called
    train = read_labelled(
        wanted.train, layout=wanted.layout, split=wanted.train_split, options=wanted.options
    )
    val = read_labelled(
        wanted.val,
        label_map=train.label_map,
        layout=wanted.layout,
        split=wanted.val_split,
        options=wanted.options,
    )
    for head, names in train.label_map.heads.items():
        if len(names) < 2:
            raise LabelError(
                f"The label {head!r} of {wanted.train} has one class only, {names[0]!r}: there is "
                "nothing to tell apart. Add events of another class, or leave the column out."
            )
    # That segments lie inside their files is seen below.
    warnings = check_splits({"train": train, "val": val}, segments=False, quiet=quiet)
    usable = {
        "train": usable_events(train, config.clips, seconds=config.longest_seconds, quiet=quiet),
        "val": usable_events(val, config.clips, seconds=max(config.measured), quiet=quiet),
    }
    hashes = content_hashes((item.path for item in (*train.items, *val.items)), quiet=quiet)
    notes = [*warnings, *train.notes, *val.notes]
    notes += [f"{name}: {note}" for name, found in usable.items() for note in found.notes]
    return EventSets(
        subset(train, usable["train"].indices),
        subset(val, usable["val"].indices),
        hashes,
        tuple(map(str, notes)),
    )
