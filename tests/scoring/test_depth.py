"""Errors of distances equal what is computed by hand."""

import math

import pytest
import torch

from vjepa2.errors import LabelError, ShapeError
from vjepa2.scoring.depth import depth_errors, mean_errors


def test_errors_by_hand() -> None:
    target = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    said = torch.tensor([[1.2, 4.0], [4.0, 9.0]])  # the last pixel has no truth
    errors = depth_errors(said, target)
    assert errors.rmse == pytest.approx(math.sqrt((0.04 + 4 + 0) / 3))
    assert errors.abs_rel == pytest.approx((0.2 + 1 + 0) / 3)
    assert errors.log10 == pytest.approx((math.log10(1.2) + math.log10(2)) / 3)
    # Ratios 1.2, 2 and 1; the limits are 1.25, 1.5625 and 1.953.
    assert errors[3:] == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert mean_errors([errors, depth_errors(target, target)]).rmse == pytest.approx(
        errors.rmse / 2
    )


def test_only_valid_pixels_count() -> None:
    target = torch.tensor([[1.0, 2.0]])
    valid = torch.tensor([[True, False]])
    assert depth_errors(torch.tensor([[1.0, 50.0]]), target, valid=valid).rmse == 0


def test_zero_is_as_wrong_as_can_be_but_a_number() -> None:
    errors = depth_errors(torch.zeros(1, 1), torch.ones(1, 1))
    assert errors.delta_3 == 0
    assert errors.log10 == pytest.approx(3)


def test_refusals() -> None:
    ones = torch.ones(2, 2)
    with pytest.raises(LabelError, match="No pixel"):
        depth_errors(ones, ones * 0)
    with pytest.raises(LabelError, match="finite and above 0"):
        depth_errors(ones, -ones, valid=ones > 0)
    with pytest.raises(ShapeError):
        depth_errors(ones, torch.ones(2, 3))
    with pytest.raises(LabelError, match="no pictures"):
        mean_errors([])
