"""One box of a clip, in the same place of every frame, becomes noise; as large as published."""

import math

import numpy as np
import torch

from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.erasing import erase, erase_box


def draws(position: int) -> Draws:
    return Draws(4, Purpose.ERASING, position=position)


def test_a_quarter_of_the_clips_is_erased() -> None:
    boxes = [erase_box(64, 64, probability=0.25, draws=draws(i)) for i in range(4000)]
    share = sum(box is not None for box in boxes) / 4000
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    assert all(erase_box(64, 64, probability=0, draws=draws(i)) is None for i in range(100))
    assert all(erase_box(64, 64, probability=1, draws=draws(i)) for i in range(100))


def test_boxes_have_the_published_areas_and_shapes() -> None:
    boxes = [erase_box(256, 256, probability=1, draws=draws(i)) for i in range(3000)]
    areas = np.array([box.height * box.width / 256**2 for box in boxes if box])
    aspects = np.array([box.height / box.width for box in boxes if box])
    assert 0.0195 < areas.min() < 0.025 and 0.32 < areas.max() < 0.335
    assert 0.29 < aspects.min() < 0.32 and 3.1 < aspects.max() < 3.35
    # Even in area and, but for boxes that do not fit, in the logarithm of the shape.
    assert abs(areas.mean() - (0.02 + 1 / 3) / 2) < 0.01
    assert abs(np.log(aspects).mean() - (math.log(0.3) + math.log(3.3)) / 2) < 0.05
    for box in boxes:
        assert box and box.height < 256 and box.width < 256
        assert 0 <= box.top <= 256 - box.height and 0 <= box.left <= 256 - box.width
    assert min(box.top for box in boxes if box) == 0


def test_a_frame_in_which_no_box_fits_is_left_alone() -> None:
    """Boxes are smaller than the frame on both sides; of one pixel there is nothing smaller."""
    assert erase_box(1, 1, probability=1, draws=draws(0)) is None


def test_the_box_is_in_the_same_place_of_every_frame_and_full_of_noise() -> None:
    still = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).expand(8, -1, -1, -1)
    erased = still.clone()
    box = erase(erased, probability=1, draws=draws(2))
    assert box is not None
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert torch.equal(erased[..., ~inside], still[..., ~inside])
    noise = erased[..., inside]
    assert (noise != still[..., inside]).float().mean() > 0.999
    # As published: the place is shared, the noise is not.
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[:, 0], noise[:, 1])
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 / math.sqrt(count)
    assert abs(float(noise.std()) - 1) < 4 / math.sqrt(2 * count)


def test_the_same_numbers_erase_the_same() -> None:
    first, second = torch.zeros(2, 4, 3, 32, 32)
    assert erase(first, probability=1, draws=draws(7)) == erase(
        second, probability=1, draws=draws(7)
    )
    assert torch.equal(first, second)
    assert erase(first, probability=0, draws=draws(7)) is None
    assert torch.equal(first, second)
