"""Train linear dense heads on a frozen encoder: a class or a distance for every pixel.

    result = train_dense_probe(model, WorldStills(...), WorldStills(...), config, "runs/pixels")
    result.best.scores            # at the first size
    DenseHead.from_pretrained("runs/pixels/model")

One head is trained for every learning rate and weight decay, all on the same features (as the
attentive probes are), and the best on the validation pictures is kept. A run lives in one folder:

    checkpoints/    goes on from here when started again with the same arguments
    model/          the best head
    results.json    scores of all heads, sizes and the baseline
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vjepa2.errors import DivergedError, InputError, LabelError
from vjepa2.files import write_json
from vjepa2.models.dense import DenseHead, DenseHeadConfig, FeatureSource
from vjepa2.models.dense_losses import distance_loss, pixel_loss
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.progress import track
from vjepa2.tasks.dense_config import DenseProbeConfig
from vjepa2.tasks.dense_evaluation import (
    baseline_scores,
    better,
    evaluate_heads,
    survey,
)
from vjepa2.tasks.dense_features import DenseFeatures
from vjepa2.tasks.dense_sets import DenseSet
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import one_process
from vjepa2.training.state import TrainingState, random_states, set_random_states
from vjepa2.video.processor import VJEPA2VideoProcessor

RESULTS_NAME = "results.json"
MODEL_NAME = "model"


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


def train_dense_probe(
    model: PretrainedModel,
    train: DenseSet,
    validation: DenseSet,
    config: DenseProbeConfig,
    folder: str | os.PathLike[str],
    *,
    processor: VJEPA2VideoProcessor | None = None,
    stop_at: int | None = None,
    quiet: bool = False,
) -> DenseProbeResult | None:
    """Train heads, or go on training, and write the best into `folder/model`.

    Args:
        model: a `VJEPA2Model` (or a model with one inside), frozen; moved and cast by the caller.
        train, validation: labelled pictures with the same classes.
        config: of the run.
        folder: of the run; an interrupted run of the same arguments is continued.
        processor: normalises the pixels; default: the published normalisation.
        stop_at: end before this update, leaving a checkpoint and no result.
        quiet: no progress on stderr.

    Returns:
        What was reached; None with `stop_at` before the end.

    Raises:
        InputError: `model` has no encoder, or the sets are of another task or of other classes.
        LabelError: labels are out of range, or of one class only; all are looked at first.
        CheckpointFormatError: the folder holds a run with other arguments.
        DivergedError: a loss is NaN.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    # Neither fresh heads nor checkpoints, which bring random numbers along, change the caller's.
    states = random_states(torch.device("cpu"))
    try:
        trainer = _Trainer(model, train, validation, config, processor=processor, quiet=quiet)
        store = CheckpointStore(
            folder / "checkpoints",
            config={**config.model_dump(mode="json"), "data": trainer.facts},
            processes=one_process(trainer.device),
            may_differ=("cache_bytes", "checkpoint_every"),
        )
        with store.lock():
            trainer.run(store, stop_at=stop_at)
    finally:
        set_random_states(states, torch.device("cpu"))
    if stop_at is not None and trainer.step < trainer.num_steps:
        return None
    result = trainer.result()
    result.head.save_pretrained(folder / MODEL_NAME)
    write_json(folder / RESULTS_NAME, _as_json(result, config, trainer.facts))
    return result


class _Trainer:
    """The state of a run and one update of it."""

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
        base = model if isinstance(model, VJEPA2Model) else getattr(model, "vjepa2", None)
        if not isinstance(base, VJEPA2Model):
            raise InputError(f"{type(model).__name__} has no encoder: give a VJEPA2Model.")
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
        features=FeatureSource(
            encoder=model.config.name_or_path or "",
            weights=weights_mark(model.encoder.state_dict()),
            patch_size=model.config.patch_size,
            levels=config.levels,
            num_frames=config.num_frames,
        ),
    )


def _rate(step: int, num_steps: int, config: DenseProbeConfig) -> float:
    """Learning rate of an update as a share of the peak."""
    warmup = round(config.warmup_share * num_steps)
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def _as_json(
    result: DenseProbeResult, config: DenseProbeConfig, facts: dict[str, Any]
) -> dict[str, Any]:
    def one(head: HeadResult) -> dict[str, Any]:
        sizes = {str(size): scores for size, scores in head.by_size.items()}
        return {"lr": head.lr, "weight_decay": head.weight_decay, "by_size": sizes}

    return {
        "config": config.model_dump(mode="json"),
        "data": facts,
        "best": one(result.best),
        "heads": [one(head) for head in result.heads],
        "baseline": {"says": result.baseline_says, "scores": result.baseline},
    }
