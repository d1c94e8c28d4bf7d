"""Whether answers can be what they seem: one for each item, finite, and not the same for all."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.numbered_random import mixed
from vjepa2.scoring import bootstrap_interval, hits_at_k
from vjepa2.tasks.fooling import Finding

SUM_TOLERANCE = 1e-3
SAME_TOLERANCE = 1e-6
ODD = 0x2545F4914F6CDD1D

Facts = Mapping[str, str]


def shape_findings(
    scores: Float[Tensor, "N K"], names: Sequence[str], *, head: str
) -> list[Finding]:
    """Look at scores without their labels.

    Args:
        scores: said to be probabilities.
        names: of the items.
        head: which head they belong to.
    """
    bad = ~torch.isfinite(scores).all(dim=1)
    if bool(bad.any()):
        rows = bad.nonzero()[:, 0].tolist()
        return [
            Finding.of(
                "not_finite",
                "error",
                f"{len(rows)} of {len(scores)} items have NaN or infinite scores in head {head!r}. "
                "A mean over the others would be another measure. Find out what made them.",
                [names[row] for row in rows],
            )
        ]
    found = []
    spread = (scores - scores[0]).abs().amax() if len(scores) > 1 else torch.tensor(1.0)
    if float(spread) <= SAME_TOLERANCE:
        found.append(
            Finding(
                "same_answer_for_all",
                "error",
                f"All {len(scores)} items have the same scores in head {head!r}: the model does "
                "not look at the video. A frozen or empty input, a head that was never trained, or "
                "features that collapsed do that.",
                len(scores),
            )
        )
    sums = scores.sum(dim=1)
    off = ((sums - 1).abs() > SUM_TOLERANCE) | (scores < 0).any(dim=1)
    if bool(off.any()):
        rows = off.nonzero()[:, 0].tolist()
        found.append(
            Finding.of(
                "not_probabilities",
                "warning",
                f"{len(rows)} of {len(scores)} rows of head {head!r} do not add up to 1. Ranks are "
                "not touched by that; calibration means nothing. Give probabilities.",
                [names[row] for row in rows],
            )
        )
    return found


def coverage_findings(expected: Sequence[str], answered: Sequence[str]) -> list[Finding]:
    """Compare the items of the list with those that have an answer.

    Args:
        expected: names of the items of the list, repeated where the list repeats them.
        answered: names of the items that were answered.
    """
    wanted, given = Counter(expected), Counter(answered)
    found = []
    missing = list((wanted - given).elements())
    if missing:
        found.append(
            Finding.of(
                "answers_missing",
                "warning",
                f"{len(missing)} of {len(expected)} items have no answer (unreadable files, for "
                "example). Shares are of the others; with each of these counted as wrong they are "
                f"at most {1 - len(missing) / len(expected):.1%}. Mend the files.",
                missing,
            )
        )
    more = list((given - wanted).elements())
    if more:
        found.append(
            Finding.of(
                "answers_repeated",
                "error",
                f"There are {len(more)} more answers than items. Samplers that fill up the last "
                "batch, and results of another list, do that. Keep one answer for each item.",
                more,
            )
        )
    return found


def level_findings(
    scores: Float[Tensor, "N K"],
    labels: Int[Tensor, " N"],
    groups: Int[Tensor, " N"],
    *,
    head: str,
    majority: float,
    best_possible: float | None = None,
) -> list[Finding]:
    """Compare the share of right answers with what is reached without looking, and with the most
    that can be reached.

    Args:
        scores, labels: of the items.
        groups: a number per video.
        head: which head they belong to.
        majority: share that naming the commonest class gets right.
        best_possible: of a task whose best possible share is known; None for others.
    """
    found = []
    reached = bootstrap_interval(hits_at_k(scores, labels).double(), groups)
    if not reached.low > majority:
        found.append(
            Finding(
                "not_above_majority",
                "warning",
                f"Head {head!r}: {reached.value:.1%} of the answers are right (95 % interval "
                f"{reached.low:.1%} to {reached.high:.1%}); always naming the commonest class gets "
                f"{majority:.1%}. Nothing shows that the model has learned this task.",
                len(labels),
            )
        )
    if best_possible is not None and reached.low > best_possible:
        found.append(
            Finding(
                "above_the_best_possible",
                "error",
                f"Head {head!r}: {reached.value:.1%} of the answers are right, for sure more than "
                f"{reached.low:.1%}; with what may be known {best_possible:.1%} is the most that "
                "can be. Something tells the model the answer.",
                len(labels),
            )
        )
    return found


def shortcut_findings(
    facts: Sequence[Facts],
    labels: Int[Tensor, " N"],
    groups: Int[Tensor, " N"],
    *,
    head: str,
) -> list[Finding]:
    """Look whether a fact of the file (size, rate, length, suffix, ...) tells the label.

    A table from values of one fact to labels is made on one half of the videos and read on the
    other, and compared with naming the commonest label.

    Args:
        facts: of each item, name of a fact to its value as text.
        labels: right classes.
        groups: a number per video.
        head: which head they belong to.
    """
    halves = [mixed((group + 1) * ODD) & 1 for group in groups.tolist()]
    if len(set(halves)) < 2:
        return []
    truth = labels.tolist()
    plain = _told(["" for _ in facts], truth, halves)
    best: tuple[float, float, str] | None = None
    for fact in sorted({name for one in facts for name in one}):
        told = _told([one.get(fact, "") for one in facts], truth, halves)
        share = float(told.mean())
        gain = bootstrap_interval(told - plain, groups, level=0.998).low
        if gain > 0.05 and (best is None or share > best[0]):
            best = share, gain, fact
    if best is None:
        return []
    share, _, fact = best
    return [
        Finding(
            "label_in_the_file",
            "warning",
            f"Head {head!r}: the {fact} of the files alone tells {share:.1%} of the labels; the "
            f"commonest label is {float(plain.mean()):.1%}. A model may have learned where the "
            "videos come from. Encode all of them alike, or balance the sources.",
            len(truth),
        )
    ]


def _told(values: list[str], labels: list[int], halves: list[int]) -> Float[Tensor, " N"]:
    """1.0 where the commonest label of a value in the other half is right, float64 [N]."""
    right = torch.zeros(len(labels), dtype=torch.float64)
    for half in (0, 1):
        counts: dict[str, Counter[int]] = {}
        overall: Counter[int] = Counter()
        for value, label, own in zip(values, labels, halves, strict=True):
            if own != half:
                counts.setdefault(value, Counter())[label] += 1
                overall[label] += 1
        usual = overall.most_common(1)[0][0]
        for row, (value, label, own) in enumerate(zip(values, labels, halves, strict=True)):
            if own == half:
                guess = counts[value].most_common(1)[0][0] if value in counts else usual
                right[row] = float(guess == label)
    return right
