"""What will happen, from an encoder, its predictor and a probe (arXiv:2506.09985, section 6).

    pixels --encoder--> E [B, N, D] --predictor at a tubelet after the clip--> P [B, M, D]
                        [E ; P] --probe--> scores of what begins then

The predictor fills in tokens of time steps that the clip does not have. `AnticipationTokens` makes
[E ; P]; `Anticipator` puts a probe on top.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vjepa2.errors import ConfigError, InputError, ShapeError, check_kind, checked_number
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.probe import ProbeOutput, VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.modality import Modality
from vjepa2.shapes import TokenGrid
from vjepa2.strict_config import StrictConfig

TokenChoice = Literal["both", "encoder", "predictor"]
MOST_SECONDS = 1e5
_ROUNDING = 1e-6  # 0.6 s at 10 frames per second are three tubelets, whatever floats make of it


class AnticipationSettings(StrictConfig):
    """How the future is filled in. The defaults are the published ones, but for `positions`.

    Attributes:
        tokens: what the probe reads: "both", [E ; P]; "encoder", E alone (the published switch
            no_predictor); "predictor", P alone (no_encoder).
        way: "direct" asks for the tubelet at once; "rollout" predicts every tubelet on the way
            there, each from those before.
        num_output_frames: frames of the future that are predicted in one step: a multiple of the
            tubelet, or less, which is one tubelet.
        num_steps: steps, from that tubelet on; each adds its tokens to the window that the next
            one reads, whose first tokens are dropped.
        positions: of the window after a step: "shifted", every token keeps its time; "published",
            the window is numbered 0 to N - 1 again, as the original does, so that a prediction
            three tubelets ahead counts as the next one. Without a jump the two are the same.
        mask_index: which mask token stands for the future; 1 is the published one and 0 the one
            that was trained, see `VJEPA2Predictor.predict`.
    """

    tokens: TokenChoice = "both"
    way: Literal["direct", "rollout"] = "direct"
    num_output_frames: int = Field(2, ge=1)
    num_steps: int = Field(1, ge=1, le=1024)
    positions: Literal["shifted", "published"] = "shifted"
    mask_index: int = 1


class EncodedClip(NamedTuple):
    """Clips, encoded once for any number of horizons.

    Attributes:
        tokens: [B, N, D] last level, what the probe reads.
        context: [B, N, D], what the predictor reads: in V-JEPA 2.1 several levels side by side.
        grid: of the clip.
        modality: what the tokens are made of.
    """

    tokens: Float[Tensor, "B N D"]
    context: Float[Tensor, "B N LD"]
    grid: TokenGrid
    modality: Modality


class AnticipationTokens(nn.Module):
    """Tokens of clips and of their future.

    Args:
        model: encoder and predictor; V-JEPA 2 or 2.1.
        settings: see `AnticipationSettings`.
        fps: frames of a clip per second; says which tubelet a time is in.

    In V-JEPA 2.1 the predictor reads and predicts several levels side by side, the last level last;
    the probe reads the last D channels of a prediction. Distilled 2.1 models predict their
    teacher's tokens, wider than D: of these too the last D channels are read, as published.

    Raises:
        ConfigError: the frames to predict are no multiple of the tubelet, or a wrong kind of model.
    """

    def __init__(
        self, model: VJEPA2Model, settings: AnticipationSettings | None = None, *, fps: float
    ) -> None:
        super().__init__()
        settings = AnticipationSettings() if settings is None else settings
        check_kind("model", model, VJEPA2Model, words="a VJEPA2Model")
        check_kind("settings", settings, AnticipationSettings, words="AnticipationSettings")
        self.model = model
        self.settings = settings
        self.fps = checked_number("fps", fps, above=0)
        tubelet = model.config.tubelet_size
        num_frames = max(settings.num_output_frames, tubelet)
        if num_frames % tubelet:
            raise ConfigError(
                f"num_output_frames={settings.num_output_frames} is no multiple of the model's "
                f"tubelet of {tubelet} frames. Set it to {tubelet} for one step in time."
            )
        self._tubelets = num_frames // tubelet

    @property
    def config(self) -> VJEPA2Config:
        """That of the model."""
        return self.model.config

    def steps_until(self, seconds: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many tubelets lie between the clip and the one that holds a time after its end."""
        per_second = self.fps / self.config.tubelet_size
        return (seconds.double() * per_second + _ROUNDING).to(torch.int64)

    def encode(self, pixel_values_videos: Float[Tensor, "B T C H W"]) -> EncodedClip:
        """Encode clips. Errors as those of `VJEPA2Encoder.forward`."""
        encoder, levels = self.model.encoder, self.config.predictor_levels
        grid = encoder.grid(pixel_values_videos)
        needed = levels if self.settings.tokens != "encoder" else ()
        encoded = encoder(pixel_values_videos, output_levels=needed)
        tokens: Tensor = encoded.last_hidden_state
        context = torch.cat(encoded.level_hidden_states, dim=-1) if needed else tokens
        modality = encoder.embeddings.modality_of(pixel_values_videos.shape[1])
        return EncodedClip(tokens, context, grid, modality)

    def future(self, encoded: EncodedClip, seconds: Tensor | float) -> Float[Tensor, "B M D"]:
        """Predict tokens of the future.

        Args:
            encoded: clips.
            seconds: [B] or one number, 0 or more: from the end of the clip (when its last frame
                is over) to the event.

        Returns:
            [B, M, D], M = h * w * num_output_frames / tubelet * num_steps.

        Raises:
            ShapeError, InputError: `seconds` is not [B] finite numbers of 0 or more.
            ConfigError: several steps of a model whose predictions it cannot read itself.
        """
        checked = _checked_seconds(seconds, encoded.tokens)
        skipped = self.steps_until(checked)
        if self.settings.way == "direct":
            return self._steps(encoded, skipped, num_steps=self.settings.num_steps)
        wanted = self._tubelets * self.settings.num_steps
        total = int(skipped.max()) + wanted
        one_by_one = self._steps(encoded, torch.zeros_like(skipped), num_steps=total, tubelets=1)
        per_step = encoded.grid.tokens_per_step
        ids = torch.arange(wanted * per_step, device=one_by_one.device)
        ids = ids + (skipped * per_step).to(ids.device)[:, None]
        return one_by_one.gather(1, ids[..., None].expand(-1, -1, one_by_one.shape[-1]))

    def read(self, encoded: EncodedClip, seconds: Tensor | float) -> Float[Tensor, "B N_M D"]:
        """What the probe reads: [E ; P], or one of them. Arguments and errors as in `future`."""
        if self.settings.tokens == "encoder":
            _checked_seconds(seconds, encoded.tokens)
            return encoded.tokens
        predicted = self.future(encoded, seconds)
        if self.settings.tokens == "predictor":
            return predicted
        return torch.cat([encoded.tokens, predicted], dim=1)

    def forward(
        self, pixel_values_videos: Float[Tensor, "B T C H W"], seconds: Tensor | float
    ) -> Float[Tensor, "B N_M D"]:
        """`read` of `encode`."""
        return self.read(self.encode(pixel_values_videos), seconds)

    def _steps(
        self,
        encoded: EncodedClip,
        skipped: Int[Tensor, " B"],
        *,
        num_steps: int,
        tubelets: int | None = None,
    ) -> Float[Tensor, "B M D"]:
        """Predict step after step, the first one `skipped` tubelets after the clip."""
        window, grid, device = encoded.context, encoded.grid, encoded.tokens.device
        batch, num_tokens = window.shape[:2]
        width = encoded.tokens.shape[-1]
        num_new = grid.tokens_per_step * (self._tubelets if tubelets is None else tubelets)
        window_ids = torch.arange(num_tokens, device=device).expand(batch, -1)
        first = num_tokens + grid.tokens_per_step * skipped.to(device)
        target_ids = torch.arange(num_new, device=device) + first[:, None]
        found = []
        for step in range(num_steps):
            predicted = self.model.predictor.predict(
                window,
                window_ids,
                target_ids,
                grid=grid,
                mask_index=self.settings.mask_index,
                modality=encoded.modality,
            ).last_hidden_state
            assert predicted is not None
            last = predicted[..., -width:]
            found.append(last)
            if step + 1 == num_steps:
                break
            added = predicted if predicted.shape[-1] == window.shape[-1] else last
            if added.shape[-1] != window.shape[-1]:
                raise ConfigError(
                    f"This model predicts tokens {predicted.shape[-1]} wide and reads "
                    f"{window.shape[-1]}, so it cannot go on from its own predictions. Set "
                    "num_steps=1 and way='direct'."
                )
            window = torch.cat([window, added], dim=1)[:, num_new:]
            if self.settings.positions == "shifted":
                # The window begins at 0 again, where the predictor was trained; the distances
                # between its tokens, and to the next target, stay true.
                window_ids = torch.cat([window_ids, target_ids], dim=1)[:, num_new:] - num_new
        return torch.cat(found, dim=1)


