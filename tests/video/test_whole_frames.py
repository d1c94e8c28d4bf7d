"""Whole pictures become whole patches, whatever their size."""

import pytest
import torch

from vjepa2.errors import ConfigError
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.whole_frames import whole_frame_pixels, whole_size


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((480, 854), 480, (480, 848)),  # 853.7 is nearest to 53 patches
        ((854, 480), 480, (848, 480)),
        ((375, 1242), 512, (512, 1696)),
        ((3, 500), 16, (16, 2672)),
        ((17, 17), 1, (16, 16)),
    ],
)
def test_sides_are_whole_patches(
    size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    assert whole_size(*size, short_side=short_side, multiple=16) == expected


def test_nothing_is_cropped() -> None:
    frame = torch.zeros(3, 33, 50, dtype=torch.uint8)
    frame[:, :, :4] = 255  # the left border
    frame[:, -4:] = 255  # the lower border
    pixels = whole_frame_pixels(frame, processor=VJEPA2VideoProcessor(), short_side=32, multiple=16)
    assert pixels.shape == (1, 3, 32, 48)
    bright = pixels[0, 0] > 0
    assert bright[:, 0].all()
    assert bright[-1].all()
    assert not bright[:20, 10:].any()


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="would become"):
        whole_size(1, 100_000, short_side=16, multiple=16)
    with pytest.raises(ConfigError, match="short_side"):
        whole_size(10, 10, short_side=0, multiple=16)
