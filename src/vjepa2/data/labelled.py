"""Labelled files: `LabelledItem`, `LabelMap`, `LabelledSet` (read by `data.labelled_lists`)."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vjepa2.data.label_order import map_difference
from vjepa2.data.label_rows import SINGLE_HEAD, segment_problem
from vjepa2.data.moments import Clock
from vjepa2.errors import DataNotFoundError, LabelError, nearest_hint
from vjepa2.files import write_json

LABELS_NAME = "labels.json"
# Times of annotations are often rounded; the last frame's end is not always stored.
SEGMENT_TOLERANCE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """One labelled file, or a stretch of one.

    Attributes:
        path: absolute path of a video, a still image or a folder of pictures.
        labels: one class number a head, in the order of the label map's heads.
        start_seconds, end_seconds: the stretch in seconds of the file's own clock; None is its
            first or last moment. They hold where frames are given as well.
        start_frame, end_frame: the stretch in frames, from 0, the end not included.
        group: what is drawn together in a bootstrap and may not be in two splits; "" is the path.
        is_image: True for a still image.

    Raises:
        LabelError: a class number below 0, or a stretch that begins before 0, has no length, or
            begins in one unit and ends in the other.
    """

    path: str
    labels: tuple[int, ...]
    start_seconds: float | None = None
    end_seconds: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    group: str = ""
    is_image: bool = False

    def __post_init__(self) -> None:
        problem = segment_problem(
            self.start_seconds, self.end_seconds, self.start_frame, self.end_frame
        )
        if problem is not None:
            raise LabelError(f"{self.path}: {problem}.")
        if not self.labels or min(self.labels) < 0:
            raise LabelError(f"{self.path}: class numbers count from 0, got {self.labels}.")

    @property
    def group_name(self) -> str:
        """The group, or the path where there is none."""
        return self.group or self.path

    @property
    def is_segment(self) -> bool:
        """Whether only a stretch of the file is meant."""
        edges = (self.start_seconds, self.end_seconds, self.start_frame, self.end_frame)
        return any(edge is not None for edge in edges)


def segment_seconds(item: LabelledItem, clock: Clock) -> tuple[float, float]:
    """Return where the stretch of an item begins and ends, in seconds of its file's clock.

    Frames are turned into seconds by the time stamps of the file, so that a variable frame rate
    is no matter. An end up to 0.1 s after that of the file counts as that of the file.

    Args:
        item: whose stretch it is.
        clock: of its file.

    Returns:
        (start, end), start < end, both within the file.

    Raises:
        LabelError: the stretch lies outside the file.
    """
    times = clock.pts_seconds
    begin, until = float(times[0]), clock.end_seconds
    in_frames = item.start_seconds is None and item.end_seconds is None and item.is_segment
    if in_frames:
        count = len(clock)
        first, last = item.start_frame or 0, count if item.end_frame is None else item.end_frame
        if not 0 <= first < last <= count:
            raise LabelError(
                f"{item.path}: frames {first} to {last} lie outside the file, which has {count} "
                "frames (0 up to that number, the end not included). Mend the segment, or check "
                "that it was counted on this very file and not on one of another frame rate."
            )
        return float(times[first]), until if last == count else float(times[last])
    start = begin if item.start_seconds is None else max(item.start_seconds, begin)
    end = until if item.end_seconds is None else item.end_seconds
    if end > until + SEGMENT_TOLERANCE_SECONDS or start >= until or end <= begin:
        shown = 0.0 if item.start_seconds is None else item.start_seconds
        raise LabelError(
            f"{item.path}: the segment {shown:g} to {end:g} s lies outside the file, which goes "
            f"from {begin:g} to {until:g} s. Mend the segment, or check that its times are "
            "seconds and belong to this very file."
        )
    return start, min(end, until)


@dataclass(frozen=True)
class LabelMap:
    """Names of the classes by their number.

    Attributes:
        heads: of each head, the names of its classes in the order of their numbers. Sets with
            one kind of label have the one head "label".

    Raises:
        LabelError: no head, a head without classes, or two classes of one name.
    """

    heads: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        # A copy, so that what others do to the mapping changes nothing here.
        object.__setattr__(self, "heads", {name: tuple(of) for name, of in self.heads.items()})
        if not self.heads:
            raise LabelError("A label map needs a head, such as {'label': ('walk', 'run')}.")
        for head, names in self.heads.items():
            if not names:
                raise LabelError(f"The head {head!r} of a label map has no classes.")
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise LabelError(
                    f"The head {head!r} has the class {twice!r} twice. Give each class one number."
                )

    def class_names(self, head: str = SINGLE_HEAD) -> tuple[str, ...]:
        """Names of the classes of a head, in the order of their numbers.

        Raises:
            LabelError: there is no such head.
        """
        if head not in self.heads:
            raise LabelError(
                f"The label map has no head {head!r}. {nearest_hint(head, self.heads)}"
            )
        return self.heads[head]

    def num_classes(self, head: str = SINGLE_HEAD) -> int:
        """How many classes a head has; raises as `class_names`."""
        return len(self.class_names(head))

    def to_config_labels(self, head: str = SINGLE_HEAD) -> dict[int, str]:
        """`id2label` of a model's configuration for one head; raises as `class_names`."""
        return dict(enumerate(self.class_names(head)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `labels.json`: into a folder, or to a path that ends in `.json`.

        Raises:
            OutputError: it cannot be written.
        """
        # Pairs keep the order of the heads, which the order of labels follows.
        content = {"heads": [[name, list(names)] for name, names in self.heads.items()]}
        write_json(_labels_file(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            DataNotFoundError: there is no such file.
            LabelError: it is no label map.
        """
        file = _labels_file(path)
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
            heads = {name: tuple(names) for name, names in content["heads"]}
        except OSError as error:
            raise DataNotFoundError(f"The label map {file} cannot be read: {error}.") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LabelError(
                f'{file} is no label map. It holds {{"heads": [["label", ["walk", "run"]]]}}, '
                "each head with the names of its classes in the order of their numbers."
            ) from error
        texts = [text for name, names in heads.items() for text in (name, *names)]
        lists = all(isinstance(names, list) for _, names in content["heads"])
        if not lists or not all(isinstance(text, str) for text in texts):
            raise LabelError(f"{file}: names of heads and classes must be text.")
        return cls(heads)

    def check_same(self, other: "LabelMap", *, what: str = "the other label map") -> None:
        """Raise unless `other` gives every class of every head the same number.

        Args:
            other: the map to compare with.
            what: names it in the message.

        Raises:
            LabelError: the first difference in words: other heads, the same names in another
                order, numbers shifted, classes missing or more.
        """
        difference = map_difference(self.heads, other.heads)
        if difference is not None:
            raise LabelError(
                f"The label map and {what} differ: {difference}. Scores of one would be read as "
                "classes of the other. Use the labels.json that was saved with the model."
            )


def _labels_file(path: str | os.PathLike[str]) -> Path:
    """The file meant by a folder or by its own name."""
    return Path(path) if Path(path).suffix == ".json" else Path(path) / LABELS_NAME


@dataclass(frozen=True)
class LabelledSet:
    """Labelled files of one list, folder or layout.

    Attributes:
        items: the files in a fixed order.
        label_map: names of the classes.
        source: the path they were read from.
        notes: what was left out or is worth knowing, in words with numbers.

    Raises:
        LabelError: an item has another number of labels than there are heads, or a class number
            that the label map does not have.
    """

    items: tuple[LabelledItem, ...]
    label_map: LabelMap
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = [len(names) for names in self.label_map.heads.values()]
        for item in self.items:
            if len(item.labels) != len(sizes):
                raise LabelError(
                    f"{item.path} has {len(item.labels)} labels; the label map has {len(sizes)} "
                    f"heads ({', '.join(self.label_map.heads)})."
                )
            if any(label >= size for label, size in zip(item.labels, sizes, strict=True)):
                raise LabelError(
                    f"{item.path} has labels {item.labels}; the heads have {sizes} classes, "
                    "numbered from 0."
                )

    def __len__(self) -> int:
        return len(self.items)

    def labels(self, head: str = SINGLE_HEAD) -> NDArray[np.int64]:
        """int64 [n], the class number of every item; raises LabelError for an unknown head."""
        self.label_map.class_names(head)
        place = list(self.label_map.heads).index(head)
        return np.array([item.labels[place] for item in self.items], dtype=np.int64)

    def counts(self, head: str = SINGLE_HEAD) -> NDArray[np.int64]:
        """int64 [classes], how many items each class has; raises as `labels`."""
        return np.bincount(self.labels(head), minlength=self.label_map.num_classes(head))
