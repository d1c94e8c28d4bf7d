"""Numbers by their place: the published generator, one after the other."""

import numpy as np
import pytest

from vjepa2.errors import ConfigError
from vjepa2.numbered_random import mixed, stream, stream_key, uniform

MASK = 2**64 - 1


def slow_stream(key: int, number: int) -> int:
    z = (key + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_first_numbers_are_those_of_splitmix64() -> None:
    """Known answers of the reference implementation in C for the seed 1234567."""
    got = stream(np.array([1234567], dtype=np.uint64), np.arange(5))
    assert got.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_keys_and_places_are_broadcast() -> None:
    keys = np.array([0, 1, 2**64 - 1], dtype=np.uint64)[:, None]
    numbers = np.array([-2, -1, 0, 7, 2**62])
    wanted = [
        [slow_stream(key, number) for number in numbers.tolist()] for key in keys[:, 0].tolist()
    ]
    assert stream(keys, numbers).tolist() == wanted


def test_the_key_depends_on_every_number_and_their_order() -> None:
    wanted = slow_stream(slow_stream(0, 3), 5)
    assert stream_key(seed=3, step=5).tolist() == [wanted]
    keys = {
        int(stream_key(**numbers)[0])
        for numbers in (
            {"a": 3, "b": 5}, {"a": 5, "b": 3}, {"a": 3}, {"a": 3, "b": 5, "c": 0},
            {"a": 2**63 - 1},
        )
    }  # fmt: skip
    assert len(keys) == 5


@pytest.mark.parametrize("wrong", [-1, 2**63, 1.0, True, "1", None])
def test_other_numbers_are_named(wrong: object) -> None:
    with pytest.raises(ConfigError, match="step must be"):
        stream_key(seed=0, step=wrong)  # type: ignore[arg-type]


def test_uniform_numbers_are_even() -> None:
    assert uniform(np.array([0, 2**64 - 1, 2**63], dtype=np.uint64)).tolist() == [
        0.0,
        1 - 2.0**-53,
        0.5,
    ]
    got = uniform(stream(stream_key(seed=0), np.arange(100_000)))
    counts, _ = np.histogram(got, bins=100, range=(0, 1))
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert 50 < chi_square < 160  # 99 degrees of freedom: mean 99, standard deviation 14
    assert abs(np.corrcoef(got[:-1], got[1:])[0, 1]) < 5 / 100_000**0.5


@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1])
def test_one_number_is_mixed_as_a_stream_mixes_many(key: int) -> None:
    places = np.arange(5)
    many = stream(np.array([key], dtype=np.uint64), places)
    step = 0x9E3779B97F4A7C15
    alone = [mixed((key + (place + 1) * step) % 2**64) for place in places.tolist()]
    assert many.tolist() == alone
