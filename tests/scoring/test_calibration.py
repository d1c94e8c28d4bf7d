"""Calibration against bins worked out by hand."""

import pytest
import torch

from vjepa2.errors import ConfigError, DtypeError
from vjepa2.scoring import expected_calibration_error, reliability_bins

PROBABILITIES = torch.tensor(
    [[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [1.0, 0.0], [0.375, 0.625]], dtype=torch.float64
)
LABELS = torch.tensor([0, 0, 1, 0, 0])


def test_bins_and_error_by_hand() -> None:
    rows = reliability_bins(PROBABILITIES, LABELS, bins=4)
    assert [(row.low, row.high, row.count) for row in rows] == [
        (0.0, 0.25, 0), (0.25, 0.5, 0), (0.5, 0.75, 4), (0.75, 1.0, 1)
    ]  # fmt: skip
    assert rows[0].accuracy is None and rows[0].confidence is None
    # 0.75 belongs to the bin that ends there: three of them and 0.625, two of four right.
    assert rows[2].confidence == pytest.approx((3 * 0.75 + 0.625) / 4)
    assert rows[2].accuracy == pytest.approx(2 / 4)
    assert rows[3].confidence == 1.0 and rows[3].accuracy == 1.0
    expected = (4 * abs(2 / 4 - (3 * 0.75 + 0.625) / 4) + 1 * 0.0) / 5
    assert expected_calibration_error(PROBABILITIES, LABELS, bins=4) == pytest.approx(expected)


def test_perfect_and_hopeless() -> None:
    sure = torch.eye(3, dtype=torch.float64)
    assert expected_calibration_error(sure, torch.tensor([0, 1, 2])) == 0.0
    assert expected_calibration_error(sure, torch.tensor([1, 2, 0])) == 1.0


def test_an_honest_coin_is_calibrated() -> None:
    even = torch.full((10, 2), 0.5)
    assert expected_calibration_error(even, torch.tensor([0, 1] * 5)) == pytest.approx(0.0)


def test_logits_are_refused() -> None:
    with pytest.raises(DtypeError, match="softmax or sigmoid"):
        reliability_bins(torch.tensor([[2.0, -1.0]]), torch.tensor([0]))
    with pytest.raises(ConfigError, match="bins must be 1 or more"):
        reliability_bins(PROBABILITIES, LABELS, bins=0)
