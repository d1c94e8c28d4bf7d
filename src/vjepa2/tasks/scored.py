"""What a model answered, beside what was right and what it had seen: the input of every measure.

Classification and anticipation both hand over a `ScoredSet`; the measures, the tables and the
looks for mistakes (`tasks.fooling*`) take nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.labelled import LabelledItem, LabelMap
from vjepa2.data.labelled_decode import item_name
from vjepa2.errors import LabelError, ShapeError

Anchor = Literal["start", "published"]


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """One labelled item and a model's scores for it.

    Attributes:
        item: what was shown; its `labels` are what is right, one class number a head.
        scores: of each head float [K], probabilities where calibration is to mean something.
        context_end_seconds: until when the model saw the video: the end of its last frame, not
            the beginning. None where nothing is anticipated.
        event_start_seconds, event_end_seconds: of the anticipated event, on the same clock.
        anchor: which end of the event the context was counted back from: its "start", or, as the
            "published" evaluation does, its end.
    """

    item: LabelledItem
    scores: Mapping[str, Tensor]
    context_end_seconds: float | None = None
    event_start_seconds: float | None = None
    event_end_seconds: float | None = None
    anchor: Anchor | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """Class numbers, in the order of the label map's heads."""
        return self.item.labels

    @property
    def name(self) -> str:
        """The file, with the stretch of it that is meant."""
        return item_name(self.item)


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """Answers to a whole set.

    Attributes:
        label_map: names of the classes of every head, as the model numbers them.
        items: in the order of the list.
        hashes: of each path the content hash, where it is known: items of one content are drawn
            together in a bootstrap.

    Raises:
        ShapeError: an item lacks a head, or its scores are not one per class.
        LabelError: an item has another number of labels than there are heads.
    """

    label_map: LabelMap
    items: tuple[ScoredItem, ...]
    hashes: Mapping[str, str]

    def __post_init__(self) -> None:
        heads = self.label_map.heads
        for scored in self.items:
            if len(scored.labels) != len(heads):
                raise LabelError(
                    f"{scored.name} has {len(scored.labels)} labels for {len(heads)} heads."
                )
            for head, names in heads.items():
                shape = list(scored.scores[head].shape) if head in scored.scores else None
                if shape != [len(names)]:
                    raise ShapeError(
                        f"{scored.name}: head {head!r} has {len(names)} classes; expected scores "
                        f"[{len(names)}], got {'none' if shape is None else shape}."
                    )

    def __len__(self) -> int:
        return len(self.items)

    def scores(self, head: str) -> Float[Tensor, "N K"]:
        """Scores of a head, float64."""
        return torch.stack([scored.scores[head].double() for scored in self.items])

    def labels(self, head: str) -> Int[Tensor, " N"]:
        """Right classes of a head, int64."""
        place = list(self.label_map.heads).index(head)
        return torch.tensor([scored.labels[place] for scored in self.items])

    def groups(self) -> Int[Tensor, " N"]:
        """A number for everything that is drawn together: one group, or one content."""
        return group_numbers([scored.item for scored in self.items], self.hashes)


def group_numbers(items: Sequence[LabelledItem], hashes: Mapping[str, str]) -> Int[Tensor, " N"]:
    """int64 [N]: items of one group, or of files of one content, get one number."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for item in items:
        content = "content " + hashes.get(item.path, item.path)
        parents[root("group " + item.group_name)] = root(content)
    numbers: dict[str, int] = {}
    return torch.tensor(
        [numbers.setdefault(root("group " + item.group_name), len(numbers)) for item in items],
        dtype=torch.int64,
    )
