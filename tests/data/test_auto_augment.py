"""AutoAugment draws the published pairs with their probabilities, strengths and signs."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from vjepa2.data.auto_augment import MEAN_COLOUR, PAIRS, POLICY, AutoAugment, policy_of
from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.rand_augment import Operation, RandAugment, apply_operations
from vjepa2.data.views import TrainViewConfig
from vjepa2.errors import ConfigError

DRAWS = 20_000


def test_the_published_table() -> None:
    """Counts of arXiv 1805.09501, table 9: 25 pairs, five of them there twice."""
    assert len(PAIRS) == 25 and all(len(pair) == 2 for pair in PAIRS)
    assert len(set(PAIRS)) == 20
    assert Counter(name for pair in PAIRS for name, _, _ in pair) == {
        "Equalize": 17, "Solarize": 7, "Rotate": 6, "Posterize": 5, "Color": 6, "Invert": 3,
        "Contrast": 2, "AutoContrast": 2, "ShearX": 1, "Sharpness": 1,
    }  # fmt: skip


def test_operations_come_as_often_as_they_should() -> None:
    policy = policy_of(POLICY)
    found = [policy.draw(Draws(3, Purpose.RAND_AUGMENT, position=n)) for n in range(DRAWS)]
    counts = Counter(operation for operations in found for operation in operations)
    by_name = Counter(operation.name for operation in counts.elements())
    for name in ("Equalize", "Rotate", "Contrast", "ShearX"):
        expected = sum(p for pair in PAIRS for own, p, _ in pair if own == name) / 25
        assert by_name[name] / DRAWS == pytest.approx(expected, abs=0.015)
    # Rotation by 8 of 10: 24 degrees to either side alike often; it is in three pairs at 0.8.
    left, right = (counts[Operation("Rotate", sign * 24.0, MEAN_COLOUR)] for sign in (-1, 1))
    assert left / DRAWS == pytest.approx(3 * 0.8 / 25 / 2, abs=0.01)
    assert right / DRAWS == pytest.approx(left / DRAWS, abs=0.015)
    assert found == [
        AutoAugment().draw(Draws(3, Purpose.RAND_AUGMENT, position=n)) for n in range(DRAWS)
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Posterize", {7, 6}),  # bits kept at 8, 7; at 6, 5
        ("Solarize", {128, 102, 76, 204, 179}),  # levels from which on they are inverted
        ("Color", {0.1, 0.82, 0.46, 1.54}),
        ("Contrast", {1.54}),
        ("Sharpness", {1.36}),
        ("ShearX", {-0.15, 0.15}),
    ],
)
def test_what_strengths_mean(name: str, values: set[float]) -> None:
    policy = AutoAugment()
    found = {
        round(operation.value, 6)
        for n in range(4000)
        for operation in policy.draw(Draws(1, Purpose.RAND_AUGMENT, position=n))
        if operation.name == name
    }
    assert found == values


def test_operations_are_those_of_pillow() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    operations = (Operation("Color", 0.82, MEAN_COLOUR), Operation("Rotate", 24.0, MEAN_COLOUR))
    for frame, out in zip(frames, apply_operations(frames, operations), strict=True):
        image = ImageEnhance.Color(Image.fromarray(frame)).enhance(0.82)
        turned = image.rotate(24.0, resample=Image.Resampling.BICUBIC, fillcolor=MEAN_COLOUR)
        assert np.array_equal(out, np.asarray(turned))
        assert tuple(out[0, 0]) == MEAN_COLOUR


def test_policies_by_name() -> None:
    assert isinstance(policy_of("rand-m7-n4-mstd0.5-inc1"), RandAugment)
    draws = Draws(0, Purpose.RAND_AUGMENT)
    assert TrainViewConfig(rand_augment=POLICY).operations(draws) == AutoAugment().draw(
        Draws(0, Purpose.RAND_AUGMENT)
    )
    with pytest.raises(ConfigError, match="autoaugment-imagenet"):
        TrainViewConfig(rand_augment="autoaugment")
