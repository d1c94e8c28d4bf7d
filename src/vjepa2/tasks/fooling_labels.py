"""Whether class number 3 of the model is class number 3 of the list.

Two looks: at the names, before anything is computed, and at the answers. Answers that fit the
labels much better after the classes are renumbered, or with the label of the next row, give a
mistake away that no name shows. What is found on one half of the videos has to hold on the other
half, so that a weak model is not taken for a shuffled one.
"""

from collections import Counter
from collections.abc import Callable
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vjepa2.data.label_order import order_difference
from vjepa2.data.labelled import LabelMap
from vjepa2.numbered_random import mixed
from vjepa2.scoring import bootstrap_interval, confusion_matrix
from vjepa2.scoring.accuracy import first_best
from vjepa2.tasks.fooling import Finding

FEW = 5
FEWEST_VIDEOS = 10
ODD = 0x5851F42D4C957F2D  # splits numbers of groups into halves that do not follow the list


def map_findings(model: LabelMap, other: LabelMap, *, other_is: str) -> list[Finding]:
    """Compare the model's names of classes with others.

    Args:
        model: as the model numbers its classes.
        other: the same as a list, or a file beside the model, numbers them.
        other_is: names that one in the message, such as "the label map of val.csv".
    """
    found = []
    for head in [head for head in model.heads if head in other.heads]:
        own, others = model.heads[head], other.heads[head]
        difference = order_difference(own, others)
        if difference is None:
            continue
        kind = "labels_in_another_order"
        if "shifted by" in difference:
            kind = "labels_shifted"
        elif set(own) != set(others):
            kind = "labels_renamed"
        found.append(
            Finding(
                kind,
                "error",
                f"The model and {other_is} do not number their classes alike (head {head!r}): "
                f"{difference}. Right answers would count as wrong ones, and the other way round. "
                "Use the label map that was saved with the model.",
                sum(a != b for a, b in zip_longest(own, others)),
            )
        )
    missing = [head for head in model.heads if head not in other.heads]
    if missing:
        found.append(
            Finding(
                "labels_renamed",
                "error",
                f"{other_is[0].upper()}{other_is[1:]} has the heads {', '.join(other.heads)}; the "
                f"model has {', '.join(model.heads)}. Give labels for the heads of the model.",
                len(missing),
            )
        )
    return found


def count_findings(
    labels: Int[Tensor, " N"], names: tuple[str, ...], *, head: str
) -> list[Finding]:
    """Look at how many samples each class has.

    Args:
        labels: right classes.
        names: of the classes.
        head: which head they belong to.
    """
    counts = Counter(labels.tolist())
    if len(counts) == 1 and len(names) > 1:
        only = next(iter(counts))
        return [
            Finding(
                "one_class_only",
                "error",
                f"All {len(labels)} labels of head {head!r} are {names[only]!r}. A model that "
                "always says that is right every time; test lists without labels often hold one "
                "number in their place. Evaluate on a list with several classes.",
                len(labels),
            )
        ]
    found = []
    missing = [name for number, name in enumerate(names) if number not in counts]
    if missing:
        found.append(
            Finding.of(
                "classes_missing",
                "warning",
                f"{len(missing)} of {len(names)} classes of head {head!r} have no sample. Means "
                f"over classes are over the {len(counts)} that have.",
                missing,
            )
        )
    few = [f"{names[number]} ({count})" for number, count in sorted(counts.items()) if count < FEW]
    if few:
        found.append(
            Finding.of(
                "few_samples",
                "warning",
                f"{len(few)} of {len(counts)} classes of head {head!r} have fewer than {FEW} "
                "samples. One answer more or less moves their recall, and with it the mean over "
                "classes, by a fifth of a class or more.",
                few,
            )
        )
    return found


