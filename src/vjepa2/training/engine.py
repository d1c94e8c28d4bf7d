"""The loop of a training run: steps, log, checkpoints, signals, and errors with advice.

The engine knows nothing of what is trained. It is handed a `Trainable`, does its steps in order,
and sees to it that the run can be killed or stopped at any moment and goes on as if it never was.
"""

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol

import torch

from vjepa2.errors import (
    ConfigError,
    DivergedError,
    TrainingMemoryError,
    checked_integer,
    in_digits,
)
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.checkpoint_folder import step_name
from vjepa2.training.console import StepProgress
from vjepa2.training.distributed import Processes
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.state import TrainingState

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
MAX_ROLLBACKS = 3

Reason = Literal["finished", "stop_at", "signal", "alarm"]


class Trainable(Protocol):
    """What the engine drives; every process has one."""

    def run_step(self, step: int) -> dict[str, float]:
        """Make update `step` (0-based).

        Returns:
            numbers of this process for the log, "loss" among them; the engine takes their mean
            over the processes, so that the names must be the same in all. "measure_seconds" is
            time of this call that was no part of the update; "seconds" is logged without it.

        Raises:
            RollBack: go back to an earlier checkpoint instead.
            StopTraining: make no update, save and end.
        """
        ...

    def state(self) -> TrainingState:
        """Everything that a resumed run needs, as it is between two steps."""
        ...

    def resume(self, step: int, values: dict[str, Any]) -> None:
        """Go on at `step`; modules and optimizer of `state()` have been filled already.

        Args:
            step: the next to be made.
            values: those of the saved state.
        """
        ...


class RollBack(Exception):  # noqa: N818  # no error: a request
    """Raised by `run_step`, in all processes: train on from an earlier checkpoint.

    Attributes:
        step: of the checkpoint.
        reason: for the log.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(f"back to {step_name(step)}: {reason}")
        self.step, self.reason = step, reason


class StopTraining(Exception):  # noqa: N818  # no error: a request
    """Raised by `run_step` before its update, in all processes: save and end, with a reason."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        reason: "finished" (all steps), "stop_at", "signal", or "alarm" (`StopTraining`).
        step: updates made in all; a checkpoint of this step was written.
        resumed_from: step of the checkpoint that it went on from; None for a fresh run.
        signal_name: "SIGTERM" ... where a signal stopped this process, else None.
        alarm: what `StopTraining` said, else "".
    """

    reason: Reason
    step: int
    resumed_from: int | None
    signal_name: str | None
    alarm: str = ""


def run_training(
    trainable: Trainable,
    store: CheckpointStore,
    log: MetricsLog,
    *,
    processes: Processes,
    num_steps: int,
    checkpoint_every: int,
    stop_at: int | None = None,
    quiet: bool = False,
    memory_advice: str = "",
    on_saved: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Train until the end, a stop or a signal, from the newest checkpoint where there is one.

    SIGTERM, SIGINT and SIGUSR1 let the running step end, save and return; of several processes all
    stop after the same step. A second Ctrl-C stops at once.

    Args:
        trainable: freshly made.
        store: of the run's checkpoints; locked here.
        log: of the run; opened and closed here.
        processes: of the run.
        num_steps: updates of the whole run.
        checkpoint_every: updates from one checkpoint to the next; the last step has one too.
        stop_at: end before this step, leaving a checkpoint; None for the whole run.
        quiet: no progress on stderr.
        memory_advice: what to change when memory runs out, with numbers.
        on_saved: called after every checkpoint with its step, to protect it for example.

    Raises:
        DivergedError: the loss is NaN or infinite. Nothing of that step was saved.
        TrainingMemoryError: the device has too little memory.
        OutputError: a checkpoint or the log cannot be written, or another run trains here.
        ConfigError: see `check_stop_at`, or `checkpoint_every` is below 1.
        WeightsError: the newest checkpoint is damaged or belongs to another run.
    """
    checked_integer("checkpoint_every", checkpoint_every, least=1)
    end = check_stop_at(stop_at, num_steps)
    engine = _Engine(trainable, store, log, processes, on_saved)
    with store.lock(), StopSignals() as signals:
        try:
            engine.start()
            if engine.step > end:
                raise ConfigError(
                    f"The run is at step {engine.step} already; stop_at={end} lies before it."
                )
            progress = StepProgress(
                total=end, start=engine.step, quiet=quiet or not processes.is_first
            )
            with progress:
                stopped = False
                while engine.step < end and not stopped:
                    numbers = engine.run_step(signals, memory_advice)
                    stopped = numbers.pop("stop", 0.0) > 0
                    progress.show(engine.step, numbers)
                    if engine.step % checkpoint_every == 0 or engine.step == end or stopped:
                        engine.save()
            reason: Reason = "stop_at" if end < num_steps else "finished"
            if engine.step < end:
                reason = "alarm" if engine.alarm else "signal"
            log.event(engine.step - 1, "stopped", {"reason": reason})
        finally:
            log.close()
    return TrainingResult(reason, engine.step, engine.resumed_from, signals.caught, engine.alarm)


def check_stop_at(stop_at: int | None, num_steps: int) -> int:
    """The step before which a run ends: `stop_at`, or `num_steps` without one.

    Raises:
        ConfigError: it lies outside the run.
    """
    if stop_at is None:
        return num_steps
    end = checked_integer("stop_at", stop_at)
    if not 0 <= end <= num_steps:
        raise ConfigError(
            f"stop_at must be 0 to {num_steps}, the updates of the whole run, got {in_digits(end)}."
        )
    return end


