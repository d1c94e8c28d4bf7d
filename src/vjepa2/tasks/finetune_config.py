"""Everything that decides a fine-tuning run: labelled videos and a model in, a classifier out."""

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.data.label_options import LabelOptions, Layout
from vjepa2.data.views import TrainViewConfig, ViewConfig
from vjepa2.errors import ConfigError
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.pretrain_config import AdapterConfig, RuntimeConfig
from vjepa2.training.optim import OptimConfig
from vjepa2.training.schedules import MAX_STEPS, ScheduleConfig

MAX_SEED = 2**63 - 1
MAX_BATCH = 1 << 20

Method = Literal["full", "last_blocks", "lora"]
Measure = Literal["top1", "mean_class", "loss"]


class LabelsConfig(StrictConfig):
    """Which labelled videos, and how they are decoded.

    Attributes:
        train, val: a list, a folder of class folders or a data set, see `data.labelled_lists`.
            Without `val` nothing is measured and the last epoch is the result.
        layout: "auto", or the name of a data set's layout.
        train_split, val_split: of a list or data set that holds several.
        options: how lists are read where the defaults do not fit.
        head: which of the labels, where there are several.
        workers: decoding processes; 0 decodes in the training process.
        prefetch: batches that are decoded ahead.
        max_bad_share: share of files that may be unreadable before the run stops.
    """

    train: str | None = None
    val: str | None = None
    layout: Layout = "auto"
    train_split: str | None = None
    val_split: str | None = None
    options: LabelOptions = LabelOptions()
    head: str = Field("label", min_length=1)
    workers: int = Field(4, ge=0, le=1024)
    prefetch: int = Field(2, ge=1, le=1024)
    max_bad_share: float = Field(0.05, ge=0, le=1)


class HeadConfig(StrictConfig):
    """The attentive head on top of the encoder (arXiv:2506.09985, section 4).

    Attributes:
        start: "fresh" makes pooler and classifier anew. "auto" keeps those of a classifier: both
            where the list has none but its classes, else the pooler alone.
        num_self_blocks: self-attention blocks of a fresh pooler; 3 is the published depth of 4.
        num_heads: attention heads of a fresh pooler; None: those of the encoder.
        levels: encoder blocks (0-based) that a fresh pooler reads; None: the last one.
        dropout: of a fresh pooler's attention weights.
        lr_factor: the head's learning rate is so many times that of the encoder.
    """

    start: Literal["auto", "fresh"] = "auto"
    num_self_blocks: int = Field(3, ge=0, le=100)
    num_heads: int | None = Field(None, ge=1)
    levels: tuple[int, ...] | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    lr_factor: float = Field(1.0, gt=0)


class BatchConfig(StrictConfig):
    """How many videos make an update.

    Attributes:
        batch_size: videos of one update, over all processes; all of them, where there are fewer.
        micro_batch: videos in memory at once on one process; None: all of its share. Gradients
            are summed, so this changes memory, not the result (dropout and stochastic depth are
            drawn per micro-batch).
    """

    batch_size: int = Field(16, ge=1, le=MAX_BATCH)
    micro_batch: int | None = Field(None, ge=1)


class MixConfig(StrictConfig):
    """Softer labels, both off by default.

    Attributes:
        mixup: alpha of mixup (arXiv:1710.09412): videos are mixed in pairs, pixels and labels
            alike, with a share drawn from Beta(alpha, alpha). 0: none.
        label_smoothing: share of a label that is spread evenly over all classes.
    """

    mixup: float = Field(0.0, ge=0, le=4)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if 0 < self.mixup < 0.05:
            raise ConfigError(
                f"mixup={self.mixup:g} hardly ever mixes anything: set it to 0, or to 0.05 or more "
                "(usual: 0.2 to 0.8)"
            )
        return self


