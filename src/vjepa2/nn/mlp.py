"""The two-layer perceptron of a block."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vjepa2.nn.activations import ACTIVATIONS

# On CPU the wide activation of a long clip is hundreds of megabytes of fresh pages: the page
# faults and cache misses cost more than the activation function itself. Pieces of 16 MiB stay
# below the allocator's threshold for giving pages back to the system. Measured at ViT-L width,
# 2048 tokens, 2 cores: 184 ms in two pieces, 205 to 358 ms in one (benchmarks/encode.py).
PIECE_BYTES = 16 * 2**20


class MLP(nn.Module):
    """`fc2(activation(fc1(x)))`, width D -> int(D * ratio) -> D."""

    def __init__(self, dim: int, *, ratio: float, activation: str) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Linear(dim, hidden)
        self.activation = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Apply to every token on its own."""
        num_pieces = self._num_pieces(x)
        if num_pieces == 1:
            return self._forward(x)
        tokens = x.flatten(0, -2)
        size = -(-tokens.shape[0] // num_pieces)
        return torch.cat([self._forward(piece) for piece in tokens.split(size)]).view_as(x)

    def _forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.activation(self.fc1(x))))

    def _num_pieces(self, x: Tensor) -> int:
        # Training keeps every activation anyway, and a compiler plans memory by itself.
        if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return 1
        wide_bytes = x.shape[:-1].numel() * self.fc1.out_features * x.element_size()
        return max(1, -(-wide_bytes // PIECE_BYTES))
