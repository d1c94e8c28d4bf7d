"""How videos are shown otherwise, and what is concluded from it."""

import pytest
import torch

from vjepa2.scoring import Interval
from vjepa2.tasks.evaluation_config import AS_IT_IS, Control
from vjepa2.tasks.evaluation_controls import motion_verdict, shown_as


def pixels() -> torch.Tensor:
    """[2 videos, 2 clips, 1 view, 4 frames, 1, 1, 1], each frame a number of its own."""
    return torch.arange(16.0).view(2, 2, 1, 4, 1, 1, 1)


def flat(shown: torch.Tensor) -> list[float]:
    return shown.flatten().tolist()


def test_reversed_plays_the_last_clip_first() -> None:
    shown = shown_as(pixels(), "reversed", indices=[0, 1], seed=0)
    assert flat(shown) == [7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8]


def test_first_frame_is_that_of_the_first_clip() -> None:
    shown = shown_as(pixels(), "first_frame", indices=[0, 1], seed=0)
    assert flat(shown) == [0] * 8 + [8] * 8


def test_shuffled_keeps_frames_in_their_clip_and_is_a_function_of_seed_and_number() -> None:
    shown = shown_as(pixels(), "shuffled", indices=[3, 4], seed=0)
    for row in range(2):
        for clip in range(2):
            assert sorted(flat(shown[row, clip])) == flat(pixels()[row, clip])
    assert flat(shown) != flat(pixels())
    alone = shown_as(pixels()[1:], "shuffled", indices=[4], seed=0)
    assert flat(alone) == flat(shown[1:])
    orders = {
        tuple(flat(shown_as(pixels()[:1], "shuffled", indices=[n], seed=s)))
        for n in range(3)
        for s in range(3)
    }
    assert len(orders) >= 8


def test_all_views_of_a_clip_are_shuffled_alike() -> None:
    two = pixels().repeat(1, 1, 2, 1, 1, 1, 1)
    shown = shown_as(two, "shuffled", indices=[0, 1], seed=5)
    assert torch.equal(shown[:, :, 0], shown[:, :, 1])


@pytest.mark.parametrize("control", ["shuffled", "reversed", "first_frame"])
def test_pixels_themselves_stay(control: Control) -> None:
    given = pixels()
    shown_as(given, control, indices=[0, 1], seed=0)
    assert torch.equal(given, pixels())


def verdict(count: int = 200, **shares: float) -> tuple[str, str]:
    """Of answers of which so many are right; the right ones of less are among those of more."""
    hits = {name: torch.arange(count) < round(share * count) for name, share in shares.items()}
    found = motion_verdict(hits, torch.arange(count), majority=0.1, draws=300)
    return found.verdict, found.sentence


@pytest.mark.parametrize(
    ("shares", "expected", "words"),
    [
        ((0.9, 0.2, 0.3, 0.2), "motion", "needs motion: the order of the frames counts, and their"),
        ((0.9, 0.2, 0.3, 0.88), "order", "but not their direction"),
        ((0.9, 0.2, 0.88, 0.88), "several frames", "several frames but not their order"),
        ((0.9, 0.88, 0.3, 0.3), "one frame", "does not need motion: one frame is enough"),
        ((0.9, 0.9, 0.9, 0.9), "one frame", "does not need motion"),
        ((0.12, 0.1, 0.1, 0.1), "unknown", "not surely more than by naming the commonest class"),
    ],
)
def test_verdicts(shares: tuple[float, ...], expected: str, words: str) -> None:
    names = (AS_IT_IS, "first_frame", "shuffled", "reversed")
    said, sentence = verdict(**dict(zip(names, shares, strict=True)))
    assert said == expected
    assert words in sentence and f"{shares[0]:.1%}" in sentence


def test_few_videos_settle_nothing() -> None:
    said, sentence = verdict(12, as_it_is=0.9, first_frame=0.7, shuffled=0.6, reversed=0.6)
    assert said == "unknown" and "from so few videos" in sentence


def test_without_controls_nothing_is_claimed() -> None:
    assert verdict(as_it_is=0.9)[0] == "unknown"
    assert verdict(as_it_is=0.9, reversed=0.1)[0] == "unknown"
    assert verdict(as_it_is=0.9, first_frame=0.1, shuffled=0.1)[0] == "order"


def test_falls_are_paired() -> None:
    """The same 120 of 200 right under both: no fall at all, though either share could move."""
    hits = {AS_IT_IS: torch.arange(200) < 120, "shuffled": torch.arange(200) < 120}
    found = motion_verdict(hits, torch.arange(200), majority=0.1, draws=300)
    assert found.falls["shuffled"] == Interval(0.0, *found.falls["shuffled"][1:])
    assert found.falls["shuffled"].high < 0.05
