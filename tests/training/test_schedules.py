"""Rates of every step against the numbers of the papers, the published code, and by hand."""

import math

import pytest

from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.training.schedules import PUBLISHED_STRETCH, Rates, ScheduleConfig


def paper(**changes: object) -> ScheduleConfig:
    """V-JEPA 2 ViT-g: 12,000 steps up, 228,000 constant, 12,000 down (arXiv:2506.09985)."""
    values = {"num_steps": 252_000, "warmup_share": 12 / 252, "cooldown_share": 12 / 252}
    return ScheduleConfig(**{**values, **changes})


def test_the_papers_run_has_its_phases_and_rates() -> None:
    schedule = paper()
    assert (schedule.warmup_steps, schedule.cooldown_start) == (12_000, 240_000)
    # Step 0 is iteration 1 of the paper.
    assert schedule.rates(0).lr == pytest.approx(1e-4 + 4.25e-4 / 12_000, rel=1e-12)
    assert schedule.rates(5_999).lr == pytest.approx((1e-4 + 5.25e-4) / 2, rel=1e-12)
    assert schedule.rates(11_999).lr == 5.25e-4
    assert schedule.rates(239_999).lr == 5.25e-4
    assert schedule.rates(251_999).lr == 1e-6
    assert schedule.rates(245_999).lr == pytest.approx((5.25e-4 + 1e-6) / 2, rel=1e-12)
    assert [schedule.phase(step) for step in (0, 11_999, 12_000, 239_999, 240_000)] == [
        "warmup",
        "warmup",
        "main",
        "main",
        "cooldown",
    ]


@pytest.mark.parametrize(
    ("lr", "stretch", "last"),
    [
        (5.25e-4, PUBLISHED_STRETCH, 1.058e-4),
        (5.25e-4, 1.0, 1e-6),
        (6e-4, PUBLISHED_STRETCH, 1.208e-4),
        (6e-4, 1.0, 1e-6),
    ],
)
def test_the_published_cooldown_ends_above_its_final_rate(
    lr: float, stretch: float, last: float
) -> None:
    only_down = ScheduleConfig(
        num_steps=12_000, warmup_share=0, cooldown_share=1, lr=lr, stretch=stretch
    )
    assert only_down.rates(11_999).lr == pytest.approx(last, rel=1e-9)
    # Also as the last phase of a whole run.
    assert paper(lr=lr, stretch=stretch).rates(251_999).lr == pytest.approx(last, rel=1e-9)


def test_the_abbreviated_recipe_follows_a_cosine() -> None:
    """90,000 steps, 2e-4 to 6.25e-4 to 1e-6, decay 0.04 to 0.4, momentum 0.999 to 1."""
    schedule = ScheduleConfig(
        num_steps=90_000,
        warmup_share=12 / 90,
        cooldown_share=0,
        kind="cosine",
        start_lr=2e-4,
        lr=6.25e-4,
        final_weight_decay=0.4,
        momentum=0.999,
        final_momentum=1.0,
    )
    assert schedule.rates(11_999) == Rates(
        lr=6.25e-4,
        weight_decay=pytest.approx(0.4 - 0.18 * (1 + math.cos(math.pi * 12 / 90))),
        momentum=pytest.approx(0.999 + 0.001 * 11_999 / 90_000),
    )
    middle = schedule.rates(12_000 + 39_000 - 1)
    assert middle.lr == pytest.approx((6.25e-4 + 1e-6) / 2)
    assert schedule.rates(45_000 - 1).weight_decay == pytest.approx(0.22)
    last = schedule.rates(89_999)
    assert (last.lr, last.weight_decay) == (1e-6, 0.4)
    assert last.momentum == pytest.approx(0.999 + 0.001 * 89_999 / 90_000)
    assert schedule.rates(0).momentum == 0.999


def test_rates_equal_a_replay_of_the_published_counters() -> None:
    """A counter that is advanced once a step, written here as the published code does it."""
    num_steps, scale, warmup = 40, 1.25, 8
    schedule = ScheduleConfig(
        num_steps=num_steps,
        warmup_share=warmup / num_steps,
        cooldown_share=0,
        kind="cosine",
        stretch=scale,
        final_weight_decay=0.4,
        momentum=0.99,
        final_momentum=1.0,
    )
    length = int(scale * num_steps)
    for step in range(num_steps):
        count = step + 1
        if count < warmup:
            lr = 1e-4 + count / warmup * (5.25e-4 - 1e-4)
        else:
            share = (count - warmup) / (length - warmup)
            lr = max(1e-6, 1e-6 + (5.25e-4 - 1e-6) * 0.5 * (1 + math.cos(math.pi * share)))
        decay = 0.4 + (0.04 - 0.4) * 0.5 * (1 + math.cos(math.pi * count / length))
        momentum = 0.99 + step * (1.0 - 0.99) / (num_steps * scale)
        assert schedule.rates(step) == pytest.approx((lr, decay, momentum), rel=1e-12)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 20, 101])
@pytest.mark.parametrize("shares", [(0.05, 0.05), (0.5, 0.5), (0, 1), (1, 0), (0, 0), (0.3, 0.7)])
@pytest.mark.parametrize("stretch", [1.0, 1.25])
def test_any_length_is_valid(num_steps: int, shares: tuple[float, float], stretch: float) -> None:
    warmup_share, cooldown_share = shares
    schedule = ScheduleConfig(
        num_steps=num_steps,
        warmup_share=warmup_share,
        cooldown_share=cooldown_share,
        stretch=stretch,
    )
    assert 0 <= schedule.warmup_steps <= schedule.cooldown_start <= num_steps
    rates = [schedule.rates(step).lr for step in range(num_steps)]
    assert all(1e-6 <= lr <= 5.25e-4 for lr in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if schedule.cooldown_steps and stretch == 1:
        assert rates[-1] == 1e-6


def test_constant_by_default_of_the_final_values() -> None:
    rates = ScheduleConfig(num_steps=10).rates(7)
    assert (rates.weight_decay, rates.momentum) == (0.04, 0.99925)


def test_runs_without_end_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_steps.*less than or equal to 1000000000"):
        ScheduleConfig(num_steps=10**9 + 1)
    with pytest.raises(ConfigError, match="stretch.*less than or equal to 100"):
        ScheduleConfig(stretch=1e308)
    longest = ScheduleConfig(num_steps=10**9, stretch=100)
    assert longest.rates(10**9 - 1).lr < longest.lr


def test_contradictions_are_refused() -> None:
    with pytest.raises(ConfigError, match="together they must be at most 1"):
        ScheduleConfig(warmup_share=0.6, cooldown_share=0.5)
    with pytest.raises(ConfigError, match="set cooldown_share to 0"):
        ScheduleConfig(kind="cosine")
    with pytest.raises(UnknownOptionError, match="Did you mean 'num_steps'"):
        ScheduleConfig(num_step=3)
    with pytest.raises(ConfigError, match="step must be 9 or less, got 10"):
        ScheduleConfig(num_steps=10).rates(10)


def test_a_run_that_only_warms_up_ends_at_the_full_rate() -> None:
    schedule = ScheduleConfig(
        num_steps=4, warmup_share=1.0, cooldown_share=0.0, kind="cosine", start_lr=0.0, lr=1.0
    )
    assert [schedule.rates(step).lr for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
