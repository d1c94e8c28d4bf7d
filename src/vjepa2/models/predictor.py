"""The masked predictor: features of hidden tokens from visible ones (arXiv:2506.09985, 2.1).

That of V-JEPA 2.1 (arXiv:2603.14482, section 3) reads several levels of the encoder side by side
and predicts them all, also at the visible tokens, where it has a head of its own.
"""

from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from vjepa2.errors import (
    DtypeError,
    InputError,
    MaskError,
    ShapeError,
    check_choice,
    check_kind,
    described,
)
from vjepa2.models.checks import (
    check_ids,
    check_mask_pairs,
    check_switch,
    refuse_packed_weights,
)
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import attention_of, make_blocks, positions_of
from vjepa2.models.outputs import HiddenLevels, PredictorOutput, levels_to_keep
from vjepa2.models.predictor_ids import join_ids
from vjepa2.nn.block import run_blocks
from vjepa2.nn.init import MaskTokens
from vjepa2.nn.modality import Modality, ModalityEmbedding
from vjepa2.nn.rope import tables_for
from vjepa2.packing import PackedIds
from vjepa2.shapes import TokenGrid


def _check_tokens(name: str, tokens: Any) -> None:
    if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
        got = str(tokens.dtype) if isinstance(tokens, Tensor) else described(tokens)
        raise DtypeError(f"{name} must be floating point tokens [B, N, D], got {got}.")
    if tokens.layout is not torch.strided:
        raise DtypeError(f"{name} must be dense, got one stored as {tokens.layout}.")
    if tokens.ndim != 3:
        hint = " Add the batch axis: x[None]." if tokens.ndim == 2 else ""
        raise ShapeError(f"{name} must be [B, N, D] (3 axes), got {list(tokens.shape)}.{hint}")


def _check_grid(grid: Any) -> None:
    check_kind(
        "grid", grid, TokenGrid, words="a TokenGrid, model.encoder.grid(...)", error=InputError
    )


def tokens_at(tokens: Tensor, masks: list[Tensor] | None, *, num_masks: int) -> Tensor:
    """Tokens [B, N, D] at every mask's ids [B, K], joined to [B * masks, K, D].

    Without ids all tokens, once per mask: gathering them would be a copy.
    """
    if masks is None:
        return tokens if num_masks == 1 else tokens.repeat(num_masks, 1, 1)
    width = tokens.shape[-1]
    return torch.cat(
        [tokens.gather(1, ids.to(tokens.device)[..., None].expand(-1, -1, width)) for ids in masks]
    )


def joined_ids(masks: list[Tensor] | None, tokens: Tensor, *, num_masks: int) -> Tensor:
    """Ids of every mask, joined on the batch axis, on the tokens' device; None: all, per mask."""
    if masks is not None:
        return torch.cat(masks).to(tokens.device)
    batch, num_tokens = tokens.shape[:2]
    return torch.arange(num_tokens, device=tokens.device).expand(batch * num_masks, -1)


class VJEPA2PredictorEmbeddings(MaskTokens):
    """Maps context tokens to the predictor's width and stands mask tokens in for the targets."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.zero_init_mask_tokens = config.pred_zero_init_mask_tokens
        self.predictor_embeddings = _input_map(config)
        self.mask_tokens = nn.Parameter(
            torch.empty(config.pred_num_mask_tokens, 1, 1, config.pred_hidden_size)
        )
        self.modality: ModalityEmbedding | None = None
        if config.model_type == "vjepa2_1":
            self.modality = ModalityEmbedding(config.pred_hidden_size)

    def forward(
        self, context: Tensor, *, num_targets: int, mask_index: int, modality: Modality = "video"
    ) -> Tensor:
        """Join [B, K, D] context and M mask tokens to [B, K + M, P]."""
        if not isinstance(mask_index, int):
            raise MaskError(
                f"mask_index must be a whole number, got {described(mask_index)}. 1 equals the "
                "port, 0 is the mask token that was trained."
            )
        embedded = self.predictor_embeddings(context)
        mask_token = self.mask_tokens[mask_index % self.mask_tokens.shape[0]]
        targets = mask_token.expand(context.shape[0], num_targets, -1)
        tokens = torch.cat([embedded, targets.to(embedded.dtype)], dim=1)
        return tokens if self.modality is None else cast(Tensor, self.modality(tokens, modality))


def _input_map(config: VJEPA2Config) -> nn.Module:
    """One matrix, or for several levels two: side by side to D, then to the predictor's width."""
    num_levels = len(config.predictor_levels)
    if num_levels == 0:
        return nn.Linear(config.hidden_size, config.pred_hidden_size)
    return nn.Sequential(
        nn.Linear(num_levels * config.hidden_size, config.hidden_size),
        nn.GELU(),
        nn.Linear(config.hidden_size, config.pred_hidden_size),
    )


