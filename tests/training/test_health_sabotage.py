"""Broken runs of the real trainer raise the alarm that names what is broken, and a sound one none.

`benchmarks/alarms.py` measures this on 40 longer runs; here are the shortest that show it.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def first_alarm(
    sabotage: str, monkeypatch: pytest.MonkeyPatch, *, lr: float = 1e-3, **settings: int
) -> tuple[str | None, int | None]:
    """State and step of the first alarm of a short run, or twice None."""
    monkeypatch.syspath_prepend(ROOT)
    alarms: Any = importlib.import_module("benchmarks.alarms")
    for name, value in {"NUM_FILES": 16, "EVERY": 5, **settings}.items():
        monkeypatch.setattr(alarms, name, value)
    run = alarms.Run(seed=3, lr=lr, momentum=0.996, warmup=5, sabotage=sabotage)
    judged = alarms.judge(alarms.record(run))
    return judged["alarm"], judged["step"]


@pytest.mark.parametrize(
    ("sabotage", "expected"),
    [
        ("", (None, None)),
        ("ema_0", ("no_teacher", 5)),
        ("constant_data", ("constant_data", 0)),
        ("all_visible", ("leaking", 0)),
    ],
)
def test_the_first_alarm_of_a_run(
    sabotage: str, expected: tuple[str | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_alarm(sabotage, monkeypatch, NUM_STEPS=10) == expected


def test_a_gradient_through_the_targets_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    state, _ = first_alarm("no_stop_gradient", monkeypatch, lr=3e-3, NUM_STEPS=50, PATIENCE=1)
    assert state == "collapsed"
