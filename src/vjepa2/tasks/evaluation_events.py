"""Evaluate a model that anticipates, and look for ways in which its numbers could fool.

    before anything is computed   were these videos trained on? are classes numbered alike?
    every event, every horizon    what does each probe say (ablations), and what had it seen?
    after                         measures of every horizon and label column, beside ablations,
                                  chance and label prior; did a context see its event, by the
                                  recorded times and by putting noise where the future was?

Answers are kept as they come: a killed evaluation goes on where it was.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vjepa2._version import __version__
from vjepa2.data.event_clips import marked_end
from vjepa2.data.event_loader import subset, usable_events
from vjepa2.data.labelled import LABELS_NAME, LabelledSet, LabelMap
from vjepa2.data.labelled_decode import item_name
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.errors import ConfigError
from vjepa2.files import write_json
from vjepa2.tasks.anticipate_ablations import anticipator_folder, load_ablations
from vjepa2.tasks.anticipate_answers import EventAnswerer, scored_items
from vjepa2.tasks.anticipate_scores import Answers
from vjepa2.tasks.anticipator_folder import LoadedAnticipator, load_anticipator
from vjepa2.tasks.evaluation_data import record_findings
from vjepa2.tasks.evaluation_events_config import EventEvaluationConfig
from vjepa2.tasks.evaluation_events_result import EventEvaluationResult
from vjepa2.tasks.evaluation_events_values import event_values
from vjepa2.tasks.evaluation_files import FileFacts
from vjepa2.tasks.evaluation_folder import EVALUATION_NAME, Answer, AnswerFile
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.tasks.fooling import Finding, refuse
from vjepa2.tasks.fooling_events import all_time_findings, disturbed_future
from vjepa2.tasks.fooling_files import HashedSet, list_findings
from vjepa2.tasks.fooling_labels import count_findings, map_findings
from vjepa2.tasks.fooling_pictures import copy_findings, picture_marks
from vjepa2.tasks.probe_cache import item_marks
from vjepa2.tasks.probe_folder import TRAINING_NAME, TrainedOn

DISTURBED_NAME = "disturbed"


@dataclass(frozen=True)
class _Evaluated:
    """A model that anticipates with all that is known of it."""

    answerer: EventAnswerer
    trained_on: TrainedOn | None

    @property
    def model(self) -> LoadedAnticipator:
        return self.answerer.model

    def mark(self) -> str:
        """Of all weights."""
        probes = [probe.state_dict() for probe in self.answerer.probes.values()]
        network = self.model.network.tokens.model.state_dict()
        return " ".join(weights_mark(state) for state in (network, *probes))


def evaluate_events(
    model: str | os.PathLike[str] | LoadedAnticipator,
    data: str | os.PathLike[str] | LabelledSet,
    out: str | os.PathLike[str],
    *,
    settings: Sequence[str] = (),
    quiet: bool = False,
) -> EventEvaluationResult:
    """Evaluate a model that anticipates on labelled events.

    Args:
        model: folder of `vjepa2 anticipate`, or of its run, or a loaded one.
        data: list of events, or one of the known layouts; or a set whose classes are numbered as
            the model's.
        out: folder for answers and numbers; one that holds a part of the same evaluation goes on.
        settings: `NAME=VALUE` of `EventEvaluationConfig`, such as "horizons=[1,2]".
        quiet: no progress.

    Returns:
        All numbers and findings, also in `out/evaluation.json`.

    Raises:
        LeakError: an error was found before anything was computed, and is not in `allow`.
        LabelError, DataError: the list does not fit the model, or cannot be used.
        VideoError, BadFilesError: files cannot be read.
        ConfigError, WeightsError, OutputError: as usual.
    """
    config = EventEvaluationConfig().override(settings)
    ready = _load(model, config)
    labelled, findings = _read(data, ready, config)
    horizons = config.horizons or _measured_horizons(ready)
    clips = ready.model.settings.clips
    usable = usable_events(labelled, clips, seconds=max(horizons), quiet=quiet)
    events = subset(labelled, usable.indices)
    training = None
    if config.train is not None:
        wanted = config.override([f"split={config.train_split or 'null'}"])
        training = _read(config.train, ready, wanted)[0]
    folder = Path(out)
    answers = AnswerFile(folder, _deciding(ready, events, horizons, config))
    with answers:
        facts = FileFacts(folder, quiet=quiet)
        facts.read(events.items, facts=True)
        if training is not None:
            facts.read(training.items, facts=False, what="Training files")
        findings += _findings_before(ready, events, training, facts, config, quiet=quiet)
        refuse(findings, allow=config.allow)
        _answer(ready, events, horizons, config, answers, quiet=quiet)
    told = _told(ready, events, horizons, answers.known)
    own = ready.model.settings.future.tokens
    items = {
        one.seconds: scored_items(one, own, loss=ready.model.settings.loss, anchor=clips.anchor)
        for one in told
    }
    findings += all_time_findings(items, durations=facts.durations)
    disturbed = disturbed_future(
        ready.model,
        items[horizons[0]],
        seconds=horizons[0],
        folder=folder / DISTURBED_NAME,
        count=config.disturbed,
    )
    findings += disturbed.findings
    values, more = event_values(
        told,
        items,
        ready.model,
        hashes=facts.hashes,
        config=config,
        counts=_counts(ready, training),
    )
    findings += more
    notes = [*labelled.notes, *usable.notes, *filter(None, [disturbed.note])]
    if len(ready.answerer.probes) == 1 and own == "both":
        notes.append("Probes of the encoder's and the predictor's tokens alone were not kept.")
    recorded = "unknown" if ready.trained_on is None else "recorded"
    values |= {
        "model": ready.model.name,
        "data": events.source,
        "training": "list" if training is not None else recorded,
        "num_disturbed": disturbed.tried,
        "notes": notes,
        "findings": [finding.as_dict() for finding in findings],
        "config": config.model_dump(mode="json"),
    }
    write_json(folder / EVALUATION_NAME, values)
    return EventEvaluationResult(folder, values, tuple(findings))


def _load(
    model: str | os.PathLike[str] | LoadedAnticipator, config: EventEvaluationConfig
) -> _Evaluated:
    if isinstance(model, LoadedAnticipator):
        if config.device is not None:
            raise ConfigError("device is for models that evaluate loads; move this one.")
        return _Evaluated(EventAnswerer(model), None)
    loaded = load_anticipator(model, device=config.device)
    folder = anticipator_folder(model)
    assert folder is not None
    trained_on = TrainedOn.load(folder) if (folder / TRAINING_NAME).is_file() else None
    return _Evaluated(EventAnswerer(loaded, load_ablations(folder, loaded)), trained_on)


def _read(
    data: str | os.PathLike[str] | LabelledSet, ready: _Evaluated, config: EventEvaluationConfig
) -> tuple[LabelledSet, list[Finding]]:
    """The events with the model's class numbers, and what the label map beside them says."""
    own = ready.model.label_map
    if isinstance(data, LabelledSet):
        return data, map_findings(own, data.label_map, other_is="the given set")
    labelled = read_labelled(
        data, label_map=own, layout=config.layout, split=config.split, options=config.labels
    )
    source = Path(data)
    beside = (source if source.is_dir() else source.parent) / LABELS_NAME
    if not beside.is_file():
        return labelled, []
    return labelled, map_findings(own, LabelMap.load(beside), other_is=str(beside))


