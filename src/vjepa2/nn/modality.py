"""Vectors that tell video tokens from image tokens (V-JEPA 2.1, arXiv:2603.14482, section 3)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Modality = Literal["video", "image"]


class ModalityEmbedding(nn.Module):
    """Adds one learned vector per modality to every token (the paper calls it a token)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.video = nn.Parameter(torch.empty(1, 1, dim))
        self.image = nn.Parameter(torch.empty(1, 1, dim))

    def forward(self, tokens: Float[Tensor, "B N D"], modality: Modality) -> Float[Tensor, "B N D"]:
        """Return the tokens marked as those of a video or of an image."""
        vector = self.image if modality == "image" else self.video
        return tokens + vector.to(tokens.dtype)
