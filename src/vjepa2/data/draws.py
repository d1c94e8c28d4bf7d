"""Random numbers that depend on what they are for, and on nothing else.

A generator that is carried along makes every number depend on all that was drawn before it: on the
number of processes, on a file that could not be read, on where a run was resumed. Here a number is
looked up instead: Philox is a function from (key, counter) to random bits, and what the number is
for is the counter. Bits are turned into numbers here, so that no release of NumPy changes a run.
`vjepa2.numbered_random` does the same for whole arrays at once, as masks need.
"""

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vjepa2.numbered_random import mixed

MAX_SEED = 2**64 - 1
_ROUNDS = 8


class Purpose(IntEnum):
    """What numbers are for: streams of different purposes share none."""

    ITEM = 1
    REPLACEMENT = 2
    MOMENT = 3
    CROP = 4
    FLIP = 5
    EPOCH = 6
    RAND_AUGMENT = 7
    ERASING = 8


class Draws:
    """A stream of numbers for one purpose of one sample.

    Args:
        seed: of the run, 0 to `MAX_SEED`.
        purpose: what the numbers decide.
        step, position, attempt: which sample: number of the update (0-based), of the sample in its
            global batch, and of the replacement of a bad file.
    """

    def __init__(
        self, seed: int, purpose: Purpose, *, step: int = 0, position: int = 0, attempt: int = 0
    ) -> None:
        key = np.array([seed, int(purpose)], dtype=np.uint64)
        counter = np.array([0, attempt, position, step], dtype=np.uint64)
        self._bits = np.random.Philox(key=key, counter=counter)

    def bits(self) -> int:
        """Return 64 random bits."""
        return int(self._bits.random_raw())

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((self.bits() >> 11) * 2.0**-53)

    def below(self, count: int) -> int:
        """Return an integer in 0 .. count-1."""
        return min(int(self.uniform() * count), count - 1)

    def normal(self, shape: tuple[int, ...] = ()) -> NDArray[np.float32]:
        """Return numbers of mean 0 and deviation 1 (Box and Muller, 1958)."""
        count = math.prod(shape)
        bits = self._bits.random_raw((count + 1) // 2)
        # From the upper and lower 32 bits; the first is in (0, 1], so that its logarithm exists.
        first = ((bits >> np.uint64(32)).astype(np.float64) + 1) * 2.0**-32
        angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0**-32 * 2 * math.pi)
        radius = np.sqrt(-2 * np.log(first))
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return pairs[:count].reshape(shape).astype(np.float32)


class Permutation:
    """A random order of 0 .. size-1 that is computed one place at a time, in constant memory.

    A Feistel network permutes the next power of four; what falls outside is sent through again
    until it falls inside, which keeps it a permutation.

    Args:
        size: how many, above 0.
        draws: where the keys come from.
    """

    def __init__(self, size: int, draws: Draws) -> None:
        self._size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._keys = [draws.bits() for _ in range(_ROUNDS)]

    def __getitem__(self, place: int) -> int:
        mask = (1 << self._half) - 1
        while True:
            left, right = place >> self._half, place & mask
            for key in self._keys:
                left, right = right, left ^ (mixed(right ^ key) & mask)
            place = left << self._half | right
            if place < self._size:
                return place
