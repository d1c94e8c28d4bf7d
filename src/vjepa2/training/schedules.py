"""Learning rate, weight decay and teacher momentum of every step, in closed form.

    lr |        ________________            W = warm-up, C = cool-down, N = all steps
       |       /                \\
       |  ____/                  \\___       warm-up (linear), main (constant or cosine),
       |  0   W                N-C  N  step cool-down (linear)

Nothing is counted up: a value depends on the number of the step alone, so that a resumed run needs
no replay. Steps are 0-based; the published formulas count S = step + 1.

The published code divides by 1.25 times the steps that it runs (`ipe_scale`), so its cool-down ends
at a fifth of the rate instead of at `final_lr`. `stretch` chooses: 1 as the papers say, 1.25 as the
published configurations do.

Sources: arXiv:2506.09985, section 2.4 and appendix A; arXiv:2603.14482, appendix.
"""

import math
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from vjepa2.errors import ConfigError, checked_integer
from vjepa2.strict_config import StrictConfig

Phase = Literal["warmup", "main", "cooldown"]

PUBLISHED_STRETCH = 1.25
MAX_STEPS = 1_000_000_000


class Rates(NamedTuple):
    """What a step is made with.

    Attributes:
        lr: learning rate.
        weight_decay: of decayed parameters.
        momentum: m of the teacher's average.
    """

    lr: float
    weight_decay: float
    momentum: float


class ScheduleConfig(StrictConfig):
    """Length of a run and the rates along it.

    Attributes:
        num_steps: N, updates of the whole run.
        warmup_share: share of N in which the learning rate rises (published 12,000 of 252,000).
        cooldown_share: share of N, at the end, in which it falls linearly to `final_lr` (published
            12,000 of 252,000); 1 is a run that only cools down.
        start_lr, lr, final_lr: before the warm-up, after it, at the end.
        kind: between warm-up and cool-down: "constant", or "cosine" to `final_lr`, which is a
            cool-down already and needs `cooldown_share=0`.
        stretch: schedules are computed as if each phase (warm-up excepted) were this much longer,
            and cut. 1 as the papers say, 1.25 as the published configurations do.
        weight_decay, final_weight_decay: half a cosine from one to the other; None: constant.
        momentum, final_momentum: of the teacher's average, linear; None: constant.
    """

    num_steps: int = Field(10_000, ge=1, le=MAX_STEPS)
    warmup_share: float = Field(0.05, ge=0, le=1)
    cooldown_share: float = Field(0.05, ge=0, le=1)
    start_lr: float = Field(1e-4, ge=0)
    lr: float = Field(5.25e-4, gt=0)
    final_lr: float = Field(1e-6, ge=0)
    kind: Literal["constant", "cosine"] = "constant"
    stretch: float = Field(1.0, ge=1, le=100)
    weight_decay: float = Field(0.04, ge=0)
    final_weight_decay: float | None = Field(None, ge=0)
    momentum: float = Field(0.99925, ge=0, le=1)
    final_momentum: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.warmup_share + self.cooldown_share > 1:
            raise ConfigError(
                f"warmup_share={self.warmup_share:g} and cooldown_share={self.cooldown_share:g} "
                "are more than the whole run: together they must be at most 1"
            )
        if self.kind == "cosine" and self.cooldown_share:
            raise ConfigError(
                "kind='cosine' falls to final_lr by itself: set cooldown_share to 0, or kind to "
                "'constant'"
            )
        return self

    @property
    def warmup_steps(self) -> int:
        """W: steps of the warm-up."""
        return round(self.warmup_share * self.num_steps)

    @property
    def cooldown_steps(self) -> int:
        """C: steps of the cool-down."""
        return min(round(self.cooldown_share * self.num_steps), self.num_steps - self.warmup_steps)

    @property
    def cooldown_start(self) -> int:
        """First step of the cool-down; `num_steps` where there is none."""
        return self.num_steps - self.cooldown_steps

    def phase(self, step: int) -> Phase:
        """The part of the run that a step belongs to."""
        if step >= self.cooldown_start:
            return "cooldown"
        return "warmup" if step < self.warmup_steps else "main"

    def rates(self, step: int) -> Rates:
        """The rates of one step.

        Args:
            step: 0 .. num_steps - 1.

        Raises:
            ConfigError: there is no such step.
        """
        checked_integer("step", step, least=0, most=self.num_steps - 1)
        length = int(self.stretch * self.num_steps)
        end_decay = (
            self.weight_decay if self.final_weight_decay is None else (self.final_weight_decay)
        )
        end_momentum = self.momentum if self.final_momentum is None else self.final_momentum
        return Rates(
            lr=self._lr(step + 1),
            weight_decay=cosine(self.weight_decay, end_decay, (step + 1) / length),
            momentum=linear(self.momentum, end_momentum, step / (self.num_steps * self.stretch)),
        )

    def _lr(self, count: int) -> float:
        """Learning rate of the `count`-th step, counted from 1 as published."""
        if count > self.cooldown_start:
            length = int(self.stretch * self.cooldown_steps)
            return linear(self.lr, self.final_lr, (count - self.cooldown_start) / length)
        if count <= self.warmup_steps:
            return linear(self.start_lr, self.lr, count / self.warmup_steps)
        if self.kind == "constant":
            return self.lr
        length = int(self.stretch * self.num_steps) - self.warmup_steps
        return cosine(self.lr, self.final_lr, (count - self.warmup_steps) / length)


def linear(start: float, end: float, share: float) -> float:
    """The number `share` (0..1) of the way from `start` to `end`."""
    return end if share >= 1 else start + share * (end - start)


def cosine(start: float, end: float, share: float) -> float:
    """As `linear`, along half a cosine: flat at both ends."""
    if start == end or share >= 1:
        return end
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
