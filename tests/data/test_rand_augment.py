"""Operations, strengths and signs are drawn as published; a clip has the same on all frames."""

import math
import sys
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.rand_augment import (
    OPERATIONS,
    Operation,
    RandAugment,
    apply_operations,
    operation_value,
)
from vjepa2.errors import ConfigError, MissingExtraError

POLICY = "rand-m7-n4-mstd0.5-inc1"


def clip(count: int = 3, *, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    numbers = np.random.default_rng(0)
    return numbers.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def applied(name: str, value: float, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return apply_operations(frames, (Operation(name, value),))


def drawn(count: int) -> list[tuple[Operation, ...]]:
    policy = RandAugment.from_policy(POLICY)
    return [policy.draw(Draws(1, Purpose.RAND_AUGMENT, position=i)) for i in range(count)]


# ---- what is drawn -------------------------------------------------------------------------


def test_the_published_policy() -> None:
    expected = RandAugment(strength=7, num_operations=4, deviation=0.5)
    assert RandAugment.from_policy(POLICY) == expected
    assert RandAugment.from_policy("rand-m9-n2-inc1").deviation == 0


@pytest.mark.parametrize(
    "policy", ["", "augmix", "rand-m7-n4", "rand-m7-n4-inc0", "rand-m11-n4-inc1", "rand-m7-n0-inc1"]
)
def test_other_policies_are_refused(policy: str) -> None:
    with pytest.raises(ConfigError, match=r"rand-mM-nN-mstdS-inc1"):
        RandAugment.from_policy(policy)


def test_operations_are_equally_frequent_and_half_of_them_are_applied() -> None:
    clips = drawn(6000)
    lengths = Counter(len(operations) for operations in clips)
    for number in range(5):  # binomial of 4 coins
        share = math.comb(4, number) / 16
        assert abs(lengths[number] / 6000 - share) < 4 * math.sqrt(share * (1 - share) / 6000)
    names = Counter(operation.name for operations in clips for operation in operations)
    assert set(names) == set(OPERATIONS)
    assert len(OPERATIONS) == 15
    # 12000 operations, 800 of each: within four deviations.
    assert all(abs(count - 800) < 4 * math.sqrt(800) for count in names.values())


def test_operations_may_be_drawn_twice() -> None:
    """With replacement: of two that are applied, every fifteenth pair is one and the same."""
    pairs = [operations for operations in drawn(6000) if len(operations) == 2]
    same = sum(first.name == second.name for first, second in pairs) / len(pairs)
    assert abs(same - 1 / 15) < 4 * math.sqrt(1 / 15 / len(pairs))


def test_strengths_are_normal_around_seven_with_even_signs() -> None:
    turns = np.array(
        [op.value for operations in drawn(20_000) for op in operations if op.name == "Rotate"]
    )
    assert len(turns) > 2000
    strengths = np.abs(turns) / 30 * 10
    assert abs(strengths.mean() - 7) < 4 * 0.5 / math.sqrt(len(turns))
    assert abs(strengths.std() - 0.5) < 0.03
    assert 0.02 < (strengths > 8).mean() < 0.026 + 0.01  # above two deviations: 2.3 %
    assert abs((turns > 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(len(turns))


def test_strengths_are_cut_to_what_is_allowed() -> None:
    policy = RandAugment(strength=10, num_operations=4, deviation=2.0)
    turns = [
        abs(op.value)
        for i in range(3000)
        for op in policy.draw(Draws(2, Purpose.RAND_AUGMENT, position=i))
        if op.name == "Rotate"
    ]
    assert max(turns) == 30.0
    assert 0.4 < turns.count(30.0) / len(turns) < 0.6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("AutoContrast", 0), ("Equalize", 0), ("Invert", 0), ("Rotate", -21)),
        ("Posterize", 2),  # bits: 4 - int(2.8)
        ("Solarize", 77),  # 256 - int(179.2)
        ("SolarizeAdd", 77),  # int(0.7 * 110)
        *(("Color", 0.37), ("Contrast", 0.37), ("Brightness", 0.37), ("Sharpness", 0.37)),
        *(("ShearX", -0.21), ("ShearY", -0.21), ("TranslateX", -0.315), ("TranslateY", -0.315)),
    ],
)
def test_what_strength_seven_means(name: str, value: float) -> None:
    assert operation_value(name, 0.7, sign=-1) == pytest.approx(value)


def test_a_higher_strength_changes_more() -> None:
    """The "increasing" list: fewer bits, a lower threshold, farther from 1."""
    assert [operation_value("Posterize", share, sign=1) for share in (0, 0.5, 1)] == [4, 2, 0]
    assert [operation_value("Solarize", share, sign=1) for share in (0, 0.5, 1)] == [256, 128, 0]
    factors = [operation_value("Color", share, sign=1) for share in (0, 0.5, 1)]
    assert factors == pytest.approx([1, 1.45, 1.9])


# ---- what is done --------------------------------------------------------------------------


def test_operations_on_grey_levels_by_hand() -> None:
    frames = clip()
    levels = frames.astype(int)
    assert np.array_equal(applied("Invert", 0, frames), 255 - levels)
    solarized = np.where(levels < 77, levels, 255 - levels)
    assert np.array_equal(applied("Solarize", 77, frames), solarized)
    added = np.where(levels < 128, np.minimum(levels + 77, 255), levels)
    assert np.array_equal(applied("SolarizeAdd", 77, frames), added)
    assert np.array_equal(applied("Posterize", 2, frames), levels & 0b11000000)
    assert np.array_equal(applied("Posterize", 0, frames), 0 * levels)
    assert np.abs(applied("Brightness", 0.37, frames) - 0.37 * levels).max() <= 1
    grey = np.round(levels @ np.array([0.299, 0.587, 0.114]))[..., None]
    assert np.abs(applied("Color", 0.37, frames) - (grey + 0.37 * (levels - grey))).max() <= 2
    mean = np.round(grey.mean(axis=(1, 2, 3), keepdims=True))
    assert np.abs(applied("Contrast", 0.37, frames) - (mean + 0.37 * (levels - mean))).max() <= 2


def test_operations_that_stretch_the_levels_of_a_frame() -> None:
    narrow = 100 + clip() // 8  # 100 .. 131 in each colour
    stretched = applied("AutoContrast", 0, narrow)
    assert stretched.min() == 0 and stretched.max() == 255
    dark = (clip(1, height=64, width=64).astype(int) ** 2 // 256).astype(np.uint8)
    even = applied("Equalize", 0, dark)
    shares = np.histogram(even, bins=4, range=(0, 256))[0] / even.size
    assert np.abs(shares - 0.25).max() < 0.05


def test_sharpness_goes_away_from_the_mean_of_the_neighbourhood() -> None:
    frames = clip(1)
    weights = np.ones((3, 3))
    weights[1, 1] = 5
    levels = frames[0].astype(float)
    smooth = levels.copy()
    for i in range(1, 23):
        for j in range(1, 31):
            around = levels[i - 1 : i + 2, j - 1 : j + 2]
            smooth[i, j] = (around * weights[..., None]).sum(axis=(0, 1)) / 13
    expected = smooth + 0.37 * (levels - smooth)
    assert np.abs(applied("Sharpness", 0.37, frames)[0] - expected).max() <= 2


def test_operations_that_move_pixels_fill_up_with_grey() -> None:
    frames = clip(2, height=20, width=20)
    right = applied("TranslateX", 0.25, frames)  # looks 5 pixels further to the right
    assert np.array_equal(right[:, 2:-2, 2:13], frames[:, 2:-2, 7:18])
    assert (right[:, :, 15:] == 128).all()
    down = applied("TranslateY", -0.25, frames)
    assert np.array_equal(down[:, 7:18, 2:-2], frames[:, 2:13, 2:-2])
    assert (down[:, :5] == 128).all()
    sheared = applied("ShearX", 0.3, frames)  # row i looks at column j + 0.3 i
    assert (sheared[:, 19, 15:] == 128).all()
    assert not (sheared[:, 0] == 128).all(axis=-1).any()
    assert (applied("Rotate", 21, frames)[:, 0, 0] == 128).all()


def test_turning_is_counter_clockwise() -> None:
    frames = np.zeros((1, 41, 41, 3), dtype=np.uint8)
    frames[:, 18:23, 33:38] = 255  # to the right of the middle
    turned = applied("Rotate", 30, frames)[0, ..., 0].astype(float)
    turned[turned == 128] = 0
    rows, _ = np.nonzero(turned > 200)
    assert rows.mean() < 15  # now higher up


# ---- clips ---------------------------------------------------------------------------------


def test_identical_frames_stay_identical() -> None:
    still = np.repeat(clip(1), 5, axis=0)
    for operations in drawn(60):
        changed = apply_operations(still, operations)
        assert (changed == changed[:1]).all()


def test_frames_are_changed_alike_whatever_they_are_together_with() -> None:
    frames = clip(6)
    for operations in drawn(30):
        whole = apply_operations(frames, operations)
        parts = [apply_operations(frames[i : i + 2], operations) for i in (0, 2, 4)]
        assert np.array_equal(whole, np.concatenate(parts))


def test_the_same_numbers_give_the_same_operations() -> None:
    assert drawn(20) == drawn(20)
    assert len(set(drawn(20))) > 10


def test_without_pillow_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[train\]'"):
        applied("Invert", 0, clip())
    assert RandAugment.from_policy(POLICY).strength == 7  # a saved policy can still be read