def _measured_horizons(ready: _Evaluated) -> tuple[float, ...]:
    """Those that the training measured, else the anticipation time of the model."""
    settings = {} if ready.trained_on is None else ready.trained_on.details.get("settings") or {}
    horizons = tuple(map(float, settings.get("horizons") or ()))
    return horizons or (ready.model.settings.clips.seconds,)


def _deciding(
    ready: _Evaluated,
    events: LabelledSet,
    horizons: Sequence[float],
    config: EventEvaluationConfig,
) -> dict[str, Any]:
    """All that decides the answers, but for the labels."""
    settings = ready.model.settings
    return {
        "model": ready.model.name,
        "weights": ready.mark(),
        "probes": list(ready.answerer.probes),
        "anticipation": settings.model_dump(mode="json"),
        "horizons": list(horizons),
        "items": [item_name(item) for item in events.items],
        "files": item_marks(events),
        "version": __version__,
    }


def _findings_before(
    ready: _Evaluated,
    events: LabelledSet,
    training: LabelledSet | None,
    facts: FileFacts,
    config: EventEvaluationConfig,
    *,
    quiet: bool,
) -> list[Finding]:
    """All looks that need no answers."""
    known = HashedSet(events, facts.hashes)
    trained = None if training is None else HashedSet(training, facts.hashes)
    found = record_findings(ready.trained_on, known, training=trained)
    found += list_findings(known)
    for head, names in ready.model.label_map.heads.items():
        found += count_findings(torch.from_numpy(events.labels(head)), names, head=head)
    if training is not None and config.near_copies:
        marks = [
            picture_marks([item.path for item in one.items], quiet=quiet)
            for one in (events, training)
        ]
        found += copy_findings(marks[0], marks[1], same=facts.hashes)
    return found


