"""Anticipation by the time that is left: what is known two seconds before, and what half of one?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.scoring.accuracy import class_mean_recall_at_k, hits_at_k
from vjepa2.scoring.checks import checked_finite, checked_scores


@dataclass(frozen=True)
class EventRow:
    """Samples whose event begins in [low, high) seconds after the last thing they saw.

    Attributes:
        count: samples in the row.
        accuracy: share answered rightly; None in an empty row.
        accuracy_at_k: share with the right class among the k best.
        recall_at_k: class-mean recall@k over the classes of this row.
    """

    low: float
    high: float
    count: int
    accuracy: float | None
    accuracy_at_k: float | None
    recall_at_k: float | None


def recall_by_time_to_event(
    scores: Float[Tensor, "N K"],
    labels: Int[Tensor, " N"],
    seconds_to_event: Float[Tensor, " N"],
    edges: Sequence[float],
    *,
    k: int = 5,
) -> list[EventRow]:
    """Recall as a function of the time to the event.

    Args:
        scores: of anticipated classes.
        labels: the class that came.
        seconds_to_event: the event's start minus the end of the last frame seen. Negative where
            the event had begun: that is no anticipation, and such a sample is in no row unless
            `edges` begin below 0.
        edges: rising; row i holds edges[i] <= seconds < edges[i + 1].
        k: of recall@k.

    Raises:
        ShapeError, DtypeError, LabelError: see `checked_scores`; times that are not finite.
        ConfigError: fewer than two edges, or edges that do not rise.
    """
    values, numbers = checked_scores(scores, labels)
    seconds = checked_finite("Seconds to the event", seconds_to_event)
    if seconds.shape != numbers.shape:
        raise ShapeError(
            f"Expected one time for each of {len(numbers)} samples, got {list(seconds.shape)}."
        )
    if len(edges) < 2 or any(high <= low for low, high in pairwise(edges)):
        raise ConfigError(f"Edges must rise and be at least two, got {list(edges)}.")
    rows = []
    for low, high in pairwise(edges):
        inside = ((seconds >= low) & (seconds < high)).nonzero()[:, 0]
        if not len(inside):
            rows.append(EventRow(low, high, 0, None, None, None))
            continue
        part, own = values[inside], numbers[inside]
        rows.append(
            EventRow(
                low,
                high,
                len(inside),
                float(hits_at_k(part, own).double().mean()),
                float(hits_at_k(part, own, k).double().mean()),
                class_mean_recall_at_k(part, own, k),
            )
        )
    return rows


def seconds_to_event(
    context_end_seconds: Sequence[float], event_start_seconds: Sequence[float]
) -> Float[Tensor, " N"]:
    """Time from the end of what was seen to the start of the event, float64.

    Raises:
        ShapeError: another number of ends than of starts.
    """
    if len(context_end_seconds) != len(event_start_seconds):
        raise ShapeError(
            f"Expected one start of an event for each of {len(context_end_seconds)} ends of "
            f"contexts, got {len(event_start_seconds)}."
        )
    starts = torch.tensor(event_start_seconds, dtype=torch.float64)
    return starts - torch.tensor(context_end_seconds, dtype=torch.float64)
