"""Activation functions by the names that `config.json` uses (`hidden_act`).

The names and formulas are those of the Hugging Face port, so that a checkpoint computes the same
here. `"gelu"`, the one of all published V-JEPA 2 models, is the exact one with the error function
(Hendrycks & Gimpel 2016, arXiv:1606.08415).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class TanhGELU(nn.Module):
    """GELU in its tanh form, written out: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Equal to `nn.GELU(approximate="tanh")` up to rounding; kept apart because the rounding differs.
    """

    def forward(self, x: Tensor) -> Tensor:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
        return 0.5 * x * (1.0 + torch.tanh(inner))


class SigmoidGELU(nn.Module):
    """GELU in its sigmoid form: x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": TanhGELU,
    "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": SigmoidGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}
"""Name in `config.json` to a factory of the module; `make = ACTIVATIONS[config.hidden_act]`."""
