"""Tiny models and real H.264 files for the tests of features and of the command line."""

from pathlib import Path

import pytest
import torch

from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import H264, write_video

LABELS = {0: "left", 1: "right", 2: "up", 3: "down", 4: "still", 5: "spin"}


def small_config(**changes: object) -> VJEPA2Config:
    values: dict[str, object] = {
        "patch_size": 16,
        "crop_size": 32,
        "frames_per_clip": 8,
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_pooler_layers": 1,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "id2label": LABELS,
        # Wide random weights, so that different videos give clearly different features.
        "initializer_range": 0.3,
    }
    return VJEPA2Config(**(values | changes))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved classifier with random weights and its processor."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    VJEPA2ForVideoClassification(small_config()).save_pretrained(folder)
    VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a head."""
    folder = tmp_path_factory.mktemp("models") / "base"
    torch.manual_seed(0)
    VJEPA2Model(small_config()).save_pretrained(folder)
    VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H.264 file of 20 frames, 48 x 64 pixels, 10 frames a second."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    frames = make_motion_clip(
        "object moves left",
        num_frames=20,
        size=(48, 64),
        generator=torch.Generator().manual_seed(1),
    )
    return write_video(path, frames, codec=H264(fps=10))


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Three different short H.264 files."""
    paths = []
    for number, label in enumerate(["object moves up", "camera zooms in", "nothing moves"]):
        frames = make_motion_clip(
            label,
            num_frames=8,
            size=(48, 64),
            generator=torch.Generator().manual_seed(number),
        )
        paths.append(write_video(tmp_path / "videos" / f"video{number}.mp4", frames))
    return paths


@pytest.fixture
def bad_video(tmp_path: Path) -> Path:
    """A file that is no video."""
    path = tmp_path / "videos" / "bad.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"this is no video " * 100)
    return path
