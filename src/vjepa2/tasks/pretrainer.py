"""One process of a pretraining run: its networks, its updates, its health.

    every update      micro-batches -> loss -> gradient -> AdamW -> average of the student moves
    now and then      held-out clips -> measures -> verdict -> log, pictures, alarm

The order of an update is the published one: rates are set, the optimizer steps, the average moves.
"""

import contextlib
import math
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vjepa2.ema import MovingAverage
from vjepa2.errors import (
    BadFilesError,
    CheckpointFormatError,
    ConfigError,
    DivergedError,
    OutputError,
)
from vjepa2.files import write_json
from vjepa2.losses import context_share_at
from vjepa2.nn.block import Block
from vjepa2.norms import total_norm
from vjepa2.tasks.masked_prediction import target_tokens
from vjepa2.tasks.pretrain_batches import Batches, MicroBatch
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_folder import (
    BAD_FILES_NAME,
    CONFIG_NAME,
    Rollbacks,
    add_bad_files,
    read_rollbacks,
    write_rollbacks,
)
from vjepa2.tasks.pretrain_health import HeldOut
from vjepa2.tasks.pretrain_networks import Networks, mark_of
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.engine import MAX_ROLLBACKS, RollBack, StopTraining, too_many_rollbacks
from vjepa2.training.health import HealthMonitor, Verdict
from vjepa2.training.health_measures import stall_share
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.optim import build_optimizer, clip_gradients, set_rates
from vjepa2.training.sharding import choose_sharding, gradient_sync, make_callable, unwrap, wrap
from vjepa2.training.state import TrainingState

FILES_CHANGED = (
    "The names of a source's files are not those that the run began with: it goes on with those "
    "that are there now, and its clips differ from those of an undisturbed run."
)
ROLLBACK_LR_FACTOR = 0.5


