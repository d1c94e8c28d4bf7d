"""What the folder of a run holds, read for its report: also of one that still goes on.

config.json       the resolved configuration
metrics.jsonl     one object a line: {"kind": "step" | "health" | "validation" | "event", ...}
results.json      of probe and anticipation runs
bad_files.jsonl   files that could not be used: path, reason, count
pictures/         see `training.health_pictures`
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vjepa2.errors import ConfigError, InputError, check_path
from vjepa2.training.health import HealthConfig, HealthMonitor, Verdict
from vjepa2.training.health_measures import stall_share

CONFIG, METRICS, BAD_FILES = "config.json", "metrics.jsonl", "bad_files.jsonl"
RESULTS = "results.json"
MAX_STEP = 2**53  # beyond, a number of an update is damaged

Row = dict[str, Any]


@dataclass(kw_only=True)
class RunRecord:
    """All that the report shows, but for pictures.

    Attributes:
        folder: of the run.
        config: as written; empty where the file is missing or damaged.
        steps, health, validation, events: lines of the metrics by kind, in order.
        results: of probe and anticipation runs; empty where there are none, or damaged.
        bad_files: lines of the list of bad files.
        verdicts: what the monitor said of every measurement, with the thresholds of today.
        best_step: its label-free choice of a checkpoint, if any.
        damaged: lines that could not be read, a torn last one not counted.
    """

    folder: Path
    config: Row = field(default_factory=dict)
    steps: list[Row] = field(default_factory=list)
    health: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    results: Row = field(default_factory=dict)
    bad_files: list[Row] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    best_step: int | None = None
    damaged: int = 0

    def numbers(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of every line that has this number and is finite."""
        rows = self.steps if any(name in row for row in self.steps[:50]) else self.health
        found = [(int(row["step"]), finite(row.get(name))) for row in rows]
        return [(step, value) for step, value in found if value is not None]

    def names(self) -> set[str]:
        """Every number that some line has."""
        rows = [*self.steps, *self.health]
        return {name for row in rows for name, value in row.items() if is_number(value)}


def is_number(value: object) -> bool:
    """Whether a value of a line can be drawn: numbers, but not True and False."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: object) -> float | None:
    """A number that can be drawn, or None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of very many digits
        return None


def read_run(folder: str | os.PathLike[str]) -> RunRecord:
    """Read everything of a run that is there.

    Raises:
        ConfigError: `folder` is no path.
        InputError: there is no such folder, it is no run, or a file of it cannot be read.
    """
    check_path("The folder of the run", folder)
    path = Path(folder)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}. Give the folder of a run, what --out named.")
    if not (path / METRICS).is_file() and not (path / CONFIG).is_file():
        raise InputError(
            f"{path} is no folder of a run: it has neither {METRICS} nor {CONFIG}. Give the folder "
            "that --out of vjepa2 pretrain, finetune, probe or anticipate named."
        )
    record = RunRecord(folder=path)
    record.config = _config(path / CONFIG)
    record.results = _config(path / RESULTS)
    kinds = {
        "step": record.steps,
        "health": record.health,
        "validation": record.validation,
        "event": record.events,
    }
    known_elsewhere = ("test",)  # in the results
    lines, record.damaged = read_lines(path / METRICS)
    kept = []
    for row in lines:
        step, kind = finite(row.get("step")), row.get("kind")
        if isinstance(kind, str) and kind in kinds and step is not None and abs(step) <= MAX_STEP:
            row["step"] = int(step)
            _add_stall_share(row)
            kinds[kind].append(row)
            if kind != "validation":
                kept.append(row)
        elif kind not in known_elsewhere:
            record.damaged += 1
    record.bad_files, damaged = read_lines(path / BAD_FILES)
    record.damaged += damaged
    _judge(record, kept)
    return record


def _add_stall_share(row: Row) -> None:
    """The log has seconds; what tells something is their share."""
    stalled, whole = finite(row.get("stall_seconds")), finite(row.get("seconds"))
    if stalled is not None and whole is not None:
        row.setdefault("stall_share", stall_share(stalled, whole))


def read_lines(path: Path) -> tuple[list[Row], int]:
    """The objects of a file of JSON lines, and how many lines are damaged.

    A last line without an end is being written, or was when the run was killed: it is left out
    and not counted. No file: no lines.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    rows, damaged = [], 0
    *whole, _torn = text.split(b"\n")
    for line in whole:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            damaged += 1
    return rows, damaged


def _config(path: Path) -> Row:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _judge(record: RunRecord, lines: Iterable[Row]) -> None:
    """Replay the monitor over the numbers of the run."""
    monitor = HealthMonitor(_health_config(record.config))
    for row in lines:
        kind, step = row["kind"], row["step"]
        if kind == "event":
            continue
        numbers = {
            name: math.nan if value is None else value  # the log writes null for NaN and infinity
            for name, value in row.items()
            if value is None or isinstance(value, float) or finite(value) is not None
        }
        del numbers["step"]
        if kind == "health":
            record.verdicts.append(monitor.add_health(step, numbers))
        else:
            verdict = monitor.add_step(step, numbers)
            if verdict is not None:
                record.verdicts.append(verdict)
    record.best_step = monitor.best_step


def _health_config(config: Row) -> HealthConfig:
    """That of the run, or the default where it is missing or of another version."""
    values = config.get("health")
    try:
        return HealthConfig(**values) if isinstance(values, dict) else HealthConfig()
    except (ConfigError, TypeError):
        return HealthConfig()