class Anticipator(nn.Module):
    """Scores of what comes, for any horizon.

    Args:
        model: encoder and predictor.
        probe: reads their tokens; one head, or several (verb, noun, action).
        settings, fps: see `AnticipationTokens`.

    Raises:
        ConfigError: the probe is for another width, or reads several levels of the encoder.
    """

    def __init__(
        self,
        model: VJEPA2Model,
        probe: VJEPA2AttentiveProbe,
        settings: AnticipationSettings | None = None,
        *,
        fps: float,
    ) -> None:
        super().__init__()
        check_kind("probe", probe, VJEPA2AttentiveProbe, words="a VJEPA2AttentiveProbe")
        self.tokens = AnticipationTokens(model, settings, fps=fps)
        own, other = model.config.hidden_size, probe.config.hidden_size
        if own != other:
            raise ConfigError(
                f"The probe reads tokens {other} wide, the model's are {own} wide: it was trained "
                "on another encoder. Load the model that belongs to it."
            )
        if len(probe.config.pooler_levels or [0]) > 1:
            raise ConfigError(
                f"The probe reads encoder blocks {probe.config.pooler_levels}; anticipation reads "
                "the last block and the predictor. Train a probe with pooler_levels=None."
            )
        self.probe = probe

    def forward(
        self,
        pixel_values_videos: Float[Tensor, "B T C H W"],
        seconds: Tensor | float,
        labels: Any = None,
    ) -> ProbeOutput:
        """Score clips for one horizon; labels as in `VJEPA2AttentiveProbe.forward`."""
        tokens = self.tokens(pixel_values_videos, seconds)
        return cast(ProbeOutput, self.probe(tokens, labels, return_dict=True))

    def at_horizons(
        self, pixel_values_videos: Float[Tensor, "B T C H W"], horizons: Sequence[float]
    ) -> list[dict[str, Float[Tensor, "B classes"]]]:
        """Scores by head for several horizons, seconds, from one pass of the encoder.

        A probe with a single head calls it "label".

        Raises:
            InputError: no horizon, or one that is no finite number of 0 or more.
        """
        if not horizons:
            raise InputError("horizons is empty: give seconds into the future, such as [1, 2, 4].")
        encoded = self.tokens.encode(pixel_values_videos)
        found = []
        for horizon in horizons:
            logits = self.probe(self.tokens.read(encoded, horizon), return_dict=True).logits
            found.append(logits if isinstance(logits, dict) else {"label": logits})
        return found


def _checked_seconds(seconds: Tensor | float, tokens: Tensor) -> Float[Tensor, " B"]:
    """Seconds as float64 [B] on the CPU, where whole steps are counted."""
    batch = tokens.shape[0]
    if not isinstance(seconds, Tensor):
        value = checked_number("seconds", seconds, most=MOST_SECONDS, error=InputError)
        seconds = torch.full((batch,), value, dtype=torch.float64)
    if seconds.shape != (batch,):
        raise ShapeError(f"seconds must be [B={batch}], one per clip, got {list(seconds.shape)}.")
    values = seconds.detach().cpu().double()
    if not bool((torch.isfinite(values) & (values >= 0) & (values <= MOST_SECONDS)).all()):
        raise InputError(
            f"seconds must be finite numbers from 0 to {MOST_SECONDS:g}, got {values.tolist()}."
        )
    return values
