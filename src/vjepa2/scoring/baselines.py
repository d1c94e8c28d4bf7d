"""What is reached without looking at any video."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vjepa2.errors import LabelError
from vjepa2.scoring.accuracy import class_mean_recall_at_k, first_best, top_k_accuracy
from vjepa2.scoring.checks import checked_labels


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Shares of right answers, 0..1, of answers that do not depend on the video.

    Attributes:
        chance: every class alike often: 1 / K.
        chance_at_5: five classes by lot: 5 / K, at most 1.
        majority: always the commonest class of the prior.
        majority_class: which that is.
        prior: classes drawn as often as the prior has them.
        prior_at_5: always the five commonest classes of the prior.
        prior_recall_at_5: the same, by class-mean recall@5.
        from_training: whether the prior was counted on other data than these labels. Counted on
            the labels themselves the baselines are as good as they can be.
    """

    chance: float
    chance_at_5: float
    majority: float
    majority_class: int
    prior: float
    prior_at_5: float
    prior_recall_at_5: float
    from_training: bool


def baselines(
    labels: Int[Tensor, " N"], *, num_classes: int, prior_counts: Int[Tensor, " K"] | None = None
) -> Baselines:
    """Measure the answers that need no video.

    Args:
        labels: of the samples that are evaluated.
        num_classes: K.
        prior_counts: how often each class occurs in training; None: in `labels`.

    Raises:
        LabelError: a label is no class number, there are none, or the prior has another number of
            classes or no sample.
    """
    numbers = checked_labels(labels, num_classes=num_classes)
    if not len(numbers):
        raise LabelError("There are no labels: no baseline can be measured.")
    own = torch.bincount(numbers, minlength=num_classes).double()
    counts = own if prior_counts is None else prior_counts.detach().cpu().double()
    if len(counts) != num_classes or float(counts.sum()) <= 0:
        raise LabelError(
            f"The prior must count {num_classes} classes and hold at least one sample, got "
            f"{len(counts)} classes and {float(counts.sum()):g} samples."
        )
    scores = counts.expand(len(numbers), num_classes)
    return Baselines(
        chance=1 / num_classes,
        chance_at_5=min(1.0, 5 / num_classes),
        majority=top_k_accuracy(scores, numbers),
        majority_class=int(first_best(counts[None])),
        prior=float((counts / counts.sum() * own / own.sum()).sum()),
        prior_at_5=top_k_accuracy(scores, numbers, k=5),
        prior_recall_at_5=class_mean_recall_at_k(scores, numbers, k=5),
        from_training=prior_counts is not None,
    )
