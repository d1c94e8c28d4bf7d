"""What lies in the folder of a pretraining run.

config.json        the resolved configuration
metrics.jsonl      one line an update, a measurement, an event
bad_files.jsonl    what could not be read, and why
pictures/          clips, tokens and masks for the report
checkpoints/       everything needed to go on
model/             the averaged encoder, the predictor and the processor, for everything else
"""

import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vjepa2.data.sample import BadFile
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    OutputError,
)
from vjepa2.files import atomic_path, write_json
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.training.checkpoint_folder import step_name, steps_in
from vjepa2.training.checkpoint_index import CheckpointIndex, read_index

CONFIG_NAME = "config.json"
FORECAST_NAME = "forecast.json"
METRICS_NAME = "metrics.jsonl"
BAD_FILES_NAME = "bad_files.jsonl"
ROLLBACKS_NAME = "rollbacks.json"
CHECKPOINTS_NAME = "checkpoints"
MODEL_NAME = "model"


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is that of a run rather than of a model."""
    return latest_in(Path(folder) / CHECKPOINTS_NAME) is not None


def latest_in(folder: Path) -> Path | None:
    """The newest checkpoint in a folder."""
    steps = steps_in(folder)
    return folder / step_name(max(steps)) if steps else None


def newest_index(folder: str | os.PathLike[str]) -> CheckpointIndex | None:
    """What the newest checkpoint of a run says of itself; None without one that can be read."""
    newest = latest_in(Path(folder) / CHECKPOINTS_NAME)
    try:
        return None if newest is None else read_index(newest)
    except CheckpointFormatError:
        return None


def load_run_config(folder: str | os.PathLike[str]) -> PretrainConfig:
    """The configuration of the pretraining run in a folder; see `stored_config` for errors."""
    return PretrainConfig(**stored_config(folder))


def stored_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of the run in a folder; if its file is lost, that of a checkpoint.

    Returns:
        JSON values, of whatever kind of run it is.

    Raises:
        CheckpointNotFoundError: there is no run in it.
        ConfigError: its configuration cannot be read.
    """
    path = Path(folder) / CONFIG_NAME
    newest = latest_in(Path(folder) / CHECKPOINTS_NAME)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if newest is not None:
            return read_index(newest).config
        raise CheckpointNotFoundError(
            f"There is no run in {folder}: {path} does not exist. Give data and a recipe to start "
            "one, or the folder of a run."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. {_advice(newest)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold the configuration of a run. {_advice(newest)}")
    return values


def _advice(newest: Path | None) -> str:
    if newest is None:
        return "Start the run anew in another folder."
    return f"Remove it: {newest} holds the configuration too."


def count_bad_files(path: Path) -> int:
    """Lines of a run's list of bad files."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@dataclass(frozen=True)
class Rollbacks:
    """The note on what alarms did to a run, written before anything is discarded.

    Attributes:
        lr_factor: what is left of the learning rate.
        count: of roll-backs so far.
        to_step: checkpoint that the last one goes back to; None once the later ones are gone.
    """

    lr_factor: float = 1.0
    count: int = 0
    to_step: int | None = None


def read_rollbacks(folder: str | os.PathLike[str]) -> Rollbacks:
    """The note of the run in a folder; without one nothing was rolled back.

    Raises:
        ConfigError: it is damaged.
    """
    path = Path(folder) / ROLLBACKS_NAME
    if not path.exists():
        return Rollbacks()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        factor, to_step = float(values["lr_factor"]), values.get("to_step")
        halvings = max(0, round(-math.log2(factor)))  # notes of earlier versions hold no count
        return Rollbacks(
            factor,
            int(values.get("count", halvings)),
            None if to_step is None else int(to_step),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). It holds by how much roll-backs have lowered the "
            'learning rate: write {"lr_factor": 0.5} into it for one roll-back.'
        ) from error


def write_rollbacks(folder: Path, note: Rollbacks) -> None:
    """Write the note.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(folder / ROLLBACKS_NAME, asdict(note))


def clear_notes(folder: Path) -> None:
    """Remove what an earlier run in the folder has noted; one begins anew.

    Raises:
        OutputError: they cannot be removed.
    """
    for name in (ROLLBACKS_NAME, BAD_FILES_NAME):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot remove {folder / name}: {error.strerror}.") from error


def add_bad_files(path: Path, found: Sequence[BadFile]) -> None:
    """Add files to a run's list of bad ones: one JSON object a line, one line a file.

    Args:
        path: of the list.
        found: their `count` is how often they were drawn since they were last added.

    Raises:
        OutputError: the list cannot be written.
    """
    if not found:
        return
    rows: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged line
                row = json.loads(line)
                rows[row["path"]] = row
    for bad in found:
        before = rows.get(bad.path, {}).get("count", 0)
        count = bad.count + (before if isinstance(before, int) else 0)
        rows[bad.path] = {**asdict(bad), "count": count}
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows.values()))
