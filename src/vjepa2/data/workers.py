"""Decoding processes: PyTorch's DataLoader, kept from surprising the training process.

* One clip is one message, so that all processes work on the next update and memory is bounded by
  the number of clips ahead, whatever the number of processes.
* Signals that ask the run to stop reach the training process only. It decides when to stop, and
  needs its workers until then; a terminal or a scheduler sends them to every process.
* A process that dies is reported when the next sample is asked for, not from a signal handler in
  the middle of whatever the training process is doing.
* PyTorch's global generator is not touched, so a run draws the same numbers with any loader.
"""

import atexit
import contextlib
import multiprocessing
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from vjepa2.errors import DataWorkerError

LEFT_TO_THE_PARENT = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")


AnswerT = TypeVar("AnswerT")


class Task(Protocol):
    """What a decoding process is asked for."""

    @property
    def name(self) -> str:
        """The file to read, for messages."""
        ...


class DecodingPool(Generic[AnswerT]):
    """Answers to tasks, in their order, made by processes.

    Args:
        decoder: what to do with a task; it travels to the processes.
        tasks: taken one by one, as processes have time.
        workers: number of processes; 0 decodes in this one.
        ahead: tasks that are worked on before they are asked for, about.
    """

    def __init__(
        self, decoder: Dataset[AnswerT], tasks: Iterator[Task], *, workers: int, ahead: int
    ) -> None:
        self._unanswered: deque[Task] = deque()
        self._num_workers = workers
        before = set(multiprocessing.active_children())
        with _signals_left_to_the_parent(), _own_child_handler(), warnings.catch_warnings():
            # More processes than cores are of use where a network drive is waited for.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader: DataLoader[AnswerT] = DataLoader(
                decoder,
                batch_size=None,
                sampler=self._noted(tasks),
                collate_fn=_unchanged,
                num_workers=workers,
                prefetch_factor=-(-ahead // workers) if workers else None,
                multiprocessing_context="spawn" if workers else None,
                generator=torch.Generator(),
            )
            self._answers: Iterator[AnswerT] | None = iter(loader)
        self._processes: list[BaseProcess] = [
            process for process in multiprocessing.active_children() if process not in before
        ]
        # Before Python's own clean-up, which would wait for them.
        atexit.register(self.stop)

    def next_answer(self) -> AnswerT:
        """Wait for the answer to the next task.

        Raises:
            DataWorkerError: a process died, or the pool was stopped.
        """
        if self._answers is None:
            raise DataWorkerError("The loader was closed. Make another one.")
        try:
            answer = next(self._answers)
            self._unanswered.popleft()
            return answer
        except (RuntimeError, OSError, EOFError) as error:
            if not self._num_workers:
                raise
            raise self._death(error) from error

    def _noted(self, tasks: Iterator[Task]) -> Iterator[Task]:
        for task in tasks:
            self._unanswered.append(task)
            yield task

    def _death(self, error: Exception) -> DataWorkerError:
        ends = [
            _how_it_ended(process.pid, process.exitcode)
            for process in self._processes
            if process.exitcode is not None
        ]
        return DataWorkerError(
            f"Decoding stopped at {self._unanswered[0].name}: {'; '.join(ends) or error}. "
            "Killed by SIGKILL often means that memory ran out: lower data.workers or "
            "data.prefetch. SIGBUS means that shared memory (/dev/shm) is full: enlarge it (docker "
            "run --shm-size=8g) or lower data.prefetch. SIGSEGV: this file breaks the decoder, "
            "take it out. Code 1 at once: a script needs `if __name__ == '__main__':` around what "
            "it does. Too many open files: raise `ulimit -n`. data.workers=0 decodes in this "
            "process and shows where it fails."
        )

    def stop(self) -> None:
        """End the processes; may be called again."""
        atexit.unregister(self.stop)
        self._answers = None  # torch asks its processes to end when the iterator goes
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join()
        self._processes = []


def _unchanged(answer: Any) -> Any:
    return answer


def _how_it_ended(pid: int | None, exitcode: int) -> str:
    if exitcode >= 0:
        return f"process {pid} ended with code {exitcode}"
    with contextlib.suppress(ValueError):
        return f"process {pid} was killed by {signal.Signals(-exitcode).name}"
    return f"process {pid} was killed by signal {-exitcode}"


@contextlib.contextmanager
def _signals_left_to_the_parent() -> Iterator[None]:
    """Processes that are started here never see signals that ask the run to stop."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has no such signals
        yield
        return
    # Its own start unblocks two of the signals.
    resource_tracker.ensure_running()
    names = [name for name in LEFT_TO_THE_PARENT if hasattr(signal, name)]
    # What arrives meanwhile waits for the parent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in names])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _own_child_handler() -> Iterator[None]:
    """Keep the handler of SIGCHLD, which DataLoader replaces by one that raises anywhere."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
