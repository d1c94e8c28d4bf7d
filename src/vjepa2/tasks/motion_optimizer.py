"""Orthogonalised momentum (Muon) in float32, for a few small matrices on a CPU.

PyTorch has the same optimiser from 2.9 on, in bfloat16. On CPUs without bfloat16 units its matrix
products took more than half of a training step here; in float32 they are a small part of it.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): momentum,
five steps of a quintic Newton-Schulz iteration with these coefficients, step length by shape.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


def orthogonalised(matrix: Float[Tensor, "A B"]) -> Float[Tensor, "A B"]:
    """The matrix with its singular values pushed to about 1 (0.68 to 1.14), directions unchanged.

    Each iteration applies the odd polynomial a x + b x^3 + c x^5 to all singular values at once;
    values that are tiny beside the largest one rise less.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide: Tensor = matrix.T if is_tall else matrix  # so that the square products are small
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * (square @ square)) @ wide
    return wide.T if is_tall else wide


class Muon(torch.optim.Optimizer):
    """Moves each matrix along its orthogonalised momentum.

    Args:
        matrices: parameters of rank 2.
        lr: length of a step; multiplied by sqrt(rows / columns) for tall matrices.
        momentum: share of the running mean of gradients that a step keeps (Nesterov's form).
        weight_decay: share of a matrix, per unit of lr, that every step takes away.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        *,
        lr: float = 0.02,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure here
        """Update every matrix that has a gradient."""
        assert closure is None, "Muon takes one gradient a step"
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)

    def _move(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        mean = state.setdefault("mean", torch.zeros_like(gradient))
        mean.lerp_(gradient, 1 - group["momentum"])
        step = orthogonalised(gradient.lerp(mean, group["momentum"]))
        rows, columns = matrix.shape
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.sub_(step, alpha=group["lr"] * math.sqrt(max(1.0, rows / columns)))