class EpochScheduleConfig(StrictConfig):
    """Length of a run in epochs, and the rates along it: warm-up, then half a cosine.

    Attributes:
        epochs: passes over the training videos.
        warmup_epochs: in which the learning rate rises linearly.
        start_lr, lr, final_lr: before the warm-up, after it, at the end.
        weight_decay: of decayed parameters.
    """

    epochs: int = Field(20, ge=1, le=1_000_000)
    warmup_epochs: float = Field(1.0, ge=0)
    start_lr: float = Field(0.0, ge=0)
    lr: float = Field(1e-4, gt=0)
    final_lr: float = Field(1e-6, ge=0)
    weight_decay: float = Field(0.05, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ConfigError(
                f"warmup_epochs={self.warmup_epochs:g} is more than the whole run of "
                f"epochs={self.epochs}"
            )
        return self

    def steps(self, per_epoch: int) -> ScheduleConfig:
        """The same in updates.

        Args:
            per_epoch: updates of one epoch.

        Raises:
            ConfigError: too many.
        """
        num_steps = self.epochs * per_epoch
        if num_steps > MAX_STEPS:
            raise ConfigError(
                f"schedule.epochs={self.epochs} of {per_epoch} updates are {num_steps:,} updates; "
                f"at most {MAX_STEPS:,} are possible."
            )
        return ScheduleConfig(
            num_steps=num_steps,
            warmup_share=self.warmup_epochs / self.epochs,
            cooldown_share=0.0,
            kind="cosine",
            start_lr=self.start_lr,
            lr=self.lr,
            final_lr=self.final_lr,
            weight_decay=self.weight_decay,
        )


class FineTuneConfig(StrictConfig):
    """One fine-tuning run. A recipe may leave `start_from` and `data.train` open.

    Attributes:
        recipe: name of the recipe this came from.
        seed: of the head, order, moments, augmentation and mixing.
        start_from: what is trained on: a published name, a hub name, a folder or a file of an
            encoder or classifier (such as the result of `vjepa2 probe`), or the folder of a
            pretraining run (its average).
        method: what of the encoder is trained; the head always is. "full": all of it.
            "last_blocks": only so many blocks from the end, and the final norm. "lora": low-rank
            adapters, merged into the weights at the end.
        last_blocks: of method "last_blocks"; 0 trains the head alone.
        adapters: of method "lora".
        drop_path_rate: stochastic depth of the encoder's last block while training.
        data, head, batch, mix, optim, schedule, runtime: see there.
        views: clips of a video: frames, rate, size. Several segments of a video are read together
            by the head; several views are averaged when measuring, training sees one.
        augment: chance in what training sees; measuring has none. The published one also has
            RandAugment (`augment.rand_augment`), which needs Pillow.
        select: which measure of the validation set chooses the epoch that is kept.
    """

    recipe: str = "custom"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    start_from: str | None = None
    method: Method = "full"
    last_blocks: int = Field(4, ge=0)
    adapters: AdapterConfig = AdapterConfig()
    drop_path_rate: float = Field(0.0, ge=0, lt=1)
    data: LabelsConfig = LabelsConfig()
    views: ViewConfig = ViewConfig()
    augment: TrainViewConfig = TrainViewConfig(rand_augment=None)
    head: HeadConfig = HeadConfig()
    batch: BatchConfig = BatchConfig()
    mix: MixConfig = MixConfig()
    optim: OptimConfig = OptimConfig()
    schedule: EpochScheduleConfig = EpochScheduleConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    select: Measure = "top1"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.method == "lora" and self.optim.layer_decay != 1:
            raise ConfigError(
                "optim.layer_decay has no use with method='lora': adapters begin at nothing in "
                "every block. Set it to 1"
            )
        if self.runtime.sharding == "fsdp2":
            raise ConfigError(
                "runtime.sharding='fsdp2' is for pretraining; fine-tuning keeps the weights whole "
                "on every process. Set it to 'auto'; method='lora', runtime.recompute and "
                "batch.micro_batch save memory"
            )
        return self

    def check_complete(self) -> None:
        """Raise `ConfigError` for what a recipe leaves open and a run needs."""
        if self.start_from is None:
            raise ConfigError(
                "There is no model to start from. Give one (--start-from): a published name such "
                "as vjepa2-vitl, or a folder."
            )
        if not self.data.train:
            raise ConfigError(
                "There is nothing to learn from: give labelled videos (--train), a list with "
                "columns path and label, or a folder with one folder per class."
            )


def with_paths(
    config: FineTuneConfig,
    *,
    train: str | None = None,
    val: str | None = None,
    start_from: str | None = None,
) -> FineTuneConfig:
    """The same run on other videos or from another model; None leaves what is there."""
    values = config.model_dump()
    # Absolute: a run goes on from wherever it is started again.
    for name, path in (("train", train), ("val", val)):
        if path is not None:
            values["data"][name] = os.path.abspath(path)  # noqa: PTH100
    if start_from is not None:
        is_there = os.path.exists(start_from)  # noqa: PTH110  # else a published name
        values["start_from"] = os.path.abspath(start_from) if is_there else start_from  # noqa: PTH100
    return FineTuneConfig(**values)
