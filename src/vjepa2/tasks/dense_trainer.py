"""One run of dense heads: all heads, one optimizer, and an update; see `dense_probe`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vjepa2.errors import DivergedError, InputError, LabelError
from vjepa2.models.dense import DenseHead, DenseHeadConfig, FeatureSource
from vjepa2.models.dense_losses import distance_loss, pixel_loss
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.progress import track
from vjepa2.tasks.dense_config import DenseProbeConfig
from vjepa2.tasks.dense_evaluation import baseline_scores, better, evaluate_heads, survey
from vjepa2.tasks.dense_features import DenseFeatures
from vjepa2.tasks.dense_sets import DenseSet
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.state import TrainingState
from vjepa2.video.processor import VJEPA2VideoProcessor


@dataclass(frozen=True)
class HeadResult:
    """One trained head.

    Attributes:
        lr, weight_decay: it was trained with.
        scores: on the validation pictures at the first size, see `evaluate_heads`.
        by_size: the same for every size.
    """

    lr: float
    weight_decay: float
    scores: dict[str, Any]
    by_size: dict[int, dict[str, Any]]


@dataclass(frozen=True)
class DenseProbeResult:
    """What a run reached.

    Attributes:
        head: the best head, in evaluation mode; also in `folder/model`.
        best: how good it is.
        heads: all of them.
        baseline: scores without looking at pictures.
        baseline_says: what that is, in words.
    """

    head: DenseHead
    best: HeadResult
    heads: tuple[HeadResult, ...]
    baseline: dict[str, Any]
    baseline_says: str


class DenseTrainer:
    """The state of a run and one update of it; arguments and errors as in `train_dense_probe`."""

    def __init__(
        self,
        model: PretrainedModel,
        train: DenseSet,
        validation: DenseSet,
        config: DenseProbeConfig,
        *,
        processor: VJEPA2VideoProcessor | None,
        quiet: bool,
    ) -> None:
        base = base_of(model)
        _check_sets(train, validation, config)
        self.config, self.quiet, self.step = config, quiet, 0
        self.encoder, self.device = base.encoder, base.device
        self.train_set, self.validation = train, validation
        self.num_steps = config.epochs * math.ceil(len(train) / config.batch_size)
        for block in config.levels:
            self.encoder.norm_of(block)  # before labels are read
        self.head_config = _head_config(config, base, train.class_names)
        self.seen = survey(train, self.head_config, what="training", quiet=quiet)
        held_out = survey(validation, self.head_config, what="validation", quiet=quiet)
        self.facts = {
            "class_names": list(train.class_names),
            "train": {"count": len(train), **self.seen.facts()},
            "validation": {"count": len(validation), **held_out.facts()},
            "encoder": self.head_config.features.weights,
        }
        processor = VJEPA2VideoProcessor() if processor is None else processor
        self.features, self.held_out = (
            DenseFeatures(
                self.encoder,
                processor,
                self.head_config.features,
                data,
                cache_bytes=config.cache_bytes,
            )
            for data in (train, validation)
        )
        self.heads = nn.ModuleList(
            DenseHead(self.head_config, generator=torch.Generator().manual_seed(config.seed))
            for _ in config.pairs
        ).to(self.device)
        if self.seen.mean_distance is not None:
            for head in self.heads:
                assert isinstance(head, DenseHead)
                head.start_at(self.seen.mean_distance)
        self.optimizer = torch.optim.AdamW(
            {"params": list(head.parameters()), "lr": lr, "weight_decay": decay, "peak_lr": lr}
            for head, (lr, decay) in zip(self.heads, config.pairs, strict=True)
        )

    def run(self, store: CheckpointStore, *, stop_at: int | None) -> None:
        """Go on from the newest checkpoint to the end, or to `stop_at`."""
        state = TrainingState({"heads": self.heads}, self.optimizer)
        if (latest := store.latest()) is not None:
            store.load(latest, state)
            self.step = latest
        end = self.num_steps if stop_at is None else min(stop_at, self.num_steps)
        was_training = self.encoder.training
        self.encoder.eval()
        self.heads.train()
        try:
            for _ in track(
                range(self.step, end),
                total=max(0, end - self.step),
                description=f"updates of {len(self.heads)} heads",
                quiet=self.quiet,
            ):
                self._update()
                if self.step % self.config.checkpoint_every == 0 or self.step == end:
                    store.save(self.step, state)
        finally:
            self.encoder.train(was_training)
            self.heads.eval()

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * _rate(self.step, self.num_steps, self.config)
        maps, targets = zip(*self._batch(), strict=True)
        for number, head in enumerate(self.heads):
            assert isinstance(head, DenseHead)
            scores = head(maps)
            losses = [self._loss(head, one, t) for one, t in zip(scores, targets, strict=True)]
            loss = torch.stack(losses).mean()
            if not bool(loss.isfinite()):
                lr, decay = self.config.pairs[number]
                raise DivergedError(
                    f"The loss of the head with lr={lr:g} and weight_decay={decay:g} is "
                    f"{loss.item()} at update {self.step}. Leave that learning rate out of lrs."
                )
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _loss(self, head: DenseHead, scores: Tensor, target: Tensor) -> Tensor:
        values = head.at_pixels(scores, (target.shape[0], target.shape[1]))
        if self.config.task == "segmentation":
            return pixel_loss(values, target, ignored=self.config.ignored_class)
        return distance_loss(values[0], target, only_mean=self.step < self.config.only_mean_steps)

    def _batch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and labels of this update: a function of seed and step alone."""
        config, count = self.config, len(self.train_set)
        steps_per_epoch = math.ceil(count / config.batch_size)
        epoch, place = divmod(self.step, steps_per_epoch)
        key = stream_key(seed=config.seed, epoch=epoch)
        order = np.argsort(stream(key, np.arange(count)), kind="stable")
        for index in order[place * config.batch_size : (place + 1) * config.batch_size].tolist():
            chance = uniform(
                stream(stream_key(seed=config.seed, epoch=epoch, index=index), np.arange(2))
            ).tolist()
            features, target = self.features.get(
                index,
                short_side=config.sizes[int(chance[0] * len(config.sizes))],
                mirrored=chance[1] < config.mirror,
            )
            yield features.to(self.device), target.to(self.device)

    def result(self) -> DenseProbeResult:
        """Score all heads on the validation pictures."""
        heads = [head for head in self.heads if isinstance(head, DenseHead)]
        was_training = self.encoder.training
        self.encoder.eval()
        try:
            by_size = {
                size: evaluate_heads(heads, self.held_out, short_side=size, quiet=self.quiet)
                for size in self.config.sizes
            }
        finally:
            self.encoder.train(was_training)
        results = [
            HeadResult(
                lr,
                decay,
                by_size[self.config.sizes[0]][number],
                {size: scores[number] for size, scores in by_size.items()},
            )
            for number, (lr, decay) in enumerate(self.config.pairs)
        ]
        best = 0
        for number, one in enumerate(results):
            if better(self.config.task, one.scores, results[best].scores):
                best = number
        words, baseline = baseline_scores(self.validation, self.head_config, self.seen)
        return DenseProbeResult(heads[best], results[best], tuple(results), baseline, words)


