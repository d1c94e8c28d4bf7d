"""Pre-norm transformer block of encoder and predictor, and stochastic depth."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa2.nn.attention import AttentionImplementation, RotaryAttention
from vjepa2.nn.mlp import MLP, add_mlp
from vjepa2.nn.rope import RotaryTables
from vjepa2.nn.step_cache import LayerCache
from vjepa2.packing import Segments


class DropPath(nn.Module):
    """Drop a whole residual branch per sample in training, and rescale the kept ones."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(
        self, x: Float[Tensor, "B N D"], segments: Segments | None = None
    ) -> Float[Tensor, "B N D"]:
        """Return `x` unchanged outside training; `segments` see `attend`."""
        if not self.training or self.probability == 0.0:
            return x
        kept = 1.0 - self.probability
        num_samples = x.shape[0] if segments is None else len(segments.lengths)
        mask = torch.empty(num_samples, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(kept)
        if segments is not None:
            lengths = segments.offsets.diff()
            mask = mask.repeat_interleave(lengths, dim=0, output_size=x.shape[1]).transpose(0, 1)
        return x * mask / kept

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"probability={self.probability}"


class BlockOutput(NamedTuple):
    """Tokens after the block; attention weights [B, G, N, N] only where asked for."""

    tokens: Float[Tensor, "B N D"]
    weights: Float[Tensor, "B G N N"] | None


class StackOutput(NamedTuple):
    """Tokens after the last block, the levels that were asked for, and the weights.

    `levels` is empty, or has one place per level (None where that level was not asked for).
    """

    tokens: Float[Tensor, "B N D"]
    levels: list[Float[Tensor, "B N D"] | None]
    weights: list[Float[Tensor, "B G N N"]]


class Block(nn.Module):
    """`x + Attention(LN(x))`, then `x + MLP(LN(x))` (V-JEPA 2, section 2.1)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        activation: str,
        qkv_bias: bool,
        layer_norm_eps: float,
        attention_dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.attention = RotaryAttention(
            dim, num_heads, qkv_bias=qkv_bias, dropout=attention_dropout
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = MLP(dim, ratio=mlp_ratio, activation=activation)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        rotary: RotaryTables,
        implementation: AttentionImplementation = "sdpa",
        need_weights: bool = False,
        causal_steps: int | None = None,
        segments: Segments | None = None,
    ) -> BlockOutput:
        """Mix the tokens once; `rotary` holds their positions, for the rest see `attend`."""
        attended = self.attention(
            self.norm1(x),
            rotary,
            implementation=implementation,
            need_weights=need_weights,
            causal_steps=causal_steps,
            segments=segments,
        )
        x = x + self.drop_path(attended.values, segments)
        if self.training:
            x = x + self.drop_path(self.mlp(self.norm2(x)), segments)
        else:
            x = add_mlp(x, self.norm2, self.mlp)
        return BlockOutput(x, attended.weights)

    def next_step(
        self,
        x: Float[Tensor, "S N D"],
        rotary: RotaryTables,
        cache: LayerCache,
        *,
        implementation: AttentionImplementation,
        keep: bool,
        num_silent: int = 0,
    ) -> Float[Tensor, "S N2 D"]:
        """Mix the tokens of a next step, see `RotaryAttention.next_step`; without drop path."""
        mixed = self.attention.next_step(
            self.norm1(x),
            rotary,
            cache,
            implementation=implementation,
            keep=keep,
            num_silent=num_silent,
        )
        x = x[:, num_silent:] + mixed
        return add_mlp(x, self.norm2, self.mlp) if x.shape[1] else x


def run_blocks(
    blocks: Iterable[nn.Module],
    tokens: Float[Tensor, "B N D"],
    rotary: RotaryTables,
    *,
    implementation: AttentionImplementation,
    recompute: bool,
    keep_levels: Collection[int],
    keep_weights: bool,
    causal_steps: int | None = None,
    segments: Segments | None = None,
) -> StackOutput:
    """Run a stack of blocks that share one set of rotary tables.

    Args:
        recompute: keep no activations inside a block and compute them again in the backward pass.
        keep_levels: levels to return: 0 is the input, i the output of block i (1-based). The
            others are freed as soon as the next block has read them.
        keep_weights: return every block's attention weights.
        causal_steps: number of equal time steps that the tokens lie in, where none may see a later
            one; None: every token sees every token.
        segments: samples that the tokens are joined from (B = 1), which do not see each other.
    """
    levels = [tokens if 0 in keep_levels else None] if keep_levels else []
    options = (implementation, keep_weights, causal_steps, segments)
    weights = []
    for level, block in enumerate(blocks, start=1):
        if recompute:
            output = checkpoint(block, tokens, rotary, *options, use_reentrant=False)
        else:
            output = block(tokens, rotary, *options)
        tokens = output.tokens
        if keep_levels:
            levels.append(tokens if level in keep_levels else None)
        if keep_weights:
            weights.append(output.weights)
    return StackOutput(tokens, levels, weights)
