"""One process of a fine-tuning run: its classifier, its updates, its measurements.

every update    micro-batches -> loss -> gradient -> AdamW
every epoch     validation videos -> measures -> the best epoch's checkpoint is kept
"""

import contextlib
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_loader import LabelledBatch, LabelledLoader
from vjepa2.data.views import ViewConfig
from vjepa2.errors import BadFilesError, CheckpointFormatError, ConfigError, DivergedError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.nn.block import Block
from vjepa2.progress import track
from vjepa2.scoring.accuracy import mean_class_accuracy, top_k_accuracy
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.finetune_data import FineTuneData
from vjepa2.tasks.finetune_loss import mix, soft_targets
from vjepa2.tasks.finetune_networks import ClassifierStep
from vjepa2.tasks.pretrain_folder import BAD_FILES_NAME, add_bad_files
from vjepa2.tasks.pretrainer import check_dtype, seed_of_micro_batch
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.engine import StopTraining
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.optim import build_optimizer, clip_gradients, set_rates
from vjepa2.training.sharding import choose_sharding, gradient_sync, wrap
from vjepa2.training.state import TrainingState

BEST = "best"
LEAST_PROBABILITY = 1e-12  # in the logarithm of a measured loss


class FineTuner:
    """What the engine drives (`training.engine.Trainable`).

    Args:
        config: of the run.
        model: with what is trained chosen, on the CPU; moved and wrapped here.
        data: labelled videos.
        processes: of the run.
        store: checkpoints of the run.
        log: of the run.
        folder: of the run.
        quiet: nothing on stderr.

    Attributes:
        per_epoch: updates of an epoch.
        schedule: rates of every update.
        best: measures of the best epoch so far, with "step" and "epoch"; None before the first.
        history: those of every epoch.

    Raises:
        ConfigError: the device lacks what was asked for, or the batch cannot be shared.
    """

    def __init__(
        self,
        config: FineTuneConfig,
        model: VJEPA2ForVideoClassification,
        data: FineTuneData,
        processes: Processes,
        *,
        store: CheckpointStore,
        log: MetricsLog,
        folder: Path,
        quiet: bool = False,
    ) -> None:
        self.config, self.model, self.data, self.processes = config, model, data, processes
        self.store, self.log, self.folder = store, log, folder
        self.quiet = quiet or not processes.is_first
        check_dtype(config.runtime.dtype, processes.device)
        self.batch_size = min(config.batch.batch_size, len(data.train))
        if self.batch_size % processes.world_size:
            raise ConfigError(
                f"{self.batch_size} videos of an update cannot be shared by "
                f"{processes.world_size} processes. Set batch.batch_size to a multiple."
            )
        self.per_epoch = len(data.train) // self.batch_size
        self.schedule = config.schedule.steps(self.per_epoch)
        model.to(processes.device)
        if config.runtime.compile:
            for part in model.modules():
                if isinstance(part, Block):
                    part.compile()
        self.plain = ClassifierStep(model).train()
        sharding = choose_sharding(config.runtime.sharding, processes)
        self.step = wrap(self.plain, sharding, processes, blocks=(Block,))
        self.optimizer = build_optimizer(
            config.optim,
            {"encoder": model.vjepa2.encoder, "pooler": model.pooler, "head": model.classifier},
            lr=config.schedule.lr,
            weight_decay=config.schedule.weight_decay,
        )
        for group in self.optimizer.param_groups:
            if not str(group["name"]).startswith("encoder."):
                group["lr_scale"] *= config.head.lr_factor
        self.best: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self._loader = self._open(data.train, is_training=True)
        self._val_loader: LabelledLoader | None = None
        self.failure: BadFilesError | None = None

    # -- what the engine calls -------------------------------------------------------------------

    def run_step(self, step: int) -> dict[str, float]:
        """Make update `step`; measure before the first one of an epoch."""
        began = time.perf_counter()
        if step and step % self.per_epoch == 0:
            self.measure(step)
        measured = time.perf_counter()
        try:
            batch = self._next(step)
        except BadFilesError as error:
            if self.processes.world_size > 1:  # the others wait for an update of all
                raise
            self.failure = error  # raised when the updates so far are saved
            raise StopTraining(str(error)) from error
        stalled = time.perf_counter() - measured
        numbers = self._update(step, batch)
        numbers["stall_seconds"] = stalled
        numbers["measure_seconds"] = measured - began
        return numbers

    def state(self) -> TrainingState:
        """Network, optimizer and what was measured."""
        return TrainingState(
            modules={"network": self.model},
            optimizer=self.optimizer,
            values={
                "best": self.best,
                "history": self.history,
                "data": self.data.fingerprints(),
                "class_names": list(self.data.class_names),
                "network": self.model.config.to_dict(),
            },
        )

    def resume(self, step: int, values: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointFormatError: the labelled videos are not those that the run began with.
        """
        for name, mark in self.data.fingerprints().items():
            if values["data"].get(name) != mark:
                raise CheckpointFormatError(
                    f"The {name} videos (data.{name}) are not those that the run in {self.folder} "
                    "began with: other files, labels or segments. Go on with the list of then, or "
                    "train in another folder with start_from."
                )
        # What was measured at this very step is measured again, with its line in the log.
        self.history = [line for line in values["history"] if line["step"] < step]
        best = values["best"]
        self.best = best if best is not None and best["step"] < step else self._best_of_history()

    # -- an update -------------------------------------------------------------------------------

    def _update(self, step: int, batch: LabelledBatch) -> dict[str, float]:
        rates = self.schedule.rates(step)
        numbers = self._gradients(step, batch)
        self._check_finite(step, numbers)
        set_rates(self.optimizer, lr=rates.lr, weight_decay=rates.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {**numbers, "lr": rates.lr}

    def _gradients(self, step: int, batch: LabelledBatch) -> dict[str, float]:
        """Gradients of all micro-batches; loss, accuracy, and how long the gradient is."""
        config, device = self.config, self.processes.device
        labels = batch.labels[:, self.data.label_column]
        mixed = mix(
            batch.pixels[:, :, 0],
            soft_targets(labels, len(self.data.class_names), smoothing=config.mix.label_smoothing),
            alpha=config.mix.mixup,
            seed=config.seed,
            step=step,
            indices=batch.indices,
        )
        count = len(labels)
        mean_count = self.processes.mean({"videos": count})["videos"]
        micro = min(config.batch.micro_batch or count, count)
        pieces = list(zip(mixed.pixels.split(micro), mixed.targets.split(micro), strict=True))
        loss = torch.zeros((), device=device)
        right = torch.zeros((), device=device)
        for number, (pixels, targets) in enumerate(pieces):
            seed_of_micro_batch(config.seed, step, self.processes.rank * len(pieces) + number)
            targets = targets.to(device)
            with gradient_sync(self.step, number == len(pieces) - 1):
                with self._precision():
                    output = self.step(pixels.to(device), targets)
                # Processes take the mean of their gradients; videos all count alike.
                share = len(pixels) / mean_count
                (output.loss * share).backward()
            loss += output.loss.detach() * share
            right += (output.logits.argmax(1) == targets.argmax(1)).sum() / mean_count
        trained = (value for value in self.model.parameters() if value.requires_grad)
        norm = clip_gradients(trained, config.optim.clip_norm).to(device)
        values = torch.stack([loss, right, norm.float()]).tolist()  # one look at the device
        return dict(zip(("loss", "accuracy", "gradient_norm"), values, strict=True))

    def _check_finite(self, step: int, numbers: dict[str, float]) -> None:
        is_finite = all(map(math.isfinite, numbers.values()))
        if not self.processes.largest(int(not is_finite)):
            return
        self.optimizer.zero_grad(set_to_none=True)
        kept = self.store.latest()
        raise DivergedError(
            f"Update {step} was not made: loss {numbers['loss']:g}, gradient norm "
            f"{numbers['gradient_norm']:g}. The newest checkpoint is from before: "
            f"{'none was written yet' if kept is None else f'{kept} updates'}. Lower schedule.lr, "
            "raise schedule.warmup_epochs or set optim.clip_norm=1.0, and start in a new folder."
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.runtime.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16)

    # -- measuring -------------------------------------------------------------------------------

    def finish(self) -> None:
        """The last measurement, after all updates."""
        num_steps = self.schedule.num_steps
        self.log.start_from(num_steps)  # the engine has closed it
        self.measure(num_steps)
        self.log.close()

    def measure(self, step: int) -> None:
        """Measure the validation videos after `step` updates, and keep the best epoch."""
        self.report_bad_files()
        if self.data.val is None:
            return
        line = {"step": step, "epoch": step // self.per_epoch, **self._measures(step)}
        # Rounding may differ between processes; what one decides all do.
        line = self.processes.from_first(line)
        self.log.write(step, "validation", {k: v for k, v in line.items() if k != "step"})
        self.history = [*self.history, line]
        is_best = self.best is None or self._rank(line) > self._rank(self.best)
        if is_best:
            self.best = line
            if step not in self.store.steps():
                self.log.sync()
                self.store.save(step, self.state())
            self.store.protect(BEST, step)
        if not self.quiet:
            sys.stderr.write(
                f"{epoch_text(line, self.config.schedule.epochs)}"
                f"{', the best so far' if is_best else ''}\n"
            )

    @torch.no_grad()
    def _measures(self, step: int) -> dict[str, float]:
        """Scores of all validation videos that can be read."""
        assert self.data.val is not None
        if self._val_loader is None:
            self._val_loader = self._open(self.data.val, is_training=False)
        loader, own = self._val_loader, []
        self.plain.eval()
        try:
            batches = track(
                loader.epoch(step // self.per_epoch - 1),
                total=len(loader),
                description="Measure",
                quiet=self.quiet,
            )
            for batch in batches:
                with self._precision():
                    found, _ = self.plain.probabilities(batch.pixels.to(self.processes.device))
                own.append((found.cpu(), batch.labels[:, self.data.label_column]))
        finally:
            self.plain.train()
        parts = [part for process in self.processes.gather(own) for part in process]
        if not parts:
            raise ConfigError(f"No video of {self.data.val.source} can be read (data.val).")
        scores, labels = (torch.cat(values) for values in zip(*parts, strict=True))
        if not bool(scores.isfinite().all()):
            raise DivergedError(f"After {step} updates the network gives NaN. Lower schedule.lr.")
        own_class = scores.gather(1, labels[:, None]).clamp(min=LEAST_PROBABILITY)
        numbers = {
            "loss": float(-own_class.log().mean()),
            "top1": top_k_accuracy(scores, labels, 1),
            "mean_class": mean_class_accuracy(scores, labels),
            "videos": float(len(labels)),
        }
        if scores.shape[1] > 5:
            numbers["top5"] = top_k_accuracy(scores, labels, 5)
        return numbers

    def _rank(self, line: dict[str, Any]) -> tuple[float, float]:
        """What makes an epoch better than another; of equal ones the loss decides."""
        measure = self.config.select
        return (-line["loss"] if measure == "loss" else line[measure], -line["loss"])

    def _best_of_history(self) -> dict[str, Any] | None:
        return max(self.history, key=self._rank, default=None)

    # -- data ------------------------------------------------------------------------------------

    def _open(self, labelled: LabelledSet, *, is_training: bool) -> LabelledLoader:
        config = self.config
        views = config.views
        if is_training:
            views = ViewConfig(**{**views.model_dump(), "num_views": 1})
        size = self.batch_size
        if not is_training:
            share = self.batch_size // self.processes.world_size
            micro = min(config.batch.micro_batch or share, share)
            size = micro * self.processes.world_size
        return LabelledLoader(
            labelled,
            views,
            batch_size=size,
            train=config.augment if is_training else None,
            seed=config.seed,
            workers=config.data.workers,
            prefetch=config.data.prefetch,
            max_bad_share=config.data.max_bad_share,
            num_epochs=config.schedule.epochs,
            drop_last=is_training,
            shard=(self.processes.rank, self.processes.world_size),
        )

    def _next(self, step: int) -> LabelledBatch:
        """The videos of update `step`; of a batch that cannot be read at all, those after it.

        Raises:
            BadFilesError: too many files cannot be read.
        """
        epoch, number = divmod(step, self.per_epoch)
        for first in (number, 0):
            # Asked for anew each time: what an update sees depends on its number alone.
            batch = next(self._loader.epoch(epoch, first_batch=first), None)
            if batch is not None:
                return batch
        raise BadFilesError(
            f"No video of {self.data.train.source} can be read any more; see "
            f"{self.folder / BAD_FILES_NAME}."
        )

    def report_bad_files(self, *, together: bool = True) -> None:
        """Write what could not be read so far into the run's folder.

        Args:
            together: all processes call this and the first writes for all; False after an error
                in this process alone.
        """
        loaders = (self._loader, self._val_loader)
        new = [bad for loader in loaders if loader is not None for bad in loader.new_bad_files()]
        found = self.processes.gather(new) if together else [new]
        if self.processes.is_first or not together:
            add_bad_files(self.folder / BAD_FILES_NAME, [bad for part in found for bad in part])

    def close(self) -> None:
        """End the decoding processes."""
        for loader in (self._loader, self._val_loader):
            if loader is not None:
                loader.close()


def epoch_text(line: Mapping[str, Any], epochs: int) -> str:
    """`epoch 3 of 20: top-1 71.2 %, loss 0.94 (500 videos)`."""
    top5 = f", top-5 {line['top5']:.1%}" if "top5" in line else ""
    return (
        f"epoch {line['epoch']} of {epochs}: top-1 {line['top1']:.1%}{top5}, mean of classes "
        f"{line['mean_class']:.1%}, loss {line['loss']:.3g} ({line['videos']:.0f} videos)"
    )
