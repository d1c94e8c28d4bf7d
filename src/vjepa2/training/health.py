"""Says in plain words whether a pretraining run is healthy, and which checkpoint is the best.

    monitor = HealthMonitor(config.health)
    monitor.add_step(step, {"loss": ..., "encoder_gradient_norm": ...})       # every update
    verdict = monitor.add_health(step, {**held_out_numbers(...), "ema_distance": ...})
    if verdict.new and verdict.alarm: ...                    # warn, stop or roll back

Every judgement compares with the same network before training (the first `add_health`): rank and
variance of an untrained network depend on its size and on the data. The rules and their thresholds
are in `health_rules`; `benchmarks/alarms.py` measures how often they are right.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from vjepa2.strict_config import StrictConfig
from vjepa2.training.health_rules import Finding, Numbers, State, judge, judge_step

# Of the losses and gradient norms, about this many updates are remembered (their running mean).
MEMORY = 20


class HealthConfig(StrictConfig):
    """When health is measured and what happens when it is bad.

    Attributes:
        every: updates from one measurement to the next; the first is before training.
        num_clips: clips held out for it.
        labelled: list of labelled clips (as in `data`, with labels) for the online probes; None:
            no probes. They only inform: nothing is decided by them.
        alarm: whether bad health raises alarms at all.
        patience: measurements in a row that must be bad before a gradual sign is an alarm;
            certain ones (NaN, visible targets, constant data) need no second look.
        action: at an alarm "warn" and go on, "stop" after saving, or "rollback" to the newest
            checkpoint that is not younger than the last healthy measurement.
    """

    every: int = Field(default=100, ge=1)
    num_clips: int = Field(default=16, ge=2)
    labelled: str | None = None
    alarm: bool = True
    patience: int = Field(default=3, ge=1)
    action: Literal["warn", "stop", "rollback"] = "warn"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a measurement says.

    Attributes:
        step: of the measurement.
        state: "healthy"; "watch" (something is unusual, nothing is lost); or one of the alarms
            "collapsed", "diverged", "leaking", "no_teacher", "constant_data".
        reason: why, with numbers.
        advice: what to change; empty when healthy.
        alarm: whether the run should not go on like this.
        new: whether the state is another one than at the measurement before.
    """

    step: int
    state: State
    reason: str
    advice: str
    alarm: bool
    new: bool

    def as_event(self) -> dict[str, Any]:
        """For the run's metrics, as {"event": "alarm" or "health", ...}."""
        return {"event": "alarm" if self.alarm else "health"} | asdict(self)

    def __str__(self) -> str:
        return f"step {self.step}: {self.state}: {self.reason} {self.advice}".strip()


class HealthMonitor:
    """Collects the numbers of a run and judges them. Its state is part of the checkpoint.

    Args:
        config: of the run.

    Attributes:
        last_healthy_step: of the last measurement without any sign of an alarm; None before one.
        best_step: label-free choice of the best checkpoint: the measurement with the largest
            `score`; None while no measurement scores above 0.
        best_score: its score.
    """

    def __init__(self, config: HealthConfig | None = None) -> None:
        self.config = HealthConfig() if config is None else config
        self.last_healthy_step: int | None = None
        self.best_step: int | None = None
        self.best_score = 0.0
        self._untrained: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._streaks: dict[str, int] = {}
        self._state: State = "healthy"

    def add_step(self, step: int, numbers: Mapping[str, float]) -> Verdict | None:
        """Take the numbers of one update.

        Args:
            step: of the update.
            numbers: `loss`, and where measured `encoder_gradient_norm`,
                `predictor_gradient_norm`, `stall_share`; others are passed over.

        Returns:
            An alarm that cannot wait (a number that is not finite), else None.
        """
        finding = judge_step(numbers)
        if finding is not None:
            return self._verdict(step, finding)
        for name in ("loss", "encoder_gradient_norm", "predictor_gradient_norm", "stall_share"):
            if name in numbers:
                value = float(numbers[name])
                before = self._running.get(name, value)
                self._running[name] = before + (value - before) / MEMORY
        return None

    def add_health(self, step: int, numbers: Mapping[str, float]) -> Verdict:
        """Take the numbers of one measurement and judge them.

        Args:
            step: number of updates done so far.
            numbers: of `health_held_out.held_out_numbers`, and `ema_distance`
                (`MovingAverage.distance`). What is missing is not judged.
        """
        measured = {name: float(value) for name, value in numbers.items()}
        if not self._untrained and all(map(math.isfinite, measured.values())):
            self._untrained = measured
        findings = judge(Numbers(measured, self._untrained, self._running))
        seen = {finding.rule for finding in findings}
        self._streaks = {rule: self._streaks.get(rule, 0) + 1 for rule in seen}
        alarming = [finding for finding in findings if finding.alarm]
        if not alarming:
            self.last_healthy_step = step
            self._consider(step, measured)
        certain = [
            finding
            for finding in alarming
            if finding.certain or self._streaks[finding.rule] >= self.config.patience
        ]
        if certain:
            return self._verdict(step, certain[0])
        if findings:
            return self._verdict(step, findings[0].softened())
        return self._verdict(step, healthy(measured, self._untrained))

    def score(self, numbers: Mapping[str, float]) -> float:
        """Label-free quality of a checkpoint: skill times the share of rank that is left.

        max(0, skill) * teacher_token_rank / teacher_token_rank before training. Skill alone is
        high when the targets have become easy, rank alone is highest before training.
        """
        rank, before = (
            values.get("teacher_token_rank", 0.0) for values in (numbers, self._untrained)
        )
        value = max(0.0, numbers.get("skill", 0.0)) * rank / before if before > 0 else 0.0
        return value if math.isfinite(value) else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Everything later verdicts depend on, as plain numbers and text."""
        return {
            "last_healthy_step": self.last_healthy_step,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "untrained": dict(self._untrained),
            "running": dict(self._running),
            "streaks": dict(self._streaks),
            "state": self._state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the monitor that `state_dict` was taken from."""
        self.last_healthy_step = state["last_healthy_step"]
        self.best_step = state["best_step"]
        self.best_score = state["best_score"]
        self._untrained = dict(state["untrained"])
        self._running = dict(state["running"])
        self._streaks = dict(state["streaks"])
        self._state = state["state"]

    def _consider(self, step: int, numbers: Mapping[str, float]) -> None:
        score = self.score(numbers)
        if score > self.best_score:
            self.best_step, self.best_score = step, score

    def _verdict(self, step: int, finding: Finding) -> Verdict:
        new = finding.state != self._state
        self._state = finding.state
        return Verdict(
            step=step,
            state=finding.state,
            reason=finding.reason,
            advice=finding.advice,
            alarm=finding.alarm and self.config.alarm,
            new=new,
        )


def healthy(numbers: Mapping[str, float], untrained: Mapping[str, float]) -> Finding:
    """The finding of a measurement that shows nothing unusual."""
    parts = []
    for name, words in (("teacher_token_rank", "rank of the targets"), ("skill", "skill")):
        if name in numbers and name in untrained:
            parts.append(f"{words} {numbers[name]:.3g} (before training {untrained[name]:.3g})")
    reason = "; ".join(parts)
    return Finding("healthy", "healthy", f"{reason[:1].upper()}{reason[1:]}." if reason else "")
