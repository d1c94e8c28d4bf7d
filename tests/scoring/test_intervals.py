"""Intervals: groups are what is drawn."""

import math

import pytest
import torch

from vjepa2.errors import ConfigError, DtypeError, ShapeError
from vjepa2.scoring import bootstrap_interval, mean_class_accuracy, wilson_interval


def test_mean_and_function_give_the_same() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(30, generator=generator, dtype=torch.float64)
    groups = torch.randint(8, (30,), generator=generator)
    fast = bootstrap_interval(values, groups, draws=200, seed=3)
    slow = bootstrap_interval(lambda rows: float(values[rows].mean()), groups, draws=200, seed=3)
    assert fast == pytest.approx(slow, abs=1e-12)
    assert fast.value == pytest.approx(float(values.mean()))
    assert fast.low < fast.value < fast.high


def test_two_groups_by_hand() -> None:
    """Of two groups, draws are AA, AB, BA, BB: means 0, 1/2, 1/2, 1 with weights 1/4 1/2 1/4."""
    values, groups = torch.tensor([0.0, 0.25]), torch.tensor([7, 4])
    found = bootstrap_interval(values, groups, draws=2000)
    assert (found.low, found.high) == (0.0, 0.25)
    narrow = bootstrap_interval(values, groups, draws=2000, level=0.4)
    assert (narrow.low, narrow.high) == (0.125, 0.125)


def test_groups_of_different_size_weigh_by_their_samples() -> None:
    values = torch.tensor([1.0, 1.0, 1.0, 0.0])
    found = bootstrap_interval(values, torch.tensor([0, 0, 0, 1]), draws=4000, level=0.4)
    assert found.value == 0.75
    assert found.low == found.high == 0.75  # AB: three of four, not the mean of group means


def test_segments_of_one_video_are_no_independent_samples() -> None:
    """Ten copies of every sample change nothing when groups are drawn; otherwise they do."""
    generator = torch.Generator().manual_seed(2)
    values = (torch.rand(40, generator=generator) < 0.7).double()
    videos = torch.arange(40)
    once = bootstrap_interval(values, videos, draws=1000)
    copies, owners = values.repeat_interleave(10), videos.repeat_interleave(10)
    grouped = bootstrap_interval(copies, owners, draws=1000)
    fooled = bootstrap_interval(copies, torch.arange(400), draws=1000)
    assert grouped == pytest.approx(once, abs=1e-12)
    assert fooled.high - fooled.low < 0.5 * (grouped.high - grouped.low)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(5)
    covered = 0
    for seed in range(200):
        values = (torch.rand(60, generator=generator) < 0.6).double()
        found = bootstrap_interval(values, torch.arange(60), draws=300, seed=seed)
        covered += found.low <= 0.6 <= found.high
    assert 0.90 <= covered / 200 <= 0.985


def test_same_seed_same_draws() -> None:
    values, groups = torch.rand(20), torch.arange(20)
    assert bootstrap_interval(values, groups) == bootstrap_interval(values, groups)
    assert bootstrap_interval(values, groups) != bootstrap_interval(values, groups, seed=1)


def test_one_group_tells_nothing_about_others() -> None:
    found = bootstrap_interval(torch.tensor([1.0, 0.0]), torch.tensor([3, 3]))
    assert found.value == 0.5 and math.isnan(found.low) and math.isnan(found.high)
    found = bootstrap_interval(lambda rows: 0.25, torch.tensor([3, 3]))
    assert found.value == 0.25 and math.isnan(found.low)


def test_all_right_is_not_certainty() -> None:
    found = bootstrap_interval(torch.ones(10), torch.arange(10))
    assert found == (1.0, *wilson_interval(10, 10))
    assert found.low == pytest.approx(0.7225, abs=1e-4)  # Wilson: 1 / (1 + z^2 / 10)
    wrong = bootstrap_interval(torch.zeros(30), torch.arange(30) // 3)
    assert (wrong.value, wrong.low) == (0.0, 0.0) and wrong.high == pytest.approx(
        1 - 0.7225, abs=1e-4
    )


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_all_right_keeps_to_the_level(level: float) -> None:
    """Wilson's ends p of 10 of 10 solve 1 - p = z sqrt(p (1 - p) / 10): p = 1 / (1 + z^2 / 10)."""
    z = {0.5: 0.674490, 0.9: 1.644854, 0.99: 2.575829}[level]  # of a table
    expected = 1 / (1 + z * z / 10)
    by_mean = bootstrap_interval(torch.ones(10), torch.arange(10), level=level)
    by_function = bootstrap_interval(lambda rows: 1.0, torch.arange(10), level=level, draws=20)
    for found in (by_mean, by_function):
        assert (found.low, found.high) == (pytest.approx(expected, abs=1e-5), 1.0)
    assert wilson_interval(10, 10, level=1.0) == (0.0, 1.0)
    with pytest.raises(ConfigError, match="level"):
        wilson_interval(1, 2, level=1.5)


def test_a_measure_over_classes() -> None:
    scores = torch.eye(2)[torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])]
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1])
    found = bootstrap_interval(
        lambda rows: mean_class_accuracy(scores[rows], labels[rows]), torch.arange(8), draws=300
    )
    assert found.value == pytest.approx(0.75) and 0.3 < found.low < 0.75 < found.high <= 1.0


def test_wrong_arguments() -> None:
    with pytest.raises(ShapeError, match="one value for each of 3"):
        bootstrap_interval(torch.rand(2), torch.arange(3))
    with pytest.raises(ShapeError, match="at least one"):
        bootstrap_interval(torch.rand(0), torch.arange(0))
    with pytest.raises(DtypeError, match="NaN or infinity"):
        bootstrap_interval(torch.tensor([float("nan"), 1.0]), torch.arange(2))
