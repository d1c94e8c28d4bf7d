"""The numbers of the evaluation, against networks whose answers are known."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from vjepa2.errors import ConfigError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.scoring import wilson_interval
from vjepa2.tasks import evaluate_motion_classifier as evaluation
from vjepa2.tasks.evaluate_motion_classifier import evaluate_motion_classifier
from vjepa2.tasks.motion_clips import ClipVariety

LABELS = ("object appears", "object vanishes", "nothing moves")


class MarkedClips:
    """Stands for `MotionClips`: frame brightness rises, falls or stays, by the label."""

    def __init__(self, *, seed: int, count: int, num_frames: int, **unused: Any) -> None:
        self.count, self.num_frames, self.seed = count, num_frames, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= self.count:
            raise IndexError
        label = index % 3
        ramp = torch.arange(self.num_frames) * 10 + 50
        levels = (ramp, ramp.flip(0), torch.full_like(ramp, 90))[label]
        frames = levels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
        return frames, torch.tensor(label)


class Rising(nn.Module):
    """Names rising brightness 0, falling 1, else 2: reads order and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            id2label=dict(enumerate(LABELS)), num_labels=3, crop_size=8, frames_per_clip=6
        )

    def forward(self, pixels: Tensor) -> Any:
        steps = pixels.mean(dim=(2, 3, 4)).diff(dim=1)
        rises, falls = (steps > 1e-3).all(dim=1), (steps < -1e-3).all(dim=1)
        logits = torch.stack([rises, falls, ~rises & ~falls], dim=1).float()
        return SimpleNamespace(logits=logits)


def test_a_perfect_reader_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MotionClips", MarkedClips)
    model = cast(VJEPA2ForVideoClassification, Rising())
    metrics = evaluate_motion_classifier(model, num_clips=30, num_unusual=6, workers=0, quiet=True)
    assert metrics["accuracy"] == 1.0
    assert metrics["chance"] == pytest.approx(1 / 3)
    assert metrics["per_label"] == dict.fromkeys(LABELS, 1.0)
    assert metrics["confusions"] == []
    assert metrics["reversed"] == {"named as the opposite": 1.0, "named as before": 0.0}
    third = pytest.approx(1 / 3, abs=1e-4)  # only "nothing moves" is still right
    assert metrics["one_frame"] == {"first": third, "middle": third, "last": third}
    assert metrics["shuffled"] == pytest.approx(1 / 3, abs=0.07)
    assert set(metrics["unusual"].values()) == {1.0}


def test_mistakes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(Rising):
        def forward(self, pixels: Tensor) -> Any:
            return SimpleNamespace(logits=torch.tensor([0.0, 0.0, 1.0]).expand(len(pixels), 3))

    monkeypatch.setattr(evaluation, "MotionClips", MarkedClips)
    model = cast(VJEPA2ForVideoClassification, Stubborn())
    metrics = evaluate_motion_classifier(model, num_clips=30, num_unusual=3, workers=0, quiet=True)
    assert metrics["accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert {(item["label"], item["named"], item["clips"]) for item in metrics["confusions"]} == {
        ("object appears", "nothing moves", 10),
        ("object vanishes", "nothing moves", 10),
    }


def test_unusual_files_are_unlike_the_training() -> None:
    for name, variety in evaluation.UNUSUAL.items():
        differing = [
            field
            for field in ("crf", "short_side", "num_video_frames", "aspect")
            if getattr(variety, field) != getattr(ClipVariety(), field)
        ]
        assert len(differing) == 1, name


@pytest.mark.parametrize(("right", "trials"), [(82, 100), (1, 7), (50, 50)])
def test_wilson_interval_solves_its_equation(right: int, trials: int) -> None:
    """Its ends p are where |rate - p| = z * sqrt(p (1 - p) / n)."""
    for end in wilson_interval(right, trials):
        distance = abs(right / trials - end)
        assert distance == pytest.approx(
            1.959964 * math.sqrt(max(0.0, end * (1 - end)) / trials), abs=1e-3
        )


def test_nothing_to_measure_is_named() -> None:
    with pytest.raises(ConfigError, match="At least one clip"):
        evaluate_motion_classifier(cast(VJEPA2ForVideoClassification, Rising()), num_clips=0)