def _check_sets(train: DenseSet, validation: DenseSet, config: DenseProbeConfig) -> None:
    for what, data in (("training", train), ("validation", validation)):
        if data.task != config.task:
            raise InputError(
                f"The {what} labels are for {data.task}, the configuration is for {config.task}."
            )
        if not len(data):
            raise InputError(f"There are no {what} pictures.")
    if train.class_names != validation.class_names:
        raise LabelError(
            f"Training and validation name other classes, or in another order: "
            f"{', '.join(train.class_names)} and {', '.join(validation.class_names)}."
        )


def _head_config(
    config: DenseProbeConfig, model: VJEPA2Model, class_names: tuple[str, ...]
) -> DenseHeadConfig:
    return DenseHeadConfig(
        task=config.task,
        width=model.config.hidden_size * max(1, len(config.levels)),
        class_names=class_names,
        ignored_class=config.ignored_class,
        norm=config.norm,
        distances=config.distances,
        num_bins=config.num_bins,
        least_distance=config.least_distance,
        greatest_distance=config.greatest_distance,
        features=feature_source(model, levels=config.levels, num_frames=config.num_frames),
    )


def feature_source(
    model: VJEPA2Model, *, levels: tuple[int, ...] = (), num_frames: int | None = None
) -> FeatureSource:
    """What is written into a head about the features of a model."""
    return FeatureSource(
        encoder=model.config.name_or_path or "",
        weights=weights_mark(model.encoder.state_dict()),
        patch_size=model.config.patch_size,
        levels=levels,
        num_frames=num_frames,
    )


def base_of(model: PretrainedModel) -> VJEPA2Model:
    """The model with the encoder; raises InputError for one without."""
    base = model if isinstance(model, VJEPA2Model) else getattr(model, "vjepa2", None)
    if not isinstance(base, VJEPA2Model):
        raise InputError(f"{type(model).__name__} has no encoder: give a VJEPA2Model.")
    return base


def _rate(step: int, num_steps: int, config: DenseProbeConfig) -> float:
    """Learning rate of an update as a share of the peak."""
    warmup = round(config.warmup_share * num_steps)
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * step / num_steps))
