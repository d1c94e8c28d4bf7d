"""What the benchmark of motions takes for undecidable."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa2.tasks.scene_tasks import LabelledClips


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("benchmarks.motion_evidence")


def clips(kind: str, *, count: int = 4) -> torch.Tensor:
    """A grey picture with a square of 8 x 8 px that rests, goes on, or goes there and back."""
    frames = torch.full((count, 6, 3, 32, 32), 100, dtype=torch.uint8)
    for time in range(6):
        place = {"rests": 8, "goes": 4 * time, "returns": 4 * min(time, 5 - time)}[kind]
        frames[:, time, :, 8:16, place : place + 8] = 200
    return frames


def test_what_looks_the_same_both_ways_does_not_change(benchmark: Any) -> None:
    assert benchmark.change_by_reversal(clips("rests")).max() == 0
    assert benchmark.change_by_reversal(clips("returns")).max() == 0
    # One place is grey in one frame and, in the frame it is exchanged with, the square.
    assert benchmark.change_by_reversal(clips("goes")).tolist() == pytest.approx([100.0] * 4, abs=2)


def test_light_that_drifts_is_no_change(benchmark: Any) -> None:
    drifting = clips("rests").float() * torch.linspace(0.9, 1.1, 6).view(1, -1, 1, 1, 1)
    assert benchmark.change_by_reversal(drifting.round().to(torch.uint8)).max() < 2


def test_clips_that_change_as_little_as_resting_ones_are_found(benchmark: Any) -> None:
    frames = torch.cat([clips("rests"), clips("returns"), clips("goes")])
    labels = torch.tensor([benchmark.STILL] * 4 + [0] * 8)
    found = benchmark.too_still(LabelledClips(frames, labels))
    assert found.tolist() == [False] * 4 + [True] * 4 + [False] * 4
