"""Evaluate a classifier on labelled videos, and look for ways in which the number could fool.

    before anything is computed   were these videos trained on? are classes numbered alike?
    every video, several ways     as it is, frames shuffled, played backwards, first frame only
    after                         measures with intervals over videos, beside what is reached
                                  without looking; do the answers fit other labels better?

Answers are kept as they come: a killed evaluation goes on where it was, and ends with the same
numbers.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vjepa2._version import __version__
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_decode import item_name
from vjepa2.data.labelled_loader import LabelledLoader
from vjepa2.errors import BadFilesError
from vjepa2.files import write_json
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.progress import track
from vjepa2.scoring import bootstrap_interval, hits_at_k
from vjepa2.tasks.anticipate_ablations import anticipator_folder
from vjepa2.tasks.evaluation_config import AS_IT_IS, EvaluationConfig
from vjepa2.tasks.evaluation_controls import motion_verdict, shown_as
from vjepa2.tasks.evaluation_data import findings_before, read_evaluated, read_training
from vjepa2.tasks.evaluation_events import evaluate_events
from vjepa2.tasks.evaluation_files import FileFacts
from vjepa2.tasks.evaluation_folder import EVALUATION_NAME, Answer, AnswerFile
from vjepa2.tasks.evaluation_measures import interval_values, measures, surest_mistakes
from vjepa2.tasks.evaluation_model import EvaluatedModel, load_evaluated
from vjepa2.tasks.evaluation_result import EvaluationResult
from vjepa2.tasks.fooling import Finding, refuse
from vjepa2.tasks.fooling_labels import numbering_findings
from vjepa2.tasks.fooling_scores import coverage_findings, level_findings, shape_findings
from vjepa2.tasks.probe_cache import item_marks
from vjepa2.tasks.scored import ScoredItem, ScoredSet


def evaluate(
    model: str | os.PathLike[str] | VJEPA2ForVideoClassification | None,
    data: str | os.PathLike[str] | LabelledSet,
    out: str | os.PathLike[str],
    *,
    settings: Sequence[str] = (),
    quiet: bool = False,
) -> EvaluationResult:
    """Evaluate a classifier, or a model that anticipates, on labelled videos.

    Args:
        model: folder of `vjepa2 probe` or `vjepa2 finetune`, hub name or folder of another
            classifier, a loaded one; None: the shipped one. A folder of `vjepa2 anticipate` is
            handed to `evaluate_events`, see there for its settings.
        data: labelled list, folder of class folders, or one of the known layouts; or a set whose
            classes are numbered as the model's.
        out: folder for answers and numbers; one that holds a part of the same evaluation goes on.
        settings: `NAME=VALUE` of `EvaluationConfig`, such as "views.num_segments=2".
        quiet: no progress.

    Returns:
        All numbers and findings, also in `out/evaluation.json`. Errors that only the answers show
        are findings of the result; `is_sound` tells.

    Raises:
        LeakError: an error was found before anything was computed, and is not in `allow`.
        LabelError, DataError: the list does not fit the model, or cannot be used.
        BadFilesError: too many files cannot be read.
        ConfigError, WeightsError, OutputError: as usual.
    """
    if isinstance(model, str | os.PathLike) and anticipator_folder(model) is not None:
        return evaluate_events(model, data, out, settings=settings, quiet=quiet)
    # Read twice: device and dtype are needed to load the model, whose views are the default.
    wanted = EvaluationConfig().override([s for s in settings if not s.startswith("views.")])
    ready = load_evaluated(
        model, device=wanted.device, dtype=wanted.dtype, probe_head=wanted.probe_head
    )
    config = EvaluationConfig(views=ready.views).override(settings)
    evaluated, findings = read_evaluated(data, ready, config)
    training = read_training(ready, config)
    folder = Path(out)
    answers = AnswerFile(folder, _deciding(ready, evaluated, config))
    with answers:
        facts = FileFacts(folder, quiet=quiet)
        facts.read(evaluated.items, facts=config.file_facts)
        if training is not None:
            facts.read(training.items, facts=False, what="Training files")
        findings += findings_before(ready, evaluated, training, facts, config, quiet=quiet)
        refuse(findings, allow=config.allow)
        _answer(ready, evaluated, config, answers, quiet=quiet)
    values, more = _measured(ready, evaluated, training, facts.hashes, answers.known, config)
    values["findings"] = [finding.as_dict() for finding in (*findings, *more)]
    values["config"] = config.model_dump(mode="json")
    write_json(folder / EVALUATION_NAME, values)
    return EvaluationResult(folder, values, (*findings, *more))


def _deciding(
    model: EvaluatedModel, evaluated: LabelledSet, config: EvaluationConfig
) -> dict[str, Any]:
    """All that decides the answers, but for the labels."""
    return {
        "model": model.name,
        "weights": model.mark(),
        "dtype": str(model.network.dtype),
        "views": config.views.model_dump(mode="json"),
        "controls": list(config.shown_as),
        "seed": config.seed,
        "items": [item_name(item) for item in evaluated.items],
        # Other videos under the same names are other videos.
        "files": item_marks(evaluated),
        "version": __version__,
    }


def _answer(
    model: EvaluatedModel,
    evaluated: LabelledSet,
    config: EvaluationConfig,
    answers: AnswerFile,
    *,
    quiet: bool,
) -> None:
    """Answer every item from the first one on that has no answer yet, in every form.

    The set is kept whole and walked from a batch on, so that what is random about an item (with
    views.moment="random") does not depend on where a killed evaluation went on.
    """
    first = next((row for row in range(len(evaluated)) if row not in answers.known), None)
    if first is None:
        return
    with LabelledLoader(
        evaluated,
        config.views,
        batch_size=config.batch_size,
        seed=config.seed,
        workers=config.workers,
        max_bad_share=config.max_bad_share,
    ) as loader:
        start = first // config.batch_size
        batches = loader.epoch(0, first_batch=start)
        total = len(loader) - start
        for batch in track(batches, total=total, description="Evaluate", quiet=quiet):
            scores = {AS_IT_IS: model.probabilities(batch.pixels)}
            for control in config.controls:
                other = shown_as(batch.pixels, control, indices=batch.indices, seed=config.seed)
                scores[control] = model.probabilities(other)
            answers.add(
                [
                    Answer(index, {name: rows[row] for name, rows in scores.items()})
                    for row, index in enumerate(batch.indices)
                ]
                + _unreadable(loader)
            )
        answers.add(_unreadable(loader))


def _unreadable(loader: LabelledLoader) -> list[Answer]:
    """Items whose files turned out to be bad since the last call."""
    return [Answer(bad.position, {}, f"{bad.path}: {bad.reason}") for bad in loader.new_bad_files()]


def _training_known(model: EvaluatedModel, training: LabelledSet | None) -> str:
    """How the trained-on videos are known: "list", "recorded" with the model, or "unknown"."""
    if training is not None:
        return "list"
    return "unknown" if model.trained_on is None else "recorded"


def _measured(
    model: EvaluatedModel,
    evaluated: LabelledSet,
    training: LabelledSet | None,
    hashes: Mapping[str, str],
    known: Mapping[int, Answer],
    config: EvaluationConfig,
) -> tuple[dict[str, Any], list[Finding]]:
    """All numbers, and what the answers themselves give away."""
    head, names = model.head, model.label_map.heads[model.head]
    order = sorted(index for index, answer in known.items() if not answer.problem)
    if not order:
        raise BadFilesError("No file could be read, so there is nothing to measure.")

    def scored_as(form: str) -> ScoredSet:
        items = [
            ScoredItem(item=evaluated.items[index], scores={head: known[index].scores[form]})
            for index in order
        ]
        return ScoredSet(label_map=model.label_map, items=tuple(items), hashes=hashes)

    forms = {form: scored_as(form) for form in config.shown_as}
    plain = forms[AS_IT_IS]
    scores, labels, groups = plain.scores(head), plain.labels(head), plain.groups()
    prior = None
    if training is not None:
        prior = {head: torch.from_numpy(training.counts(head))}
    options: dict[str, int] = {"draws": config.draws, "seed": config.seed}
    found = measures(plain, prior_counts=prior, bins=config.bins, **options)[head]
    majority = found["baselines"]["majority"]
    hits = {form: hits_at_k(scored.scores(head), labels) for form, scored in forms.items()}
    verdict = motion_verdict(hits, groups, majority=majority, **options)
    findings = [
        *shape_findings(scores, [item.name for item in plain.items], head=head),
        *coverage_findings(
            [item_name(item) for item in evaluated.items], [item.name for item in plain.items]
        ),
        *level_findings(
            scores,
            labels,
            groups,
            head=head,
            majority=majority,
            best_possible=config.best_possible,
        ),
        *numbering_findings(scores, labels, groups, names, head=head),
    ]
    values = {
        "model": model.name,
        "data": evaluated.source,
        "head": head,
        "version": __version__,
        "training": _training_known(model, training),
        "num_items": len(plain),
        "num_videos": int(groups.max()) + 1,
        "measures": found,
        "controls": {
            form: interval_values(bootstrap_interval(values.double(), groups, **options))
            for form, values in hits.items()
        },
        "motion": {
            "verdict": verdict.verdict,
            "sentence": verdict.sentence,
            "falls": {name: interval_values(fall) for name, fall in verdict.falls.items()},
        },
        "worst": surest_mistakes(plain, head, count=config.num_worst),
        "unreadable": [answer.problem for answer in known.values() if answer.problem],
        "notes": list(evaluated.notes),
    }
    return values, findings
