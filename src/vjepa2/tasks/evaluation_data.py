"""The lists of an evaluation, read with the class numbers of the model, and looked at."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from vjepa2.data.labelled import LABELS_NAME, LabelledSet, LabelMap
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.errors import ConfigError, LabelError
from vjepa2.tasks.evaluation_config import EvaluationConfig
from vjepa2.tasks.evaluation_files import FileFacts
from vjepa2.tasks.evaluation_model import EvaluatedModel
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.fooling_files import HashedSet, list_findings, training_findings
from vjepa2.tasks.fooling_labels import count_findings, map_findings
from vjepa2.tasks.fooling_pictures import copy_findings, picture_marks
from vjepa2.tasks.fooling_scores import shortcut_findings
from vjepa2.tasks.probe_folder import TrainedOn
from vjepa2.tasks.scored import group_numbers


def read_evaluated(
    data: str | os.PathLike[str] | LabelledSet, model: EvaluatedModel, config: EvaluationConfig
) -> tuple[LabelledSet, list[Finding]]:
    """The set that is evaluated, with the model's class numbers, and what its label map says.

    Names of classes are looked up among the model's; numbers are taken as the model's. A
    `labels.json` beside the list has to number the classes alike.

    Raises:
        LabelError: a class that the model does not know, or no such label column.
        DataError: the list cannot be used.
    """
    if isinstance(data, LabelledSet):
        return _one_head(data, model, config), map_findings(
            model.label_map, _named(data.label_map, model, config), other_is="the given set"
        )
    source = Path(data)
    read = read_labelled(data, layout=config.layout, split=config.split, options=config.labels)
    head = _chosen(read.label_map, model, config)
    known = read_labelled(
        data,
        label_map=LabelMap({head: model.label_map.heads[model.head]}),
        layout=config.layout,
        split=config.split,
        options=config.labels,
    )
    findings: list[Finding] = []
    beside = (source if source.is_dir() else source.parent) / LABELS_NAME
    if beside.is_file():
        stored = LabelMap.load(beside)
        findings = map_findings(
            model.label_map, _named(stored, model, config), other_is=str(beside)
        )
    return _one_head(known, model, config), findings


def read_training(model: EvaluatedModel, config: EvaluationConfig) -> LabelledSet | None:
    """The training list, if it was given; errors as in `read_evaluated`."""
    if config.train is None:
        return None
    wanted = config.override([f"split={config.train_split or 'null'}"])
    return read_evaluated(config.train, model, wanted)[0]


def _chosen(label_map: LabelMap, model: EvaluatedModel, config: EvaluationConfig) -> str:
    """Which head of a list the model answers."""
    heads = list(label_map.heads)
    for name in (config.head, model.head):
        if name in heads:
            return name
    if config.head:
        raise ConfigError(f"The list has no head {config.head!r}; it has {', '.join(heads)}.")
    if len(heads) > 1:
        raise LabelError(
            f"The list has the label columns {', '.join(heads)}, and the model answers "
            f"{model.head!r}. Say which is meant: --set head={heads[0]}."
        )
    return heads[0]


def _named(label_map: LabelMap, model: EvaluatedModel, config: EvaluationConfig) -> LabelMap:
    """The one head that the model answers, under the model's name for it."""
    return LabelMap({model.head: label_map.heads[_chosen(label_map, model, config)]})


def _one_head(
    labelled: LabelledSet, model: EvaluatedModel, config: EvaluationConfig
) -> LabelledSet:
    """The same items with only the label that the model answers."""
    head = _chosen(labelled.label_map, model, config)
    place = list(labelled.label_map.heads).index(head)
    items = [replace(item, labels=(item.labels[place],)) for item in labelled.items]
    own = LabelMap({model.head: labelled.label_map.heads[head]})
    return LabelledSet(tuple(items), own, labelled.source, labelled.notes)


def _is_same_path(first: str, second: str) -> bool:
    return bool(second) and Path(first).resolve() == Path(second).resolve()


def record_findings(
    trained_on: TrainedOn | None, evaluated: HashedSet, *, training: HashedSet | None = None
) -> list[Finding]:
    """Look for evaluated videos that a model was trained on, or chosen by.

    Args:
        trained_on: what a probe, a fine-tuned classifier or a model that anticipates keeps beside
            it; None where nothing is known.
        evaluated: what the model is to be measured on.
        training: the training list, where it is at hand.
    """
    details = {} if trained_on is None else trained_on.details
    chosen = {str(one) for one in details.get("val_hashes") or ()}
    if details.get("val") and _is_same_path(str(details["val"]), evaluated.labelled.source):
        chosen |= {evaluated.content(item) for item in evaluated.labelled.items}
    return training_findings(
        evaluated,
        trained_hashes=() if trained_on is None else trained_on.item_hashes,
        training=training,
        selected_on=chosen,
    )


def findings_before(
    model: EvaluatedModel,
    evaluated: LabelledSet,
    training: LabelledSet | None,
    facts: FileFacts,
    config: EvaluationConfig,
    *,
    quiet: bool,
) -> list[Finding]:
    """All looks that need no answers.

    Args:
        model: with what is known of its training.
        evaluated, training: lists; the latter where it is at hand.
        facts: of all their files.
        config: of the evaluation.
        quiet: no progress.
    """
    known = HashedSet(evaluated, facts.hashes)
    trained = None if training is None else HashedSet(training, facts.hashes)
    found = [
        *model.findings,
        *record_findings(model.trained_on, known, training=trained),
        *list_findings(known),
    ]
    labels = torch.from_numpy(evaluated.labels(model.head))
    found += count_findings(labels, model.label_map.heads[model.head], head=model.head)
    if config.file_facts:
        rows = [facts.facts.get(item.path, {}) for item in evaluated.items]
        groups = group_numbers(evaluated.items, facts.hashes)
        found += shortcut_findings(rows, labels, groups, head=model.head)
    if training is not None and config.near_copies:
        marks = [
            picture_marks([item.path for item in one.items if not item.is_image], quiet=quiet)
            for one in (evaluated, training)
        ]
        found += copy_findings(marks[0], marks[1], same=facts.hashes)
    return found