class _Engine:
    """State of `run_training`."""

    def __init__(
        self,
        trainable: Trainable,
        store: CheckpointStore,
        log: MetricsLog,
        processes: Processes,
        on_saved: Callable[[int], None] | None,
    ) -> None:
        self.trainable, self.store, self.log = trainable, store, log
        self.processes, self.on_saved = processes, on_saved
        self.step = 0
        self.saved_step: int | None = None
        self.resumed_from: int | None = None
        self.num_rollbacks = 0
        self.alarm = ""

    def start(self) -> None:
        """Go on from the newest checkpoint, or begin."""
        self.resumed_from = self.store.latest()
        if self.resumed_from is None:
            self.log.start_from(0)
            return
        self._load(self.resumed_from)
        self.log.event(
            self.step - 1, "resumed", {"checkpoint": step_name(self.step), **self._where()}
        )

    def _load(self, step: int) -> None:
        values = self.store.load(step, self.trainable.state())
        self.trainable.resume(step, values)
        self.step = self.saved_step = step
        self.log.start_from(step)

    def _where(self) -> dict[str, Any]:
        return {"processes": self.processes.world_size, "device": str(self.processes.device)}

    def run_step(self, signals: "StopSignals", memory_advice: str) -> dict[str, float]:
        """One update, or a way back; returns the means over all processes, and "stop"."""
        started = time.perf_counter()
        try:
            own = self.trainable.run_step(self.step)
        except RollBack as wish:
            self._roll_back(wish)
            return {}
        except StopTraining as wish:
            self.alarm = str(wish)
            return {"stop": 1.0}
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise self._out_of_memory(error, memory_advice) from error
            raise
        seconds = time.perf_counter() - started - own.get("measure_seconds", 0.0)
        own = {
            **own,
            "seconds": max(seconds, 0.0),
            "stop": float(signals.caught is not None),
        }
        numbers = self.processes.mean(own)
        if not math.isfinite(numbers["loss"]):
            raise self._diverged(numbers["loss"])
        logged = {name: value for name, value in numbers.items() if name != "stop"}
        self.log.write(self.step, "step", logged)
        self.step += 1
        return numbers

    def save(self) -> None:
        """Write a checkpoint of the updates made so far, unless that one is there."""
        if self.saved_step == self.step:
            return
        self.log.sync()
        self.store.save(self.step, self.trainable.state())
        self.saved_step = self.step
        self.log.event(self.step - 1, "saved", {"checkpoint": step_name(self.step)})
        if self.on_saved is not None:
            self.on_saved(self.step)

    def _roll_back(self, wish: RollBack) -> None:
        self.num_rollbacks += 1
        if self.num_rollbacks > MAX_ROLLBACKS:
            raise too_many_rollbacks(wish.reason, self.store)
        from_step = self.step
        self.store.discard_after(wish.step)
        self._load(wish.step)
        self.log.event(self.step - 1, "rollback", {"from_step": from_step, "reason": wish.reason})

    def _diverged(self, loss: float) -> DivergedError:
        kept = (
            f"The newest checkpoint is {step_name(self.saved_step)}, from before."
            if self.saved_step is not None
            else "No checkpoint was written yet."
        )
        self.log.event(self.step - 1, "diverged", {"loss": str(loss)})
        return DivergedError(
            f"The loss of step {self.step} is {loss}. {kept} Usual causes: schedule.lr too high, a "
            "warm-up too short (schedule.warmup_share), or NaN in the data. Lower schedule.lr or "
            "set optim.clip_norm=1.0, and start in a new folder."
        )

    def _out_of_memory(self, error: BaseException, advice: str) -> TrainingMemoryError:
        return TrainingMemoryError(
            f"Step {self.step} ran out of memory on {self.processes.device}"
            f"{memory_numbers(self.processes.device)}: {str(error).splitlines()[0][:200]} {advice}"
        )


def too_many_rollbacks(reason: str, store: CheckpointStore) -> DivergedError:
    """What a run ends with that went back `MAX_ROLLBACKS` times and wants to again."""
    return DivergedError(
        f"The run went back {MAX_ROLLBACKS} times already and wants to again ({reason}). Change "
        f"the configuration; the checkpoints are in {store.folder}."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def memory_numbers(device: torch.device) -> str:
    """` (61.2 of 79.1 GiB in use at the peak)`, or nothing where the device does not say."""
    if device.type != "cuda":
        return ""
    gib = 1 << 30
    peak = torch.cuda.max_memory_allocated(device) / gib
    total = torch.cuda.get_device_properties(device).total_memory / gib
    return f" ({peak:.1f} of {total:.1f} GiB in use by tensors at the peak)"


class StopSignals(AbstractContextManager["StopSignals"]):
    """Notes a signal that asks the run to stop; the former handlers are put back at the end.

    Attributes:
        caught: name of the first such signal, or None.
    """

    def __init__(self) -> None:
        self.caught: str | None = None
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # others may set no handlers
            self._former = {name: signal.signal(name, self._note) for name in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._former.items():
            signal.signal(name, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.caught == "SIGINT":
            raise KeyboardInterrupt
        self.caught = signal.Signals(number).name
