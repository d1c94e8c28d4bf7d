"""Everything that decides a probe run: labelled videos and a frozen encoder in, a classifier out.

Source: V-JEPA 2 (arXiv:2506.09985, section 4 and appendix) and its published evaluation code.
"""

import os
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from vjepa2.data.views import TrainViewConfig, ViewConfig
from vjepa2.errors import ConfigError
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.finetune_config import MAX_BATCH, MAX_SEED, LabelsConfig
from vjepa2.training.schedules import cosine, linear

MAX_HEADS = 1024
GIB = 1 << 30


class ProbeLabelsConfig(LabelsConfig):
    """Which labelled videos, and how they are decoded.

    Attributes (besides those of `LabelsConfig`):
        test, test_split: measured once, with the head that was chosen on `val`; its number is the
            one to report, since the best of many heads on `val` looks better than it is.
    """

    test: str | None = None
    test_split: str | None = None


class HeadRates(NamedTuple):
    """Learning rate and weight decay of one head."""

    lr: float
    weight_decay: float

    def __str__(self) -> str:
        return f"lr {self.lr:g}, weight decay {self.weight_decay:g}"


class HeadsConfig(StrictConfig):
    """The attentive probes that are trained together: all pairs of rates, on the same features.

    Attributes:
        depth: 1 is a cross attention alone; 4 puts three self-attention blocks before it, which
            see all tokens and are nearly all of the cost (published).
        lrs, weight_decays: of the heads, every pair of them.
        decay: "all" parameters decay, as published, or "weights": matrices only.
        num_heads: attention heads; None: those of the encoder. Published: 16 for every width.
            Transformers always takes those of the encoder.
        layer_norm_eps: of the probe's norms; None: that of the encoder (1e-6), which transformers
            takes. Published: 1e-5.
        levels: encoder blocks (0-based) whose tokens are read together; None: the last one.
        initializer_range: deviation of the first weights; None: that of the encoder's file, 0.02
            for published ones.
    """

    depth: int = Field(1, ge=1, le=4)
    lrs: tuple[float, ...] = Field((5e-3, 3e-3, 1e-3, 3e-4, 1e-4), min_length=1)
    weight_decays: tuple[float, ...] = Field((0.01, 0.1, 0.4, 0.8), min_length=1)
    decay: Literal["all", "weights"] = "all"
    num_heads: int | None = Field(None, ge=1)
    layer_norm_eps: float | None = Field(None, gt=0)
    levels: tuple[int, ...] | None = Field(None, min_length=1)
    initializer_range: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name in ("lrs", "weight_decays"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} holds a number twice: {values}")
            if min(values) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {min(values):g}")
        if len(self.lrs) * len(self.weight_decays) > MAX_HEADS:
            raise ConfigError(
                f"{len(self.lrs)} lrs times {len(self.weight_decays)} weight_decays are more than "
                f"{MAX_HEADS} heads"
            )
        if self.levels is not None and (
            list(self.levels) != sorted(set(self.levels)) or self.levels[0] < 0
        ):
            raise ConfigError(f"levels must be numbers of blocks from 0, rising: {self.levels}")
        return self

    @property
    def rates(self) -> tuple[HeadRates, ...]:
        """Of every head, learning rates outermost."""
        return tuple(HeadRates(lr, decay) for lr in self.lrs for decay in self.weight_decays)


class ProbeScheduleConfig(StrictConfig):
    """Length of a run in epochs; every head's learning rate falls along half a cosine.

    Attributes:
        epochs: passes over the training videos.
        warmup_epochs: in which the learning rates rise linearly from `start_lr`.
        start_lr: before the warm-up, the same for all heads.
        final_lr: at the end.
    """

    epochs: int = Field(20, ge=1, le=100_000)
    warmup_epochs: float = Field(0.0, ge=0)
    start_lr: float = Field(0.0, ge=0)
    final_lr: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ConfigError(
                f"warmup_epochs={self.warmup_epochs:g} is more than the run of {self.epochs} epochs"
            )
        return self

    def lr(self, peak: float, step: int, *, per_epoch: int) -> float:
        """Learning rate of a head in update `step` (0-based); the published formula."""
        warmup = int(self.warmup_epochs * per_epoch)
        if step + 1 < warmup:
            return linear(self.start_lr, peak, (step + 1) / warmup)
        length = self.epochs * per_epoch - warmup
        return cosine(peak, self.final_lr, (step + 1 - warmup) / max(1, length))


