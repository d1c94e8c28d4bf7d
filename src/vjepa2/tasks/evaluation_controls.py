"""Videos shown in other ways, and what the difference says: does the task need motion?

If one frame is enough, a model that is praised for understanding motion has not been asked for any.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vjepa2.numbered_random import stream, stream_key
from vjepa2.scoring import Interval, bootstrap_interval
from vjepa2.tasks.evaluation_config import AS_IT_IS, Control

Views = Float[Tensor, "B segments V T C S S"]
SMALL_SHARE = 0.25  # of the skill above naming the commonest class

Verdict = Literal["motion", "order", "several frames", "one frame", "unknown"]


def shown_as(pixels: Views, control: Control, *, indices: list[int], seed: int) -> Views:
    """Show videos in another way; clips of one frame stay as they are.

    Args:
        pixels: of the videos as they are.
        control: "shuffled" puts the frames of every clip into an order by lot, which is the same
            for all its views; "reversed" plays clips backwards and the last one first;
            "first_frame" shows the first frame of the first clip all the time.
        indices: numbers of the videos in their list: the lot is a function of seed and number.
        seed: of the lot.
    """
    if control == "reversed":
        return pixels.flip(dims=(1, 3))
    if control == "first_frame":
        return pixels[:, :1, :, :1].expand_as(pixels)
    frames = pixels.shape[3]
    orders = [_order(frames, clips=pixels.shape[1], index=index, seed=seed) for index in indices]
    shuffled = torch.empty_like(pixels)
    for row, order in enumerate(orders):
        for clip, places in enumerate(order):
            shuffled[row, clip] = pixels[row, clip].index_select(1, places.to(pixels.device))
    return shuffled


def _order(frames: int, *, clips: int, index: int, seed: int) -> Int[Tensor, "clips T"]:
    key = stream_key(seed=seed, index=index)
    bits = stream(stream(key, np.arange(clips))[:, None], np.arange(frames))
    return torch.from_numpy(bits.argsort(axis=1, kind="stable"))


@dataclass(frozen=True)
class MotionVerdict:
    """What the controls say.

    Attributes:
        verdict: what this model needs for this task: "motion" (order and direction of frames),
            "order" (of which direction does not count), "several frames" in any order, "one frame";
            or "unknown".
        sentence: the same in words with numbers.
        falls: of each control, how much the share of right answers falls, with its interval.
    """

    verdict: Verdict
    sentence: str
    falls: Mapping[str, Interval]


def motion_verdict(
    hits: Mapping[str, Bool[Tensor, " N"]],
    groups: Int[Tensor, " N"],
    *,
    majority: float,
    draws: int = 1000,
    seed: int = 0,
) -> MotionVerdict:
    """Say what a task needs, from the right answers under every control.

    Skill is what is reached above naming the commonest class. A control counts if it takes at
    least a quarter of the skill away, and for sure something (95 % interval, bootstrap over
    videos, paired); it does not count if it surely takes less than a quarter. In between there are
    too few videos to tell.

    Args:
        hits: of the videos "as_it_is" and under controls, which are right.
        groups: a number per video.
        majority: share that naming the commonest class gets right.
        draws, seed: of the bootstrap.
    """

    def interval(values: Tensor) -> Interval:
        return bootstrap_interval(values, groups, draws=draws, seed=seed)

    plain = hits[AS_IT_IS].double()
    falls = {
        name: interval(plain - other.double()) for name, other in hits.items() if name != AS_IT_IS
    }
    shares = {name: float(values.double().mean()) for name, values in hits.items()}
    whole = interval(plain)
    base = f"With all frames in order {whole.value:.1%} of the answers are right"

    def said(name: str, words: str) -> str:
        fall = falls[name]
        return f"{words} {shares[name]:.1%} (a fall of {_points(fall)})"

    if not whole.low > majority:
        return MotionVerdict(
            "unknown",
            f"Whether the task needs motion cannot be told: {base[0].lower()}{base[1:]}, not "
            f"surely more than by naming the commonest class ({majority:.1%}).",
            falls,
        )
    parts = [
        said(name, words)
        for name, words in (
            ("first_frame", "with the first frame only"),
            ("shuffled", "with the frames shuffled"),
            ("reversed", "played backwards"),
        )
        if name in falls
    ]
    numbers = f"{base}; {', '.join(parts)}." if parts else f"{base}."
    skill = whole.value - majority
    verdict, words = _conclusion({name: _counts(fall, skill) for name, fall in falls.items()})
    return MotionVerdict(verdict, f"{words} {numbers}", falls)


def _counts(fall: Interval, skill: float) -> bool | None:
    """Whether a control takes a part of the skill away that matters; None: too few videos."""
    limit = SMALL_SHARE * skill
    if fall.low > 0 and fall.value >= limit:
        return True
    return False if fall.high <= limit else None


def _conclusion(counts: Mapping[str, bool | None]) -> tuple[Verdict, str]:
    if any(name not in counts for name in ("first_frame", "shuffled")):
        return "unknown", (
            "Whether the task needs motion is not told without the controls first_frame and "
            "shuffled."
        )
    one_frame, shuffled, backwards = (
        counts.get(name) for name in ("first_frame", "shuffled", "reversed")
    )
    if one_frame is False:
        return "one frame", (
            "This task does not need motion: one frame is enough for what this model answers."
        )
    if one_frame and shuffled is False:
        return "several frames", (
            "This task needs several frames but not their order: what is seen counts, not how it "
            "moves."
        )
    if not one_frame or not shuffled:
        return "unknown", "Whether the task needs motion cannot be told from so few videos."
    if backwards:
        return "motion", (
            "This task needs motion: the order of the frames counts, and their direction too."
        )
    if backwards is False:
        return "order", (
            "This task needs motion: the order of the frames counts, but not their direction."
        )
    return "order", "This task needs motion: the order of the frames counts."


def _points(fall: Interval) -> str:
    if math.isnan(fall.low):  # one video only
        return f"{100 * fall.value:.1f} points"
    return f"{100 * fall.value:.1f} points, {100 * fall.low:.1f} to {100 * fall.high:.1f}"
