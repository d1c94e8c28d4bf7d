"""The V-JEPA 2 encoder: a clip to one token per tubelet (arXiv:2506.09985, section 2.1)."""

from typing import cast

import torch
from torch import Tensor, nn

from vjepa2.models.checks import check_ids, check_layout, check_pixels
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.outputs import BaseModelOutput, HiddenLevels, levels_to_keep
from vjepa2.nn.attention import AttentionImplementation
from vjepa2.nn.block import Block, run_blocks
from vjepa2.nn.patch_embed import PatchEmbed3D
from vjepa2.nn.rope import tables_for
from vjepa2.shapes import TokenGrid


def attention_of(config: VJEPA2Config) -> AttentionImplementation:
    """The attention implementation chosen in the configuration; "sdpa" when none is."""
    return cast(AttentionImplementation, config._attn_implementation or "sdpa")


def make_blocks(
    config: VJEPA2Config, *, dim: int, num_heads: int, depth: int, mlp_ratio: float
) -> nn.ModuleList:
    """Blocks of one stack; stochastic depth grows linearly to `drop_path_rate` at the last."""
    return nn.ModuleList(
        Block(
            dim,
            num_heads,
            mlp_ratio=float(mlp_ratio),  # whole numbers stay whole in the configuration
            activation=config.hidden_act,
            qkv_bias=config.qkv_bias,
            layer_norm_eps=float(config.layer_norm_eps),
            attention_dropout=float(config.attention_probs_dropout_prob),
            drop_path=config.drop_path_rate * index / max(1, depth - 1),
        )
        for index in range(depth)
    )


class VJEPA2Embeddings(nn.Module):
    """Holds the patch embedding under its published name."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.patch_embeddings = PatchEmbed3D(
            config.in_chans,
            config.hidden_size,
            patch_size=config.patch_size,
            tubelet_size=config.tubelet_size,
        )

    def forward(self, pixels: Tensor, keep_ids: Tensor | None = None) -> Tensor:
        """See `PatchEmbed3D.forward`; pixels are cast to the weights' element type."""
        weight = self.patch_embeddings.proj.weight
        return cast(Tensor, self.patch_embeddings(pixels.to(weight.dtype), keep_ids))


class VJEPA2Encoder(nn.Module):
    """Clip to tokens. Works at any frame count, resolution and aspect ratio."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = VJEPA2Embeddings(config)
        self.layer = make_blocks(
            config,
            dim=config.hidden_size,
            num_heads=config.num_attention_heads,
            depth=config.num_hidden_layers,
            mlp_ratio=config.mlp_ratio,
        )
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def grid(self, pixel_values_videos: Tensor) -> TokenGrid:
        """Token grid (t, h, w) of clips [B, T, C, H, W].

        Raises:
            ShapeError, DtypeError: not a tensor of that layout, or no room for one token.
        """
        check_layout(pixel_values_videos, in_chans=self.config.in_chans)
        _, T, _, H, W = pixel_values_videos.shape
        return self.embeddings.patch_embeddings.grid(T, H, W)

    def forward(
        self,
        pixel_values_videos: Tensor,
        keep_ids: Tensor | None = None,
        *,
        output_hidden_states: HiddenLevels = False,
        output_attentions: bool = False,
    ) -> BaseModelOutput:
        """Encode clips.

        Args:
            pixel_values_videos: [B, T, C, H, W] normalised pixels, any T, H, W of at least one
                tubelet. Trailing frames and border pixels that fill no tubelet are not used; a
                clip shorter than a tubelet has its last frame repeated.
            keep_ids: [B, K] int64 token ids to encode; all others are dropped *before* the
                blocks, so they cost nothing and nothing of them is seen (the masked forward of
                pretraining). None encodes every token.
            output_hidden_states: True for all levels, or the levels to keep (the tuple keeps its
                length, the others are None); level 0 is the embedding, level i the output of
                block i, before the final norm.
            output_attentions: return attention weights. The fused kernels keep none, so this
                call computes attention written out, whatever the implementation.

        Returns:
            `last_hidden_state` [B, N, D], or [B, K, D] with `keep_ids`.

        Raises:
            ShapeError, DtypeError: the pixels are not [B, T, C, H, W] finite floats.
            MaskError: `keep_ids` are not [B, K] ids inside the clip.
            InputError: a level in `output_hidden_states` does not exist.
        """
        check_pixels(pixel_values_videos, in_chans=self.config.in_chans)
        grid = self.grid(pixel_values_videos)
        levels = levels_to_keep(output_hidden_states, num_levels=len(self.layer) + 1)
        if keep_ids is not None:
            batch = pixel_values_videos.shape[0]
            [keep_ids] = check_ids("keep_ids", [keep_ids], batch=batch, num_tokens=grid.num_tokens)
            keep_ids = keep_ids.to(pixel_values_videos.device)
        tokens = self.embeddings(pixel_values_videos, keep_ids)
        if keep_ids is None:
            ids = torch.arange(grid.num_tokens, device=tokens.device)[None]
        else:
            ids = keep_ids.to(tokens.device)
        rotary = tables_for(tokens, ids, grid, head_dim=self.config.head_dim)
        stack = run_blocks(
            self.layer,
            tokens,
            rotary,
            implementation=attention_of(self.config),
            recompute=self.gradient_checkpointing and self.training,
            keep_levels=levels,
            keep_weights=output_attentions,
        )
        return BaseModelOutput(
            last_hidden_state=self.layernorm(stack.tokens),
            hidden_states=tuple(stack.levels) if levels else None,
            attentions=tuple(stack.weights) if output_attentions else None,
        )
