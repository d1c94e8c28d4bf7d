"""Reader of the annotations of EPIC-KITCHENS-100."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vjepa2.data.file_table import is_integer
from vjepa2.data.label_columns import frame_of, is_missing, seconds_of
from vjepa2.data.label_options import LabelOptions
from vjepa2.data.label_rows import LabelRow, LabelTable, same_split, segment_problem
from vjepa2.data.layout_files import (
    VideoIndex,
    find_lists,
    list_of_split,
    read_table,
    with_videos,
)
from vjepa2.errors import DataError, ListError

EPIC_LISTS = re.compile(r"epic_100_(train|validation|test_timestamps)\.csv")
EPIC_NAMES = re.compile(r"epic_100_(verb|noun)_classes(?:_v2)?\.csv")
EPIC_COLUMNS = ("video_id", "participant_id", "verb_class", "noun_class")
HEADS = ("verb", "noun", "action")
_TIMES = ("start_timestamp", "stop_timestamp")
_FRAMES = ("start_frame", "stop_frame")

Pair = tuple[int, int]


class _Action(NamedTuple):
    video: str
    pair: Pair
    start_seconds: float | None
    end_seconds: float | None
    start_frame: int | None
    end_frame: int | None


def read_epic_kitchens(
    path: Path,
    options: LabelOptions,
    *,
    split: str | None,
    known: Mapping[str, tuple[str, ...]] | None = None,
) -> LabelTable:
    """EPIC-KITCHENS-100: `EPIC_100_train.csv`, `EPIC_100_validation.csv`, `P01_01.MP4`.

    The heads are verb, noun and action, an action being a pair of the other two. Classes are those
    of the training list. Rows of other lists whose pair never occurs there are left out and
    counted, as published. Names of classes come from `EPIC_100_verb_classes.csv` and
    `EPIC_100_noun_classes.csv` where they lie beside; else they are the numbers.

    Videos are found below the root in any subfolders, so both published ways (`P01/P01_01.MP4` and
    `P01/videos/P01_01.MP4`) are read. Segments are taken by their time stamps; frames are kept
    beside them. The group of a row is its video.

    Args:
        path: the folder of the lists, or one list.
        options: `root` of the videos, and `class_order`.
        split: "train" or "validation".
        known: heads of a label map that is to be used instead of the training list.

    Source: V-JEPA 2, appendix on action anticipation; for "published", the enumeration of sets in
    `evals/action_anticipation_frozen`.

    Raises:
        ListError: columns, labels or the training list are missing, or a line is malformed.
        DataError: no row is left.
        DataNotFoundError: no video is there.
    """
    file, folder = list_of_split(path, EPIC_LISTS, split=split, layout="epic_kitchens")
    actions = _read_actions(file)
    lists = find_lists(folder, EPIC_LISTS)
    train = lists.get("train")
    is_train = train is not None and file.samefile(train)
    names = _Names(folder)
    if known is not None and set(HEADS) <= set(known):
        classes = {head: known[head] for head in HEADS}
    else:
        if train is None and not same_split(file.stem.rpartition("_")[2], "train"):
            raise ListError(
                f"{file} needs EPIC_100_train.csv beside it or a label map: classes are those of "
                "the training list."
            )
        if is_train or train is None:
            pairs = [action.pair for action in actions]
        else:
            pairs = [action.pair for action in _read_actions(train)]
        classes = _classes(pairs, names, published=options.class_order == "published")
    allowed = set(classes["action"])
    kept = [action for action in actions if names.action(action.pair) in allowed]
    notes: tuple[str, ...] = ()
    if len(kept) < len(actions):
        gone = {action.pair for action in actions} - {action.pair for action in kept}
        note = (
            f"{len(actions) - len(kept)} of {len(actions)} rows of {file.name} were left out: "
            f"their {len(gone)} pairs of verb and noun never occur in training"
        )
        notes = (note,)
    if not kept:
        raise DataError(
            f"No row of {file} has a pair of verb and noun that occurs in training. Check that "
            "the label map belongs to this data set."
        )
    root = Path(options.root or folder)
    index = VideoIndex(root)
    videos = list(dict.fromkeys(action.video for action in kept))
    found, missing = with_videos(videos, index.find, source=file, root=root)
    path_of = dict(found)
    rows = tuple(
        LabelRow(
            path_of[action.video],
            (*names.both(action.pair), names.action(action.pair)),
            *action[2:],
            group=action.video,
        )
        for action in kept
        if action.video in path_of
    )
    return LabelTable(HEADS, rows, classes, (*notes, *missing))


def set_order(pairs: list[Pair]) -> tuple[list[int], list[int], list[Pair]]:
    """Verbs, nouns and pairs in the order in which CPython walks through sets of them.

    The original code numbers its classes so. The order follows from the pairs and the order in
    which they first occur: hashes of integers and of pairs of them are the same on every machine
    with 64 bits, from Python 3.8.

    Args:
        pairs: (verb, noun) of every row of the training list, in its order.
    """
    actions = set(pairs)
    verbs = {verb for verb, _ in actions}
    nouns = {noun for _, noun in actions}
    return list(verbs), list(nouns), list(actions)


def _classes(pairs: list[Pair], names: "_Names", *, published: bool) -> dict[str, tuple[str, ...]]:
    verbs, nouns, actions = set_order(pairs)
    if not published:
        verbs, nouns, actions = sorted(verbs), sorted(nouns), sorted(actions)
    return {
        "verb": tuple(names.one("verb", verb) for verb in verbs),
        "noun": tuple(names.one("noun", noun) for noun in nouns),
        "action": tuple(names.action(pair) for pair in actions),
    }


def _read_actions(file: Path) -> list[_Action]:
    actions = []
    for number, row in read_table(file, EPIC_COLUMNS):
        place = f"{file}, line {number}"
        pair = []
        for column in ("verb_class", "noun_class"):
            text = row[column]
            if is_missing(text) or not is_integer(text) or int(text) < 0:
                what = "is missing" if is_missing(text) else f"is {text!r}, no integer from 0"
                raise ListError(f"{place}: the label {column} {what}.")
            pair.append(int(text))
        start, end = (seconds_of(row.get(name), place) for name in _TIMES)
        first, last = (frame_of(row.get(name), place) for name in _FRAMES)
        if None in (start, end) and None in (first, last):
            raise ListError(
                f"{place}: no segment. Give {' and '.join(_TIMES)}, or {' and '.join(_FRAMES)}."
            )
        problem = segment_problem(start, end, first, last)
        if problem is not None:
            raise ListError(f"{place}: {problem}.")
        actions.append(_Action(row["video_id"], (pair[0], pair[1]), start, end, first, last))
    if not actions:
        raise DataError(f"The list {file} is empty.")
    return actions


class _Names:
    """Names of verbs, nouns and actions.

    Args:
        folder: of the lists of classes, if there are any.
    """

    def __init__(self, folder: Path) -> None:
        self._names: dict[str, dict[int, str]] = {"verb": {}, "noun": {}}
        for kind, file in find_lists(folder, EPIC_NAMES).items():
            for number, row in read_table(file, ("id", "key")):
                if not is_integer(row["id"]):
                    raise ListError(f"{file}, line {number}: {row['id']!r} is no integer.")
                self._names[kind][int(row["id"])] = row["key"].strip()

    def one(self, kind: str, number: int) -> str:
        """Name of a verb or noun."""
        return self._names[kind].get(number, str(number))

    def both(self, pair: Pair) -> tuple[str, str]:
        """Names of a verb and a noun."""
        return self.one("verb", pair[0]), self.one("noun", pair[1])

    def action(self, pair: Pair) -> str:
        """Name of an action: `take plate`, or `3 12`."""
        return " ".join(self.both(pair))