def numbering_findings(
    scores: Float[Tensor, "N K"],
    labels: Int[Tensor, " N"],
    groups: Int[Tensor, " N"],
    names: tuple[str, ...],
    *,
    head: str,
) -> list[Finding]:
    """Look whether the answers fit other class numbers better than those of the list.

    Of fewer than ten videos nothing is said: by chance alone all of so few may fit better.

    Args:
        scores: of every item, in the order of the list.
        labels: right classes.
        groups: a number per video.
        names: of the classes.
        head: which head they belong to.
    """
    if groups.unique().numel() < FEWEST_VIDEOS:
        return []
    answers = first_best(scores)
    now = answers == labels
    halves = torch.tensor([mixed((group + 1) * ODD) & 1 for group in groups.tolist()])
    shifted = _held_out(
        lambda rows: _best_shift(answers[rows], labels[rows], len(names)), labels, answers, halves
    )
    if shifted is not None and (gain := _gain(shifted, now, groups)) is not None:
        shift = _best_shift(answers, labels, len(names)).tolist()[0]
        shift = shift if shift <= len(names) // 2 else shift - len(names)
        return [
            Finding(
                "labels_shifted",
                "error",
                f"Head {head!r}: if every class number of the list is moved by {shift:+d}, "
                f"{_words(shifted, now, gain)}. Lists that count classes from 1, or have a class "
                "more in front, do that. Number the classes as the model does.",
                len(labels),
            )
        ]
    renamed = _held_out(
        lambda rows: _assignment(answers[rows], labels[rows], len(names)), labels, answers, halves
    )
    if renamed is not None and (gain := _gain(renamed, now, groups)) is not None:
        best = _assignment(answers, labels, len(names)).tolist()
        seen = set(labels.tolist())
        pairs = [
            f"{names[number]!r} is answered as {names[other]!r}"
            for number, other in enumerate(best)
            if other != number and number in seen
        ]
        return [
            Finding.of(
                "shuffled_label_map",
                "error",
                f"Head {head!r}: with other numbers of the classes {_words(renamed, now, gain)}. "
                f"{len(pairs)} classes are consistently answered as another one, so the list and "
                "the model number them differently, or videos were mirrored. Compare labels.json "
                "of the model with the list.",
                pairs,
            )
        ]
    for step, word in ((1, "next"), (-1, "previous")):
        neighbour = torch.roll(labels, -step)
        hits = answers == neighbour
        if (gain := _gain(hits, now, groups)) is not None:
            return [
                Finding(
                    "rows_shifted",
                    "error",
                    f"Head {head!r}: with the label of the {word} row {_words(hits, now, gain)}. "
                    "Paths and labels of the list are shifted against each other by a row, as a "
                    "header or a lost line does. Mend the list.",
                    len(labels),
                )
            ]
    return []


def _words(hits: Tensor, now: Tensor, gain: float) -> str:
    return (
        f"{float(hits.double().mean()):.1%} of the answers are right instead of "
        f"{float(now.double().mean()):.1%} (at least {gain:.1%} more, beyond chance)"
    )


def _gain(
    hits: Bool[Tensor, " N"], now: Bool[Tensor, " N"], groups: Int[Tensor, " N"]
) -> float | None:
    """How many more are right for sure; None where it may be none."""
    difference = hits.double() - now.double()
    if float(difference.mean()) <= 0:
        return None
    low = bootstrap_interval(difference, groups, level=0.998).low
    return low if low > 0 else None


def _held_out(
    fit: Callable[[Tensor], Tensor], labels: Tensor, answers: Tensor, halves: Tensor
) -> Bool[Tensor, " N"] | None:
    """Which answers are right after a renumbering that was fitted on the other half."""
    if halves.unique().numel() < 2:
        return None
    hits = torch.zeros(len(labels), dtype=torch.bool)
    for half in (0, 1):
        inside, outside = (halves == half).nonzero()[:, 0], (halves != half).nonzero()[:, 0]
        hits[inside] = answers[inside] == fit(outside)[labels[inside]]
    return hits


def _best_shift(answers: Tensor, labels: Tensor, num_classes: int) -> Int[Tensor, " K"]:
    """The answer that belongs to every label if all are moved by one and the same number."""
    shifts = torch.bincount((answers - labels) % num_classes, minlength=num_classes)
    return (torch.arange(num_classes) + int(shifts.argmax())) % num_classes


def _assignment(answers: Tensor, labels: Tensor, num_classes: int) -> Int[Tensor, " K"]:
    """The answer that belongs to every label, one to one, the surest pairs first.

    Labels that were never seen, or have no answer left, keep their own number.
    """
    matrix = confusion_matrix(answers, labels, num_classes=num_classes).double()
    # As shares of both the label and the answer, so that a common answer does not win everything.
    strength = matrix / (matrix.sum(1, keepdim=True) + matrix.sum(0, keepdim=True)).clamp(min=1)
    chosen = torch.arange(num_classes)
    taken, done = set(), set()
    for place in strength.flatten().argsort(descending=True, stable=True).tolist():
        label, answer = divmod(place, num_classes)
        if strength[label, answer] <= 0:
            break
        if label not in done and answer not in taken:
            chosen[label] = answer
            done.add(label)
            taken.add(answer)
    return chosen
