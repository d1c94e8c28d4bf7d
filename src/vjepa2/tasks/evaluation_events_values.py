"""All numbers of an evaluated model that anticipates, as JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from vjepa2._version import __version__
from vjepa2.data.labelled_decode import item_name
from vjepa2.tasks.anticipate_scores import Answers, event_rows
from vjepa2.tasks.anticipator_folder import LoadedAnticipator
from vjepa2.tasks.evaluation_events_config import EventEvaluationConfig
from vjepa2.tasks.evaluation_measures import event_tables, measures, surest_mistakes
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.fooling_labels import numbering_findings
from vjepa2.tasks.fooling_scores import level_findings, shape_findings
from vjepa2.tasks.scored import ScoredItem, ScoredSet

SHORT = ("top1", "top5", "mean_class", "recall_at_5", "mean_average_precision", "ece")


def event_values(
    told: Sequence[Answers],
    items: Mapping[float, Sequence[ScoredItem]],
    model: LoadedAnticipator,
    *,
    hashes: Mapping[str, str],
    config: EventEvaluationConfig,
    counts: Mapping[str, Int[Tensor, " K"]] | None,
) -> tuple[dict[str, Any], list[Finding]]:
    """Measure answers.

    Args:
        told: what all probes said, one for each anticipation time.
        items: what the model's own probe said, by anticipation time.
        model: whose they are.
        hashes: content hash of each path.
        config: of the evaluation.
        counts: of each label column how often its classes occur in training; None: not known.

    Returns:
        JSON values, and what the answers give away at the first anticipation time:
        "measures" of the last label column there, "heads" of all columns there, "horizons": short
        measures of every time and column, "rows": the table with ablations, chance and prior,
        "events": by the time that was left, "worst" errors by column.
    """
    heads, main = model.label_map.heads, list(model.label_map.heads)[-1]
    scored = {
        seconds: ScoredSet(label_map=model.label_map, items=tuple(own), hashes=hashes)
        for seconds, own in items.items()
    }
    prior = counts
    if prior is None:  # of these very labels, as `baselines` does
        prior = {
            head: torch.bincount(told[0].labels(number), minlength=len(names))
            for number, (head, names) in enumerate(heads.items())
        }
    rows = [
        row.as_dict()
        for one in told
        for row in event_rows(one, model.label_map, prior, hashes=hashes, draws=config.draws)
    ]
    found = {
        seconds: measures(
            one, prior_counts=counts, bins=config.bins, draws=config.draws, seed=config.seed
        )
        for seconds, one in scored.items()
    }
    first = told[0].seconds
    plain = scored[first]
    values: dict[str, Any] = {
        "task": "anticipation",
        "head": main,
        "version": __version__,
        "num_items": len(plain),
        "num_videos": int(plain.groups().max()) + 1,
        "seconds": first,
        "anchor": model.settings.clips.anchor,
        "measures": found[first][main],
        "heads": found[first],
        "horizons": [
            {"seconds": seconds, "head": head, "num_items": len(scored[seconds])}
            | {name: numbers[name] for name in SHORT}
            for seconds, by_head in found.items()
            for head, numbers in by_head.items()
        ],
        "rows": rows,
        "events": event_tables([item for own in items.values() for item in own], heads),
        "worst": {head: _worst(plain, head, model, count=config.num_worst) for head in heads},
        "controls": {},
        "motion": None,
        "unreadable": [],
    }
    return values, _findings(plain, model, found[first], config)


def _worst(
    scored: ScoredSet, head: str, model: LoadedAnticipator, *, count: int
) -> list[dict[str, Any]]:
    """The surest mistakes, with the stretch that was seen in place of that of the event."""
    length = model.settings.clips.num_frames / model.settings.clips.fps
    rows = surest_mistakes(scored, head, count=count)
    for row in rows:
        item = scored.items[row["index"]]
        end = item.context_end_seconds or 0.0
        row |= {
            "name": f"{item_name(item.item)}, seen until {end:g} s",
            "start_seconds": max(0.0, end - length),
            "end_seconds": end,
            "start_frame": None,
            "end_frame": None,
        }
    return rows


def _findings(
    scored: ScoredSet,
    model: LoadedAnticipator,
    found: Mapping[str, Any],
    config: EventEvaluationConfig,
) -> list[Finding]:
    groups, names = scored.groups(), [item.name for item in scored.items]
    main = list(model.label_map.heads)[-1]
    findings = []
    for head, classes in model.label_map.heads.items():
        scores, labels = scored.scores(head), scored.labels(head)
        shape = shape_findings(scores, names, head=head)
        # After focal loss every class has a probability of its own.
        findings += [
            one
            for one in shape
            if model.settings.loss != "focal" or one.kind != "not_probabilities"
        ]
        findings += level_findings(
            scores,
            labels,
            groups,
            head=head,
            majority=found[head]["baselines"]["majority"],
            best_possible=config.best_possible if head == main else None,
        )
        findings += numbering_findings(scores, labels, groups, classes, head=head)
    return findings
