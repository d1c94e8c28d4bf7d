"""Calling a robot that may raise anything, or never answer."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from vjepa2.errors import RobotError, checked_number
from vjepa2.protocols import Robot

Answer = TypeVar("Answer")

STOP_SECONDS = 5.0


class _Caught:
    """Keeps what a block raised: a robot is code of others, which may raise anything.

    Also SystemExit: a driver that calls `sys.exit` must not end the program before the robot was
    told to stop. Only Ctrl-C, which Python raises in the main thread, goes on upwards.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> "_Caught":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        main = threading.current_thread() is threading.main_thread()
        self.error = None if main and isinstance(error, KeyboardInterrupt) else error
        return self.error is not None


class RobotCalls:
    """Calls a robot's methods, each within a time.

    All calls but `stop` are made from one thread of their own, so a robot that opens devices or
    graphics in `reset` finds them again. A thread that hangs is left behind; it does not keep the
    program from ending.

    Args:
        robot: see `protocols.Robot`.
        timeout_seconds: for each call; None: calls are made directly and may take for ever.
    """

    def __init__(self, robot: Robot, *, timeout_seconds: float | None) -> None:
        if timeout_seconds is not None:
            checked_number("The robot's timeout in seconds", timeout_seconds, above=0.0)
        self.robot, self._timeout = robot, timeout_seconds
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, name: str, method: Callable[[], Answer]) -> Answer:
        """What the method returns.

        Raises:
            RobotError: it raised (the cause is attached) or did not answer in time.
        """
        caught = _Caught()
        if self._timeout is None:
            with caught:
                return method()
            raise self._failed(name, caught)
        if self._thread is None:
            self._thread = _worker(self._work, name="robot")
        done = threading.Event()
        answers: list[Answer] = []

        def work() -> None:
            with caught:
                answers.append(method())
            done.set()

        self._work.put(work)
        if not done.wait(self._timeout):
            raise RobotError(
                f"The robot's {name}() did not answer within {self._timeout:g} s. It was told to "
                "stop; look at it before going on."
            )
        if caught.error is not None:
            raise self._failed(name, caught)
        return answers[0]

    @staticmethod
    def _failed(name: str, caught: _Caught) -> RobotError:
        error = caught.error
        problem = RobotError(
            f"The robot's {name}() failed: {type(error).__name__}: {error}. It was told to stop."
        )
        problem.__cause__ = error
        return problem

    def stop(self) -> str:
        """Tell the robot to stop, from another thread than a call that hangs; never raises.

        Returns:
            What went wrong with that, in words; empty: nothing.
        """
        caught, done = _Caught(), threading.Event()

        def work() -> None:
            with caught:
                self.robot.stop()
            done.set()

        if self._timeout is None:
            work()
        else:
            threading.Thread(target=work, daemon=True, name="robot-stop").start()
        if not done.wait(STOP_SECONDS):
            return f"stop() did not answer within {STOP_SECONDS:g} s"
        if caught.error is None:
            return ""
        kind = "" if isinstance(caught.error, Exception) else f"{type(caught.error).__name__}: "
        return f"stop() failed: {kind}{caught.error}"

    def end(self) -> None:
        """Let the thread go; the robot itself is not closed."""
        if self._thread is not None:
            self._work.put(None)
            self._thread = None


def _worker(work: queue.SimpleQueue[Any], *, name: str) -> threading.Thread:
    def run() -> None:
        while (task := work.get()) is not None:
            task()

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    return thread
