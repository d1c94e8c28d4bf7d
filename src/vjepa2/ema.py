"""The teacher: an exponential moving average of the student (arXiv:2506.09985, section 2.1).

    teacher <- m * teacher + (1 - m) * student        after every update of the student

All parameters move in a few fused operations rather than one by one, also where they are sharded
(`DTensor`s of equal sharding on both sides).
"""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vjepa2.errors import ConfigError, InputError
from vjepa2.norms import total_norm

Module = TypeVar("Module", bound=nn.Module)

DISTANCE_PORTION = 32  # tensors whose differences are in memory at once


def frozen_copy(student: Module) -> Module:
    """A teacher equal to `student`, in evaluation mode, that no gradient reaches."""
    return deepcopy(student).eval().requires_grad_(False)


class MovingAverage:
    """Moves a teacher towards a student; both stay ordinary modules.

    Args:
        teacher: has the parameters of `student`, by name.
        student: the network that is trained.

    Raises:
        InputError: their parameters differ in name or shape.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        mine, other = dict(teacher.named_parameters()), dict(student.named_parameters())
        if _shapes(mine) != _shapes(other):
            differing = sorted(set(_shapes(mine).items()) ^ set(_shapes(other).items()))
            raise InputError(
                f"Teacher and student do not have the same parameters; first difference: "
                f"{differing[0][0]} {list(differing[0][1])}. Make the teacher with frozen_copy."
            )
        self._teacher: list[Tensor] = list(mine.values())
        self._student: list[Tensor] = [other[name] for name in mine]

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """One step towards the student.

        Args:
            momentum: m in 0..1; 1 leaves the teacher as it is, 0 copies the student.

        Raises:
            ConfigError: `momentum` is outside 0..1.
        """
        if not 0.0 <= momentum <= 1.0:
            raise ConfigError(f"The momentum of the teacher must be 0 to 1, got {momentum}.")
        if self._teacher:
            get_ema_multi_avg_fn(momentum)(self._teacher, self._student, 0)

    @torch.no_grad()
    def distance(self) -> float:
        """How far the student has run ahead: |student - teacher| / |teacher|, over all numbers."""
        gaps = []
        # In portions: the differences of a whole network would need the memory of another one.
        for start in range(0, len(self._teacher), DISTANCE_PORTION):
            part = slice(start, start + DISTANCE_PORTION)
            gaps.append(total_norm(torch._foreach_sub(self._student[part], self._teacher[part])))
        if not gaps:
            return 0.0
        return float(total_norm(gaps) / total_norm(self._teacher).clamp_min(1e-12))


def _shapes(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in parameters.items()}
