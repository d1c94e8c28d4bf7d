"""Random numbers of one simulated episode: functions of (seed, episode, what they are for)."""

from enum import IntEnum

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike, NDArray

from vjepa2.numbered_random import stream, stream_key, uniform


class Purpose(IntEnum):
    """What numbers are for: streams of different purposes share none."""

    START = 1
    SCRIPT = 2
    GOAL = 3
    CHOICE = 4
    ACTIONS = 5


class EpisodeDraws:
    """A stream of numbers for one purpose of one episode.

    Args:
        seed: 0 or more.
        episode: its number, 0 or more.
        purpose: what the numbers decide.

    Raises:
        ConfigError: a number is negative or has more than 63 bits.
    """

    def __init__(self, seed: int, episode: int, purpose: Purpose) -> None:
        self._key = stream_key(seed=seed, episode=episode, purpose=int(purpose))
        self._next = 0

    def uniform(self, low: ArrayLike = 0.0, high: ArrayLike = 1.0) -> Float64[np.ndarray, "*n"]:
        """Even numbers in [low, high), in the shape of these bounds."""
        bottom, top = np.broadcast_arrays(*(np.asarray(b, dtype=np.float64) for b in (low, high)))
        even = self._even(bottom.size).reshape(bottom.shape)
        result: NDArray[np.float64] = bottom + (top - bottom) * even
        return result

    def normal(self, count: int) -> Float64[np.ndarray, " n"]:
        """Numbers of the normal distribution, mean 0, deviation 1 (Box and Muller, 1958)."""
        size, angle = self._even(count), self._even(count)
        result: NDArray[np.float64] = np.sqrt(-2 * np.log1p(-size)) * np.cos(2 * np.pi * angle)
        return result

    def below(self, count: int) -> int:
        """An even whole number in 0 .. count - 1."""
        return int(self._even(1)[0] * count)

    def _even(self, count: int) -> NDArray[np.float64]:
        places = np.arange(self._next, self._next + count)
        self._next += count
        return np.asarray(uniform(stream(self._key, places)))
