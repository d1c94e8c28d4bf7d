"""Attentive pooler: self-attention blocks, then learned queries gather the tokens.

V-JEPA 2, section 4 and appendix: the frozen-encoder probe. No positions are used.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa2.nn.attention import (
    AttentionImplementation,
    PoolerCrossAttention,
    PoolerSelfAttention,
)
from vjepa2.nn.mlp import MLP, add_mlp

# The published probe always widens by four, whatever the encoder's own ratio is.
POOLER_MLP_RATIO = 4.0


class PoolerSelfAttentionLayer(nn.Module):
    """Pre-norm block without positions."""

    def __init__(
        self, dim: int, num_heads: int, *, activation: str, layer_norm_eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.self_attn = PoolerSelfAttention(dim, num_heads, dropout=dropout)
        self.layer_norm2 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = MLP(dim, ratio=POOLER_MLP_RATIO, activation=activation)

    def forward(
        self, x: Float[Tensor, "B N D"], implementation: AttentionImplementation = "sdpa"
    ) -> Float[Tensor, "B N D"]:
        """Mix the tokens once."""
        x = x + self.self_attn(self.layer_norm1(x), implementation=implementation)
        return add_mlp(x, self.layer_norm2, self.mlp)


class PoolerCrossAttentionLayer(nn.Module):
    """Queries gather from tokens. The norm acts on the tokens only, not on the queries."""

    def __init__(
        self, dim: int, num_heads: int, *, activation: str, layer_norm_eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.cross_attn = PoolerCrossAttention(dim, num_heads, dropout=dropout)
        self.layer_norm2 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = MLP(dim, ratio=POOLER_MLP_RATIO, activation=activation)

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        tokens: Float[Tensor, "B N D"],
        implementation: AttentionImplementation = "sdpa",
    ) -> Float[Tensor, "B Q D"]:
        """Return one vector per query."""
        gathered = self.cross_attn(queries, self.layer_norm1(tokens), implementation=implementation)
        queries = queries + gathered
        return add_mlp(queries, self.layer_norm2, self.mlp)


class AttentivePooler(nn.Module):
    """Tokens of a clip to one vector, or to one per query where there are several.

    Several queries share the self-attention blocks, which are nearly all of the cost, and never
    see each other.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_layers: int,
        activation: str,
        layer_norm_eps: float,
        dropout: float,
        num_queries: int = 1,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.query_tokens = nn.Parameter(torch.empty(1, num_queries, dim))
        # Before the layers that come first, as in the port: optimizers know parameters by place.
        self.cross_attention_layer = PoolerCrossAttentionLayer(
            dim, num_heads, activation=activation, layer_norm_eps=layer_norm_eps, dropout=dropout
        )
        self.self_attention_layers = nn.ModuleList(
            PoolerSelfAttentionLayer(
                dim,
                num_heads,
                activation=activation,
                layer_norm_eps=layer_norm_eps,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )

    def forward(
        self, tokens: Float[Tensor, "B N D"], implementation: AttentionImplementation = "sdpa"
    ) -> Float[Tensor, "B D"] | Float[Tensor, "B Q D"]:
        """Pool all N tokens: [B, D] with one query, [B, Q, D] with several."""
        for layer in self.self_attention_layers:
            if self.gradient_checkpointing and self.training:
                tokens = checkpoint(layer, tokens, implementation, use_reentrant=False)
            else:
                tokens = layer(tokens, implementation)
        queries = self.query_tokens.expand(tokens.shape[0], -1, -1)
        pooled = self.cross_attention_layer(queries, tokens, implementation)
        # Drops the axis of a single query only.
        return cast(Tensor, pooled.squeeze(1))
