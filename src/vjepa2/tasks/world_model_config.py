"""Configuration of one run that learns a world model of a robot.

    WorldModelTraining(encoder="vjepa2-vitl", robot=RobotSpec(...), data=RobotDataConfig(path=...))

The defaults are those of V-JEPA 2-AC (arXiv:2506.09985, section 3 and appendix B) but for its
scale; `recipes.world_model` has both.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.data.draws import MAX_SEED
from vjepa2.data.robot_layouts import RobotLayout
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import ConfigError
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.pretrain_config import AdapterConfig, RuntimeConfig
from vjepa2.training.health import HealthConfig
from vjepa2.training.optim import OptimConfig
from vjepa2.training.schedules import ScheduleConfig

FramesMode = Literal["each", "causal_clip"]
MultiCamera = Literal["sampled", "tokens"]

PUBLISHED_STEPS = 94_500
PUBLISHED_RAMP = 4_500  # updates of the warm-up, and of the cool-down


class RobotDataConfig(StrictConfig):
    """Recordings, and how samples are cut from them.

    Attributes:
        path: of a data set, see `data.robot_layouts`; None while a recipe leaves it open.
        layout: "auto" finds out.
        fps: steps per second that the model learns: one action leads from one to the next.
        phases: a recording of a higher rate is read this many times, beginning with its first,
            second, ... state, so that more of its frames are used; the disk holds all of them.
        num_frames: T of a sample (published code 8, paper 16).
        cameras: those that are learned from; empty: the one of the robot's specification.
        multi_camera: what several of them mean. "sampled": every sample is seen by one, drawn
            anew, as published; the model then plans with the picture of any one of them.
            "tokens": every frame is the tokens of all of them, one camera below the other.
        val_share: share of the episodes that is held out, at least one.
        max_bad_share: of the episodes that may be unusable.
    """

    path: str | None = None
    layout: RobotLayout = "auto"
    fps: float = Field(4.0, gt=0, le=1000)
    phases: int = Field(1, ge=1, le=256)
    num_frames: int = Field(8, ge=2, le=256)
    cameras: tuple[str, ...] = ()
    multi_camera: MultiCamera = "sampled"
    val_share: float = Field(0.1, gt=0, lt=1)
    max_bad_share: float = Field(0.1, ge=0, le=1)


class ActionPredictorConfig(StrictConfig):
    """A fresh action-conditioned predictor.

    Attributes:
        hidden_size, num_layers, num_heads, mlp_ratio: published: 1024, 24, 16 and 4.
    """

    hidden_size: int = Field(1024, ge=1)
    num_layers: int = Field(24, ge=1)
    num_heads: int = Field(16, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)


class LatentCacheConfig(StrictConfig):
    """Features of frames on the disk: the encoder is frozen, so each is computed once.

    Attributes:
        folder: None: `latents` in the run's folder. Runs of the same encoder, data and rate may
            share one.
        dtype: on the disk.
        max_gb: GiB that may be written.
        memory_gb: GiB of features that may be held in memory; more are read from the disk.
        batch_size: frames that are encoded at once.
    """

    folder: str | None = None
    dtype: Literal["float16", "float32"] = "float16"
    max_gb: float = Field(100.0, gt=0)
    memory_gb: float = Field(4.0, ge=0)
    batch_size: int = Field(32, ge=1, le=1 << 12)


class WorldModelTraining(StrictConfig):
    """One run.

    Attributes:
        recipe: name of the recipe this came from.
        seed: of a fresh predictor, the episodes held out, the order and cameras of samples.
        encoder: of the frames, frozen: a published name, a folder or file, or the folder of a
            pretraining run of V-JEPA 2. None: that of `start_from`.
        start_from: an action-conditioned model whose predictor is trained on: published, a
            folder, or the folder of a run of this kind. Its layers for actions and states begin
            anew where the robot has others. None: a fresh `predictor`.
        robot: what the numbers in the recordings mean.
        data: recordings.
        crop_size: height and width of the pixels; None: those of the model started from.
        frames: what of a picture is seen: "whole", squeezed to a square as in the published
            planning example, or "centre", the encoder's own resizing and cropping. The published
            training cuts 16:9 pictures to 1.35:1 and squeezes them.
        frames_mode: "each": a frame is encoded as a still clip of its own, as published.
            "causal_clip": with the frame before it, so that features tell of motion.
        predictor: sizes of a fresh one.
        trained: what of the predictor learns: "all", "last_blocks" (with the layers for actions,
            states and output), or "lora" (adapters in its blocks, and the layers for actions and
            states).
        last_blocks: how many, of trained="last_blocks".
        adapters: of trained="lora".
        normalise: learn with states and actions of mean 0 and spread 1. The finished model has
            this folded into its weights: it takes metres and radians either way. Published: False.
        auto_steps: k, steps of the rollout whose loss is added to that of the next step.
        loss_exponent: p of mean |difference|^p / p.
        batch_size: samples of an update, of all processes together.
        schedule: updates and rates; published shares of warm-up and cool-down.
        optim: AdamW.
        cache: features on the disk.
        health: `every` how many updates the held-out episodes are measured, with how many
            samples (`num_clips`), and what happens when something is wrong.
        runtime: device, element type, sharding, checkpoints.
    """

    recipe: str = "custom"
    seed: int = Field(239, ge=0, le=MAX_SEED)
    encoder: str | None = None
    start_from: str | None = None
    robot: RobotSpec | None = None
    data: RobotDataConfig = RobotDataConfig()
    crop_size: int | None = Field(None, ge=1, le=8192)
    frames: Literal["whole", "centre"] = "whole"
    frames_mode: FramesMode = "each"
    predictor: ActionPredictorConfig = ActionPredictorConfig()
    trained: Literal["all", "last_blocks", "lora"] = "all"
    last_blocks: int = Field(2, ge=1)
    adapters: AdapterConfig = AdapterConfig(targets=("query", "value"))
    normalise: bool = False
    auto_steps: int = Field(2, ge=1, le=64)
    loss_exponent: float = Field(1.0, ge=1, le=4)
    batch_size: int = Field(256, ge=1, le=1 << 16)
    schedule: ScheduleConfig = ScheduleConfig(
        num_steps=PUBLISHED_STEPS,
        warmup_share=PUBLISHED_RAMP / PUBLISHED_STEPS,
        cooldown_share=PUBLISHED_RAMP / PUBLISHED_STEPS,
        start_lr=7.5e-5,
        lr=4.25e-4,
        final_lr=0.0,
        weight_decay=0.04,
    )
    optim: OptimConfig = OptimConfig()
    cache: LatentCacheConfig = LatentCacheConfig()
    health: HealthConfig = HealthConfig(every=500, num_clips=64)
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.auto_steps >= self.data.num_frames:
            raise ConfigError(
                f"auto_steps={self.auto_steps} steps of a rollout need {self.auto_steps + 1} "
                f"frames; data.num_frames is {self.data.num_frames}"
            )
        if self.trained != "all" and self.start_from is None:
            raise ConfigError(
                f"trained={self.trained!r} leaves most of the predictor as it is, which says "
                "nothing while it is fresh: set start_from, or trained='all'"
            )
        if len(set(self.data.cameras)) != len(self.data.cameras):
            raise ConfigError(f"data.cameras names one twice: {self.data.cameras}")
        if self.health.action == "rollback":
            raise ConfigError(
                "health.action='rollback' is for pretraining; here an alarm can 'warn' or 'stop'"
            )
        if self.health.labelled is not None:
            raise ConfigError("health.labelled is for pretraining; leave it out")
        if self.runtime.compile and self.trained == "lora":
            raise ConfigError("runtime.compile and trained='lora' cannot be combined")
        return self

    def check_complete(self) -> None:
        """Raise `ConfigError` if something is still open that a recipe may leave open."""
        if self.data.path is None:
            raise ConfigError(
                "A run needs recordings: data.path (--data), a folder of LeRobot, DROID, .npz or "
                ".csv with .mp4."
            )
        if self.robot is None:
            raise ConfigError(
                "What do the recorded numbers mean? Give the robot's specification (--robot), "
                "a JSON file of a RobotSpec."
            )
        if self.encoder is None and self.start_from is None:
            raise ConfigError(
                "What encoder? Give encoder (--encoder): a published name, a folder or file, or "
                "start_from (--start-from), an action-conditioned model."
            )
