"""Measures of scores against cases worked out by hand."""

import pytest
import torch

from vjepa2.errors import ConfigError, DtypeError, LabelError, ShapeError
from vjepa2.scoring import (
    class_mean_recall_at_k,
    confusion_matrix,
    hits_at_k,
    mean_average_precision,
    mean_class_accuracy,
    per_class_table,
    ranks_of_labels,
    top_k_accuracy,
)

# Six samples, three classes. Best class by row: 0 0 1 2 1 0; labels: 0 0 0 1 1 2.
SCORES = torch.tensor(
    [
        [0.7, 0.2, 0.1],
        [0.5, 0.3, 0.2],
        [0.3, 0.6, 0.1],
        [0.1, 0.4, 0.5],
        [0.2, 0.7, 0.1],
        [0.6, 0.3, 0.1],
    ]
)
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def test_top_k_by_hand() -> None:
    assert ranks_of_labels(SCORES, LABELS).tolist() == [0, 0, 1, 1, 0, 2]
    assert top_k_accuracy(SCORES, LABELS) == pytest.approx(3 / 6)
    assert top_k_accuracy(SCORES, LABELS, k=2) == pytest.approx(5 / 6)
    assert top_k_accuracy(SCORES, LABELS, k=5) == 1.0  # fewer classes than k
    assert hits_at_k(SCORES, LABELS).tolist() == [True, True, False, False, True, False]


def test_class_means_count_each_seen_class_once() -> None:
    # Recalls 2/3, 1/2, 0/1 with k=1 and 3/3, 2/2, 0/1 with k=2.
    assert mean_class_accuracy(SCORES, LABELS) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert class_mean_recall_at_k(SCORES, LABELS, k=2) == pytest.approx((1 + 1 + 0) / 3)
    # Without the sample of class 2 that class was not seen, and does not count.
    assert class_mean_recall_at_k(SCORES[:5], LABELS[:5], k=1) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_class_mean_recall_at_5_as_published() -> None:
    """The published evaluation counts TP and FN per class over the epoch (100 x mean of seen)."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(40, 12, generator=generator)
    labels = torch.randint(9, (40,), generator=generator)  # classes 9, 10, 11 are never seen
    true_positives, false_negatives = [0] * 12, [0] * 12
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        best = sorted(range(12), key=lambda number, row=row: -row[number])[:5]
        (true_positives if label in best else false_negatives)[label] += 1
    seen = [(t, f) for t, f in zip(true_positives, false_negatives, strict=True) if t + f > 0]
    assert len(seen) == 9
    expected = sum(t / (t + f) for t, f in seen) / 9
    assert class_mean_recall_at_k(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_it_is_no_mean_of_batch_means() -> None:
    """The published log averages batches; a last batch of one sample would count as much."""
    whole = top_k_accuracy(SCORES, LABELS)
    batches = [top_k_accuracy(SCORES[a:b], LABELS[a:b]) for a, b in ((0, 5), (5, 6))]
    assert whole != pytest.approx(sum(batches) / 2)


def test_ties_go_to_the_lowest_class() -> None:
    same = torch.full((3, 4), 0.25)
    assert ranks_of_labels(same, torch.tensor([0, 1, 3])).tolist() == [0, 1, 3]
    assert top_k_accuracy(same, torch.tensor([0, 1, 3])) == pytest.approx(1 / 3)


def test_average_precision_by_hand() -> None:
    # Ranked: + - + -, precision at the positives 1/1 and 2/3.
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.1]])
    targets = torch.tensor([[1], [0], [1], [0]])
    assert mean_average_precision(scores, targets) == pytest.approx((1 + 2 / 3) / 2)
    # Samples of one score are one step: precision 1/2 for both orders of the list.
    tied = torch.tensor([[0.5], [0.5]])
    assert mean_average_precision(tied, torch.tensor([[1], [0]])) == pytest.approx(1 / 2)
    assert mean_average_precision(tied, torch.tensor([[0], [1]])) == pytest.approx(1 / 2)
    # Class 0 of the six samples, ranked: .7+ .6- .5+ .3+ .2- .1-
    own = (1 / 1 + 2 / 3 + 3 / 4) / 3
    one = torch.nn.functional.one_hot(LABELS, 3)
    assert mean_average_precision(SCORES[:, :1], one[:, :1]) == pytest.approx(own)
    assert mean_average_precision(SCORES, LABELS) == pytest.approx(
        mean_average_precision(SCORES, one)
    )


def test_classes_without_a_positive_are_left_out_of_the_mean() -> None:
    scores = torch.tensor([[0.9, 0.4], [0.1, 0.6]])
    assert mean_average_precision(scores, torch.tensor([[1, 0], [0, 0]])) == 1.0
    with pytest.raises(ShapeError, match="No class has a positive sample"):
        mean_average_precision(scores, torch.zeros(2, 2, dtype=torch.long))


def test_confusion_has_labels_in_rows() -> None:
    matrix = confusion_matrix(torch.tensor([0, 0, 1, 2, 1, 0]), LABELS, num_classes=3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_table_by_class() -> None:
    rows = per_class_table(torch.cat([SCORES, torch.zeros(6, 1)], dim=1), LABELS)
    assert [row.count for row in rows] == [3, 2, 1, 0]
    assert [row.answered for row in rows] == [3, 2, 1, 0]
    assert [row.recall for row in rows] == [pytest.approx(2 / 3), 0.5, 0.0, None]
    assert [row.precision for row in rows] == [pytest.approx(2 / 3), 0.5, 0.0, None]
    assert [row.mistaken_for for row in rows] == [1, 2, 0, None]
    assert [row.mistaken_count for row in rows] == [1, 1, 1, 0]
    assert [row.recall_at_5 for row in rows] == [1.0, 1.0, 1.0, None]


@pytest.mark.parametrize(
    ("scores", "labels", "error", "words"),
    [
        (torch.rand(3, 2), torch.tensor([0, 1]), ShapeError, "with the same N"),
        (torch.rand(2, 2), torch.tensor([0, 2]), LabelError, r"0\.\.1"),
        (torch.rand(2, 2), torch.tensor([0, -100]), LabelError, r"-100\.\.0"),
        (torch.rand(2, 2), torch.tensor([0.0, 1.0]), DtypeError, "whole numbers"),
        (torch.tensor([[0.1, float("nan")]]), torch.tensor([0]), DtypeError, "1 of 1 rows"),
        (torch.rand(0, 2), torch.zeros(0, dtype=torch.long), ShapeError, "nothing to measure"),
    ],
)
def test_wrong_arguments(
    scores: torch.Tensor, labels: torch.Tensor, error: type[Exception], words: str
) -> None:
    for measure in (top_k_accuracy, mean_class_accuracy, per_class_table):
        with pytest.raises(error, match=words):
            measure(scores, labels)


def test_k_is_at_least_one() -> None:
    with pytest.raises(ConfigError, match="k must be 1 or more"):
        top_k_accuracy(SCORES, LABELS, k=0)
