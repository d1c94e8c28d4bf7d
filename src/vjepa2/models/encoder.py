"""The encoder: a clip to one token per tubelet (arXiv:2506.09985, section 2.1).

V-JEPA 2.1 (arXiv:2603.14482, section 3) differs in four places, all fixed by `config.model_type`:
true rotations at rescaled positions, an embedding of its own for still images, a vector that marks
the modality, and one LayerNorm per level in place of the final one.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vjepa2.errors import InputError
from vjepa2.models.checks import (
    check_device,
    check_ids,
    check_layout,
    check_packed_ids,
    check_pixels,
    check_switch,
    refuse_packed_weights,
)
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.outputs import BaseModelOutput, HiddenLevels, levels_to_keep, listed_levels
from vjepa2.nn.attention import AttentionImplementation
from vjepa2.nn.block import Block, run_blocks
from vjepa2.nn.modality import Modality, ModalityEmbedding
from vjepa2.nn.patch_embed import PatchEmbed3D
from vjepa2.nn.rope import RotaryLayout, tables_for
from vjepa2.packing import PackedIds, segments_of
from vjepa2.shapes import TokenGrid

# Pixels of the square frames whose token grid V-JEPA 2.1 maps all positions onto.
REFERENCE_PIXELS = 256


class Positions(NamedTuple):
    """How the rotary tables of a variant are made, see `nn/rope.py`."""

    layout: RotaryLayout
    reference_side: int | None


def positions_of(config: VJEPA2Config, *, rescaled: bool) -> Positions:
    """Layout of the variant's rotary tables; V-JEPA 2 never rescales positions."""
    if config.model_type != "vjepa2_1":
        return Positions("tiled", None)
    return Positions("interleaved", REFERENCE_PIXELS // config.patch_size if rescaled else None)


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
    """Holds the patch embeddings under their published names."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.patch_embeddings = PatchEmbed3D(
            config.in_chans,
            config.hidden_size,
            patch_size=config.patch_size,
            tubelet_size=config.tubelet_size,
        )
        self.patch_embeddings_img: PatchEmbed3D | None = None
        self.modality: ModalityEmbedding | None = None
        if config.model_type == "vjepa2_1":
            self.patch_embeddings_img = PatchEmbed3D(
                config.in_chans, config.hidden_size, patch_size=config.patch_size, tubelet_size=1
            )
            self.modality = ModalityEmbedding(config.hidden_size)

    def modality_of(self, num_frames: int) -> Modality:
        """What clips of this length are to the network: V-JEPA 2.1 sees one frame as an image."""
        return "image" if num_frames == 1 and self.patch_embeddings_img is not None else "video"

    def forward(self, pixels: Tensor, keep_ids: Tensor | None = None) -> Tensor:
        """See `PatchEmbed3D.forward`; pixels are cast to the weights' element type."""
        modality = self.modality_of(pixels.shape[1])
        embed = self.patch_embeddings
        if modality == "image":
            assert self.patch_embeddings_img is not None
            embed = self.patch_embeddings_img
        tokens = cast(Tensor, embed(pixels.to(embed.proj.weight.dtype), keep_ids))
        return tokens if self.modality is None else cast(Tensor, self.modality(tokens, modality))


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
        self.layernorm: nn.LayerNorm | None = None
        self.layernorms: nn.ModuleList | None = None
        if config.levels:
            self.layernorms = nn.ModuleList(_norm(config) for _ in config.levels)
        else:
            self.layernorm = _norm(config)

    def norm_of(self, block: int) -> nn.Module:
        """The norm after a block (0-based): one for all in V-JEPA 2, one per level in 2.1.

        Raises:
            InputError: the block does not exist, or has no norm.
        """
        allowed: Sequence[int] = self.config.levels or range(len(self.layer))
        if block not in allowed:
            raise InputError(
                f"output_levels asks for block {block!r}; this encoder has normed tokens of "
                f"{list(allowed) if self.config.levels else f'0 to {len(self.layer) - 1}'}."
            )
        if self.layernorms is not None:
            return self.layernorms[self.config.levels.index(block)]
        assert self.layernorm is not None
        return self.layernorm

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
        keep_ids: Tensor | PackedIds | None = None,
        *,
        output_levels: Sequence[int] = (),
        output_hidden_states: HiddenLevels = False,
        output_attentions: bool = False,
    ) -> BaseModelOutput:
        """Encode clips.

        Args:
            pixel_values_videos: [B, T, C, H, W] normalised pixels, any T, H, W of at least one
                tubelet. Trailing frames and border pixels that fill no tubelet are not used; a
                clip shorter than a tubelet has its last frame repeated. V-JEPA 2.1 takes T = 1
                as a still image, with an embedding of its own.
            keep_ids: [B, K] int64 token ids to encode; all others are dropped *before* the
                blocks, so they cost nothing and nothing of them is seen (the masked forward of
                pretraining). None encodes every token. `PackedIds` keep another number of every
                clip's tokens; the clips' tokens are then joined, and see those of their own clip.
            output_levels: blocks (0-based) whose tokens to return normed, as probes and the
                predictor of V-JEPA 2.1 read them: any block in V-JEPA 2, which has one norm for
                all; those of `config.levels` in 2.1.
            output_hidden_states: True for all levels, or the levels to keep (the tuple keeps its
                length, the others are None); level 0 is the embedding, level i the output of
                block i, before the final norm.
            output_attentions: return attention weights. The fused kernels keep none, so this
                call computes attention written out, whatever the implementation.

        Returns:
            `last_hidden_state` [B, N, D], or [B, K, D] with `keep_ids`, or [1, total, D] with
            packed ones.

        Raises:
            ShapeError, DtypeError: the pixels are not [B, T, C, H, W] finite floats.
            MaskError: `keep_ids` are not [B, K] ids inside the clip, or are packed while attention
                weights are asked for.
            InputError: a level in `output_hidden_states` or `output_levels` does not exist, or an
                argument is of another type.
        """
        check_switch("output_attentions", output_attentions)
        output_levels = listed_levels("output_levels", output_levels)
        check_pixels(pixel_values_videos, in_chans=self.config.in_chans)
        weight = self.embeddings.patch_embeddings.proj.weight
        check_device("pixel_values_videos", pixel_values_videos, weight)
        grid = self.grid(pixel_values_videos)
        hidden = levels_to_keep(output_hidden_states, num_levels=len(self.layer) + 1)
        norms = [self.norm_of(block) for block in output_levels]
        kept = _kept_ids(keep_ids, pixel_values_videos, grid)
        segments = None
        if isinstance(kept, PackedIds):
            refuse_packed_weights(output_attentions)
            tokens = self.embeddings(pixel_values_videos, kept.in_joined_clips(grid.num_tokens))
            segments = segments_of(kept.lengths, device=tokens.device)
            ids = kept.ids[None].to(tokens.device)
        else:
            tokens = self.embeddings(pixel_values_videos, kept)
            if kept is None:
                kept = torch.arange(grid.num_tokens, device=tokens.device)[None]
            ids = kept.to(tokens.device)
        layout, reference_side = positions_of(self.config, rescaled=True)
        rotary = tables_for(
            tokens,
            ids,
            grid,
            head_dim=self.config.head_dim,
            layout=layout,
            reference_side=reference_side,
        )
        stack = run_blocks(
            self.layer,
            tokens,
            rotary,
            implementation=attention_of(self.config),
            recompute=self.gradient_checkpointing and self.training,
            keep_levels={*hidden, *(block + 1 for block in output_levels)},
            keep_weights=bool(output_attentions),
            segments=segments,
        )
        states = [level if i in hidden else None for i, level in enumerate(stack.levels)]
        normed = [
            norm(stack.levels[block + 1]) for norm, block in zip(norms, output_levels, strict=True)
        ]
        return BaseModelOutput(
            last_hidden_state=self.norm_of(len(self.layer) - 1)(stack.tokens),
            hidden_states=tuple(states) if hidden else None,
            attentions=tuple(stack.weights) if output_attentions else None,
            level_hidden_states=tuple(normed) if normed else None,
        )


def _kept_ids(
    keep_ids: Tensor | PackedIds | None, pixels: Tensor, grid: TokenGrid
) -> Tensor | PackedIds | None:
    """`keep_ids`, checked, on the device of the pixels."""
    if keep_ids is None:
        return None
    batch, num_tokens = pixels.shape[0], grid.num_tokens
    if isinstance(keep_ids, PackedIds):
        return check_packed_ids("keep_ids", keep_ids, batch=batch, num_tokens=num_tokens, of=pixels)
    [kept] = check_ids("keep_ids", [keep_ids], batch=batch, num_tokens=num_tokens, of=pixels)
    return kept.to(pixels.device)


def _norm(config: VJEPA2Config) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=float(config.layer_norm_eps))
