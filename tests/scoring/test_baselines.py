"""What is reached without looking."""

import pytest
import torch

from vjepa2.errors import LabelError
from vjepa2.scoring import baselines

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def test_by_hand_from_the_labels_themselves() -> None:
    found = baselines(LABELS, num_classes=6)
    assert found.chance == pytest.approx(1 / 6) and found.chance_at_5 == pytest.approx(5 / 6)
    assert (found.majority, found.majority_class) == (0.5, 0)
    assert found.prior == pytest.approx((3 / 6) ** 2 + (2 / 6) ** 2 + (1 / 6) ** 2)
    assert found.prior_at_5 == 1.0 and found.prior_recall_at_5 == 1.0
    assert not found.from_training


def test_by_hand_from_training() -> None:
    found = baselines(LABELS, num_classes=6, prior_counts=torch.tensor([0, 4, 1, 1, 1, 1]))
    assert (found.majority, found.majority_class) == (pytest.approx(2 / 6), 1)
    assert found.prior == pytest.approx(4 / 8 * 2 / 6 + 1 / 8 * 1 / 6)
    # The five commonest of training are 1..5: class 0 is never named.
    assert found.prior_at_5 == pytest.approx(3 / 6)
    assert found.prior_recall_at_5 == pytest.approx((0 + 1 + 1) / 3)
    assert found.from_training


def test_wrong_arguments() -> None:
    with pytest.raises(LabelError, match="no labels"):
        baselines(torch.zeros(0, dtype=torch.long), num_classes=2)
    with pytest.raises(LabelError, match="3 classes and hold at least one sample, got 2"):
        baselines(LABELS, num_classes=3, prior_counts=torch.tensor([1, 1]))
