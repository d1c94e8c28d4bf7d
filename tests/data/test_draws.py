"""Numbers are looked up, not carried along; a permutation is one without being stored."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from vjepa2.data.draws import Draws, Permutation, Purpose


def test_a_number_depends_on_all_that_it_is_for_and_on_nothing_else() -> None:
    def first(**which: int) -> int:
        return Draws(3, Purpose.CROP, **which).bits()

    base = first(step=5, position=2, attempt=1)
    first(step=0)  # what is drawn in between does not matter
    assert first(step=5, position=2, attempt=1) == base
    others = {
        first(step=6, position=2, attempt=1),
        first(step=5, position=3, attempt=1),
        first(step=5, position=2, attempt=0),
        Draws(4, Purpose.CROP, step=5, position=2, attempt=1).bits(),
        Draws(3, Purpose.FLIP, step=5, position=2, attempt=1).bits(),
    }
    assert len(others) == 5
    assert base not in others


def test_streams_of_neighbouring_samples_do_not_overlap() -> None:
    streams = [Draws(0, Purpose.CROP, step=s, position=p) for s in range(3) for p in range(3)]
    drawn = [stream.bits() for stream in streams for _ in range(50)]
    assert len(set(drawn)) == 9 * 50


def test_bits_are_those_of_philox_4x64() -> None:
    """The known answer of the published generator: NumPy counts up before the first block."""
    expected = np.random.Philox(key=np.array([7, 1]), counter=np.array([0, 0, 0, 9])).random_raw(5)
    draws = Draws(7, Purpose.ITEM, step=9)
    assert [draws.bits() for _ in range(5)] == [int(value) for value in expected]


def test_uniform_and_below_stay_in_range_and_fill_it() -> None:
    draws = Draws(0, Purpose.MOMENT)
    values = np.array([draws.uniform(2.0, 3.0) for _ in range(4000)])
    assert values.min() >= 2.0 and values.max() < 3.0
    assert abs(values.mean() - 2.5) < 0.02
    counts = Counter(draws.below(5) for _ in range(5000))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(count - 1000) < 150 for count in counts.values())  # 5 standard deviations


@pytest.mark.parametrize("size", [*range(1, 34), 64, 65, 1000])
def test_a_permutation_holds_every_number_once(size: int) -> None:
    order = Permutation(size, Draws(1, Purpose.EPOCH))
    assert sorted(order[place] for place in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_small_permutations_are_fair(size: int) -> None:
    trials = 3000
    table = np.zeros((size, size))
    for epoch in range(trials):
        order = Permutation(size, Draws(0, Purpose.EPOCH, step=epoch))
        for place in range(size):
            table[place, order[place]] += 1
    expected = trials / size
    deviation = np.sqrt(trials * (1 / size) * (1 - 1 / size))
    assert np.abs(table - expected).max() < 5 * deviation


def test_a_permutation_of_a_billion_takes_no_memory() -> None:
    tracemalloc.start()
    order = Permutation(10**9, Draws(0, Purpose.EPOCH))
    places = [order[place] for place in range(1000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(places)) == 1000 and max(places) < 10**9
    assert peak < 200_000
    assert abs(np.mean(places) / 10**9 - 0.5) < 0.05
