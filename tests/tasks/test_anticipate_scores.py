"""Rows of the table that need no answers."""

import pytest
import torch

from vjepa2.data.labelled import LabelledItem, LabelMap
from vjepa2.scoring.accuracy import class_mean_recall_at_k
from vjepa2.tasks.anticipate_scores import PRIOR, Answers, event_rows


@pytest.mark.parametrize(
    ("labels", "accuracy", "recall"), [((0, 1, 1, 1), 0.25, 0.5), ((1, 2, 2, 2), 0.0, 0.0)]
)
def test_the_prior_may_name_a_class_that_never_comes(
    labels: tuple[int, ...], accuracy: float, recall: float
) -> None:
    """Class 0 is the commonest in training: where it is absent the prior is never right."""
    counts = torch.tensor([9, 3, 1])
    always = counts.expand(len(labels), 3).double()
    assert class_mean_recall_at_k(always, torch.tensor(labels), 1) == recall
    items = tuple(LabelledItem(f"{n}.mp4", (label,)) for n, label in enumerate(labels))
    seconds = (1.0,) * len(labels)
    answers = Answers(1.0, items, seconds, seconds, {})
    rows = event_rows(answers, LabelMap({"verb": ("cut", "peel", "wash")}), {"verb": counts})
    (row,) = [row for row in rows if row.name == PRIOR]
    assert row.k == 1
    assert (row.accuracy.value, row.recall.value) == (accuracy, recall)
