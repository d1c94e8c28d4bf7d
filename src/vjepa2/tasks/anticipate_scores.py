"""Scores of anticipations, as rows of a table in which no number stands alone.

Every result comes with what the same measure gives for the encoder alone, the predictor alone, both
together, chance, and the label prior: on EPIC-KITCHENS-100 the encoder alone reaches nearly all of
what the published model does (39.1 of 39.7, arXiv:2506.09985, table 7), which no single number
tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.labelled import LabelledItem, LabelMap
from vjepa2.errors import InputError
from vjepa2.models.anticipation import TokenChoice
from vjepa2.scoring.accuracy import hits_at_k
from vjepa2.scoring.baselines import baselines
from vjepa2.scoring.intervals import Interval, bootstrap_interval
from vjepa2.tasks.scored import group_numbers

TOP = 5
CHOICES: tuple[TokenChoice, ...] = ("encoder", "predictor", "both")
NAMES = {"encoder": "encoder only", "predictor": "predictor only", "both": "both"}
CHANCE, PRIOR = "chance", "label prior"


@dataclass(frozen=True)
class EventRow:
    """One line of the table.

    Attributes:
        seconds: anticipation time.
        head: verb, noun, action, ...
        name: what was measured, such as "both" or "label prior".
        accuracy: share of events named rightly at the first guess, with a 95 % interval over
            videos where it was measured.
        recall: class-mean recall at `k`, over the classes that occur; likewise.
        k: 5, or 1 where there are not more than five classes.
        count: events.
    """

    seconds: float
    head: str
    name: str
    accuracy: Interval
    recall: Interval
    k: int
    count: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values; an unknown end of an interval is None."""
        values = asdict(self)
        for name in ("accuracy", "recall"):
            value, *ends = getattr(self, name)
            values[name] = value
            values[f"{name}_interval"] = [None if end != end else end for end in ends]
        return values


@dataclass(frozen=True)
class Answers:
    """What probes said of one set of events for one anticipation time.

    Attributes:
        seconds: anticipation time.
        items: the events.
        context_ends, event_starts: seconds on the clock of each file.
        logits: by choice of tokens and by head, [N, classes].
        event_ends: likewise; None of an event without a marked end.
    """

    seconds: float
    items: tuple[LabelledItem, ...]
    context_ends: tuple[float, ...]
    event_starts: tuple[float, ...]
    logits: Mapping[TokenChoice, Mapping[str, Tensor]]
    event_ends: tuple[float | None, ...] = ()

    def labels(self, head_number: int) -> Int[Tensor, " N"]:
        """Right classes of a head."""
        return torch.tensor([item.labels[head_number] for item in self.items])


def top_of(num_classes: int) -> int:
    """k of recall at k."""
    return TOP if num_classes > TOP else 1


def probabilities(logits: Float[Tensor, "*B K"], *, loss: str) -> Float[Tensor, "*B K"]:
    """What logits mean: each class on its own after focal loss, one of all after cross entropy.

    Raises:
        InputError: they are not finite.
    """
    values = logits.float()
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            "The probe's scores hold NaN or infinity: its features are not finite. Look at the "
            "encoder's weights and input; float16 overflows where bfloat16 does not."
        )
    return values.sigmoid() if loss == "focal" else values.softmax(dim=-1)


def event_rows(
    answers: Answers,
    label_map: LabelMap,
    train_counts: Mapping[str, Int[Tensor, " K"]],
    *,
    hashes: Mapping[str, str] | None = None,
    draws: int = 1000,
) -> list[EventRow]:
    """The rows of all heads for one anticipation time: ablations, chance and label prior.

    Args:
        answers: to score.
        label_map: heads and their classes.
        train_counts: how often each class of each head occurs in training.
        hashes: of each path the content hash, so that copies of a video are drawn together.
        draws: of the bootstrap over videos.
    """
    groups = group_numbers(list(answers.items), hashes or {})
    rows = []
    for number, (head, names) in enumerate(label_map.heads.items()):
        labels, k = answers.labels(number), top_of(len(names))

        def row(
            name: str, accuracy: Interval, recall: Interval, *, head: str = head, k: int = k
        ) -> EventRow:
            return EventRow(answers.seconds, head, name, accuracy, recall, k, len(answers.items))

        for choice in CHOICES:
            if choice not in answers.logits:
                continue
            scores = answers.logits[choice][head].double()
            found = _ClassMeans(hits_at_k(scores, labels, k).double(), labels, len(names))
            rows.append(
                row(
                    NAMES[choice],
                    bootstrap_interval(hits_at_k(scores, labels).double(), groups, draws=draws),
                    bootstrap_interval(found, groups, draws=draws),
                )
            )
        known = baselines(labels, num_classes=len(names), prior_counts=train_counts[head])
        by_lot = known.chance_at_5 if k == TOP else known.chance
        always = known.majority_class
        prior = known.prior_recall_at_5 if k == TOP else _constant_recall(labels, always)
        rows.append(row(CHANCE, _exact(known.chance), _exact(by_lot)))
        rows.append(row(PRIOR, _exact(known.majority), _exact(prior)))
    return rows


class _ClassMeans:
    """`class_mean_recall_at_k` of some samples, from which of them are right: thousands of times.

    Args:
        right: float64 [N], 1 where the class is among the best, else 0.
        labels: classes [N].
        num_classes: K.
    """

    def __init__(
        self, right: Float[Tensor, " N"], labels: Int[Tensor, " N"], num_classes: int
    ) -> None:
        self._right, self._labels, self._num_classes = right, labels, num_classes

    def __call__(self, samples: Int[Tensor, " n"]) -> float:
        labels = self._labels[samples]
        counts = torch.bincount(labels, minlength=self._num_classes)
        right = torch.bincount(labels, weights=self._right[samples], minlength=self._num_classes)
        seen = counts > 0
        return float((right[seen] / counts[seen]).mean())


def rows_text(rows: Sequence[EventRow]) -> str:
    """The rows as a table for people."""
    head_width = max([4, *(len(row.head) for row in rows)])
    lines = [
        f"{'ahead':>6}  {'head':{head_width}}  {'':14}  {'top-1':>20}  {'recall':>22}",
    ]
    for row in rows:
        recall = f"{_text(row.recall)} @{row.k}"
        lines.append(
            f"{row.seconds:5g}s  {row.head:{head_width}}  {row.name:14}  "
            f"{_text(row.accuracy):>20}  {recall:>22}"
        )
    return "\n".join(lines)


def _text(interval: Interval) -> str:
    if interval.low != interval.low:
        return f"{interval.value:.1%}"
    return f"{interval.value:.1%} ({100 * interval.low:.1f}-{100 * interval.high:.1f})"


def _exact(value: float) -> Interval:
    """A number that does not depend on any video."""
    return Interval(value, float("nan"), float("nan"))


def _constant_recall(labels: Int[Tensor, " N"], answer: int) -> float:
    """Class-mean recall at 1 of one and the same answer, which need not occur among the labels."""
    classes = labels.unique()
    return float((classes == answer).double().mean())
