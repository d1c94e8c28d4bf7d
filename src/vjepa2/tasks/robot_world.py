"""A world model that encodes frames, and moves states, as it was trained."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import RobotStatistics
from vjepa2.errors import ConfigError, ShapeError
from vjepa2.models.action_model import VJEPA2ActionModel, normed
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.world_model import DEFAULT_MEMORY_BYTES, ActionWorldModel, Situation
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.world_model_config import FramesMode, MultiCamera

PUBLISHED_FPS = 4.0
PUBLISHED_FRAMES = 8


class WorldFile(StrictConfig):
    """What `world.json` holds.

    Attributes:
        fps: steps per second.
        num_frames: of the samples that it was trained on: longer rollouts were never seen.
        cameras: names; empty: whichever the recordings have.
        multi_camera, frames_mode: see `world_model_config`.
        statistics: of states and actions in the recordings.
        encoder: what its frames are encoded by, in words.
        validation: the last measurement on held-out episodes.
        version: of this layout.
    """

    fps: float = Field(PUBLISHED_FPS, gt=0)
    num_frames: int = Field(PUBLISHED_FRAMES, ge=2)
    cameras: tuple[str, ...] = ()
    multi_camera: MultiCamera = "sampled"
    frames_mode: FramesMode = "each"
    statistics: RobotStatistics | None = None
    encoder: str = ""
    validation: dict[str, float] | None = None
    version: int = Field(1, ge=1, le=1)

    @property
    def num_views(self) -> int:
        """Pictures whose tokens make up one frame."""
        return max(1, len(self.cameras)) if self.multi_camera == "tokens" else 1


@torch.no_grad()
def encode_steps(
    encoder: VJEPA2Encoder, frames: Float[Tensor, "T C H W"], mode: FramesMode
) -> Float[Tensor, "T N D"]:
    """Features of every frame, layer-normed without weights.

    Args:
        encoder: frozen.
        frames: normalised pixels, one after the other in time.
        mode: "each" encodes a frame as a clip of equal frames (V-JEPA 2-AC); "causal_clip" as the
            clip that ends with it, the first frame of all repeated.
    """
    length = encoder.config.tubelet_size
    if mode == "each":
        clips = frames[:, None].expand(-1, length, -1, -1, -1)
    else:
        ends = torch.arange(len(frames))[:, None]
        before = (ends + torch.arange(1 - length, 1)).clamp_min(0)
        clips = frames[before.to(frames.device)]
    return normed(encoder(clips).last_hidden_state)


class RobotWorld(ActionWorldModel):
    """`ActionWorldModel` that encodes frames as the model was trained.

    Args:
        model: in evaluation mode.
        spec: of the robot; says what an action does to the state.
        settings: of the model.
        memory_bytes, dtype: see `ActionWorldModel`.

    Raises:
        ConfigError: the model has actions or states of another size than the robot.
    """

    def __init__(
        self,
        model: VJEPA2ActionModel,
        *,
        spec: RobotSpec,
        settings: WorldFile,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = model.config.action_size, model.config.state_size
        if sizes != (spec.action_size, spec.state_size):
            raise ConfigError(
                f"The model has actions and states of {sizes[0]} and {sizes[1]} numbers, the robot "
                f"of {spec.action_size} ({', '.join(spec.state_names)}): they do not belong "
                "together."
            )
        super().__init__(
            model, update_state=spec.update_state, memory_bytes=memory_bytes, dtype=dtype
        )
        self.settings = settings

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "T C H W"]) -> Float[Tensor, "T N D"]:
        """Features of frames, layer-normed.

        Args:
            frames: normalised pixels, one after the other in time; of models that see several
                cameras at once, their pictures one below the other (`LoadedWorld.pixels`).

        Raises:
            ShapeError, DtypeError: not [T, C, H, W] finite floats.
        """
        if self.settings.frames_mode == "each" and self.settings.num_views == 1:
            return super().encode(frames)
        views = self._views(frames)
        with self._computing(frames):
            encoded = [
                encode_steps(self.model.encoder, view, self.settings.frames_mode) for view in views
            ]
        return torch.cat(encoded, dim=1).to(self.model.dtype)

    def begin(
        self,
        latents: Float[Tensor, "T N D"],
        states: Float[Tensor, "T K"],
        actions: Float[Tensor, "T1 A"] | None = None,
        *,
        grid: tuple[int, int] | None = None,
    ) -> Situation:
        """See `ActionWorldModel.begin`; several cameras lie one below the other in the grid."""
        views = self.settings.num_views
        if grid is None and views > 1:
            tokens = latents.shape[1] // views
            side = round(tokens**0.5)
            grid = views * side, side
        return super().begin(latents, states, actions, grid=grid)

    def _views(self, frames: Tensor) -> Sequence[Tensor]:
        views = self.settings.num_views
        if frames.ndim != 4 or frames.shape[2] % views:
            raise ShapeError(
                f"frames must be pixels [T, C, H, W] with {views} cameras one below the other, got "
                f"{list(frames.shape)}."
            )
        return frames.chunk(views, dim=2)
