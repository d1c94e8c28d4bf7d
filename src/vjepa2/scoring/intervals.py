"""How far a number would move with other videos: bootstrap over groups, Wilson for plain shares."""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import ShapeError, checked_integer, checked_number
from vjepa2.numbered_random import stream, stream_key
from vjepa2.scoring.checks import checked_finite

PORTION = 64  # draws at a time: thousands of draws of many thousand groups need not fit


class Interval(NamedTuple):
    """A measured value and the interval around it; both ends are NaN where none can be known."""

    value: float
    low: float
    high: float


Statistic = Float[Tensor, " N"] | Callable[[Int[Tensor, " n"]], float]


def bootstrap_interval(
    statistic: Statistic,
    groups: Int[Tensor, " N"],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a measure when whole groups are drawn anew, with replacement.

    Segments of one video are alike, so videos are what is drawn, not segments: drawn one by one,
    ten segments of one video would count as ten independent samples and the interval would be too
    narrow. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        statistic: values [N] whose mean is meant, or a function of sample numbers [n] (of a drawn
            sample, repeated where a group was drawn twice) that gives the measure.
        groups: a number per sample; samples of one number are drawn together.
        draws: how often everything is drawn anew.
        seed: of the draws. The same seed and groups draw the same, so differences of two models on
            the same samples are best given as one statistic.
        level: share of draws inside the interval.

    Returns:
        The measure on all samples and its interval. With one group nothing is known about other
        groups: both ends are NaN. Where all draws give 0 or all give 1 (everything right) there
        would be an interval of no width; Wilson's interval over the groups is given instead.

    Raises:
        ShapeError: values and groups differ in number, or are empty.
        DtypeError: values are not finite.
    """
    draws = checked_integer("draws", draws, least=1)
    checked_number("level", level, above=0.0, most=1.0)
    if groups.ndim != 1 or len(groups) == 0:
        raise ShapeError(f"Groups must be numbers [N], at least one, got {list(groups.shape)}.")
    names, places = torch.unique(groups.detach().cpu(), return_inverse=True)
    count = len(names)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    if isinstance(statistic, Tensor):
        if statistic.shape != groups.shape:
            raise ShapeError(
                f"Expected one value for each of {len(groups)} samples, got "
                f"{list(statistic.shape)}."
            )
        values = checked_finite("Values", statistic)
        whole = float(values.mean())
        if count == 1:
            return Interval(whole, math.nan, math.nan)
        if bool(((values == values[0]) & ((values == 0) | (values == 1))).all()):
            return Interval(whole, *wilson_interval(count * whole, count, level=level))
        zero = torch.zeros(count, dtype=torch.float64)
        sums = zero.index_add(0, places, values)
        sizes = zero.index_add(0, places, torch.ones_like(values))
        found = torch.cat(
            [
                sums[picks].sum(dim=1) / sizes[picks].sum(dim=1)
                for picks in _picks(count, draws=draws, seed=seed)
            ]
        )
    else:
        whole = float(statistic(torch.arange(len(groups))))
        if count == 1:
            return Interval(whole, math.nan, math.nan)
        order = places.argsort(stable=True)
        sizes = torch.bincount(places)
        starts = sizes.cumsum(0) - sizes
        found = torch.tensor(
            [
                statistic(order[_places(starts[row], sizes[row])])
                for picks in _picks(count, draws=draws, seed=seed)
                for row in picks
            ],
            dtype=torch.float64,
        )
        if whole in (0.0, 1.0) and bool((found == whole).all()):
            return Interval(whole, *wilson_interval(count * whole, count, level=level))
    low, high = torch.quantile(checked_finite("Drawn values", found), ends).tolist()
    return Interval(whole, low, high)


def _picks(count: int, *, draws: int, seed: int) -> Iterator[Int[Tensor, "part count"]]:
    """Groups of every draw, in portions of draws; all groups are alike likely."""
    keys = stream(stream_key(seed=seed), np.arange(draws))
    for start in range(0, draws, PORTION):
        bits = stream(keys[start : start + PORTION, None], np.arange(count))
        yield torch.from_numpy((bits % np.uint64(count)).astype(np.int64))


def _places(starts: Int[Tensor, " G"], sizes: Int[Tensor, " G"]) -> Int[Tensor, " n"]:
    """start, start + 1, ... of every group, one after another."""
    before = sizes.cumsum(0) - sizes
    return torch.repeat_interleave(starts - before, sizes) + torch.arange(int(sizes.sum()))


def wilson_interval(successes: float, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share of independent trials.

    Args:
        successes: of the trials; a mean of shares may make it a fraction.
        trials: at least one.
        level: how often such intervals hold the true share, above 0; 1 gives 0 to 1.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927).
    """
    trials = checked_integer("trials", trials, least=1)
    checked_number("level", level, above=0.0, most=1.0)
    if level == 1.0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = rate * (1 - rate) / trials + z * z / (4 * trials * trials)
    reach = z / (1 + z * z / trials) * math.sqrt(spread)
    # Exactly, where rounding would put the share itself outside.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    return low, 1.0 if successes == trials else min(1.0, centre + reach)
