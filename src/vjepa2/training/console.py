"""What a person sees of a run: a bar on a terminal, a plain line now and then otherwise."""

import statistics
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TextIO

from vjepa2.progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SMOOTHING = 0.9  # weight of the past in the shown loss
STEPS_OF_TIME = 21  # the shown time per step is the median of so many


class StepProgress(AbstractContextManager["StepProgress"]):
    """Shows steps, loss and time left on `stream`.

    The time of a step is the median of the last ones, without the first (which starts workers and
    may compile) and without "measure_seconds": neither says how long the others will take.

    Args:
        total: number of the last step plus one.
        start: steps that were made before.
        quiet: show nothing.
        stream: default: stderr.
    """

    def __init__(
        self, *, total: int, start: int, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._total, self._step, self._quiet = total, start, quiet
        self._out = sys.stderr if stream is None else stream
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._loss: float | None = None
        self._num_shown = 0
        self._seconds: deque[float] = deque(maxlen=STEPS_OF_TIME)
        self._last_time = self._last_line = time.monotonic()

    def __enter__(self) -> "StepProgress":
        if not self._quiet and self._out.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("steps"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                console=Console(file=self._out),
            )
            self._task = self._bar.add_task(
                "steps", total=self._total, completed=self._step, state=""
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show that `step` steps are made, and the numbers of the last one."""
        now = time.monotonic()
        seconds, self._last_time = now - self._last_time, now
        if "loss" in numbers:
            self._loss = _smooth(self._loss, numbers["loss"])
            self._num_shown += 1
            if self._num_shown > 1:
                self._seconds.append(seconds - numbers.get("measure_seconds", 0.0))
        self._step = step
        if self._quiet:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, state=self._state())
        elif step == self._total or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._out.write(f"steps: {step}/{self._total}, {self._state()}\n")
            self._out.flush()

    def _state(self) -> str:
        if self._loss is None:
            return "starting"
        if not self._seconds:
            return f"loss {self._loss:.4f}"
        seconds = statistics.median(self._seconds)
        left = time_text((self._total - self._step) * seconds)
        return f"loss {self._loss:.4f}, {seconds:.2g} s a step, {left} left"


def _smooth(past: float | None, new: float) -> float:
    return new if past is None else SMOOTHING * past + (1 - SMOOTHING) * new


def time_text(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
