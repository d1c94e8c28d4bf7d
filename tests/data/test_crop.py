"""Crop boxes, and the pixels that bilinear resizing looks at."""

import math

import numpy as np
import pytest
import torch

from vjepa2.data.crop import Box, axis_taps, choose_box, random_box
from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.settings import AugmentConfig

SCALE, RATIO = (0.3, 1.0), (0.75, 1.35)


def boxes(height: int, width: int, count: int = 2000) -> np.ndarray:
    return np.array(
        [
            random_box(
                height, width, scale=SCALE, ratio=RATIO, draws=Draws(0, Purpose.CROP, step=step)
            )
            for step in range(count)
        ]
    )


def test_boxes_lie_inside_and_have_the_drawn_area_and_shape() -> None:
    top, left, height, width = boxes(240, 320).T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 240 and (left + width).max() <= 320
    area, aspect = height * width / (240 * 320), width / height
    assert 0.295 < area.min() < 0.31 and area.max() > 0.95
    assert 0.74 < aspect.min() < 0.76 and 1.33 < aspect.max() < 1.36
    assert len(np.unique(top)) > 80 and len(np.unique(left)) > 100


def test_the_shape_is_uniform_in_its_logarithm() -> None:
    """Small boxes fit always, so none of their shapes is drawn again."""
    found = [
        random_box(
            1000, 1000, scale=(0.1, 0.1), ratio=(0.5, 2.0), draws=Draws(1, Purpose.CROP, step=s)
        )
        for s in range(2000)
    ]
    logs = np.log([box.width / box.height for box in found])
    assert abs(logs.mean()) < 5 * (2 * math.log(2) / math.sqrt(12)) / math.sqrt(2000)
    assert abs(np.mean(logs < -math.log(2) / 2) - 0.25) < 0.05


def test_ten_tries_as_published() -> None:
    """The published loop, with the same numbers, by hand."""
    for step in range(300):
        numbers = Draws(2, Purpose.CROP, step=step)
        expected = None
        for _ in range(10):
            area = (0.3 + 0.7 * numbers.uniform()) * 60 * 200
            low, high = math.log(0.75), math.log(1.35)
            aspect = math.exp(low + (high - low) * numbers.uniform())
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if w <= 200 and h <= 60:
                top = min(int(numbers.uniform() * (60 - h + 1)), 60 - h)
                left = min(int(numbers.uniform() * (200 - w + 1)), 200 - w)
                expected = (top, left, h, w)
                break
        else:
            expected = (0, 59, 60, 81)  # 60 high, 60 * 1.35 wide, in the middle
        drawn = random_box(
            60, 200, scale=SCALE, ratio=RATIO, draws=Draws(2, Purpose.CROP, step=step)
        )
        assert drawn == expected


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (40, 400, Box(0, 173, 40, 54)),  # too wide: 40 * 1.35
        (400, 30, Box(180, 0, 40, 30)),  # too high: 30 / 0.75
        (100, 100, Box(0, 0, 100, 100)),  # allowed: everything
    ],
)
def test_when_no_try_fits_the_middle_is_taken(height: int, width: int, expected: Box) -> None:
    draws = Draws(0, Purpose.CROP)
    assert random_box(height, width, scale=(2.0, 2.0), ratio=RATIO, draws=draws) == expected


def test_modes_without_chance() -> None:
    draws = Draws(0, Purpose.CROP)
    center = AugmentConfig().evaluation()
    whole = AugmentConfig(crop="whole", flip=0)
    assert choose_box(center, height=48, width=64, size=(32, 32), draws=draws) == (0, 8, 48, 48)
    assert choose_box(center, height=48, width=64, size=(16, 32), draws=draws) == (8, 0, 32, 64)
    assert choose_box(whole, height=48, width=64, size=(32, 32), draws=draws) == (0, 0, 48, 64)


@pytest.mark.parametrize(
    ("num_in", "num_out"), [(7, 5), (5, 7), (1, 4), (4, 1), (640, 224), (213, 224), (9, 9)]
)
def test_taps_resize_an_axis_as_torch_does(num_in: int, num_out: int) -> None:
    values = torch.randint(0, 256, (num_in,)).float()
    taps = axis_taps(num_in, num_out)
    kept = values.numpy()[taps.kept]
    mixed = kept[taps.low] * (1 - taps.weight) + kept[taps.high] * taps.weight
    expected = torch.nn.functional.interpolate(
        values[None, None], size=num_out, mode="linear", align_corners=False
    )
    assert np.abs(mixed - expected[0, 0].numpy()).max() < 1e-4


def test_only_pixels_that_are_looked_at_are_kept() -> None:
    assert axis_taps(1080, 256).kept.size == 512
    assert axis_taps(300, 256).kept.size == 300