class Pretrainer:
    """What the engine drives (`training.engine.Trainable`).

    Args:
        config: of the run.
        networks: freshly made, on the CPU; moved and wrapped here.
        processes: of the run.
        store: checkpoints of the run.
        log: of the run.
        folder: of the run.

    Raises:
        ConfigError: the device lacks what was asked for, or the batch cannot be shared.
    """

    def __init__(
        self,
        config: PretrainConfig,
        networks: Networks,
        processes: Processes,
        *,
        store: CheckpointStore,
        log: MetricsLog,
        folder: Path,
    ) -> None:
        self.config, self.networks, self.processes = config, networks, processes
        self.store, self.log, self.folder = store, log, folder
        device = processes.device
        check_dtype(config.runtime.dtype, device)
        sharding = choose_sharding(config.runtime.sharding, processes)
        self._teacher_mark = mark_of(networks.target) if networks.distils else None
        for module in (networks.student, networks.average, networks.target):
            module.to(device)
        if config.runtime.compile:
            compile_blocks(networks)
        self.student = wrap(networks.student, sharding, processes, blocks=(Block,))
        wrap(networks.average, sharding, processes, blocks=(Block,))
        if networks.distils:
            wrap(networks.target, sharding, processes, blocks=(Block,))
        make_callable(self.student, "encode", "predict_hidden")
        make_callable(networks.student.predictor, "predict")
        self.average = MovingAverage(networks.average, networks.student.encoder)
        first = config.schedule.rates(0)
        self.optimizer = build_optimizer(
            config.optim,
            {"encoder": networks.student.encoder, "predictor": networks.student.predictor},
            lr=first.lr,
            weight_decay=first.weight_decay,
        )
        self.batches = Batches(config, networks.student.encoder.config, processes)
        self.monitor = HealthMonitor(config.health)
        self.held_out: HeldOut | None = None
        self.lr_factor = 1.0
        self.failure: BadFilesError | None = None
        self._files_differ = self._is_resumed = False
        self.start_note = ""  # told once, at the first update

    # -- what the engine calls -------------------------------------------------------------------

    def run_step(self, step: int) -> dict[str, float]:
        """Make update `step`; measure health before it when it is time."""
        if self._files_differ:
            self._files_differ = False
            self._tell(step, "files_changed", FILES_CHANGED)
        if self.start_note:
            self._tell(step, "optimizer_anew", self.start_note)
            self.start_note = ""
        began = time.perf_counter()
        if step % self.config.health.every == 0:
            self.measure(step)
        measured = time.perf_counter() - began
        started, stalled = time.perf_counter(), self.batches.stall_seconds
        try:
            numbers = self._update(step)
        except BadFilesError as error:
            if self.processes.world_size > 1:  # the others wait for an update of all
                raise
            self.failure = error  # raised when the updates so far are saved
            raise StopTraining(str(error)) from error
        stalled = self.batches.stall_seconds - stalled
        numbers["stall_seconds"] = stalled
        numbers["stall_share"] = stall_share(stalled, time.perf_counter() - started)
        numbers["measure_seconds"] = measured
        self.monitor.add_step(step, numbers)
        return numbers

    def _tell(self, step: int, event: str, advice: str) -> None:
        self.log.event(step, event, {"advice": advice})
        if self.processes.is_first:
            sys.stderr.write(f"vjepa2: {advice}\n")

    def state(self) -> TrainingState:
        """Networks, optimizer and counters."""
        return TrainingState(
            modules={"student": self.student, "average": self.networks.average},
            optimizer=self.optimizer,
            values={
                "monitor": self.monitor.state_dict(),
                "lr_factor": self.lr_factor,
                "files": self.batches.fingerprints,
                "network": self.networks.student.encoder.config.to_dict(),
                "teacher": self._teacher_mark,
            },
        )

    def resume(self, step: int, values: dict[str, Any]) -> None:
        """Go on from a checkpoint; after roll-backs at a lower learning rate than its own."""
        if values.get("teacher") not in (None, self._teacher_mark):
            raise CheckpointFormatError(
                f"objective.teacher={self.config.objective.teacher} is another network than the "
                f"one that the run in {self.folder} learns from. Give that one, or train in "
                "another folder."
            )
        self.monitor.load_state_dict(values["monitor"])
        note = read_rollbacks(self.folder)
        self.lr_factor = min(float(values["lr_factor"]), note.lr_factor)
        self._is_resumed = True
        self.batches.restart()
        self.processes.barrier()  # all have read the note
        if self.processes.is_first:  # what may differ when a run goes on
            if note.to_step is not None:
                write_rollbacks(self.folder, replace(note, to_step=None))
            write_json(self.folder / CONFIG_NAME, self.config.model_dump(mode="json"))
        self._files_differ = values.get("files") not in (None, self.batches.fingerprints)

    # -- an update -------------------------------------------------------------------------------

    def _update(self, step: int) -> dict[str, float]:
        rates = self.config.schedule.rates(step)
        lr = rates.lr * self.lr_factor
        numbers = self._gradients(step)
        self._check_finite(step, numbers)
        if self.config.optim.clip_norm is not None:
            student = self.networks.student
            clip_gradients(
                [*student.encoder.parameters(), *student.predictor.parameters()],
                self.config.optim.clip_norm,
            )
        set_rates(self.optimizer, lr=lr, weight_decay=rates.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(rates.momentum)
        return {
            **numbers,
            "lr": lr,
            "weight_decay": rates.weight_decay,
            "momentum": rates.momentum,
        }

    def _gradients(self, step: int) -> dict[str, float]:
        """Gradients of all micro-batches; their losses and how long the gradients are."""
        sums: dict[str, Tensor] = {}
        for micro, is_last in _with_last(self.batches.next(step)):
            seed_of_micro_batch(self.config.seed, step, micro.number)
            with gradient_sync(self.student, is_last):
                for name, value in self._backward(micro, step).items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + micro.weight * value
        student = self.networks.student
        sums["encoder_gradient_norm"] = self._norm_of(student.encoder)
        sums["predictor_gradient_norm"] = self._norm_of(student.predictor)
        # One look at the device for all numbers.
        values = torch.stack([value.float().reshape(()) for value in sums.values()])
        return dict(zip(sums, values.tolist(), strict=True))

    def _check_finite(self, step: int, numbers: Mapping[str, float]) -> None:
        """Leave the weights as they are when a loss or a gradient of any process is no number.

        Raises:
            RollBack, StopTraining: as `health.action` says.
            DivergedError: otherwise.
        """
        is_finite = all(map(math.isfinite, numbers.values()))
        if not self.processes.largest(int(not is_finite)):
            return
        self.optimizer.zero_grad(set_to_none=True)
        found = self.processes.gather(self.monitor.add_step(step, numbers))
        verdict = next(verdict for verdict in found if verdict is not None)
        if self.config.health.action == "rollback":
            self._react(step, verdict)
        kept = self.store.latest()
        raise DivergedError(
            f"Update {step} was not made: {verdict.reason} The newest checkpoint is from before: "
            f"{'none was written yet' if kept is None else f'{kept} updates'}. Lower schedule.lr, "
            "raise schedule.warmup_share or set optim.clip_norm=1.0, and start in a new folder; "
            "if the data may hold NaN, look at them."
        )

    def _backward(self, micro: MicroBatch, step: int) -> dict[str, Tensor]:
        """Add one micro-batch's gradient; its losses."""
        with self._precision():
            targets = target_tokens(
                self.networks.target,
                micro.pixels,
                several_levels=bool(self.networks.student.levels),
            )
            losses = self.student(
                micro.pixels,
                targets,
                micro.masks,
                self._context_share(step, is_image=micro.is_image),
                micro.mask_shares,
            )
        (losses.total * micro.weight).backward()
        numbers = {"loss": losses.total.detach(), "prediction_loss": losses.prediction}
        if losses.context is not None:
            numbers["context_loss"] = losses.context
        return numbers

    def _norm_of(self, module: nn.Module) -> Tensor:
        gradients = [value.grad for value in module.parameters() if value.grad is not None]
        if not gradients:
            return torch.zeros((), device=self.processes.device)
        return total_norm(gradients)

    def _context_share(self, step: int, *, is_image: bool) -> float:
        objective, images = self.config.objective, self.config.images
        weight = images.context_weight if images and is_image else objective.context_weight
        return context_share_at(
            step,
            num_steps=self.config.schedule.num_steps,
            weight=weight,
            rise=objective.context_rise,
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.runtime.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16)

    def finish(self) -> Verdict:
        """The last measurement, after all updates."""
        num_steps = self.config.schedule.num_steps
        self.log.start_from(num_steps)  # the engine has closed it
        verdict = self.measure(num_steps, is_last=True)
        self.log.close()
        return verdict

    # -- health ----------------------------------------------------------------------------------

    def measure(self, step: int, *, is_last: bool = False) -> Verdict:
        """Measure and judge after `step` updates; log it, and react to an alarm.

        Raises:
            RollBack, StopTraining: as `health.action` says.
        """
        if self.held_out is None:
            self.held_out = HeldOut(
                self.config,
                self.networks,
                self.processes,
                tables=self.batches.clip_tables,
            )
        with self._precision():
            numbers = self.held_out.measure(unwrap(self.student))
        numbers["ema_distance"] = self.average.distance()
        self.log.write(step, "health", numbers)
        self.report_bad_files()
        if self.processes.is_first:
            try:
                self.held_out.save_pictures(self.folder, step, is_last=is_last)
            except OutputError as error:  # the report can do without
                self.log.event(step, "no_pictures", {"reason": str(error)})
        verdict = self.monitor.add_health(step, numbers)
        # Rounding may differ between processes; what one decides all do.
        verdict, state = self.processes.from_first((verdict, self.monitor.state_dict()))
        self.monitor.load_state_dict(state)
        self._protect(step)
        if not is_last:
            self._react(step, verdict, is_standing=self._is_resumed)
            self._is_resumed = False
        elif verdict.new:
            self.log.event(step, **_event(verdict))
        return verdict

    def _react(self, step: int, verdict: Verdict, *, is_standing: bool = False) -> None:
        """Log a new verdict, and do what `health.action` says about an alarm.

        Args:
            is_standing: an alarm counts although the run had it before: it was started again.
        """
        if verdict.new:
            self.log.event(step, **_event(verdict))
        if not verdict.alarm or not (verdict.new or is_standing):
            return
        action = self.config.health.action
        if action == "stop":
            raise StopTraining(f"{verdict} Set health.action=warn to train on all the same.")
        if action == "rollback":
            healthy = self.monitor.last_healthy_step
            known = [saved for saved in self.store.steps() if saved <= (healthy or 0)]
            if not known:
                raise StopTraining(f"{verdict} There is no healthy checkpoint to go back to.")
            count = read_rollbacks(self.folder).count
            if count >= MAX_ROLLBACKS:
                raise too_many_rollbacks(str(verdict), self.store)
            # At the rate of before, the same updates would end as before. A kill from here on
            # finds the note and finishes what it says.
            self.lr_factor *= ROLLBACK_LR_FACTOR
            self.processes.barrier()  # all have read the note
            if self.processes.is_first:
                note = Rollbacks(self.lr_factor, count + 1, to_step=max(known))
                write_rollbacks(self.folder, note)
            self.processes.barrier()
            raise RollBack(max(known), str(verdict))

    def _protect(self, step: int) -> None:
        """Keep the best and the last healthy checkpoint beyond the newest ones."""
        saved = self.store.steps()
        if self.monitor.best_step == step and step in saved:
            self.store.protect("best", step)
        healthy = self.monitor.last_healthy_step
        known = [number for number in saved if healthy is not None and number <= healthy]
        if known:
            self.store.protect("healthy", max(known))

    def report_bad_files(
        self, *, together: bool = True, error: BadFilesError | None = None
    ) -> None:
        """Write what could not be read so far into the run's folder.

        Args:
            error: that ends the run; it may name others than those of the updates.
            together: all processes call this and the first writes for all; False after an error
                in this process alone.
        """
        new = self.batches.new_bad_files()
        if error is not None:
            new += [bad for bad in error.bad_files if not self.batches.has_told(bad)]
        found = self.processes.gather(new) if together else [new]
        if self.processes.is_first or not together:
            add_bad_files(self.folder / BAD_FILES_NAME, [bad for part in found for bad in part])

    def close(self) -> None:
        """End the decoding processes."""
        self.batches.close()


def check_dtype(dtype: str, device: torch.device) -> None:
    """Refuse bfloat16 where the device has none.

    Raises:
        ConfigError: it would be emulated, slowly, or not work.
    """
    if dtype == "bfloat16" and device.type == "cuda":
        with torch.cuda.device(device):
            has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        if not has_it:
            raise ConfigError(
                f"{torch.cuda.get_device_name(device)} has no bfloat16. Set "
                "runtime.dtype=float32; half the micro_batch fits then."
            )


def compile_blocks(networks: Networks) -> None:
    """Compile every block of student and target in place; names of weights stay."""
    for network in (networks.student, networks.average, networks.target):
        for part in network.modules():
            if isinstance(part, Block):
                part.compile()


def seed_of_micro_batch(seed: int, step: int, number: int) -> None:
    """Set PyTorch's random numbers for one micro-batch: those of stochastic depth and dropout.

    A function of where the run is, so that a resumed one draws the same, on any process.
    """
    torch.manual_seed(zlib.crc32(f"{seed} {step} {number}".encode()))


def _with_last(items: Iterator[MicroBatch]) -> Iterator[tuple[MicroBatch, bool]]:
    """Every item, and whether it is the last one."""
    kept: MicroBatch | None = None
    for item in items:
        if kept is not None:
            yield kept, False
        kept = item
    if kept is not None:
        yield kept, True


def _event(verdict: Verdict) -> dict[str, Any]:
    details = verdict.as_event()
    return {"event": details.pop("event"), "details": details}
