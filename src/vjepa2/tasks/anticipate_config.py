"""Everything that decides a run that learns to anticipate events."""

from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.data.event_clips import MOST_SECONDS, EventClipConfig
from vjepa2.data.label_options import LabelOptions, Layout
from vjepa2.data.settings import IMAGE_MEAN, IMAGE_STD
from vjepa2.data.views import TrainViewConfig, ViewConfig
from vjepa2.errors import ConfigError
from vjepa2.models.anticipation import AnticipationSettings
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.finetune_config import EpochScheduleConfig
from vjepa2.tasks.pretrain_config import MAX_SEED, NetworkConfig, RuntimeConfig

MOST_HORIZONS = 64


class EventDataConfig(StrictConfig):
    """Which events, and how they are decoded.

    Attributes:
        train, val: lists of stretches of videos with a start, see `data.labelled_lists`. Every
            label column is a head of its own: verb, noun, action, or any others.
        layout: "auto", or the name of a data set's layout, such as "epic_kitchens".
        options: names of columns, root of the videos, order of classes.
        train_split, val_split: of a list or data set that holds several.
        workers: batches that are decoded ahead, each by a thread; 0 decodes when asked.
    """

    train: str | None = None
    val: str | None = None
    layout: Layout = "auto"
    options: LabelOptions = LabelOptions()
    train_split: str | None = None
    val_split: str | None = None
    workers: int = Field(2, ge=0, le=256)


class EventProbeConfig(StrictConfig):
    """Attentive probes (arXiv:2506.09985, section 6), one for each pair of rates, all at once.

    Attributes:
        num_self_blocks: self-attention blocks before the cross attention; 3 is the published
            depth of 4.
        num_heads: attention heads; None: those of the encoder. Published: 16.
        lrs: peak learning rates.
        weight_decays: of all parameters, norms and biases too, as published.
    """

    num_self_blocks: int = Field(3, ge=0, le=100)
    num_heads: int | None = Field(None, ge=1)
    lrs: tuple[float, ...] = Field((1e-3, 3e-4, 1e-4), min_length=1, max_length=64)
    weight_decays: tuple[float, ...] = Field((1e-2,), min_length=1, max_length=64)

    @property
    def grid(self) -> tuple[tuple[float, float], ...]:
        """Learning rate and weight decay of every probe."""
        return tuple((lr, decay) for lr in self.lrs for decay in self.weight_decays)


class AnticipateConfig(StrictConfig):
    """One run.

    Attributes:
        recipe: name of the recipe this came from.
        seed: of probes, a fresh network, order, anticipation times, crops and flips.
        start_from: encoder and predictor: a published name, a folder or a file, or the folder of
            a pretraining run. None: a fresh `network`.
        network: of a fresh encoder and predictor; only with learn="all".
        learn: "probe" leaves encoder and predictor as they are; "all" trains them too.
        data, probe: see there.
        clips: which frames are seen before an event.
        future: how the future is filled in, and what of it the probe reads.
        crop_size: height and width of the pixels.
        augment: chance in the pixels of training; measuring has none. The published EK100 recipe
            mirrors half of the clips (flip=0.5), which is wrong where left and right are part of a
            label, and has RandAugment (`augment.rand_augment`), which needs Pillow.
        mean, std: of the normalisation, one number for each colour.
        loss: "focal" (published: sigmoid, summed over classes and heads) or "cross_entropy"
            (one class is right; probabilities add up to 1).
        batch_size: events of an update.
        schedule: epochs and the rates of encoder and predictor; probes follow its shape with
            rates of their own.
        horizons: anticipation times that are measured, seconds; empty: `clips.seconds`.
        measure_every: epochs from one measurement to the next, at the first horizon.
        ablations: also train probes on the encoder's and the predictor's tokens alone.
        runtime: device, element type, checkpoints.
    """

    recipe: str = "custom"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    start_from: str | None = None
    network: NetworkConfig | None = None
    learn: Literal["probe", "all"] = "probe"
    data: EventDataConfig = EventDataConfig()
    clips: EventClipConfig = EventClipConfig()
    future: AnticipationSettings = AnticipationSettings()
    crop_size: int = Field(256, ge=1, le=8192)
    augment: TrainViewConfig = TrainViewConfig(rand_augment=None)
    mean: tuple[float, float, float] = IMAGE_MEAN
    std: tuple[float, float, float] = IMAGE_STD
    probe: EventProbeConfig = EventProbeConfig()
    loss: Literal["focal", "cross_entropy"] = "focal"
    batch_size: int = Field(16, ge=1, le=1 << 16)
    schedule: EpochScheduleConfig = EpochScheduleConfig(warmup_epochs=0, final_lr=0)
    horizons: tuple[float, ...] = Field((), max_length=MOST_HORIZONS)
    measure_every: int = Field(1, ge=1)
    ablations: bool = True
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.network is not None and self.start_from is not None:
            raise ConfigError(
                f"network and start_from={self.start_from!r} both say what encoder there is: "
                "leave out one of them"
            )
        if self.network is not None and self.learn == "probe":
            raise ConfigError(
                "a fresh network has learned nothing that a probe could read: set learn='all', or "
                "start_from instead of network"
            )
        if self.learn == "all" and len(self.probe.grid) > 1:
            raise ConfigError(
                f"learn='all' trains one network with one probe; probe.lrs and probe.weight_decays "
                f"give {len(self.probe.grid)}. Keep one of each"
            )
        if any(not 0 <= horizon <= MOST_SECONDS for horizon in self.horizons):
            raise ConfigError(f"horizons must be 0 to {MOST_SECONDS:g} s, got {self.horizons}")
        if len(set(self.horizons)) < len(self.horizons):
            raise ConfigError(f"horizons names a time twice: {self.horizons}")
        self._check_runtime()
        return self

    def _check_runtime(self) -> None:
        """Refuse what other kinds of runs can do and this one cannot."""
        runtime = self.runtime
        unavailable = {
            "runtime.compile": runtime.compile,
            "runtime.recompute": runtime.recompute,
            "runtime.sharding": runtime.sharding not in ("auto", "none"),
        }
        wrong = [name for name, is_set in unavailable.items() if is_set]
        if wrong:
            raise ConfigError(
                f"{' and '.join(wrong)} has no effect here: a probe is trained by one process, "
                "without compilation. Leave it out"
            )

    @property
    def measured(self) -> tuple[float, ...]:
        """Anticipation times that are measured; the first one chooses the probe."""
        return self.horizons or (self.clips.seconds,)

    @property
    def views(self) -> ViewConfig:
        """How frames become pixels to measure on."""
        return ViewConfig(
            num_frames=self.clips.num_frames,
            fps=self.clips.fps,
            crop_size=self.crop_size,
            mean=self.mean,
            std=self.std,
        )

    @property
    def longest_seconds(self) -> float:
        """The longest anticipation time in training."""
        return max(self.clips.train_seconds or (self.clips.seconds,))

    def check_complete(self) -> None:
        """Raise `ConfigError` if something is still open that a recipe may leave open."""
        if self.data.train is None or self.data.val is None:
            raise ConfigError(
                "A run needs events to learn from and others to measure on: data.train and "
                "data.val (--train and --val), lists with the columns path, start_seconds, "
                "end_seconds and one or more labels."
            )
        if self.start_from is None and self.network is None:
            raise ConfigError(
                "What encoder? Give start_from (--model): a published name, a folder or file, or "
                "the folder of a pretraining run."
            )
