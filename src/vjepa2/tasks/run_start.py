"""How every run in a folder begins: its folder, its processes, random numbers of its own."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from vjepa2.errors import OutputError, check_path
from vjepa2.training.distributed import Processes, open_processes


def run_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder of a run; it need not be there yet.

    Raises:
        ConfigError: no path.
        OutputError: it is a file.
    """
    check_path("The run's folder", folder)
    run = Path(folder)
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run} is a file. The folder of a run (--out) must be a folder or new.")
    return run


def own_random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Inside, updates set PyTorch's random numbers; the caller's go on as if none were drawn."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def running(device: str) -> Iterator[Processes]:
    """The processes of a run, which draw random numbers of their own.

    Raises:
        ProcessesError, ConfigError: see `training.distributed.open_processes`.
    """
    with open_processes(device) as processes, own_random_numbers(processes.device):
        yield processes
