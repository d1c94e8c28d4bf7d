"""The monitor: what each sign becomes, how patient it is, and that it can be continued."""

import json
import math
from typing import Any

import pytest

from vjepa2.errors import ConfigError
from vjepa2.training.health import HealthConfig, HealthMonitor, Verdict

GOOD = {
    "teacher_token_rank": 30.0,
    "student_token_rank": 28.0,
    "held_out_loss": 0.7,
    "copy_mean_loss": 0.8,
    "copy_nearest_loss": 1.0,
    "skill": 0.125,
    "target_variance": 0.95,
    "visible_targets": 0.0,
    "context_share": 0.2,
    "leak": 0.0,
    "pixel_contrast": 0.7,
    "pixel_change": 0.9,
    "pixel_motion": 0.1,
    "ema_distance": 0.05,
}
UNTRAINED = GOOD | {"teacher_token_rank": 31.0, "student_token_rank": 31.0, "skill": -0.1}
UNTRAINED["ema_distance"] = 0.0


def begun(**options: Any) -> HealthMonitor:
    """A monitor that has seen the untrained network."""
    monitor = HealthMonitor(HealthConfig(**options))
    assert monitor.add_health(0, UNTRAINED).state == "healthy"
    return monitor


def after(monitor: HealthMonitor, *measurements: dict[str, float]) -> list[Verdict]:
    return [
        monitor.add_health(10 * number, GOOD | changes)
        for number, changes in enumerate(measurements, start=1)
    ]


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"leak": 1.2}, "leaking", "hidden pixels"),
        ({"visible_targets": 1.0}, "leaking", "100% of the targets are visible"),
        ({"visible_targets": 0.02}, "leaking", "2% of the targets"),
        ({"pixel_change": 0.0}, "constant_data", "look the same"),
        ({"pixel_contrast": 0.0}, "constant_data", "one colour"),
        ({"ema_distance": 0.0}, "no_teacher", "same network"),
        ({"student_variance": math.nan}, "diverged", "student_variance is nan"),
        ({"held_out_loss": math.inf}, "diverged", "held_out_loss is inf"),
    ],
)
def test_certain_signs_are_alarms_at_once(
    changes: dict[str, float], state: str, words: str
) -> None:
    monitor = begun(patience=9)
    (verdict,) = after(monitor, changes)
    assert verdict.state == state and verdict.alarm and verdict.new
    assert words in verdict.reason and verdict.advice
    assert monitor.last_healthy_step == 0


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"teacher_token_rank": 2.0}, "collapsed"),
        ({"student_token_rank": 2.0}, "collapsed"),
        ({"copy_mean_loss": 0.2, "skill": 0.0}, "collapsed"),
        ({"ema_distance": 0.9, "student_token_rank": 15.0, "skill": 0.0}, "diverged"),
    ],
)
def test_gradual_signs_need_patience(changes: dict[str, float], state: str) -> None:
    monitor = begun(patience=3)
    verdicts = after(monitor, changes, changes, {}, changes, changes, changes)
    assert [verdict.state for verdict in verdicts] == [
        "watch", "watch", "healthy", "watch", "watch", state,
    ]  # fmt: skip
    assert [verdict.alarm for verdict in verdicts] == [False] * 5 + [True]
    assert [verdict.new for verdict in verdicts] == [True, False, True, True, False, True]
    assert monitor.last_healthy_step == 30


@pytest.mark.parametrize(
    "changes",
    [
        {"student_token_rank": 10.0},  # partial collapse, still skilled
        {"context_share": 0.9},
    ],
)
def test_unusual_is_not_an_alarm(changes: dict[str, float]) -> None:
    verdicts = after(begun(patience=1), *[changes] * 5)
    assert {verdict.state for verdict in verdicts} == {"watch"}
    assert not any(verdict.alarm for verdict in verdicts)
    assert all(verdict.advice for verdict in verdicts)


