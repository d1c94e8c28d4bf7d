"""The signs of bad health: each rule looks at one measurement and says what it means.

A rule compares with the untrained network wherever a number has no scale of its own. Small runs
lose part of their rank early and recover it, if at all, by long training: that is "watch". An
alarm is raised only for what no longer training repairs.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

State = Literal[
    "healthy", "watch", "collapsed", "diverged", "leaking", "no_teacher", "constant_data"
]

LEAK = 1e-2  # predictions move by this share of their spread when only hidden pixels change
SAME_PIXELS = 1e-2  # mean difference of normalised pixels (their deviation is about 1)
SAME_WEIGHTS = 1e-7  # relative distance from teacher to student
LOST_RANK = 0.15  # share of the untrained rank; rank 1 is a single direction
PARTLY_LOST_RANK = 0.5  # of it: watched with skill, an alarm without
SHRUNK_TARGETS = 0.7  # loss of the mean prediction, as a share of that before training
NO_SKILL = 0.03
WORSE_THAN_TRIVIAL = -0.1  # skill below is watched after the first measurement
RUN_AWAY = 0.5  # relative distance from teacher to student
RUN_AWAY_RANK = 0.7
STALL = 0.1
LITTLE_HIDDEN = 0.7  # share of tokens that is visible


class Numbers(NamedTuple):
    """What the rules look at.

    Attributes:
        now: of this measurement.
        untrained: of the first one.
        running: running means of the numbers of the updates.
    """

    now: Mapping[str, float]
    untrained: Mapping[str, float]
    running: Mapping[str, float]

    def get(self, name: str) -> float:
        """The number now, or NaN: a comparison with NaN is false, so no rule fires on it."""
        return self.now.get(name, math.nan)

    def before(self, name: str) -> float:
        """The number of the untrained network, or NaN."""
        return self.untrained.get(name, math.nan)

    def left(self, name: str) -> float:
        """The number now as a share of the untrained one, or NaN."""
        before = self.before(name)
        return self.get(name) / before if before > 0 else math.nan


@dataclass(frozen=True)
class Finding:
    """One sign. `certain` ones need no second measurement to be believed."""

    rule: str
    state: State
    reason: str
    advice: str = ""
    certain: bool = False

    @property
    def alarm(self) -> bool:
        return self.state not in ("healthy", "watch")

    def softened(self) -> "Finding":
        """The same while it is not yet believed."""
        return replace(self, state="watch") if self.alarm else self


def judge_step(numbers: Mapping[str, float]) -> Finding | None:
    """What one update says by itself: only whether its numbers are finite."""
    for name, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            return _not_finite(name, value)
    return None


def judge(numbers: Numbers) -> list[Finding]:
    """All signs in one measurement, the gravest first."""
    for name, value in numbers.now.items():
        if not math.isfinite(value):
            return [_not_finite(name, value)]
    return [finding for rule in RULES for finding in rule(numbers)]


def _not_finite(name: str, value: float) -> Finding:
    return Finding(
        "not_finite",
        "diverged",
        f"{name} is {value}.",
        "Lower schedule.lr, warm up longer (schedule.warmup_share), or set optim.clip_norm=1.0; "
        "look for pixels that are not finite.",
        certain=True,
    )


def leaking(numbers: Numbers) -> Iterator[Finding]:
    advice = (
        "Look at the masks: targets must be outside the context, and the student must see the "
        "context only."
    )
    if numbers.get("visible_targets") > 0:
        yield Finding(
            "visible_targets",
            "leaking",
            f"{numbers.get('visible_targets'):.0%} of the targets are visible to the student: "
            "it can copy instead of predict.",
            advice,
            certain=True,
        )
    elif numbers.get("leak") > LEAK:
        yield Finding(
            "leak",
            "leaking",
            "Predictions change when only hidden pixels change (by "
            f"{numbers.get('leak'):.2g} of their spread): the student sees what it has to predict.",
            advice,
            certain=True,
        )


def constant_data(numbers: Numbers) -> Iterator[Finding]:
    change, contrast = numbers.get("pixel_change"), numbers.get("pixel_contrast")
    if change < SAME_PIXELS:
        yield Finding(
            "same_clips",
            "constant_data",
            f"All held-out clips look the same: pixels differ by {change:.2g} between clips "
            "(normalised; about 1 is usual).",
            "Look at the data: the same file over and over, black frames, or a decoder that fails.",
            certain=True,
        )
    elif contrast < SAME_PIXELS:
        yield Finding(
            "flat_frames",
            "constant_data",
            f"Frames are of one colour: pixels differ by {contrast:.2g} within a frame.",
            "Look at the data: black frames, or a normalisation that does not fit.",
            certain=True,
        )


def no_teacher(numbers: Numbers) -> Iterator[Finding]:
    trained = numbers.get("teacher_token_rank") != numbers.before("teacher_token_rank")
    if trained and numbers.get("ema_distance") < SAME_WEIGHTS:
        yield Finding(
            "no_teacher",
            "no_teacher",
            "Teacher and student are the same network: the teacher does not lag behind, so the "
            "network chases its own last output.",
            "Set schedule.momentum between 0.99 and 0.9999.",
            certain=True,
        )


def collapsed(numbers: Numbers) -> Iterator[Finding]:
    for name in ("teacher", "student"):
        left = numbers.left(f"{name}_token_rank")
        if left < LOST_RANK or numbers.get(f"{name}_token_rank") < 1.2:
            yield Finding(
                f"{name}_rank",
                "collapsed",
                f"The rank of the {name}'s tokens is {numbers.get(f'{name}_token_rank'):.3g}; it "
                f"was {numbers.before(f'{name}_token_rank'):.3g} before training: all tokens "
                "look nearly alike.",
                "Move EMA closer to 1 (schedule.momentum), lower schedule.lr, warm up longer.",
            )
    rank = numbers.left("student_token_rank")
    if LOST_RANK <= rank < PARTLY_LOST_RANK and numbers.get("skill") < NO_SKILL:
        yield Finding(
            "lost_for_nothing",
            "collapsed",
            f"The student has lost {1 - rank:.0%} of its rank and predicts no better than a "
            "constant: it forgets without learning.",
            "Lower schedule.lr, warm up longer, move EMA closer to 1 (schedule.momentum).",
        )
    shrunk = numbers.left("copy_mean_loss")
    if shrunk < SHRUNK_TARGETS and numbers.get("skill") < NO_SKILL:
        yield Finding(
            "shrunk_targets",
            "collapsed",
            f"The loss falls without skill: predicting the mean everywhere costs "
            f"{numbers.get('copy_mean_loss'):.3g} (before training "
            f"{numbers.before('copy_mean_loss'):.3g}), the predictor "
            f"{numbers.get('held_out_loss'):.3g}. The targets become alike.",
            "Make sure no gradient flows into the targets; move EMA closer to 1 "
            "(schedule.momentum), lower schedule.lr.",
        )


def diverged(numbers: Numbers) -> Iterator[Finding]:
    ahead = numbers.get("ema_distance")
    rank = numbers.left("student_token_rank")
    if ahead > RUN_AWAY and rank < RUN_AWAY_RANK and numbers.get("skill") < NO_SKILL:
        yield Finding(
            "run_away",
            "diverged",
            f"The student runs away from the teacher: their weights differ by {ahead:.0%} of "
            f"their size, {1 - rank:.0%} of its rank is gone, and it predicts no better than a "
            "constant.",
            "Lower schedule.lr (by a factor of 10 at first), warm up longer.",
        )


def unusual(numbers: Numbers) -> Iterator[Finding]:
    rank = numbers.left("student_token_rank")
    if rank < PARTLY_LOST_RANK:
        yield Finding(
            "partial_collapse",
            "watch",
            f"The student's rank fell to {rank:.0%} of what it was before training "
            f"({numbers.get('student_token_rank'):.3g}). Small runs often do that early; it is "
            "bad if the rank of the targets follows.",
            "If it goes on: EMA closer to 1, lower learning rate, longer warm-up.",
        )
    visible = numbers.get("context_share")
    if visible > LITTLE_HIDDEN:
        yield Finding(
            "little_hidden",
            "watch",
            f"The masks leave {visible:.0%} of the tokens visible: the task may be too easy.",
            "Hide more: larger or more blocks (published: about 6 and 25 % stay visible).",
        )
    stall = numbers.running.get("stall_share", 0.0)
    if stall > STALL:
        yield Finding(
            "stall",
            "watch",
            f"Training waits for data {stall:.0%} of the time.",
            "More data.workers, smaller videos, or fewer frames decoded per clip.",
        )
    skill, before = numbers.get("skill"), numbers.before("skill")
    is_first = numbers.now == numbers.untrained
    if skill < WORSE_THAN_TRIVIAL and not is_first and not math.isnan(before):
        yield Finding(
            "worse_than_trivial",
            "watch",
            f"Too early to say: skill is {skill:.3g} (before training {before:.3g}), a "
            f"prediction that knows nothing would cost "
            f"{1 - 1 / (1 - skill):.0%} less.",
            "Train longer; if skill stays below 0, look at learning rate and warm-up.",
        )


RULES: tuple[Callable[[Numbers], Iterator[Finding]], ...] = (
    leaking,
    constant_data,
    no_teacher,
    diverged,
    collapsed,
    unusual,
)
