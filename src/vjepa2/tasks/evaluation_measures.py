"""All numbers of a scored set, as JSON values with intervals over videos."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.scoring import (
    Interval,
    baselines,
    bootstrap_interval,
    confusion_matrix,
    expected_calibration_error,
    hits_at_k,
    mean_average_precision,
    mean_over_classes,
    per_class_table,
    recall_by_time_to_event,
    reliability_bins,
    seconds_to_event,
)
from vjepa2.scoring.accuracy import first_best
from vjepa2.tasks.scored import ScoredItem, ScoredSet

# A measure over classes is computed anew for every draw; of very large sets fewer draws are enough.
MOST_ROWS_DRAWN = 20_000_000
FEWEST_DRAWS = 200
EVENT_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


def measures(
    scored: ScoredSet,
    *,
    prior_counts: Mapping[str, Int[Tensor, " K"]] | None = None,
    bins: int = 15,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure every head of a scored set.

    Args:
        scored: probabilities and labels; at least one item.
        prior_counts: of each head how often its classes occur in training, where that is known.
        bins: of the reliability diagram.
        draws: of the bootstrap over videos.
        seed: of the bootstrap.

    Returns:
        By the name of the head, JSON values: "num_classes", "top1", "top5", "mean_class",
        "recall_at_5" (each {"value", "low", "high"}), "mean_average_precision", "ece",
        "reliability", "baselines", "classes", "confused" (label, answer, count; the most frequent
        first, right answers too). Shares are 0..1.

    Raises:
        ShapeError, DtypeError, LabelError: see `scoring`.
    """
    groups = scored.groups()
    found = {}
    for head, names in scored.label_map.heads.items():
        prior = None if prior_counts is None else prior_counts.get(head)
        found[head] = _head(
            scored.scores(head), scored.labels(head), groups, names, prior, bins, draws, seed
        )
    return found


def _head(
    scores: Float[Tensor, "N K"],
    labels: Int[Tensor, " N"],
    groups: Int[Tensor, " N"],
    names: tuple[str, ...],
    prior: Int[Tensor, " K"] | None,
    bins: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    fewer = max(FEWEST_DRAWS, min(draws, MOST_ROWS_DRAWN // len(labels)))

    def recall(k: int) -> Interval:
        hits = hits_at_k(scores, labels, k)
        return bootstrap_interval(
            lambda rows: mean_over_classes(hits[rows], labels[rows], num_classes=len(names)),
            groups,
            draws=fewer,
            seed=seed,
        )

    by_class = {"mean_class": recall(1), "recall_at_5": recall(5)}
    shares = {
        name: bootstrap_interval(
            hits_at_k(scores, labels, k).double(), groups, draws=draws, seed=seed
        )
        for name, k in (("top1", 1), ("top5", 5))
    }
    found: dict[str, Any] = {
        name: interval_values(interval) for name, interval in (shares | by_class).items()
    }
    found["num_classes"] = len(names)
    found["mean_average_precision"] = mean_average_precision(scores, labels)
    calibrated = bool(((scores >= 0) & (scores <= 1)).all())
    found["ece"] = expected_calibration_error(scores, labels, bins) if calibrated else None
    found["reliability"] = (
        [asdict(row) for row in reliability_bins(scores, labels, bins)] if calibrated else []
    )
    found["baselines"] = asdict(baselines(labels, num_classes=len(names), prior_counts=prior))
    found["baselines"]["majority_class"] = names[found["baselines"]["majority_class"]]
    found["classes"] = [
        _class_values(asdict(row), names) for row in per_class_table(scores, labels)
    ]
    found["confused"] = _confused(first_best(scores), labels, names)
    return found


def interval_values(interval: Interval) -> dict[str, float | None]:
    """{"value", "low", "high"}, None where nothing is known."""
    return {
        name: None if math.isnan(value) else value for name, value in interval._asdict().items()
    }


def _class_values(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    mistaken = row["mistaken_for"]
    return {
        "name": names[row.pop("number")],
        **row,
        "mistaken_for": None if mistaken is None else names[mistaken],
    }


def _confused(
    answers: Int[Tensor, " N"], labels: Int[Tensor, " N"], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    matrix = confusion_matrix(answers, labels, num_classes=len(names))
    places = matrix.nonzero().tolist()
    rows = [
        {"label": names[label], "answer": names[answer], "count": int(matrix[label, answer])}
        for label, answer in places
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["label"], row["answer"]))


def event_tables(
    items: Sequence[ScoredItem],
    label_map: Mapping[str, tuple[str, ...]],
    *,
    edges: Sequence[float] = EVENT_EDGES,
    k: int = 5,
) -> dict[str, list[dict[str, Any]]]:
    """Recall by the time that was left until the event, of every head.

    Args:
        items: with the ends of their contexts and the starts of their events; several contexts of
            one event (horizons) are several items.
        label_map: class names of every head.
        edges: of the rows, in seconds.
        k: of recall@k.
    """
    timed = [
        item
        for item in items
        if item.context_end_seconds is not None and item.event_start_seconds is not None
    ]
    if not timed:
        return {}
    seconds = seconds_to_event(
        [item.context_end_seconds or 0.0 for item in timed],
        [item.event_start_seconds or 0.0 for item in timed],
    )
    tables = {}
    for place, head in enumerate(label_map):
        scores = torch.stack([item.scores[head].double() for item in timed])
        labels = torch.tensor([item.labels[place] for item in timed])
        rows = recall_by_time_to_event(scores, labels, seconds, edges, k=k)
        tables[head] = [asdict(row) for row in rows if row.count]
    return tables


def surest_mistakes(scored: ScoredSet, head: str, *, count: int) -> list[dict[str, Any]]:
    """The wrong answers that the model was surest of, as JSON values, the worst first."""
    scores, labels = scored.scores(head), scored.labels(head)
    answers = first_best(scores)
    sure = scores.amax(dim=1)
    wrong = (answers != labels).nonzero()[:, 0]
    order = wrong[sure[wrong].argsort(descending=True, stable=True)][:count].tolist()
    names = scored.label_map.heads[head]
    rows = []
    for index in order:
        item = scored.items[index].item
        rows.append(
            {
                "index": index,
                "path": item.path,
                "start_seconds": item.start_seconds,
                "end_seconds": item.end_seconds,
                "start_frame": item.start_frame,
                "end_frame": item.end_frame,
                "name": scored.items[index].name,
                "label": names[int(labels[index])],
                "answer": names[int(answers[index])],
                "probability": float(sure[index]),
                "probability_of_label": float(scores[index, labels[index]]),
            }
        )
    return rows
