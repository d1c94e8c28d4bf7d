"""Every activation against its formula, number by number."""

import math
from collections.abc import Callable

import pytest
import torch

from vjepa2.nn.activations import ACTIVATIONS


def tanh_gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


FORMULAS: dict[str, Callable[[float], float]] = {
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "quick_gelu": lambda x: x / (1 + math.exp(-1.702 * x)),
    "relu": lambda x: max(x, 0.0),
    "silu": silu,
    "swish": silu,
}


def test_all_are_covered() -> None:
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_equals_the_formula(name: str) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    wanted = [FORMULAS[name](value) for value in x.tolist()]
    assert ACTIVATIONS[name]()(x).tolist() == pytest.approx(wanted, abs=1e-14)
