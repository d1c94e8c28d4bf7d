"""The two-layer perceptron of a block."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vjepa2.nn.activations import ACTIVATIONS
from vjepa2.nn.watch import is_watched

# On CPU the wide activation of a long clip is hundreds of megabytes of fresh pages, and faulting
# them in costs more than the activation function itself. Pieces of 16 MiB stay near the cache.
PIECE_BYTES = 16 * 2**20


class MLP(nn.Module):
    """`fc2(activation(fc1(x)))`, width D -> int(D * ratio) -> D."""

    def __init__(self, dim: int, *, ratio: float, activation: str) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Linear(dim, hidden)
        self.activation = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Apply to every token on its own."""
        wide = self.fc1(x)
        if self._may_overwrite(wide):
            # A fresh tensor of this size costs more in page faults than the function itself.
            torch.ops.aten.gelu_(wide, approximate=cast(nn.GELU, self.activation).approximate)
        else:
            wide = self.activation(wide)
        return cast(Tensor, self.fc2(wide))

    def _may_overwrite(self, wide: Tensor) -> bool:
        """Whether nobody else can see fc1's output: not autograd, not a hook, not a compiler."""
        return (
            type(self.activation) is nn.GELU
            and type(self.fc1) is nn.Linear
            and type(wide) is Tensor
            and wide.device.type == "cpu"
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not is_watched(self.fc1, self.activation)
        )


def add_mlp(x: Float[Tensor, "B N D"], norm: nn.LayerNorm, mlp: MLP) -> Float[Tensor, "B N D"]:
    """`x + mlp(norm(x))`, in pieces of tokens where that is faster.

    Where the wide activation would exceed `PIECE_BYTES`, nothing has to be kept for a backward
    pass and nobody watches, `x` itself is overwritten piece by piece: at ViT-L width
    a 64-frame clip then needs 16 MiB instead of 256 MiB, in no more time (docs/lab-log.md).
    """
    may_overwrite = (
        type(x) is Tensor
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )
    if not may_overwrite:  # asked first, so that a compiler sees no condition on the shape
        return torch.add(x, mlp(norm(x)))
    wide_bytes = x.shape[:-1].numel() * mlp.fc1.out_features * x.element_size()
    fits = wide_bytes <= PIECE_BYTES
    if fits or not x.is_contiguous() or is_watched(norm, *mlp.modules()):
        return torch.add(x, mlp(norm(x)))
    tokens = x.flatten(0, -2)
    num_pieces = -(-wide_bytes // PIECE_BYTES)
    for piece in tokens.split(-(-tokens.shape[0] // num_pieces)):
        piece += mlp(norm(piece))
    return x