class CacheConfig(StrictConfig):
    """Features on the disk, so that every epoch and every further run reads instead of encoding.

    Attributes:
        folder: None: `features` in the run's folder. Name one to share it between runs: it knows
            the model, views, augmentation, element type and files, and refuses others.
        versions: with augmentation, so many differently augmented versions of every training clip
            are kept and take turns. 0: training clips are encoded anew every epoch (published).
        use: False keeps nothing on the disk; all clips are encoded anew every epoch.
        max_gb: most that a run may write, in GiB (2**30 bytes).
        dtype: on the disk.
    """

    folder: str | None = None
    versions: int = Field(0, ge=0, le=10_000)
    use: bool = True
    max_gb: float = Field(50.0, gt=0)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


class AttentiveProbeConfig(StrictConfig):
    """One probe run. A recipe may leave `model` and the data open.

    Attributes:
        recipe: name of the recipe this came from.
        seed: of initial weights, order and augmentation. All heads begin alike.
        model: encoder: hub name, folder, published name, or the folder of a pretraining run.
        data, views, heads, schedule, cache: see there. With `views.moment="random"` validation
            clips are encoded anew every epoch, as published.
        augment: chance in what training sees, `TrainViewConfig()` is the published one; None: the
            middle clips of every file, the same in every epoch.
        batch_size: videos of an update; of an epoch's last one fewer (published).
        micro_batch: videos whose heads are computed at a time; None: all. Changes memory only.
        encode_batch: videos that are encoded at a time.
        recompute: keep no activations of self-attention blocks: less memory, a third more time.
        device: "auto", "cpu", "cuda" ...
        dtype: of matrix products, "float32" or "bfloat16"; weights of the heads are float32.
            (Published: float16.)
        checkpoint_every: updates from one checkpoint to the next; None: one an epoch.
    """

    recipe: str = "custom"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    model: str | None = None
    data: ProbeLabelsConfig = ProbeLabelsConfig()
    views: ViewConfig = ViewConfig()
    augment: TrainViewConfig | None = None
    heads: HeadsConfig = HeadsConfig()
    schedule: ProbeScheduleConfig = ProbeScheduleConfig()
    cache: CacheConfig = CacheConfig()
    batch_size: int = Field(32, ge=1, le=MAX_BATCH)
    micro_batch: int | None = Field(None, ge=1)
    encode_batch: int = Field(4, ge=1, le=MAX_BATCH)
    recompute: bool = False
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.cache.versions and (self.augment is None or not self.cache.use):
            raise ConfigError(
                "cache.versions counts augmented versions of a clip on the disk: it needs augment "
                "and cache.use. Set it to 0"
            )
        return self

    @property
    def train_is_cached(self) -> bool:
        """Whether features of training clips are read from the disk."""
        return self.cache.use and (self.augment is None or self.cache.versions > 0)

    @property
    def val_is_cached(self) -> bool:
        """Whether features of validation clips are."""
        return self.cache.use and self.views.moment == "middle"

    def check_complete(self) -> None:
        """Raise `ConfigError` for what a recipe leaves open and a run needs."""
        if self.model is None:
            raise ConfigError(
                "There is no encoder. Give one (--model): a published name such as vjepa2-vitl, "
                "a folder, or motion-tiny, which is part of the package."
            )
        if not self.data.train:
            raise ConfigError(
                "There is nothing to learn from: give labelled videos (--train), a list with "
                "columns path and label, or a folder with one folder per class."
            )
        if not self.data.val and len(self.heads.rates) > 1:
            raise ConfigError(
                f"{len(self.heads.rates)} heads are trained, and without validation videos (--val) "
                "none of them can be chosen. Give some, or a single pair of heads.lrs and "
                "heads.weight_decays."
            )


def with_sources(
    config: AttentiveProbeConfig,
    *,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    model: str | None = None,
) -> AttentiveProbeConfig:
    """The same run on other videos or another model; None leaves what is there."""
    values = config.model_dump()
    # Absolute: a run goes on from wherever it is started again.
    for name, path in (("train", train), ("val", val), ("test", test)):
        if path is not None:
            values["data"][name] = os.path.abspath(path)  # noqa: PTH100
    if model is not None:
        is_there = os.path.exists(model)  # noqa: PTH110  # else a published name
        values["model"] = os.path.abspath(model) if is_there else model  # noqa: PTH100
    return AttentiveProbeConfig(**values)
