"""Which file a sample comes from."""

from collections import Counter

import pytest

from vjepa2.data.order import Choice, Order
from vjepa2.errors import DataError


def order(sizes: list[int], **options: object) -> Order:
    settings: dict[str, object] = {"weights": None, "order": "weighted", "seed": 0, "batch_size": 8}
    return Order(sizes, **{**settings, **options})  # type: ignore[arg-type]


def test_sources_are_drawn_by_weight_and_files_in_them_alike() -> None:
    """Published: a file of source d has the probability w_d / n_d."""
    choose = order([10, 1000], weights=[3.0, 1.0])
    drawn = [choose(step, position) for step in range(1000) for position in range(8)]
    share = sum(choice.source == 0 for choice in drawn) / len(drawn)
    assert abs(share - 0.75) < 0.025  # 5 standard deviations
    counts = Counter(choice.item for choice in drawn if choice.source == 0)
    assert set(counts) == set(range(10))
    assert all(abs(count - 600) < 125 for count in counts.values())


def test_without_weights_every_file_is_equally_likely() -> None:
    choose = order([30, 10])
    drawn = [choose(step, position) for step in range(500) for position in range(8)]
    assert abs(sum(choice.source == 0 for choice in drawn) / len(drawn) - 0.75) < 0.035


def test_an_epoch_has_every_file_once_and_the_next_another_order() -> None:
    choose = order([5, 7], order="epochs", batch_size=4)
    samples = [choose(step, position) for step in range(6) for position in range(4)]
    every = {Choice(0, item) for item in range(5)} | {Choice(1, item) for item in range(7)}
    assert set(samples[:12]) == set(samples[12:]) == every
    assert samples[:12] != samples[12:]


def test_an_epoch_goes_on_after_updates_of_another_size() -> None:
    before, after = (
        order([5, 7], order="epochs", batch_size=size, skip=skip) for size, skip in ((4, 0), (2, 8))
    )
    samples = [before(step, position) for step in range(4) for position in range(4)]
    samples += [after(step, position) for step in range(4, 8) for position in range(2)]
    assert len(samples) == 24
    assert len(set(samples[:12])) == len(set(samples[12:])) == 12


def test_listed_goes_through_the_sources_in_order_and_begins_again() -> None:
    choose = order([2, 3], order="listed", batch_size=4)
    samples = [choose(step, position) for step in range(2) for position in range(4)]
    once = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert samples == [*once, *once[:3]]


@pytest.mark.parametrize("name", ["weighted", "epochs", "listed"])
def test_a_choice_does_not_depend_on_what_was_asked_before(name: str) -> None:
    forward, backward = order([9, 4], order=name), order([9, 4], order=name)
    places = [(step, position) for step in range(20) for position in range(8)]
    there = {place: forward(*place) for place in places}
    assert {place: backward(*place) for place in reversed(places)} == there


def test_replacements_stay_in_the_source() -> None:
    choose = order([3, 50])
    items = choose.replacements(4, 1, source=0, count=200)
    assert set(items) == {0, 1, 2}
    assert choose.replacements(4, 1, source=0, count=2) == items[:2]
    assert choose.replacements(4, 2, source=0, count=200) != items


def test_a_source_without_files_is_refused() -> None:
    with pytest.raises(DataError, match="no files"):
        order([3, 0])
