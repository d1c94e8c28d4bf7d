"""Values of every kind that people hand in by mistake; each call must answer with a named error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vjepa2.errors import VJEPAError

TEXTS = ("text", "", "a\0b", "x" * 5000, "\ud800")
NUMBERS = (0, 3, -1, 1.5, -0.5, float("nan"), float("inf"), 10**30, 10**400, np.int64(3))
FLAGS = (True, False)
CONTAINERS = ([], [1, "a"], [None], {}, {1: 2}, {"a": 1}, {1, 2}, (None,), b"bytes", range(3))
OBJECTS = (None, object(), object, len, slice(None), Path("no such place"), torch.int64)
ARRAYS = (
    np.zeros((4, 4)),
    np.array(["a"]),
    np.array([object()]),
    np.zeros((2, 8, 8, 3), complex),
    torch.tensor(3),
    torch.zeros(0),
    torch.zeros(1, 2, 3, 8, 8, device="meta"),
    torch.zeros(1, 2, 3, 8, 8).to_sparse(),
    torch.zeros(2, 3, dtype=torch.complex64),
    torch.zeros(3, dtype=torch.bool),
)
EVERYTHING = (*TEXTS, *NUMBERS, *FLAGS, *CONTAINERS, *OBJECTS, *ARRAYS)


def shown(value: object) -> str:
    """Short name of a value for a failed test."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "an enormous number"
    return f"{type(value).__name__} {value!r:.60}"


def assert_named(
    call: Callable[[Any], object],
    *,
    allowed: Callable[[Any], bool] = lambda value: False,
    error: type[VJEPAError] = VJEPAError,
) -> None:
    """Hand every value to `call`: those that are `allowed` pass, all others raise `error`."""
    leaks = []
    for value in EVERYTHING:
        try:
            call(value)
        except error:
            outcome = "named"
        except Exception as leaked:
            leaked.add_note(f"The value was {shown(value)}.")
            raise
        else:
            outcome = "taken"
        if outcome != ("taken" if allowed(value) else "named"):
            leaks.append(f"{shown(value)}: {outcome}")
    if leaks:
        pytest.fail("\n".join(leaks))


def is_whole(value: object, *, least: int, most: int | float = float("inf")) -> bool:
    """Whether a value is a whole number within bounds; True is none."""
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_number and least <= int(value) <= most  # type: ignore[call-overload]


def is_number(value: object, *, above: float, most: float = 1e300) -> bool:
    """Whether a value is a finite number above a bound."""
    is_real = isinstance(value, int | float | np.integer) and not isinstance(value, bool)
    return is_real and above < value <= most  # type: ignore[operator]


def is_switch(value: object) -> bool:
    """Whether a value is True, False or the default."""
    return value is None or isinstance(value, bool)


def is_listed(value: object, *, least: int, most: int) -> bool:
    """Whether a value is a list of whole numbers within bounds; an empty one too."""
    is_list = isinstance(value, list | tuple | range)
    return is_list and all(is_whole(item, least=least, most=most) for item in value)  # type: ignore[attr-defined]


def fits_forward(name: str, value: object, *, depth: int) -> bool:
    """Whether a value fits the argument `name` of the forward of a stack of `depth` blocks."""
    if name == "output_levels":
        return is_listed(value, least=0, most=depth - 1)
    bounds = {"least": -depth - 1, "most": depth}
    if name == "output_hidden_states" and (is_whole(value, **bounds) or is_listed(value, **bounds)):
        return True
    return is_switch(value)
