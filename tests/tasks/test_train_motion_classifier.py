"""Training learns, resumes bit for bit, and starts from filters that are what they claim."""

from pathlib import Path

import pytest
import torch

from vjepa2.errors import CheckpointFormatError, ConfigError, UnknownOptionError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.tasks.evaluate_motion_classifier import evaluate_motion_classifier
from vjepa2.tasks.motion_filters import start_with_space_time_filters
from vjepa2.tasks.train_motion_classifier import (
    MotionClassifierConfig,
    train_motion_classifier,
)
from vjepa2.video.processor import VJEPA2VideoProcessor

PANS = (
    "camera pans left",
    "camera pans right",
    "camera tilts up",
    "camera tilts down",
)
TINY = MotionClassifierConfig(
    labels=PANS,
    num_clips=24,
    steps=6,
    clips_per_step=2,
    warmup_steps=2,
    checkpoint_every=2,
    workers=0,
    crop_size=16,
    num_frames=4,
    hidden_size=24,
    num_heads=2,
    num_layers=2,
)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train_motion_classifier(TINY, tmp_path / "whole", quiet=True)
    train_motion_classifier(TINY, tmp_path / "parts", stop_at=3, quiet=True)
    assert not (tmp_path / "parts/model.safetensors").exists()
    torch.manual_seed(99)  # the resumed run depends on nothing but its checkpoint
    parts = train_motion_classifier(TINY, tmp_path / "parts", quiet=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    rows = [
        (tmp_path / folder / "progress.csv").read_text().splitlines()
        for folder in ("whole", "parts")
    ]
    assert rows[0] == rows[1]
    assert [row.split(",")[0] for row in rows[0]] == ["1", "2", "3", "4", "5", "6"]


def test_the_folder_of_a_run_is_a_model(tmp_path: Path) -> None:
    trained = train_motion_classifier(TINY, tmp_path, quiet=True)
    loaded = VJEPA2ForVideoClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == dict(enumerate(PANS))
    pixels = torch.randn(1, 4, 3, 16, 16)
    assert torch.equal(loaded(pixels).logits, trained(pixels).logits)
    processor = VJEPA2VideoProcessor.from_pretrained(tmp_path)
    assert processor.crop_size == {"height": 16, "width": 16}


def test_another_configuration_does_not_go_on_with_a_run(tmp_path: Path) -> None:
    train_motion_classifier(TINY, tmp_path, stop_at=1, quiet=True)
    with pytest.raises(CheckpointFormatError, match="another configuration.*another folder"):
        train_motion_classifier(TINY.override(["seed=1"]), tmp_path, quiet=True)


def test_a_seed_decides_the_weights(tmp_path: Path) -> None:
    one = train_motion_classifier(TINY.override(["steps=1"]), tmp_path / "a", quiet=True)
    two = train_motion_classifier(TINY.override(["steps=1", "seed=1"]), tmp_path / "b", quiet=True)
    assert not torch.equal(one.classifier.weight, two.classifier.weight)


def test_labels_and_options_are_checked_before_minutes_are_spent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'camera pans right': add it to labels"):
        train_motion_classifier(MotionClassifierConfig(labels=PANS[:1]), tmp_path, quiet=True)
    assert not (tmp_path / "clips").exists()
    with pytest.raises(UnknownOptionError, match="Did you mean 'steps'"):
        TINY.override(["step=3"])


def test_a_short_run_learns_where_the_camera_pans(tmp_path: Path) -> None:
    """Four directions, chance 25 %; fresh clips that the run has not seen."""
    config = TINY.override(
        [
            "num_clips=320",
            "steps=120",
            "clips_per_step=12",
            "warmup_steps=10",
            "crop_size=32",
            "num_frames=8",
            "hidden_size=64",
            "initializer_range=0.12",
        ]
    )
    model = train_motion_classifier(config, tmp_path, quiet=True)
    metrics = evaluate_motion_classifier(model, num_clips=160, num_unusual=1, workers=0, quiet=True)
    assert metrics["accuracy"] > 0.5
    assert metrics["reversed"]["named as the opposite"] > 0.5
    assert metrics["one_frame"]["middle"] < 0.45


def test_the_first_filters_are_whitened_cosines() -> None:
    config = TINY.override(["hidden_size=64"])
    model = VJEPA2ForVideoClassification(config.network())
    pixels = torch.randn(8, 4, 3, 16, 16) * torch.tensor([3.0, 1.0, 2.0])[:, None, None] + 1
    start_with_space_time_filters(model, pixels)
    outputs = model.vjepa2.encoder.embeddings(pixels)
    assert torch.allclose(outputs.mean(dim=(0, 1)), torch.zeros(64), atol=1e-4)
    assert torch.allclose(outputs.std(dim=(0, 1)), torch.ones(64), atol=1e-4)
    # Waves of different filters are orthogonal, as those of a cosine transform are.
    filters = model.vjepa2.encoder.embeddings.patch_embeddings.proj.weight.flatten(1)
    filters = filters / filters.norm(dim=1, keepdim=True)
    assert torch.allclose(filters @ filters.T, torch.eye(64), atol=1e-4)
    # The first two: mean brightness of a tubelet, and how it differs between its two frames.
    frames = filters[:2].reshape(2, 3, 2, 8, 8)
    assert torch.allclose(frames[0], frames[0].mean().expand(3, 2, 8, 8), atol=1e-5)
    assert torch.allclose(frames[1][:, 0], -frames[1][:, 1], atol=1e-5)
