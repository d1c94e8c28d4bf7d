"""Everything that decides a pretraining run, as one frozen configuration.

Recipes (`vjepa2.recipes`) return one; `--set optim.layer_decay=0.9` changes it; the resolved one
is written into the run's folder and its checkpoints.
"""

import os
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import ConfigError
from vjepa2.masking import MaskConfig, published_masks
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.strict_config import StrictConfig
from vjepa2.training.health import HealthConfig
from vjepa2.training.optim import OptimConfig
from vjepa2.training.schedules import ScheduleConfig
from vjepa2.video.sampling import MAX_CLIP_FRAMES, MIN_FPS

MAX_SEED = (1 << 48) - 1
MAX_BATCH = 1 << 20
MAX_SIDE = 1 << 14

Truncation = Literal["batch", "micro_batch", "none"]


class NetworkConfig(StrictConfig):
    """Size and variant of a fresh encoder and predictor.

    Attributes:
        variant: "vjepa2", or "vjepa2_1" (several levels, context loss, still images).
        hidden_size, num_layers, num_heads, mlp_ratio: the encoder.
        pred_hidden_size, pred_num_layers, pred_num_heads: the predictor.
        pred_num_mask_tokens: learned mask tokens; pretraining uses the first, released weights
            have 10 (V-JEPA 2) and 8 (2.1).
        patch_size, tubelet_size: pixels and frames of one token.
        in_chans: channels of a frame: 3 for colour, 12 for a satellite, 1 for ultrasound.
        levels: V-JEPA 2.1: encoder blocks (0-based) with a norm of their own, the last included;
            None: the published ones for this depth.
        pred_num_levels: V-JEPA 2.1: None predicts all levels, 1 only the last (distillation).
        pred_output_size: V-JEPA 2.1: width of a predicted level, a teacher's; None: `hidden_size`.
        drop_path_rate: stochastic depth of the student, 0 in every published recipe.
        initializer_range: standard deviation of fresh weights.
    """

    variant: Literal["vjepa2", "vjepa2_1"] = "vjepa2"
    hidden_size: int = Field(192, ge=1)
    num_layers: int = Field(12, ge=1)
    num_heads: int = Field(3, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    pred_hidden_size: int = Field(384, ge=1)
    pred_num_layers: int = Field(12, ge=1)
    pred_num_heads: int = Field(12, ge=1)
    pred_num_mask_tokens: int = Field(10, ge=1)
    patch_size: int = Field(16, ge=1)
    tubelet_size: int = Field(2, ge=1)
    in_chans: int = Field(3, ge=1)
    levels: tuple[int, ...] | None = None
    pred_num_levels: int | None = None
    pred_output_size: int | None = None
    drop_path_rate: float = Field(0.0, ge=0, lt=1)
    initializer_range: float = Field(0.02, gt=0)

    @model_validator(mode="after")
    def _has_levels(self) -> Self:
        names = ("levels", "pred_num_levels", "pred_output_size")
        given = [name for name in names if getattr(self, name) is not None]
        if given and self.variant == "vjepa2":
            raise ConfigError(
                f"{' and '.join(given)} belong to V-JEPA 2.1: leave them out, or set variant to "
                "'vjepa2_1'"
            )
        return self

    def network(self, *, crop_size: int, num_frames: int) -> VJEPA2Config:
        """Configuration of the model; crop and frames are only what its processor makes."""
        own: dict[str, object] = {}
        if self.variant == "vjepa2_1":
            own = {
                "hierarchical_layers": None if self.levels is None else list(self.levels),
                "pred_num_levels": self.pred_num_levels,
                "pred_output_size": self.pred_output_size,
                "pred_rescale_positions": True,  # as the published training configuration
            }
        return VJEPA2Config(
            model_type=self.variant,
            crop_size=crop_size,
            frames_per_clip=num_frames,
            patch_size=self.patch_size,
            tubelet_size=self.tubelet_size,
            in_chans=self.in_chans,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            drop_path_rate=self.drop_path_rate,
            pred_hidden_size=self.pred_hidden_size,
            pred_num_hidden_layers=self.pred_num_layers,
            pred_num_attention_heads=self.pred_num_heads,
            pred_num_mask_tokens=self.pred_num_mask_tokens,
            initializer_range=self.initializer_range,
            **own,
        )


class ClipConfig(StrictConfig):
    """Geometry of the clips, and how many make an update.

    Attributes:
        num_frames: T of a clip, for sources that do not say otherwise.
        crop_size: side of the square frames, pixels.
        batch_size: clips of one update, over all processes.
        micro_batch: clips in memory at once on one process; None: all of its share. Gradients
            are summed over micro-batches, so this changes memory, not the result, as long as
            masks are not cut within "micro_batch" (there the share of the first start is
            settled and stored) and nothing in the network is left to chance (`drop_path_rate`,
            dropout of adapters), which is drawn per micro-batch.
    """

    num_frames: int = Field(16, ge=1, le=MAX_CLIP_FRAMES)
    crop_size: int = Field(256, ge=1, le=MAX_SIDE)
    batch_size: int = Field(24, ge=1, le=MAX_BATCH)
    micro_batch: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ConfigError(
                f"micro_batch={self.micro_batch} must divide batch_size={self.batch_size}: set it "
                "too, or to null"
            )
        return self


class ImageConfig(StrictConfig):
    """Still images trained along with the clips (V-JEPA 2.1, section 3).

    Attributes:
        data: lists and folders of images.
        crop_size, batch_size, micro_batch: as for clips.
        cooldown_crop_size: side during the cool-down; None: `crop_size`.
        masks: how tokens of an image are hidden.
        share: of the loss, that comes from images; the rest is that of the clips. Published code
            gives the images half of the processes, which weights the two losses alike.
        context_weight: final lambda of the context loss on images (paper 0.7, released
            configurations 0.5).
    """

    data: DataConfig
    crop_size: int = Field(256, ge=1, le=MAX_SIDE)
    cooldown_crop_size: int | None = Field(None, ge=1, le=MAX_SIDE)
    batch_size: int = Field(24, ge=1, le=MAX_BATCH)
    micro_batch: int | None = Field(None, ge=1)
    masks: tuple[MaskConfig, ...]
    share: float = Field(0.5, gt=0, lt=1)
    context_weight: float = Field(0.5, ge=0)


class ObjectiveConfig(StrictConfig):
    """What is minimised, see `vjepa2.losses`.

    Attributes:
        exponent: p of |error|^p / p; 1 in every published recipe.
        context_weight: final lambda of the context loss; 0 for V-JEPA 2, which has none.
        context_rise: shares of the run between which lambda rises from 0; None: constant.
        distance_weights: whether visible tokens far from hidden ones count less.
        distance_unit: tokens that count as distance 1; None: `grid.h // 16`, the published option.
        teacher: name or folder of a frozen model to distil from; None: the average of the student
            itself teaches. With a frozen teacher the average is still kept, and is the result.
    """

    exponent: float = Field(1.0, ge=1)
    context_weight: float = Field(0.0, ge=0)
    context_rise: tuple[float, float] | None = None
    distance_weights: bool = True
    distance_unit: float | None = Field(1.0, gt=0)
    teacher: str | None = None

    @model_validator(mode="after")
    def _rises(self) -> Self:
        rise = self.context_rise
        if rise is not None and not 0 <= rise[0] < rise[1] <= 1:
            raise ConfigError(f"context_rise must be two shares of the run, rising, got {rise}")
        return self


class AdapterConfig(StrictConfig):
    """Low-rank adapters in the encoder (LoRA), for continued pretraining with little memory.

    Attributes:
        rank: of the added matrices.
        alpha: they are scaled by alpha / rank.
        dropout: of their input.
        targets: layers of the encoder that get one, by the last part of their names.
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("query", "value")


class RuntimeConfig(StrictConfig):
    """How a run is computed; nothing here changes what is learned, up to rounding.

    Attributes:
        device: "auto", "cpu", "cuda", ...; with torchrun every process takes its own.
        dtype: "float32", or "bfloat16": matrix products under autocast, weights in float32.
        compile: `torch.compile` of the blocks.
        recompute: keep no activations inside blocks, compute them again in the backward pass.
        sharding: "none" for one process; "ddp" a copy of the weights per process; "fsdp2" weights,
            gradients and optimizer spread over the processes. "auto": none or ddp.
        checkpoint_every: updates from one checkpoint to the next.
        keep_checkpoints: the newest ones that stay (and the best and the last healthy one).
        tensorboard: also write event files for TensorBoard.
    """

    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    recompute: bool = False
    sharding: Literal["auto", "none", "ddp", "fsdp2"] = "auto"
    checkpoint_every: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False


class PretrainConfig(StrictConfig):
    """One pretraining run.

    A recipe may leave `start_from` and the sources of `data` open; `check_complete` tells.

    Attributes:
        recipe: name of the recipe this came from.
        seed: of weights, order, moments, crops and masks.
        network: a fresh one; None takes that of `start_from`.
        start_from: a published name, a folder, a file, or the folder of another run: continue
            from its encoder, predictor and average. The schedule begins anew. A run's optimizer
            goes on too, as in the published cool-down, if both train the same parameters;
            otherwise it begins anew and the run says so. If one of the two trains adapters, the
            encoder starts from the other run's average.
        data: lists, folders and shards of videos.
        fps: clip frames per second of sources that are named without a rate (`with_data`).
        augment: random crops and flips, mean and deviation.
        clip: geometry and batch.
        cooldown_clip: the same during the cool-down (longer and larger clips); None: `clip`.
        images: still images beside the clips; only V-JEPA 2.1.
        masks: every one is applied to every clip.
        truncation: masks of a batch differ in their number of tokens. "batch" cuts them to the
            shortest of the whole batch, "micro_batch" to that of each micro-batch (published: what
            one GPU holds), "none" uses every token (joined without padding).
        fit_masks: hide fewer blocks where a small grid would leave nothing visible.
        objective, optim, schedule, health, runtime: see there.
        adapters: train adapters in the encoder instead of all its weights; needs `start_from`.
    """

    recipe: str = "custom"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    network: NetworkConfig | None = NetworkConfig()
    start_from: str | None = None
    data: DataConfig = DataConfig()
    fps: float = Field(4.0, ge=MIN_FPS)
    augment: AugmentConfig = AugmentConfig()
    clip: ClipConfig = ClipConfig()
    cooldown_clip: ClipConfig | None = None
    images: ImageConfig | None = None
    masks: tuple[MaskConfig, ...] = Field(default_factory=published_masks)
    truncation: Truncation = "batch"
    fit_masks: bool = True
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    health: HealthConfig = HealthConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    adapters: AdapterConfig | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Refuse settings that contradict each other before any work is done."""
        if self.network is not None and self.start_from is not None:
            raise ConfigError(
                "network makes a fresh network and start_from takes one that exists: set network "
                "to null, or leave start_from out"
            )
        if not self.masks:
            raise ConfigError("masks is empty: with nothing hidden there is nothing to predict")
        if self.adapters is not None and self.network is not None:
            raise ConfigError(
                "adapters leave the encoder's own weights as they are; fresh ones would stay "
                "random. Set network to null and start_from to a trained model"
            )
        network = self.network
        if network is None:
            return self
        self.check_fits(
            variant=network.variant,
            in_chans=network.in_chans,
            patch_size=network.patch_size,
            tubelet_size=network.tubelet_size,
        )
        if network.pred_output_size is not None and self.objective.teacher is None:
            raise ConfigError(
                "network.pred_output_size is the width of a frozen teacher: set objective.teacher"
            )
        return self

    def check_fits(
        self, *, variant: str, in_chans: int, patch_size: int, tubelet_size: int
    ) -> None:
        """Raise `ConfigError` for what contradicts the network, a fresh or a loaded one.

        Args:
            variant: "vjepa2" or "vjepa2_1".
            in_chans, patch_size, tubelet_size: of the network.
        """
        if in_chans != self.augment.num_channels:
            raise ConfigError(
                f"the network reads {in_chans} channels, but augment.mean and augment.std have "
                f"{self.augment.num_channels} numbers: one per channel is needed"
            )
        sizes = [("patch_size", patch_size, "crop_size", self.clip.crop_size)]
        sizes.append(("tubelet_size", tubelet_size, "num_frames", self.clip.num_frames))
        if (later := self.cooldown_clip) is not None:
            sizes.append(("patch_size", patch_size, "crop_size", later.crop_size))
            sizes.append(("tubelet_size", tubelet_size, "num_frames", later.num_frames))
        if (images := self.images) is not None:
            for side in (images.crop_size, images.cooldown_crop_size or images.crop_size):
                sizes.append(("patch_size", patch_size, "crop_size", side))
        for unit_name, unit, name, size in sizes:
            if size % unit:
                raise ConfigError(f"{name}={size} must be a multiple of the {unit_name}, {unit}")
        if variant == "vjepa2" and (self.objective.context_weight or self.images):
            raise ConfigError(
                "objective.context_weight and images belong to V-JEPA 2.1, and the network is "
                "V-JEPA 2: leave them out, or take a network of variant 'vjepa2_1'"
            )
        for source in self.data.sources:
            check_source_length(source, tubelet_size, self)

    def check_complete(self) -> None:
        """Raise `ConfigError` for what a recipe leaves open and a run needs."""
        if self.network is None and self.start_from is None:
            raise ConfigError(
                f"Recipe {self.recipe!r} goes on from a model: set start_from to a published "
                "name, a folder, or the folder of a run."
            )
        if not self.data.sources:
            raise ConfigError(
                "There is nothing to learn from: data.sources is empty. Give a folder or a list "
                "of videos (--data)."
            )
        if self.images is not None and not self.images.data.sources:
            raise ConfigError(
                f"Recipe {self.recipe!r} also learns from still images: set images.data.sources "
                '(such as [{"path": "FOLDER", "kind": "image"}]), or images to null.'
            )


def check_source_length(source: SourceConfig, tubelet_size: int, config: PretrainConfig) -> None:
    """Refuse clips of a source's own length where they cannot be trained with the others.

    Raises:
        ConfigError: see the message.
    """
    length = source.num_frames
    if length is None or length == config.clip.num_frames:
        return
    where = f"source {source.path!r} has num_frames={length}, the run {config.clip.num_frames}"
    if length % tubelet_size:
        raise ConfigError(f"{where}: it must be a multiple of the tubelet_size, {tubelet_size}")
    for name, is_set in (
        ("truncation='none'", config.truncation == "none"),
        ("a cooldown_clip", config.cooldown_clip is not None),
        ("sharding='fsdp2'", config.runtime.sharding == "fsdp2"),
    ):
        if is_set:
            raise ConfigError(f"{where}: clips of several lengths do not go with {name}")


def with_data(config: PretrainConfig, paths: Sequence[str]) -> PretrainConfig:
    """The same run on other videos: folders, lists or shards, read at `config.fps`."""
    # Absolute: a run goes on from wherever it is started again.
    sources = [
        SourceConfig(path=os.path.abspath(path), fps=config.fps).model_dump()  # noqa: PTH100
        for path in paths
    ]
    values = config.model_dump()
    values["data"]["sources"] = sources
    return PretrainConfig(**values)
