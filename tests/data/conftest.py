"""Small clips whose frames say which they are: frame i of clip j has the grey level 4 i."""

from collections.abc import Callable
from pathlib import Path

import pytest
from numbered_clips import write_clip
from torch import Tensor


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good clips of two sizes: clip1 .. clip10 in natural order."""
    folder = tmp_path_factory.mktemp("clips")
    for number in (1, 2, 3):
        write_clip(folder / f"clip{number}.mp4")
    (folder / "more").mkdir()
    write_clip(folder / "more" / "clip9.mp4", height=64, width=48)
    write_clip(folder / "more" / "clip10.mp4", height=64, width=48)
    return folder


@pytest.fixture(scope="session")
def half_bad_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips and three that are not videos."""
    folder = tmp_path_factory.mktemp("half_bad")
    for number in range(3):
        write_clip(folder / f"good{number}.mp4")
        (folder / f"bad{number}.mp4").write_bytes(b"this is no video " * 40)
    return folder


@pytest.fixture(scope="session")
def frame_numbers() -> Callable[[Tensor], list[int]]:
    """Which numbered frames a uint8 [U, 3, h, w] holds, read from their right half."""

    def read(frames: Tensor) -> list[int]:
        level = frames[..., frames.shape[-1] // 2 :].float().mean(dim=(1, 2, 3)) / 4
        assert float((level - level.round()).abs().max()) < 0.45
        return [int(value) for value in level.round().tolist()]

    return read
