"""How long many tensors are together, in few operations, also where they are sharded."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor lies in slices on several processes (`DTensor`)."""
    return hasattr(tensor, "full_tensor")


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Euclidean norm over all numbers of one or more tensors: scalar, float32, on their device.

    Of sharded tensors all processes ask together, and each gets the whole norm.
    """
    norms = [
        cast(Any, norm).full_tensor() if is_sharded(norm) else norm
        for norm in torch._foreach_norm(list(tensors))
    ]
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
    return total