def test_easier_targets_that_are_predicted_better_are_healthy() -> None:
    (verdict,) = after(begun(patience=1), {"copy_mean_loss": 0.4, "skill": 0.2})
    assert verdict.state == "healthy"


def test_a_teacher_that_has_not_begun_to_move_is_no_missing_teacher() -> None:
    still = {name: UNTRAINED[name] for name in ("teacher_token_rank", "ema_distance")}
    assert after(begun(), still)[0].state == "healthy"


def test_a_prediction_far_worse_than_trivial_is_too_early_to_judge() -> None:
    monitor = begun()  # skill -0.1 before training is no news
    *_, last = after(monitor, *[{"skill": -1.0}] * 6)  # however long: no alarm
    assert (last.state, last.alarm) == ("watch", False)
    assert "Too early to say" in last.reason and "cost 50% less" in last.reason
    assert monitor.last_healthy_step == 60
    assert after(monitor, {"skill": 0.3})[-1].state == "healthy"


def test_waiting_for_data_is_watched() -> None:
    monitor = begun()
    for step in range(100):
        assert monitor.add_step(step, {"loss": 0.7, "stall_share": 0.4}) is None
    (verdict,) = after(monitor, {})
    assert verdict.state == "watch" and "40%" in verdict.reason


def test_a_loss_that_is_not_finite_cannot_wait() -> None:
    monitor = begun()
    verdict = monitor.add_step(3, {"loss": math.nan})
    assert verdict is not None and verdict.state == "diverged" and verdict.alarm
    assert monitor.add_step(4, {"loss": 0.5}) is None


def test_alarms_can_be_switched_off_but_the_state_stays_true() -> None:
    monitor = begun(alarm=False)
    (verdict,) = after(monitor, {"leak": 1.0})
    assert verdict.state == "leaking" and not verdict.alarm


def test_the_first_measurement_is_judged_too() -> None:
    monitor = HealthMonitor(HealthConfig())
    assert monitor.add_health(0, UNTRAINED | {"visible_targets": 1.0}).state == "leaking"
    assert monitor.last_healthy_step is None


def test_missing_numbers_are_not_judged() -> None:
    monitor = HealthMonitor(HealthConfig(patience=1))
    assert monitor.add_health(0, {"teacher_token_rank": 20.0}).state == "healthy"
    assert monitor.add_health(10, {"skill": -0.5}).state == "healthy"


def test_best_checkpoint_is_the_one_of_skill_times_rank() -> None:
    monitor = begun()
    after(
        monitor,
        {"skill": -0.1, "teacher_token_rank": 31.0},
        {"skill": 0.2, "teacher_token_rank": 28.0},  # 0.2 * 28 / 31 = 0.18
        {"skill": 0.3, "teacher_token_rank": 12.0},  # 0.12
        {"skill": 0.9, "teacher_token_rank": 31.0, "leak": 1.0},  # no healthy one
    )
    assert monitor.best_step == 20
    assert monitor.best_score == pytest.approx(0.2 * 28 / 31)


def test_a_continued_monitor_says_what_an_uninterrupted_one_says() -> None:
    bad = {"student_token_rank": 2.0}
    measurements = [{}, bad, bad, {"skill": 0.4}, bad, bad, bad, {}]
    for cut in range(len(measurements)):
        whole = begun()
        wanted = after(whole, *measurements)
        first = begun()
        after(first, *measurements[:cut])
        second = HealthMonitor(HealthConfig())
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        got = [
            second.add_health(10 * number, GOOD | changes)
            for number, changes in enumerate(measurements[cut:], start=cut + 1)
        ]
        assert got == wanted[cut:]
        assert second.state_dict() == whole.state_dict()


def test_events_are_plain_values() -> None:
    (verdict,) = after(begun(), {"leak": 1.0})
    event = json.loads(json.dumps(verdict.as_event()))
    assert event["event"] == "alarm" and event["state"] == "leaking" and event["step"] == 10
    assert "leaking" in str(verdict)


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"num_clips": 1}, {"patience": 0}, {"action": "x"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        HealthConfig(**wrong)
