"""Random numbers by their number: pure functions of whole numbers, the same on every machine.

Where a generator's n-th number depends on how many were drawn before, here number n of a stream is
computed directly, for whole arrays at once. What is random about sample i of step s is then the
same on any rank, in any worker, in a batch of any size, and after resuming.
"""

import numpy as np
from jaxtyping import Float, Int, UInt64

from vjepa2.errors import checked_integer

_GOLDEN = 0x9E3779B97F4A7C15
# Of SplitMix64's finaliser.
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 2**64 - 1
_LARGEST = 2**63 - 1


def stream_key(**numbers: int) -> UInt64[np.ndarray, "1"]:
    """Key of the stream that belongs to some named numbers, such as seed and step, in this order.

    Raises:
        ConfigError: a number is not 0 or more, or has more than 63 bits.
    """
    key = np.zeros(1, dtype=np.uint64)
    for name, value in numbers.items():
        key = stream(key, np.array([checked_integer(name, value, least=0, most=_LARGEST)]))
    return key


def stream(
    key: UInt64[np.ndarray, "*keys"], numbers: Int[np.ndarray, " n"]
) -> UInt64[np.ndarray, "*keys_or_n"]:
    """Numbers of SplitMix64's stream for `key` (Steele, Lea and Flood, 2014), by their place.

    Keys and places are broadcast: keys [B, 1] and n places give [B, n]. Each result may be the key
    of a stream of its own. Places may be negative.
    """
    z = key + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    mixed: UInt64[np.ndarray, "*keys_or_n"] = z ^ (z >> np.uint64(31))
    return mixed


def mixed(value: int) -> int:
    """The finaliser of `stream` for one number of 64 bits: each bit depends on every bit."""
    value = (value ^ (value >> 30)) * _FIRST & _MASK
    value = (value ^ (value >> 27)) * _SECOND & _MASK
    return value ^ (value >> 31)


def uniform(bits: UInt64[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Even numbers in [0, 1), from the upper 53 bits."""
    even: Float[np.ndarray, "*shape"] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return even
