"""Shares of right answers, over samples and over classes.

Ties are broken by the class number, the lowest first, so that a number never depends on the
machine. A network that gives every class the same score therefore always answers class 0.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vjepa2.errors import ShapeError, checked_integer
from vjepa2.scoring.checks import checked_finite, checked_labels, checked_scores


def ranks_of_labels(scores: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Place of the right class among all classes, 0 for the best.

    Args:
        scores: any finite scores, the higher the more likely: logits or probabilities.
        labels: class numbers, 0..K-1.

    Raises:
        ShapeError, DtypeError, LabelError: see `checked_scores`.
    """
    values, numbers = checked_scores(scores, labels)
    own = values.gather(1, numbers[:, None])
    before = torch.arange(values.shape[1])[None] < numbers[:, None]
    ranks: Tensor = ((values > own) | ((values == own) & before)).sum(dim=1)
    return ranks


def hits_at_k(
    scores: Float[Tensor, "N K"], labels: Int[Tensor, " N"], k: int = 1
) -> Bool[Tensor, " N"]:
    """True where the right class is among the k best."""
    k = checked_integer("k", k, least=1)
    hits: Tensor = ranks_of_labels(scores, labels) < k
    return hits


def top_k_accuracy(scores: Float[Tensor, "N K"], labels: Int[Tensor, " N"], k: int = 1) -> float:
    """Share of samples whose class is among the k best, 0..1."""
    return float(hits_at_k(scores, labels, k).double().mean())


def class_mean_recall_at_k(
    scores: Float[Tensor, "N K"], labels: Int[Tensor, " N"], k: int = 5
) -> float:
    """Mean over the classes that occur in `labels` of their top-k recall, 0..1.

    Each class that was seen counts once, however often it was seen; classes that were not seen do
    not count. The measure of EPIC-KITCHENS-100 anticipation, there in per cent. Source: Damen et
    al., arXiv:2006.13256.
    """
    return mean_over_classes(hits_at_k(scores, labels, k), labels, num_classes=scores.shape[1])


def mean_over_classes(
    hits: Bool[Tensor, " N"], labels: Int[Tensor, " N"], *, num_classes: int
) -> float:
    """Mean over the classes that occur in `labels` of their share of hits, 0..1."""
    numbers = checked_labels(labels, num_classes=num_classes)
    seen, right = _per_class(hits.cpu().double(), numbers, num_classes=num_classes)
    return float((right / seen)[seen > 0].mean())


def mean_class_accuracy(scores: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> float:
    """Mean over the classes that occur in `labels` of their top-1 accuracy, 0..1."""
    return class_mean_recall_at_k(scores, labels, k=1)


def _per_class(
    values: Float[Tensor, " N"], labels: Int[Tensor, " N"], *, num_classes: int
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """How many samples each class has, and the sum of their values."""
    zero = torch.zeros(num_classes, dtype=torch.float64)
    counts = zero.index_add(0, labels, torch.ones_like(values))
    return counts, zero.index_add(0, labels, values)


def mean_average_precision(
    scores: Float[Tensor, "N K"], targets: Int[Tensor, "N K"] | Int[Tensor, " N"]
) -> float:
    """Mean over classes of the area under their precision-recall steps, 0..1.

    Average precision of a class is the mean, over its positive samples, of the precision among all
    samples that score at least as high. Samples of one score are taken together, so the order of
    the list does not count. Classes without a positive sample are left out.

    Args:
        scores: finite scores.
        targets: 0 or 1 per sample and class where a sample may have several classes, or the class
            number of each sample.

    Raises:
        ShapeError, DtypeError, LabelError: shapes differ, values are not finite, labels are no
            class numbers, or no class has a positive sample.
    """
    values = checked_finite("Scores", scores)
    if targets.ndim == 1:
        values, numbers = checked_scores(scores, targets)
        positive = torch.nn.functional.one_hot(numbers, values.shape[1]).bool()
    elif targets.shape == scores.shape:
        positive = checked_labels(targets.long(), num_classes=2).bool()
    else:
        raise ShapeError(
            f"Expected targets [N] or like the scores, {list(scores.shape)}, got "
            f"{list(targets.shape)}."
        )
    areas = [
        _average_precision(values[:, number], positive[:, number])
        for number in range(values.shape[1])
        if bool(positive[:, number].any())
    ]
    if not areas:
        raise ShapeError("No class has a positive sample: there is no precision to average.")
    return sum(areas) / len(areas)


def _average_precision(scores: Float[Tensor, " N"], positive: Bool[Tensor, " N"]) -> float:
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], positive[order].double()
    # Of samples of one score the last place counts for all.
    last = torch.searchsorted(-ranked, -ranked, right=True) - 1
    precision = hits.cumsum(0)[last] / (last + 1).double()
    return float((precision * hits).sum() / hits.sum())


def confusion_matrix(
    answers: Int[Tensor, " N"], labels: Int[Tensor, " N"], *, num_classes: int
) -> Int[Tensor, "K K"]:
    """How often label (row) was answered as class (column).

    Raises:
        ShapeError: another number of answers than of labels.
        LabelError: a number is no class number.
    """
    if answers.shape != labels.shape or answers.ndim != 1:
        raise ShapeError(
            f"Expected one answer for each label, got {list(answers.shape)} and "
            f"{list(labels.shape)}."
        )
    pairs = checked_labels(labels, num_classes=num_classes) * num_classes
    pairs = pairs + checked_labels(answers, num_classes=num_classes)
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """What became of one class.

    Attributes:
        number: of the class.
        count: samples that have this label.
        answered: samples that were answered as this class.
        recall: share of its samples that were answered rightly; None without samples.
        recall_at_5: share of its samples with this class among the five best; None likewise.
        precision: share of its answers that are right; None where it was never answered.
        mistaken_for: the class it was answered as most often when wrong; None when never wrong.
        mistaken_count: how often.
    """

    number: int
    count: int
    answered: int
    recall: float | None
    recall_at_5: float | None
    precision: float | None
    mistaken_for: int | None
    mistaken_count: int


def per_class_table(scores: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> list[ClassRow]:
    """One row per class, by class number, also for classes without samples.

    Raises:
        ShapeError, DtypeError, LabelError: see `checked_scores`.
    """
    ranks = ranks_of_labels(scores, labels)
    numbers, num_classes = labels.detach().cpu().long(), scores.shape[1]
    answers = first_best(scores)
    matrix = confusion_matrix(answers, numbers, num_classes=num_classes)
    counts, in_five = _per_class((ranks < 5).double(), numbers, num_classes=num_classes)
    answered = matrix.sum(dim=0)
    wrong = matrix.clone().fill_diagonal_(0)
    rows = []
    for number in range(num_classes):
        count, given = int(counts[number]), int(answered[number])
        right, worst = int(matrix[number, number]), int(wrong[number].max())
        rows.append(
            ClassRow(
                number=number,
                count=count,
                answered=given,
                recall=right / count if count else None,
                recall_at_5=float(in_five[number]) / count if count else None,
                precision=right / given if given else None,
                mistaken_for=int((wrong[number] == worst).nonzero()[0]) if worst else None,
                mistaken_count=worst,
            )
        )
    return rows


def first_best(scores: Float[Tensor, "N K"]) -> Int[Tensor, " N"]:
    """The class of the highest score, of several alike the lowest number."""
    values = scores.detach().cpu().double()
    best: Tensor = (values == values.amax(dim=1, keepdim=True)).int().argmax(dim=1)
    return best