def _answer(
    ready: _Evaluated,
    events: LabelledSet,
    horizons: Sequence[float],
    config: EventEvaluationConfig,
    answers: AnswerFile,
    *,
    quiet: bool,
) -> None:
    """Answer all batches that are not whole yet; answer n is event n % N at horizon n // N."""
    count, size = len(events), config.batch_size
    for number, seconds in enumerate(horizons):
        first = number * count
        batches = [list(range(at, min(at + size, count))) for at in range(0, count, size)]
        open_batches = [
            rows for rows in batches if any(first + row not in answers.known for row in rows)
        ]
        if not open_batches:
            continue
        for found in ready.answerer.answers(
            events, open_batches, seconds=seconds, workers=config.workers, quiet=quiet
        ):
            rows = []
            for place, (index, clip) in enumerate(zip(found.indices, found.clips, strict=True)):
                scores = {
                    f"{choice}/{head}": values[place]
                    for choice, heads in found.logits.items()
                    for head, values in heads.items()
                }
                stop = marked_end(events.items[index], clip)
                times: tuple[float, ...] = (clip.context_end_seconds, clip.event_start_seconds)
                times += () if stop is None else (stop,)
                rows.append(Answer(first + index, scores, times=times))
            answers.add(rows)


def _told(
    ready: _Evaluated,
    events: LabelledSet,
    horizons: Sequence[float],
    known: Mapping[int, Answer],
) -> list[Answers]:
    """The kept answers, horizon by horizon."""
    heads = ready.model.label_map.heads
    told = []
    for number, seconds in enumerate(horizons):
        rows = [known[number * len(events) + index] for index in range(len(events))]
        logits = {
            choice: {
                head: torch.stack([row.scores[f"{choice}/{head}"] for row in rows])
                for head in heads
            }
            for choice in ready.answerer.probes
        }
        ends, starts = (tuple(row.times[place] for row in rows) for place in (0, 1))
        stops = tuple(row.times[2] if len(row.times) > 2 else None for row in rows)
        told.append(Answers(seconds, events.items, ends, starts, logits, stops))
    return told


def _counts(ready: _Evaluated, training: LabelledSet | None) -> dict[str, torch.Tensor] | None:
    """How often each class of each label column was trained on, where it is known."""
    heads = ready.model.label_map.heads
    if training is not None:
        return {head: torch.from_numpy(training.counts(head)) for head in heads}
    stored = {} if ready.trained_on is None else ready.trained_on.details.get("train_counts") or {}
    if any(len(stored.get(head, ())) != len(names) for head, names in heads.items()):
        return None
    return {head: torch.tensor([int(one) for one in stored[head]]) for head in heads}
