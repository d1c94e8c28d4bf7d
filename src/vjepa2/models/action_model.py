"""`VJEPA2ActionModel`: V-JEPA 2-AC, a world model of a robot arm (arXiv:2506.09985, section 3)."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from vjepa2.errors import ConfigError, check_option_names
from vjepa2.models.action_predictor import VJEPA2ActionPredictor, check_conditions
from vjepa2.models.checks import check_layout, check_pixels, check_switch
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.outputs import HiddenLevels, VJEPA2ActionModelOutput
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.nn.init import init_weights
from vjepa2.shapes import TokenGrid

FORWARD_OPTIONS = (
    "actions",
    "states",
    "extrinsics",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
)

# That of PyTorch's LayerNorm, not of the network's own norms: a published constant.
FEATURE_NORM_EPS = 1e-5


def normed(features: Tensor) -> Tensor:
    """Layer norm without weights: the scale on which frames and predictions are compared."""
    return F.layer_norm(features, features.shape[-1:], eps=FEATURE_NORM_EPS)


class VJEPA2ActionModel(PretrainedModel):
    """Encoder of single frames, and predictor of the next frame given action and state.

    The encoder is that of V-JEPA 2 and stays frozen in the published recipe; a new model takes
    it from a checkpoint of V-JEPA 2 with
    `model.encoder.load_state_dict(VJEPA2Model.from_pretrained(name).encoder.state_dict())`.

    A rollout alternates `predict_next` with the actions to try: the last h*w tokens it returns are
    the features of the next frame, and go back in at the end of `tokens`.
    """

    _no_split_modules: ClassVar[tuple[str, ...]] = (
        *PretrainedModel._no_split_modules,
        "VJEPA2ActionPredictorEmbeddings",
    )

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        if config.model_type != "vjepa2_ac":
            raise ConfigError(
                f"VJEPA2ActionModel needs model_type 'vjepa2_ac', got {config.model_type!r}, whose "
                "predictor takes no actions: use VJEPA2Model."
            )
        self.encoder = VJEPA2Encoder(config)
        self.predictor = VJEPA2ActionPredictor(config)
        init_weights(self, std=float(config.initializer_range))

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.encoder.embeddings.patch_embeddings

    def grid(self, pixel_values_videos: Tensor) -> TokenGrid:
        """Token grid of frames [B, T, C, H, W]: one step per *frame*, not per tubelet.

        Raises:
            ShapeError, DtypeError: not a tensor of that layout, or no room for one token.
        """
        check_layout(pixel_values_videos, in_chans=self.config.in_chans)
        _, T, _, H, W = pixel_values_videos.shape
        embed = self.encoder.embeddings.patch_embeddings
        return embed.grid(T * embed.tubelet_size, H, W)

    def encode_frames(self, pixel_values_videos: Tensor) -> Tensor:
        """Features of every frame on its own, layer-normed without weights.

        A frame is encoded as a clip of `tubelet_size` equal frames, as in training; no frame sees
        another.

        Args:
            pixel_values_videos: [B, T, C, H, W] normalised pixels, any T, H, W of at least one
                patch.

        Returns:
            [B, T*h*w, D], frame after frame.

        Raises:
            ShapeError, DtypeError: the pixels are not [B, T, C, H, W] finite floats.
        """
        check_pixels(pixel_values_videos, in_chans=self.config.in_chans)
        num_frames = self.grid(pixel_values_videos).t
        frames = pixel_values_videos.flatten(0, 1)[:, None]
        still_clips = frames.expand(-1, self.config.tubelet_size, -1, -1, -1)
        tokens = self.encoder(still_clips).last_hidden_state
        return normed(tokens.unflatten(0, (-1, num_frames)).flatten(1, 2))

    def predict_next(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None = None,
        *,
        grid: TokenGrid,
    ) -> Tensor:
        """Features of the frame after each frame, layer-normed like those of `encode_frames`.

        Args:
            tokens: [B, t*h*w, D] from `encode_frames`, or from this function.
            actions, states, extrinsics: see `VJEPA2ActionPredictor.forward`.
            grid: `t` the number of frames in `tokens`, h and w as `self.grid(pixels)` says.

        Returns:
            [B, t*h*w, D]; the last h*w tokens are the first frame that is not in `tokens`.

        Raises:
            ShapeError, DtypeError: see `VJEPA2ActionPredictor.forward`.
        """
        predicted = self.predictor(tokens, actions, states, extrinsics, grid=grid)
        return normed(predicted.last_hidden_state)

    def forward(
        self,
        pixel_values_videos: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None = None,
        *,
        output_hidden_states: HiddenLevels = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **unknown: Any,
    ) -> VJEPA2ActionModelOutput | tuple[Any, ...]:
        """Encode frames and predict, for every one of them, the features of the next.

        Args:
            pixel_values_videos: [B, T, C, H, W] normalised pixels, see `encode_frames`.
            actions, states, extrinsics: one row per frame, see `VJEPA2ActionPredictor.forward`.
            output_hidden_states, output_attentions: of the predictor, see there. Default: the
                configuration's.
            return_dict: False returns a plain tuple. Default: the configuration's.

        Raises:
            ShapeError, DtypeError: pixels, actions, states or extrinsics are malformed.
            InputError: a level in `output_hidden_states` does not exist, or an argument is of
                another type.
            UnknownOptionError: an argument does not exist.
        """
        check_option_names("VJEPA2ActionModel.forward", unknown, FORWARD_OPTIONS)
        check_switch("output_attentions", output_attentions)
        check_switch("return_dict", return_dict)
        config = self.config
        # Before the encoder runs: a wrong action should not cost a minute of encoding first.
        grid = self.grid(pixel_values_videos)
        batch = pixel_values_videos.shape[0]
        check_conditions(
            config,
            actions,
            states,
            extrinsics,
            batch=batch,
            num_steps=grid.t,
            of=pixel_values_videos,
        )
        encoded = self.encode_frames(pixel_values_videos)
        predicted = self.predictor(
            encoded,
            actions,
            states,
            extrinsics,
            grid=grid,
            output_hidden_states=(
                config.output_hidden_states
                if output_hidden_states is None
                else output_hidden_states
            ),
            output_attentions=(
                config.output_attentions if output_attentions is None else output_attentions
            ),
        )
        output = VJEPA2ActionModelOutput(
            last_hidden_state=normed(predicted.last_hidden_state),
            encoder_hidden_state=encoded,
            hidden_states=predicted.hidden_states,
            attentions=predicted.attentions,
        )
        as_dict = config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()
