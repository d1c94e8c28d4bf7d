"""Recall by the time to the event."""

import pytest
import torch

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.scoring import recall_by_time_to_event, seconds_to_event

SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
LABELS = torch.tensor([0, 1, 1, 1, 1])


def test_by_hand() -> None:
    seconds = seconds_to_event([1.0, 2.0, 3.0, 4.0, 5.5], [1.5, 3.0, 4.0, 5.9, 5.0])
    assert seconds.tolist() == pytest.approx([0.5, 1.0, 1.0, 1.9, -0.5])
    rows = recall_by_time_to_event(SCORES, LABELS, seconds, (0.0, 1.0, 2.0, 3.0), k=1)
    assert [(row.low, row.high, row.count) for row in rows] == [
        (0.0, 1.0, 1), (1.0, 2.0, 3), (2.0, 3.0, 0)
    ]  # fmt: skip
    assert rows[0].accuracy == 1.0
    assert rows[1].accuracy == pytest.approx(1 / 3) and rows[1].recall_at_k == pytest.approx(1 / 3)
    assert rows[2].accuracy is None and rows[2].recall_at_k is None
    # A sample whose event had begun is no anticipation; it is in a row only when asked for.
    assert sum(row.count for row in rows) == 4
    assert recall_by_time_to_event(SCORES, LABELS, seconds, (-1.0, 0.0))[0].count == 1


def test_wrong_arguments() -> None:
    seconds = torch.zeros(5)
    for edges in ((1.0,), (0.0, 0.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match="Edges must rise"):
            recall_by_time_to_event(SCORES, LABELS, seconds, edges)
    with pytest.raises(ShapeError, match="one time for each of 5"):
        recall_by_time_to_event(SCORES, LABELS, torch.zeros(4), (0.0, 1.0))
    with pytest.raises(ShapeError, match="one start"):
        seconds_to_event([1.0], [])
