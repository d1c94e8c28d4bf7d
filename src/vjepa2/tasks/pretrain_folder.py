"""What lies in the folder of a pretraining run.

config.json        the resolved configuration
metrics.jsonl      one line an update, a measurement, an event
bad_files.jsonl    what could not be read, and why
pictures/          clips, tokens and masks for the report
checkpoints/       everything needed to go on
model/             the averaged encoder, the predictor and the processor, for everything else
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vjepa2.data.sample import BadFile
from vjepa2.errors import CheckpointNotFoundError, ConfigError
from vjepa2.files import atomic_path
from vjepa2.tasks.pretrain_config import PretrainConfig

CONFIG_NAME = "config.json"
FORECAST_NAME = "forecast.json"
METRICS_NAME = "metrics.jsonl"
BAD_FILES_NAME = "bad_files.jsonl"
CHECKPOINTS_NAME = "checkpoints"
MODEL_NAME = "model"


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is that of a run rather than of a model."""
    path = Path(folder)
    return (path / CHECKPOINTS_NAME).is_dir() and (path / CONFIG_NAME).is_file()


def load_run_config(folder: str | os.PathLike[str]) -> PretrainConfig:
    """The configuration of the run in a folder.

    Raises:
        CheckpointNotFoundError: there is no run in it.
        ConfigError: its configuration cannot be read.
    """
    path = Path(folder) / CONFIG_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(
            f"There is no run in {folder}: {path} does not exist. Give data and a recipe to start "
            "one, or the folder of a run."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold the configuration of a run.")
    return PretrainConfig(**values)


def add_bad_files(path: Path, found: Sequence[BadFile]) -> None:
    """Add files to a run's list of bad ones: one JSON object a line, one line a file.

    Raises:
        OutputError: the list cannot be written.
    """
    if not found:
        return
    rows: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["path"]] = row
    for bad in found:
        rows[bad.path] = asdict(bad)
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows.values()))
