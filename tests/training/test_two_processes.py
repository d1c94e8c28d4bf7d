"""Two processes equal one with the double batch, and go on from each other's checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import TinyRun
from two_processes import train

from vjepa2.training.distributed import one_process
from vjepa2.training.metrics import read_metrics

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6


def one(folder: Path, *, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    """The same run in one process, one big batch; its weights at the end."""
    train(TinyRun(one_process(), clip_norm=0.4), folder, one_process(), stop_at=stop_at)
    return torch.load(folder / "end.pt")


def largest_difference(left: Path, right: dict[str, torch.Tensor]) -> float:
    other = torch.load(left / "end.pt")
    assert other.keys() == right.keys()
    return max((other[name] - right[name]).abs().max().item() for name in right)


def losses(folder: Path) -> list[float]:
    lines = [line for line in read_metrics(folder / "m.jsonl") if line["kind"] == "step"]
    assert [line["step"] for line in lines] == list(range(10))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes did all of `two_processes.py`."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one_ddp", "one_fsdp2"):
        one(folder / name, stop_at=5)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(Path(__file__).parent / "two_processes.py"), str(folder)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[:6000]
    return folder


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_processes_equal_one_with_the_double_batch(
    runs: Path, tmp_path: Path, sharding: str
) -> None:
    """With micro-batches and clipping on their side, and a stop in the middle."""
    expected = one(tmp_path)
    assert largest_difference(runs / sharding, expected) < TOLERANCE
    assert losses(runs / sharding) == pytest.approx(losses(tmp_path), abs=1e-5)
    # It has moved at all.
    start = TinyRun(one_process()).objective.state_dict()
    assert (
        start["encoder.layer.0.fc.weight"] - expected["encoder.layer.0.fc.weight"]
    ).abs().max() > (100 * TOLERANCE)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_from_two_to_one_and_from_one_to_two(runs: Path, tmp_path: Path, sharding: str) -> None:
    expected = one(tmp_path)
    parts = sorted(
        path.name for path in (runs / f"{sharding}_one" / "c" / "step-0000005").iterdir()
    )
    assert parts == ["checkpoint.json", "part-0000.safetensors", "part-0001.safetensors"]
    one(runs / f"{sharding}_one")
    for folder in (runs / f"{sharding}_one", runs / f"one_{sharding}"):
        assert largest_difference(folder, expected) < TOLERANCE
        assert losses(folder) == pytest.approx(losses(tmp_path), abs=1e-5)


def test_the_log_says_how_many_processes_went_on(runs: Path) -> None:
    (event,) = [
        line
        for line in read_metrics(runs / "one_ddp" / "m.jsonl")
        if (line.get("event") == "resumed")
    ]
    assert (event["processes"], event["checkpoint"]) == (2, "step-0000005")
