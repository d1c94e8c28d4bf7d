"""What the readers of labelled lists and layouts hand over, before classes have numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

SINGLE_HEAD = "label"


class LabelRow(NamedTuple):
    """One labelled file, or a stretch of one, as it stands in a list.

    Attributes:
        path: absolute path or URL.
        labels: one text a head: the name of the class, or its number.
        start_seconds, end_seconds: the stretch in seconds of the file's clock; None is its edge.
        start_frame, end_frame: the stretch in frames from 0, the end not included.
        group: what may not be in two splits; "" is the path.
        is_image: True for a still image.
    """

    path: str
    labels: tuple[str, ...]
    start_seconds: float | None = None
    end_seconds: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    group: str = ""
    is_image: bool = False


@dataclass(frozen=True)
class LabelTable:
    """The rows of one list or layout.

    Attributes:
        heads: names of the label columns, in order.
        rows: the labelled files.
        class_names: of each head whose classes the layout itself numbers, their names in the order
            of their numbers; labels of such a head are names.
        notes: what was left out or is worth knowing, in words with numbers.
    """

    heads: tuple[str, ...]
    rows: tuple[LabelRow, ...]
    class_names: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


def segment_problem(
    start_seconds: float | None,
    end_seconds: float | None,
    start_frame: int | None,
    end_frame: int | None,
) -> str | None:
    """What is wrong with a stretch of a video before the video is looked at; None if nothing.

    Both edges in both units are allowed (seconds hold). An edge that only the other unit gives is
    refused: a start in seconds and an end in frames would lose the end.
    """
    for unit, start, end in (
        ("s", start_seconds, end_seconds),
        ("(frames)", start_frame, end_frame),
    ):
        for word, value in (("begins", start), ("ends", end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                return f"the segment {word} at {value:g} {unit}; allowed are finite times from 0"
        if end is not None and end <= (start or 0):
            begin = 0 if start is None else start
            length = "zero" if end == begin else "negative"
            return (
                f"the segment {begin:g} to {end:g} {unit} has {length} length; "
                "its end must lie after its start"
            )
    one_edge = (start_seconds is None) != (end_seconds is None)
    if one_edge and (start_frame if start_seconds is None else end_frame) is not None:
        units = ("frames", "seconds") if start_seconds is None else ("seconds", "frames")
        return (
            f"the segment begins in {units[0]} and ends in {units[1]}; give both its start and its "
            "end in one unit: t_start and t_end in seconds, or start_frame and stop_frame in frames"
        )
    return None


_SPLIT_NAMES = {"training": "train", "validation": "val", "validate": "val", "valid": "val"}


def split_name(name: str) -> str:
    """One name for the usual spellings of a split: train, val, test; others as they are."""
    plain = name.strip().lower()
    return _SPLIT_NAMES.get(plain, "test" if plain == "testing" else plain)


def same_split(first: str, second: str) -> bool:
    """Whether two names mean the same split: "validation" is "val"."""
    return split_name(first) == split_name(second)


def plain_class(name: str) -> str:
    """A class name without case, spaces and marks: "Putting [something]" is "puttingsomething".

    Published copies of one label map differ in these only.
    """
    return "".join(mark for mark in name.casefold() if mark.isalnum())
