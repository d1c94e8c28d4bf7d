"""Whether probabilities mean what they say: of answers given with 0.8, are eight in ten right?

Source: Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al., arXiv:1706.04599, section 2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import DtypeError, checked_integer
from vjepa2.scoring.accuracy import first_best
from vjepa2.scoring.checks import checked_scores


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose probability lies in (low, high]; the first bin holds 0 too.

    Attributes:
        count: answers in the bin.
        confidence: their mean probability; None in an empty bin.
        accuracy: share of them that is right; None in an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(
    probabilities: Float[Tensor, "N K"], labels: Int[Tensor, " N"], bins: int = 15
) -> list[ReliabilityBin]:
    """The best answer of every sample, by its probability, in bins of equal width.

    Raises:
        ShapeError, LabelError: see `checked_scores`.
        DtypeError: a value is not within 0..1: these are scores, not probabilities.
    """
    bins = checked_integer("bins", bins, least=1)
    values, numbers = checked_scores(probabilities, labels)
    if float(values.min()) < 0 or float(values.max()) > 1 + 1e-6:
        raise DtypeError(
            f"Probabilities must be 0..1, got {float(values.min()):g}..{float(values.max()):g}. "
            "Apply softmax or sigmoid to logits first."
        )
    confidence = values.amax(dim=1)
    right = (first_best(values) == numbers).double()
    # Edges as fractions, so that 0.2 belongs to the bin that ends at 0.2 in any number of bins.
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    places = torch.bucketize(confidence, edges)
    found = []
    for number in range(bins):
        inside = places == number
        count = int(inside.sum())
        found.append(
            ReliabilityBin(
                low=number / bins,
                high=(number + 1) / bins,
                count=count,
                confidence=float(confidence[inside].mean()) if count else None,
                accuracy=float(right[inside].mean()) if count else None,
            )
        )
    return found


def expected_calibration_error(
    probabilities: Float[Tensor, "N K"], labels: Int[Tensor, " N"], bins: int = 15
) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by their answers, 0..1."""
    filled = [row for row in reliability_bins(probabilities, labels, bins) if row.count]
    distances = [abs((row.confidence or 0.0) - (row.accuracy or 0.0)) * row.count for row in filled]
    return sum(distances) / len(labels)
