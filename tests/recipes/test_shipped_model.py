"""The classifier inside the package is what its card says."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.recipes.motion_classifier import motion_classifier
from vjepa2.scoring import wilson_interval
from vjepa2.tasks.evaluate_motion_classifier import TEST_SEED
from vjepa2.tasks.motion_card import model_card
from vjepa2.tasks.motion_clips import MotionClips, normalised
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.synthetic import MOTION_LABELS

FOLDER = Path(str(importlib.resources.files("vjepa2") / "assets" / "motion-tiny"))
FRESH_SEED = TEST_SEED + 50  # neither of the training nor of the card's clips
NUM_CLIPS = 170


@pytest.fixture(scope="module")
def metrics() -> Any:
    return json.loads((FOLDER / "metrics.json").read_text())


@pytest.fixture(scope="module")
def model() -> VJEPA2ForVideoClassification:
    return VJEPA2ForVideoClassification.from_pretrained(FOLDER)


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 6_000_000


def test_the_card_states_the_measured_numbers(metrics: Any) -> None:
    text = (FOLDER / "README.md").read_text()
    assert text == model_card(metrics)
    assert f"**{metrics['accuracy']:.1%}** right" in text
    assert metrics["num_clips"] >= 2000
    right = round(metrics["accuracy"] * metrics["num_clips"])
    ends = wilson_interval(right, metrics["num_clips"])
    assert metrics["interval"] == [round(end, 4) for end in ends]


def test_the_model_is_the_recipes(model: VJEPA2ForVideoClassification, metrics: Any) -> None:
    config = motion_classifier()
    expected = config.network()
    for name in ("hidden_size", "num_hidden_layers", "patch_size", "crop_size", "id2label"):
        assert getattr(model.config, name) == getattr(expected, name), name
    for name in ("seed", "steps", "num_clips", "clips_per_step"):
        assert metrics["training"][name] == getattr(config, name), name
    assert model.num_parameters() == metrics["training"]["num_parameters"]
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    processor = VJEPA2VideoProcessor.from_pretrained(FOLDER)
    assert processor == VJEPA2VideoProcessor(
        crop_size={"height": config.crop_size, "width": config.crop_size}
    )


@torch.no_grad()
def test_fresh_clips_are_named_as_well_as_stated(
    model: VJEPA2ForVideoClassification, metrics: Any
) -> None:
    """Three and a half standard deviations of chance below the stated share are allowed."""
    clips = MotionClips(seed=FRESH_SEED, count=NUM_CLIPS, crop_size=64, num_frames=16)
    right = backwards = 0
    opposite = torch.tensor(
        # Every pair of labels stands together in the list; the last label is its own opposite.
        [number ^ 1 if number < len(MOTION_LABELS) - 1 else number for number in range(17)]
    )
    for frames, labels in DataLoader(clips, batch_size=34):
        right += int((model(normalised(frames)).logits.argmax(dim=1) == labels).sum())
        answer = model(normalised(frames.flip(1))).logits.argmax(dim=1)
        backwards += int((answer == opposite[labels]).sum())
    for found, stated in (
        (right, metrics["accuracy"]),
        (backwards, metrics["reversed"]["named as the opposite"]),
    ):
        spread = (stated * (1 - stated) / NUM_CLIPS) ** 0.5
        assert found / NUM_CLIPS >= stated - 3.5 * spread
