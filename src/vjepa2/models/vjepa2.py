"""`VJEPA2Model`: encoder and predictor behind the interface of the Hugging Face port."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vjepa2.errors import ConfigError, check_option_names
from vjepa2.models.checks import check_ids, check_mask_pairs, check_switch
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.outputs import (
    HiddenLevels,
    VJEPA2WithMaskedInputModelOutput,
    VJEPA2WithMaskedInputPredictorOutput,
    levels_that_exist,
    listed_levels,
)
from vjepa2.models.predictor import VJEPA2Predictor, tokens_at
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.nn.init import init_weights

FORWARD_OPTIONS = (
    "context_mask",
    "target_mask",
    "skip_predictor",
    "mask_index",
    "output_levels",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
)


class VJEPA2Model(PretrainedModel):
    """Encoder and masked predictor.

    Equal to the port wherever the input is valid for both. Beyond it: positions come from the
    input's own grid at every resolution, several masks at once work, one of the two masks may be
    given alone, and unknown arguments are refused.

    With `config.model_type` "vjepa2_1" the same class is V-JEPA 2.1: `last_hidden_state` is the
    last level, the predictor reads and predicts all of `config.predictor_levels` side by side, and
    one frame [B, 1, C, H, W] is a still image.
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        if config.model_type == "vjepa2_ac":
            raise ConfigError(
                "model_type 'vjepa2_ac' has an action-conditioned predictor, which takes actions "
                "and states: use VJEPA2ActionModel."
            )
        self.encoder = VJEPA2Encoder(config)
        self.predictor = VJEPA2Predictor(config)
        init_weights(self, std=float(config.initializer_range))

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.encoder.embeddings.patch_embeddings

    def forward(
        self,
        pixel_values_videos: Tensor,
        context_mask: list[Tensor] | None = None,
        target_mask: list[Tensor] | None = None,
        skip_predictor: bool = False,
        *,
        mask_index: int = 1,
        output_levels: Sequence[int] = (),
        output_hidden_states: HiddenLevels = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **unknown: Any,
    ) -> VJEPA2WithMaskedInputModelOutput | tuple[Any, ...]:
        """Encode clips and predict the tokens of the target masks from those of the context masks.

        Args:
            pixel_values_videos: [B, T, C, H, W] normalised pixels (the processor's output).
            context_mask: list of [B, K] int64 ids the predictor sees; default: all tokens.
            target_mask: list of [B, M] int64 ids it predicts; default: all tokens. Mask j of one
                list belongs to mask j of the other; the results are joined on the batch axis.
            skip_predictor: only encode.
            mask_index: see `VJEPA2Predictor.predict`; 1 equals the port, 0 is the trained token,
                other numbers wrap around.
            output_levels: encoder blocks whose tokens to return normed, as
                `level_hidden_states`; see `VJEPA2Encoder.forward`.
            output_hidden_states, output_attentions: see `VJEPA2Encoder.forward`; they fill the
                fields of the encoder and of `predictor_output` (of listed levels those that the
                predictor has). Default: the configuration's.
            return_dict: False returns plain tuples all the way down. Default: configuration's.

        Raises:
            ShapeError, DtypeError: the pixels are not [B, T, C, H, W] finite floats.
            MaskError: masks are not lists of [B, n] ids inside the clip.
            InputError: a level in `output_hidden_states` or `output_levels` does not exist, or an
                argument is of another type.
            UnknownOptionError: an argument does not exist.
        """
        check_option_names("VJEPA2Model.forward", unknown, FORWARD_OPTIONS)
        check_switch("skip_predictor", skip_predictor)
        check_switch("output_attentions", output_attentions)
        check_switch("return_dict", return_dict)
        output_levels = listed_levels("output_levels", output_levels)
        config = self.config
        levels = (
            config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        weights = config.output_attentions if output_attentions is None else output_attentions

        # Before the encoder runs: a wrong mask should not cost a minute of encoding first.
        grid = self.encoder.grid(pixel_values_videos)
        clip, batch, num_tokens = pixel_values_videos, pixel_values_videos.shape[0], grid.num_tokens
        context = target = None
        if context_mask is not None:
            context = check_ids(
                "context_mask", context_mask, batch=batch, num_tokens=num_tokens, of=clip
            )
        if target_mask is not None:
            target = check_ids(
                "target_mask", target_mask, batch=batch, num_tokens=num_tokens, of=clip
            )
        num_masks = check_mask_pairs(context, target)

        predictor_levels = () if skip_predictor else config.predictor_levels
        needed_levels = tuple(dict.fromkeys((*predictor_levels, *output_levels)))
        encoded = self.encoder(
            pixel_values_videos,
            output_levels=needed_levels,
            output_hidden_states=levels,
            output_attentions=weights,
        )
        tokens = encoded.last_hidden_state
        normed = dict(zip(needed_levels, encoded.level_hidden_states or (), strict=True))
        predictor_output = None
        if not skip_predictor:
            seen = tokens
            if predictor_levels:
                seen = torch.cat([normed[block] for block in predictor_levels], dim=-1)
            predicted = self.predictor(
                seen,
                context,
                target,
                grid=grid,
                mask_index=mask_index,
                modality=self.encoder.embeddings.modality_of(pixel_values_videos.shape[1]),
                output_hidden_states=levels_that_exist(
                    levels, num_levels=len(self.predictor.layer) + 1
                ),
                output_attentions=weights,
            )
            predictor_output = VJEPA2WithMaskedInputPredictorOutput(
                last_hidden_state=predicted.last_hidden_state,
                target_hidden_state=tokens_at(seen, target, num_masks=num_masks),
                hidden_states=predicted.hidden_states,
                attentions=predicted.attentions,
                context_hidden_state=predicted.context_hidden_state,
            )
        output = VJEPA2WithMaskedInputModelOutput(
            last_hidden_state=tokens,
            masked_hidden_state=tokens_at(
                tokens, context, num_masks=1 if skip_predictor else num_masks
            ),
            predictor_output=predictor_output,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            level_hidden_states=tuple(normed[block] for block in output_levels) or None,
        )
        as_dict = config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def get_vision_features(self, pixel_values_videos: Tensor) -> Tensor:
        """Encoder tokens [B, N, D] of clips [B, T, C, H, W]; the predictor does not run."""
        tokens: Tensor = self.encoder(pixel_values_videos).last_hidden_state
        return tokens
