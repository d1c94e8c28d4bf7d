"""The one pass on the device equals cropping, resizing, mirroring and normalising in turn."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from vjepa2.data.augment import to_pixels
from vjepa2.data.crop import Box, axis_taps
from vjepa2.data.sample import Sample
from vjepa2.data.settings import AugmentConfig
from vjepa2.errors import ShapeError

COLOURS = AugmentConfig()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sample_of(
    frames: Tensor, box: Box, *, size: tuple[int, int], flip: bool, ids: list[int] | None = None
) -> Sample:
    """What a worker would send of `frames` [U, C, H, W]."""
    rows = box.top + axis_taps(box.height, size[0]).kept
    columns = box.left + axis_taps(box.width, size[1]).kept
    part = frames[:, :, rows][:, :, :, columns].permute(0, 2, 3, 1).contiguous()
    ids = list(range(len(frames))) if ids is None else ids
    return Sample(
        frames=part.permute(0, 3, 1, 2),
        frame_ids=np.array(ids),
        pts_seconds=np.zeros(len(ids)),
        box=box,
        frame_size=(frames.shape[2], frames.shape[3]),
        size=size,
        flip=flip,
        path="clip.mp4",
        label=None,
        source=0,
        step=0,
        position=0,
        attempt=0,
        is_image=False,
    )


def one_after_the_other(
    frames: Tensor, box: Box, *, size: tuple[int, int], flip: bool, augment: AugmentConfig
) -> Tensor:
    """The published order of operations, all in float64."""
    top, left, height, width = box
    pixels = frames[:, :, top : top + height, left : left + width].double()
    pixels = torch.nn.functional.interpolate(
        pixels, size=size, mode="bilinear", align_corners=False, antialias=False
    )
    if flip:
        pixels = pixels.flip(-1)
    mean = torch.tensor(augment.mean, dtype=torch.float64).view(-1, 1, 1) * augment.pixel_max
    std = torch.tensor(augment.std, dtype=torch.float64).view(-1, 1, 1) * augment.pixel_max
    return (pixels - mean) / std


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(96, 96), (224, 112), (40, 150)])
@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (120, 160, Box(7, 11, 101, 133)),
        (540, 700, Box(3, 5, 521, 690)),  # rows and columns are left out
        (540, 120, Box(0, 0, 540, 120)),
        (33, 47, Box(2, 1, 1, 5)),
    ],
)
def test_one_pass_equals_four(
    height: int, width: int, box: Box, size: tuple[int, int], flip: bool
) -> None:
    frames = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    sample = sample_of(frames, box, size=size, flip=flip)
    found = to_pixels([sample], COLOURS)[0].double()
    expected = one_after_the_other(frames, box, size=size, flip=flip, augment=COLOURS)
    # Positions are float32 in the original and here: off by up to 1e-4 pixels of a wide frame.
    grey = torch.tensor(STD, dtype=torch.float64).view(-1, 1, 1) * 255
    assert float(((found - expected) * grey).abs().max()) < 5e-2
    in_float32 = torch.nn.functional.interpolate(
        frames[:, :, box.top : box.top + box.height, box.left : box.left + box.width].float(),
        size=size,
        mode="bilinear",
    )
    grey_found = found * grey + torch.tensor(MEAN).view(-1, 1, 1) * 255
    expected_grey = in_float32.flip(-1) if flip else in_float32
    assert float((grey_found - expected_grey).abs().max()) < 1e-4


def test_sizes_are_mixed_in_one_batch_and_repeated_frames_come_back() -> None:
    small = torch.randint(0, 256, (2, 3, 30, 50), dtype=torch.uint8)
    large = torch.randint(0, 256, (3, 3, 90, 40), dtype=torch.uint8)
    still = torch.randint(0, 256, (1, 3, 20, 20), dtype=torch.uint8)
    box_small, box_large = Box(0, 0, 30, 50), Box(10, 0, 70, 40)
    size = (24, 24)
    batch = [
        sample_of(small, box_small, size=size, flip=False, ids=[0, 1, 1]),
        sample_of(large, box_large, size=size, flip=True),
        sample_of(still, Box(0, 0, 20, 20), size=size, flip=False, ids=[0, 0, 0]),
    ]
    pixels = to_pixels(batch, COLOURS)
    assert tuple(pixels.shape) == (3, 3, 3, 24, 24)
    first = one_after_the_other(small, box_small, size=size, flip=False, augment=COLOURS)
    second = one_after_the_other(large, box_large, size=size, flip=True, augment=COLOURS)
    assert torch.allclose(pixels[0].double(), first[[0, 1, 1]], atol=1e-3)
    assert torch.allclose(pixels[1].double(), second, atol=1e-3)
    assert torch.equal(pixels[2, 0], pixels[2, 2])


def test_half_precision_is_rounded_once_at_the_end() -> None:
    frames = torch.randint(0, 256, (4, 3, 50, 60), dtype=torch.uint8)
    sample = sample_of(frames, Box(0, 0, 50, 60), size=(32, 32), flip=True)
    assert torch.equal(
        to_pixels([sample], COLOURS, dtype=torch.bfloat16),
        to_pixels([sample], COLOURS).to(torch.bfloat16),
    )


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.float32])
def test_any_number_of_channels_and_wide_pixels(dtype: torch.dtype) -> None:
    augment = AugmentConfig(
        mean=(0.1,) * 12, std=tuple(0.1 + 0.01 * c for c in range(12)), pixel_max=10_000
    )
    frames = torch.randint(0, 10_000, (2, 12, 40, 30)).to(dtype)
    box = Box(1, 2, 35, 25)
    for size in ((16, 16), (48, 48)):
        sample = sample_of(frames, box, size=size, flip=True)
        expected = one_after_the_other(frames, box, size=size, flip=True, augment=augment)
        assert torch.allclose(to_pixels([sample], augment)[0].double(), expected, atol=1e-3)


def test_clips_of_different_lengths_make_no_batch() -> None:
    frames = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    sample = sample_of(frames, Box(0, 0, 20, 20), size=(16, 16), flip=False)
    other = dataclasses.replace(sample, frame_ids=np.array([0, 1]))
    with pytest.raises(ShapeError, match="one length and size"):
        to_pixels([sample, other], COLOURS)
    with pytest.raises(ShapeError, match="no samples"):
        to_pixels([], COLOURS)
