"""One clip's loss: hide tokens, encode the rest, predict the latents of the hidden ones.

    pixels --teacher--> h [B, N, LD] --LN--> targets          (no gradient)
    pixels --student, visible tokens only--> predictor --> z at the hidden tokens
    loss = mean over masks of  |z - targets|  (+ lambda * weighted |z - targets| at visible tokens)

Sources: arXiv:2506.09985, section 2.1 (V-JEPA 2); arXiv:2603.14482, section 3 (2.1, distillation).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vjepa2.losses import context_weights, normalised_targets, prediction_error
from vjepa2.masking import Masks, PackedIds, PackedMasks, context_distances
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.outputs import PredictorOutput
from vjepa2.models.predictor import VJEPA2Predictor
from vjepa2.nn.modality import Modality
from vjepa2.shapes import TokenGrid

# The mask token that stands for a hidden token: the first is the one all recipes train.
MASK_INDEX = 0


class Losses(NamedTuple):
    """The loss to minimise, and its parts without gradient."""

    total: Tensor
    prediction: Tensor
    context: Tensor | None


def read_tokens(
    encoder: VJEPA2Encoder,
    pixels: Tensor,
    keep_ids: Tensor | PackedIds | None = None,
    *,
    levels: Sequence[int],
) -> Tensor:
    """What the predictor reads and what it predicts: the last tokens, or several levels.

    Args:
        encoder: student or teacher.
        pixels: [B, T, C, H, W].
        keep_ids: [B, K] visible tokens, or packed ones; None: all.
        levels: blocks (0-based) to put side by side; empty: only the last tokens.

    Returns:
        [B, N, D], or [B, N, levels * D] for several levels (V-JEPA 2.1).
    """
    encoded = encoder(pixels, keep_ids, output_levels=levels)
    if not levels:
        tokens: Tensor = encoded.last_hidden_state
        return tokens
    return torch.cat(encoded.level_hidden_states, dim=-1)


@torch.no_grad()
def target_tokens(teacher: VJEPA2Encoder, pixels: Tensor, *, several_levels: bool) -> Tensor:
    """The targets of every token of whole clips.

    Args:
        teacher: average of the student, or a frozen model.
        pixels: [B, T, C, H, W].
        several_levels: whether the student predicts all of the teacher's levels, or its last
            tokens only (V-JEPA 2, and distilled students).

    Returns:
        [B, N, D] or [B, N, levels * D], float32, every level layer-normed.
    """
    levels = teacher.config.levels if several_levels else ()
    tokens = read_tokens(teacher, pixels, levels=levels)
    return normalised_targets(tokens, num_levels=max(1, len(levels)))


class MaskedPrediction(nn.Module):
    """Student encoder and predictor with the loss as their forward, so that wrappers see one call.

    Args:
        encoder: the student.
        predictor: reads the student's tokens.
        exponent: p of the error |.|^p / p.
        distance_weights: whether the context loss weights tokens by their distance to the nearest
            hidden one; otherwise all weigh 1.
        distance_unit: tokens that count as distance 1, or None for `max(1, grid.h // 16)`, the
            published option that makes large grids comparable.
    """

    def __init__(
        self,
        encoder: VJEPA2Encoder,
        predictor: VJEPA2Predictor,
        *,
        exponent: float = 1.0,
        distance_weights: bool = True,
        distance_unit: float | None = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.exponent = exponent
        self.distance_weights = distance_weights
        self.distance_unit = distance_unit
        self.levels = encoder.config.predictor_levels
        for part in (encoder.embeddings, predictor.embeddings):
            if part.modality is not None:
                part.register_forward_hook(_touch_both_modalities)

    def forward(
        self,
        pixels: Tensor,
        targets: Tensor,
        masks: Sequence[Masks | PackedMasks],
        context_share: float = 0.0,
        mask_shares: Sequence[tuple[float, float]] | None = None,
    ) -> Losses:
        """Loss of one micro-batch.

        Args:
            pixels: [B, T, C, H, W] normalised; one frame is a still image to V-JEPA 2.1.
            targets: [B, N, LD] of `target_tokens`, every token of the clips.
            masks: one or several ways to hide tokens of every clip, best on the CPU; the loss is
                their mean.
            context_share: lambda, how much the error at visible tokens counts. V-JEPA 2 has no
                such prediction and needs 0.
            mask_shares: factors of the errors at hidden and at visible tokens, per mask; None: 1.
                Micro-batches of packed masks have different numbers of tokens and count by them.

        Returns:
            scalars, float32.
        """
        grid = self.encoder.grid(pixels)
        modality = self.encoder.embeddings.modality_of(pixels.shape[1])
        at_hidden, at_visible = [], []
        for mask, shares in zip(masks, mask_shares or [(1.0, 1.0)] * len(masks), strict=True):
            hidden, visible = self._errors(pixels, targets, mask, grid, modality)
            at_hidden.append(shares[0] * hidden)
            if visible is not None:
                at_visible.append(shares[1] * visible)
        prediction = torch.stack(at_hidden).mean()
        if not at_visible:
            return Losses(prediction, prediction.detach(), None)
        context = torch.stack(at_visible).mean()
        # Also while the share is 0: a wrapper that averages gradients expects one of every weight.
        total = prediction + context_share * context
        return Losses(total, prediction.detach(), context.detach())

    def encode(self, pixels: Tensor) -> Tensor:
        """The student's last tokens of whole clips, [B, N, D]."""
        return read_tokens(self.encoder, pixels, levels=())

    def predict_hidden(self, pixels: Tensor, mask: Masks | PackedMasks) -> Tensor:
        """What the student says of the hidden tokens, [B, M, levels * D]."""
        predicted = self._predict(
            pixels,
            mask,
            self.encoder.grid(pixels),
            self.encoder.embeddings.modality_of(pixels.shape[1]),
        )
        assert predicted.last_hidden_state is not None
        return predicted.last_hidden_state

    def _predict(
        self, pixels: Tensor, mask: Masks | PackedMasks, grid: TokenGrid, modality: Modality
    ) -> PredictorOutput:
        visible_ids, hidden_ids = ids_of(mask)
        tokens = read_tokens(self.encoder, pixels, visible_ids, levels=self.levels)
        return self.predictor.predict(
            tokens, visible_ids, hidden_ids, grid=grid, mask_index=MASK_INDEX, modality=modality
        )

    def _errors(
        self,
        pixels: Tensor,
        targets: Tensor,
        mask: Masks | PackedMasks,
        grid: TokenGrid,
        modality: Modality,
    ) -> tuple[Tensor, Tensor | None]:
        # The networks look at ids on the CPU without waiting for the device, and move them.
        predicted = self._predict(pixels, mask, grid, modality)
        assert predicted.last_hidden_state is not None
        visible_ids, hidden_ids = ids_of(mask.to(targets.device, non_blocking=True))
        hidden = prediction_error(
            predicted.last_hidden_state, tokens_of(targets, hidden_ids), exponent=self.exponent
        )
        if predicted.context_hidden_state is None:
            return hidden, None
        weights = None
        if self.distance_weights:
            unit = self.distance_unit or max(1, grid.h // 16)
            weights = context_weights(context_distances(visible_ids, hidden_ids, grid, unit=unit))
        visible = prediction_error(
            predicted.context_hidden_state,
            tokens_of(targets, visible_ids),
            exponent=self.exponent,
            weights=weights,
        )
        return hidden, visible


def _touch_both_modalities(embeddings: nn.Module, inputs: Any, tokens: Tensor) -> Tensor:
    """Tokens, joined by 0 times the weights of which some are only for clips, some for images.

    V-JEPA 2.1 embeds clips and images by different weights. A micro-batch is one of the two, and
    a wrapper that averages gradients over processes waits for one of every weight. As a hook of
    the embeddings this runs while FSDP2 has their whole weights together.
    """
    if not torch.is_grad_enabled():
        return tokens
    for name, parameter in embeddings.named_parameters():
        if parameter.requires_grad and name.startswith(("patch_embeddings", "modality.")):
            tokens = tokens + (0.0 * parameter.sum()).to(tokens.dtype)
    return tokens


def ids_of(mask: Masks | PackedMasks) -> tuple[Tensor, Tensor] | tuple[PackedIds, PackedIds]:
    """Ids of the visible and of the hidden tokens, as encoder and predictor take them."""
    if isinstance(mask, PackedMasks):
        return mask.context, mask.target
    return mask.context_ids, mask.target_ids


def tokens_of(tokens: Tensor, ids: Tensor | PackedIds) -> Tensor:
    """Tokens [B, N, D] at ids [B, M]: [B, M, D]; at packed ids: [1, sum M, D]."""
    if not isinstance(ids, PackedIds):
        return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))
    lengths = torch.tensor(ids.lengths, device=tokens.device)
    starts = torch.arange(len(tokens), device=tokens.device) * tokens.shape[1]
    at = ids.ids + starts.repeat_interleave(lengths, output_size=len(ids.ids))
    return tokens.flatten(0, 1)[at][None]
