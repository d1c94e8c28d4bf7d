"""Readers that were used and closed leave nothing behind that would stop a forked worker."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from vjepa2.errors import InputError
from vjepa2.video.reader import VideoReader
from vjepa2.video.writer import write_video

FORKED = """
import gc, sys, torch
from torch.utils.data import DataLoader, Dataset
from vjepa2.video.reader import VideoReader

class Clips(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        gc.collect()
        with VideoReader(sys.argv[1]) as reader:
            return reader[index]

gc.disable()
with VideoReader(sys.argv[1]) as reader:
    expected = [reader[index] for index in range(4)]
loader = DataLoader(Clips(), num_workers=1, batch_size=None, multiprocessing_context="fork")
for got, wanted in zip(loader, expected, strict=True):
    assert torch.equal(got, wanted)
print("done")
"""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = torch.randint(0, 256, (12, 3, 48, 64), dtype=torch.uint8)
    return write_video(tmp_path / "film.mp4", frames)


def test_a_forked_worker_reads_after_its_parent_did(film: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(film)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["done"], done.stderr


def test_closing_frees_the_decoder_without_the_garbage_collector(film: Path) -> None:
    import gc

    gc.disable()
    try:
        before = count_threads()
        for _ in range(4):
            with VideoReader(film) as reader:
                reader[3]
        assert count_threads() == before
    finally:
        gc.enable()


def count_threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


KEPT = """
import sys
from torch.utils.data import DataLoader, Dataset
from vjepa2.errors import InputError
from vjepa2.video.reader import VideoReader

class Clips(Dataset):
    reader = VideoReader(sys.argv[1])
    def __len__(self):
        return 1
    def __getitem__(self, index):
        try:
            return str(self.reader[index].shape)
        except InputError as error:
            return str(error)

Clips.reader[0]
[answer] = DataLoader(Clips(), num_workers=1, batch_size=None, multiprocessing_context="fork")
print(answer)
"""


def test_a_reader_kept_over_a_fork_says_so_instead_of_hanging(film: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KEPT, str(film)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "open the video in the worker" in done.stdout, done.stderr


def test_a_reader_cannot_be_sent_to_another_process(film: Path) -> None:
    with VideoReader(film) as reader, pytest.raises(InputError, match="Keep the path"):
        pickle.dumps(reader)