class VJEPA2Predictor(nn.Module):
    """Predict encoder features at target positions from encoder tokens at context positions."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = VJEPA2PredictorEmbeddings(config)
        self.layer = make_blocks(
            config,
            dim=config.pred_hidden_size,
            num_heads=config.pred_num_attention_heads,
            depth=config.pred_num_hidden_layers,
            mlp_ratio=config.pred_mlp_ratio,
        )
        self.layernorm = nn.LayerNorm(config.pred_hidden_size, eps=config.layer_norm_eps)
        num_levels = max(1, len(config.predictor_levels))
        self.input_size = num_levels * config.hidden_size
        output_size = num_levels * (config.pred_output_size or config.hidden_size)
        self.proj = nn.Linear(config.pred_hidden_size, output_size)
        self.proj_context: nn.Linear | None = None
        if config.model_type == "vjepa2_1":
            self.proj_context = nn.Linear(config.pred_hidden_size, output_size)

    def forward(
        self,
        encoder_hidden_states: Tensor,
        context_mask: list[Tensor] | None,
        target_mask: list[Tensor] | None,
        *,
        grid: TokenGrid | None = None,
        mask_index: int = 1,
        modality: Modality = "video",
        output_hidden_states: HiddenLevels = False,
        output_attentions: bool = False,
    ) -> PredictorOutput:
        """Predict from encoder tokens of whole clips.

        Args:
            encoder_hidden_states: [B, N, D] tokens of all positions; V-JEPA 2.1 reads the levels
                `config.predictor_levels` side by side, [B, N, levels * D].
            context_mask: one [B, K] id tensor per mask, what the predictor sees; None: all.
            target_mask: one [B, M] id tensor per mask, what it predicts; None: all. Ids of N and
                more lie after the clip (anticipation).
            grid: token grid of the clip. None takes the square grid of `config.crop_size`, for
                callers of the port's interface, which has no such argument.
            mask_index, modality, output_hidden_states, output_attentions: see `predict`.

        Returns:
            `last_hidden_state` [B * masks, M, D]: the results per mask pair joined on the batch.

        Raises:
            ShapeError: the tokens are not those of `grid`, or not as wide as the predictor reads.
            MaskError: masks are not paired lists of [B, n] ids, or context ids leave the clip.
            DtypeError, InputError, ConfigError: see `predict`.
        """
        _check_tokens("encoder_hidden_states", encoder_hidden_states)
        batch, num_tokens = encoder_hidden_states.shape[:2]
        if grid is None:
            side = self.config.crop_size // self.config.patch_size
            grid = TokenGrid(num_tokens // max(1, side**2), side, side)
        _check_grid(grid)
        if grid.num_tokens != num_tokens:
            raise ShapeError(
                f"Got {num_tokens} tokens for a grid of {grid.t}x{grid.h}x{grid.w} = "
                f"{grid.num_tokens}. Pass grid=model.encoder.grid(pixel_values_videos)."
            )
        if context_mask is not None:
            context_mask = check_ids(
                "context_mask",
                context_mask,
                batch=batch,
                num_tokens=num_tokens,
                of=encoder_hidden_states,
            )
        if target_mask is not None:
            target_mask = check_ids(
                "target_mask", target_mask, batch=batch, num_tokens=None, of=encoder_hidden_states
            )
        num_masks = check_mask_pairs(context_mask, target_mask)
        return self.predict(
            tokens_at(encoder_hidden_states, context_mask, num_masks=num_masks),
            joined_ids(context_mask, encoder_hidden_states, num_masks=num_masks),
            joined_ids(target_mask, encoder_hidden_states, num_masks=num_masks),
            grid=grid,
            mask_index=mask_index,
            modality=modality,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )

    def predict(
        self,
        context: Tensor,
        context_ids: Tensor | PackedIds,
        target_ids: Tensor | PackedIds,
        *,
        grid: TokenGrid,
        mask_index: int,
        modality: Modality = "video",
        output_hidden_states: HiddenLevels = False,
        output_attentions: bool = False,
    ) -> PredictorOutput:
        """Predict from context tokens alone.

        Context and targets are joined, never sorted: attention does not depend on the order of
        tokens once their positions are given.

        Args:
            context: [B, K, D] encoder tokens, or [B, K, levels * D], see `forward`.
            context_ids: [B, K] their ids on `grid`.
            target_ids: [B, M] ids to predict. Both may be `PackedIds`, with context [1, sum K, D]
                as the encoder returns it for them: no sample then sees another's tokens.
            mask_index: which mask token stands in for the targets, modulo
                `config.pred_num_mask_tokens` as in the published code: of 10, 50 is the first
                and -1 the last. The released weights have only token 0 trained, while published
                inference uses token 1 (still zero): 1 equals the port, 0 what the predictor was
                trained with.
            modality: what the tokens are made of; V-JEPA 2.1 marks them with it.
            output_hidden_states, output_attentions: as for the encoder; levels hold the context
                tokens first, then the targets.

        Returns:
            `last_hidden_state` [B, M, D], in the order of `target_ids`; V-JEPA 2.1 also
            `context_hidden_state` [B, K, D], in the order of `context_ids`. With packed ids
            [1, sum M, D] and [1, sum K, D].

        Raises:
            ShapeError: the tokens are not [B, K, D], or not as wide as the predictor reads.
            DtypeError: the tokens are not floating point.
            MaskError: the ids are not [B, n] integers, one per context token (values are not
                looked at), only one of the two is packed, attention weights of packed tokens are
                asked for, or `mask_index` is no whole number.
            InputError: a level in `output_hidden_states` does not exist, or an argument is of
                another type.
            ConfigError: there is no such modality.
        """
        check_switch("output_attentions", output_attentions)
        check_choice("modality", modality, get_args(Modality))
        _check_tokens("context", context)
        _check_grid(grid)
        joined = join_ids(context_ids, target_ids, context)
        if joined.num_context != context.shape[1]:
            raise MaskError(
                f"context_ids name {joined.num_context} tokens, context holds {context.shape[1]}."
            )
        if joined.segments is not None:
            refuse_packed_weights(output_attentions)
        if context.shape[-1] != self.input_size:
            raise ShapeError(
                f"Got tokens of width {context.shape[-1]}; this predictor reads {self.input_size}"
                + self._where_from()
            )
        num_targets = joined.ids.shape[1] - joined.num_context
        levels = levels_to_keep(output_hidden_states, num_levels=len(self.layer) + 1)
        tokens = self.embeddings(
            context, num_targets=num_targets, mask_index=mask_index, modality=modality
        )
        layout, reference_side = positions_of(
            self.config, rescaled=self.config.pred_rescale_positions
        )
        rotary = tables_for(
            tokens,
            joined.ids,
            grid,
            head_dim=self.config.pred_head_dim,
            layout=layout,
            reference_side=reference_side,
        )
        stack = run_blocks(
            self.layer,
            joined.as_read(tokens),
            rotary,
            implementation=attention_of(self.config),
            recompute=self.gradient_checkpointing and self.training,
            keep_levels=levels,
            keep_weights=bool(output_attentions),
            segments=joined.segments,
        )
        states = [joined.context_first(level) for level in stack.levels]
        tokens = joined.context_first(stack.tokens)
        targets = self.layernorm(tokens[:, joined.num_context :])
        at_context = None
        if self.proj_context is not None:
            at_context = self.proj_context(self.layernorm(tokens[:, : joined.num_context]))
        return PredictorOutput(
            last_hidden_state=cast(Tensor, self.proj(targets)),
            hidden_states=tuple(states) if levels else None,
            attentions=tuple(stack.weights) if output_attentions else None,
            context_hidden_state=at_context,
        )

    def _where_from(self) -> str:
        levels = list(self.config.predictor_levels)
        if not levels:
            return " (config.hidden_size): the encoder's last_hidden_state."
        return (
            f": levels {levels} side by side, "
            f"torch.cat(encoder(pixels, output_levels={levels}).level_hidden_states, dim=-1)."
        )
