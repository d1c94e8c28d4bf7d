"""Decoding processes die when they should, and only then; their death is a named error."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from vjepa2.data.loader import ClipLoader
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import DataWorkerError

SCRIPT = """
import signal, sys, time
from vjepa2.data.loader import ClipLoader
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
    config = DataConfig(sources=(SourceConfig(path=sys.argv[1], fps=4),), workers=1)
    loader = ClipLoader(config, AugmentConfig(), seed=0, batch_size=2, num_frames=4, crop_size=32,
                        num_steps=10**6)
    try:
        for step, samples in loader:
            print("step", step, flush=True)
            time.sleep(0.05)
    except KeyboardInterrupt:
        print("stopped", flush=True)

if __name__ == "__main__":
    main()
"""


def decoding(process: psutil.Process) -> list[psutil.Process]:
    """The decoding processes of a process."""
    return [
        child
        for child in process.children(recursive=True)
        if any("spawn_main" in part for part in child.cmdline())
    ]


def gone(processes: list[psutil.Process], *, seconds: float) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@contextlib.contextmanager
def running(
    clip_folder: Path, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The script in a process group of its own, once its first step is there."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), str(clip_folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        workers: list[psutil.Process] = []
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "step 0\n"
            workers = decoding(psutil.Process(process.pid))
            assert len(workers) == 1
            yield process, workers
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_killed_worker_is_a_named_error_and_signals_for_the_run_are_left_to_it(
    clip_folder: Path,
) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    config = DataConfig(
        sources=(SourceConfig(path=str(clip_folder), fps=4),), workers=1, prefetch=1
    )
    loader = ClipLoader(
        config, AugmentConfig(), seed=0, batch_size=2, num_frames=4, crop_size=32, num_steps=10**6
    )
    with loader:
        batches = iter(loader)
        next(batches)
        assert signal.getsignal(signal.SIGCHLD) == before
        (worker,) = decoding(psutil.Process())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            worker.send_signal(number)
        for _ in range(4):
            next(batches)
        assert worker.is_running()
        worker.kill()
        start = time.monotonic()
        with pytest.raises(
            DataWorkerError, match=r"stopped at .*clip\d+.mp4: process .* was killed by SIGKILL"
        ):
            for _ in batches:
                pass
        assert time.monotonic() - start < 20  # no hang


@pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")
def test_ctrl_c_ends_everything_without_a_word_from_the_workers(
    clip_folder: Path, tmp_path: Path
) -> None:
    with running(clip_folder, tmp_path) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        output, errors = process.communicate(timeout=60)
        assert output.splitlines()[-1] == "stopped"
        assert "Traceback" not in errors
        assert process.returncode == 0
        assert gone(workers, seconds=10)


def test_workers_do_not_outlive_a_killed_parent(clip_folder: Path, tmp_path: Path) -> None:
    with running(clip_folder, tmp_path) as (process, workers):
        process.kill()
        assert gone(workers, seconds=30)
