"""The log of a run: one JSON object a line, whole lines only, also after a kill.

    {"step": 99, "kind": "step", "loss": 0.41, "lr": 0.0005, "seconds": 1.2}
    {"step": 99, "kind": "health", "token_rank": 118.0}
    {"step": 99, "kind": "event", "event": "saved", "checkpoint": "step-0000100"}

`step` is the 0-based number of the update that the line follows. A run that goes on from a
checkpoint of 100 updates cuts every line from step 100 on, and does those steps again.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vjepa2.errors import MissingExtraError, OutputError
from vjepa2.files import atomic_path

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Writes `metrics.jsonl`; in processes other than the first it does nothing.

    Args:
        path: of the file; nothing is touched before `start_from`.
        enabled: whether this process writes.
        tensorboard: folder for event files of TensorBoard; None for none.

    Raises:
        MissingExtraError: `tensorboard` is given and that package is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        enabled: bool = True,
        tensorboard: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self._enabled = enabled
        self._file: TextIO | None = None
        self._board: SummaryWriter | None = None
        self._board_folder = tensorboard if enabled else None
        if self._board_folder is not None:
            _summary_writer()  # a missing package is told before any work

    def start_from(self, step: int) -> None:
        """Open the file, without the lines of `step` and later ones; called before writing.

        Raises:
            OutputError: the file cannot be written.
        """
        if not self._enabled:
            return
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                with (
                    atomic_path(self.path) as temporary,
                    temporary.open("w", encoding="utf-8") as kept,
                ):
                    for line, values in _whole_lines(self.path):
                        if values["step"] < step:
                            kept.write(line.rstrip("\n") + "\n")
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        if self._board_folder is not None:
            self._board = _summary_writer()(str(self._board_folder), purge_step=step)

    def write(self, step: int, kind: str, numbers: Mapping[str, Any]) -> None:
        """Add a line.

        Args:
            step: number of the update that it follows.
            kind: "step", "health" or "event".
            numbers: JSON values; NaN and infinity are written as null.

        Raises:
            OutputError: the disk is full.
        """
        if self._file is None:
            return
        finite = {name: _finite(value) for name, value in numbers.items()}
        try:
            self._file.write(json.dumps({"step": step, "kind": kind, **finite}) + "\n")
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        if self._board is not None:
            for name, value in finite.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def event(self, step: int, event: str, details: Mapping[str, Any] | None = None) -> None:
        """Add a line on something that happened: "saved", "resumed", "alarm" ..."""
        self.write(step, "event", {"event": event, **(details or {})})

    def sync(self) -> None:
        """Wait until all lines are on the disk: a checkpoint must not be ahead of its log."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            # Whole lines were handed over as they came; what is left is a line that failed already.
            with contextlib.suppress(OSError):
                self._file.close()
        if self._board is not None:
            self._board.close()
        self._file = self._board = None


def read_metrics(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The lines of a log, oldest first; one that is cut off or damaged is passed over."""
    for _, values in _whole_lines(Path(path)):
        yield values


def _whole_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line that a log may hold, and its values."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):  # also thousands of digits or brackets
                continue
            if isinstance(values, dict) and isinstance(values.get("step"), int):
                yield line, values


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cannot_write(path: Path, error: OSError) -> OutputError:
    if isinstance(error, OutputError):
        return error
    return OutputError(f"Cannot write {path}: {error.strerror or error}.")


def _summary_writer() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard", extra="train", needed_for="Writing for TensorBoard", reason=str(error)
        ) from error
    return SummaryWriter
