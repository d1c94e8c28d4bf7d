"""Folders of checkpoints: a name means complete, hidden names are work that may be cut off."""

import contextlib
import os
import re
import shutil
from pathlib import Path

STEP_NAME = re.compile(r"step-(\d{7,})")
WRITING, REPLACED, DELETING = ".writing-", ".replaced-", ".deleting-"


def step_name(step: int) -> str:
    """Name of the folder of a checkpoint."""
    return f"step-{step:07d}"


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    if not folder.is_dir():
        return []
    found = [STEP_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return sorted(int(match[1]) for match in found if match)


def unfinished(target: Path) -> Path:
    """The hidden folder in which a checkpoint is written."""
    return target.with_name(f"{WRITING}{target.name}")


def give_name(temporary: Path, target: Path) -> None:
    """Turn a written folder into a checkpoint; one of the same step is replaced."""
    sync_folder(temporary)
    replaced = target.with_name(f"{REPLACED}{target.name}")
    if target.exists():
        target.rename(replaced)
    temporary.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_checkpoint(folder: Path, step: int) -> None:
    """Remove one checkpoint; what cannot be removed now is left for `clear_leftovers`."""
    # Renamed first: a folder that is half removed must not be taken for a checkpoint.
    path = folder / step_name(step)
    hidden = folder / f"{DELETING}{path.name}"
    with contextlib.suppress(OSError):
        path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed run was writing or removing; put back what it was replacing."""
    for path in folder.glob(f"{REPLACED}*"):
        target = folder / path.name.removeprefix(REPLACED)
        if target.exists():
            shutil.rmtree(path)
        else:
            path.rename(target)
    for prefix in (WRITING, DELETING):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path)


def write_durably(path: Path, text: str) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
