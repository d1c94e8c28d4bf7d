"""The end of a run that learns to anticipate: its measurements, the looks for leaks, its model."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vjepa2.files import write_json
from vjepa2.models.anticipation import Anticipator, TokenChoice
from vjepa2.tasks.anticipate_ablations import save_ablations
from vjepa2.tasks.anticipate_answers import scored_items
from vjepa2.tasks.anticipate_config import AnticipateConfig
from vjepa2.tasks.anticipate_events import EventSets
from vjepa2.tasks.anticipate_scores import Answers, EventRow, event_rows
from vjepa2.tasks.anticipate_trainer import AnticipationTrainer
from vjepa2.tasks.anticipator_folder import AnticipatorFile, LoadedAnticipator, save_anticipator
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.fooling_events import all_time_findings, disturbed_future
from vjepa2.tasks.pretrain_folder import MODEL_NAME
from vjepa2.tasks.probe_folder import EncoderIdentity, TrainedOn
from vjepa2.tasks.scored import ScoredItem

RESULTS_NAME = "results.json"


class Finished(NamedTuple):
    """What a finished run has to tell.

    Attributes:
        rows: the table.
        findings: of the looks for contexts that saw their event.
        notes: on the events, and on what could not be looked at.
    """

    rows: tuple[EventRow, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def finish(
    config: AnticipateConfig,
    run: Path,
    trainer: AnticipationTrainer,
    events: EventSets,
    *,
    mark: str,
) -> Finished:
    """Choose the probes, measure all horizons, look for leaks, write results and model.

    Args:
        config: of the run.
        run: its folder.
        trainer: after the last update.
        events: of the run.
        mark: of the frozen weights that probes read; "" where they were trained along.

    Raises:
        VideoError: a file cannot be read any more.
        OutputError: the folder cannot be written.
    """
    first = trainer.measures(config.measured[0])
    chosen: dict[TokenChoice, str] = {
        choice: f"{choice}_{trainer.best_probe(choice, first)}" for choice in trainer.choices
    }
    counts = {
        head: torch.from_numpy(events.train.counts(head)) for head in events.train.label_map.heads
    }
    rows: list[EventRow] = []
    items: dict[float, list[ScoredItem]] = {}
    own = config.future.tokens
    for seconds in config.measured:
        bare, logits = trainer.answers(seconds, names=list(chosen.values()))
        answers = Answers(
            seconds,
            bare.items,
            bare.context_ends,
            bare.event_starts,
            {choice: logits[name] for choice, name in chosen.items()},
            bare.event_ends,
        )
        rows += event_rows(answers, events.train.label_map, counts, hashes=events.hashes)
        items[seconds] = scored_items(answers, own, loss=config.loss, anchor=config.clips.anchor)
    settings = _settings(config, mark)
    network = Anticipator(
        trainer.tokens.model,
        trainer.probes[chosen[own]],  # type: ignore[arg-type]
        config.future,
        fps=config.clips.fps,
    )
    disturbed = disturbed_future(
        LoadedAnticipator(network.eval(), events.train.label_map, settings, os.fspath(run)),
        items[config.measured[0]],
        seconds=config.measured[0],
        folder=run / "disturbed",
    )
    findings = (*all_time_findings(items), *disturbed.findings)
    notes = (*events.notes, *filter(None, [disturbed.note]))
    rates = {
        choice: dict(
            zip(("lr", "weight_decay"), config.probe.grid[int(name.rsplit("_", 1)[1])], strict=True)
        )
        for choice, name in chosen.items()
    }
    write_json(
        run / RESULTS_NAME,
        {
            "rows": [row.as_dict() for row in rows],
            "anchor": config.clips.anchor,
            "probes": rates,
            "chosen_on": "validation" if len(config.probe.grid) > 1 else "nothing: one probe",
            "events": {"train": len(events.train), "val": len(events.val)},
            "notes": list(notes),
            "findings": [finding.as_dict() for finding in findings],
            "disturbed": disturbed.tried,
        },
    )
    save_ablations(
        run / MODEL_NAME,
        {choice: trainer.probes[name] for choice, name in chosen.items() if choice != own},  # type: ignore[misc]
    )
    _save(config, run / MODEL_NAME, network, settings, events, rows, counts, mark=mark)
    return Finished(tuple(rows), findings, notes)


def _settings(config: AnticipateConfig, mark: str) -> AnticipatorFile:
    learned = config.learn == "all"
    return AnticipatorFile(
        clips=config.clips,
        future=config.future,
        views=config.views,
        loss=config.loss,
        encoder="" if learned else _absolute(str(config.start_from)),
        encoder_mark="" if learned else mark,
    )


def _save(
    config: AnticipateConfig,
    folder: Path,
    network: Anticipator,
    settings: AnticipatorFile,
    events: EventSets,
    rows: Sequence[EventRow],
    counts: Mapping[str, torch.Tensor],
    *,
    mark: str,
) -> None:
    """Write the model folder."""
    learned = config.learn == "all"
    save_anticipator(folder, network, events.train.label_map, settings, with_encoder=learned)
    own = network.tokens.config
    train_hashes, val_hashes = (
        sorted({events.hashes[item.path] for item in found.items if item.path in events.hashes})
        for found in (events.train, events.val)
    )
    TrainedOn(
        label_map=events.train.label_map,
        views=config.views.model_dump(mode="json"),
        item_hashes=tuple(train_hashes),
        encoder=EncoderIdentity(
            name=str(config.start_from or "trained along"),
            weights=mark,
            width=own.hidden_size,
            num_blocks=own.num_hidden_layers,
            levels=(own.num_hidden_layers - 1,),
        ),
        task="anticipation",
        details={
            "train": events.train.source,
            "val": events.val.source,
            "val_hashes": val_hashes,
            "clips": config.clips.model_dump(mode="json"),
            "train_counts": {head: found.tolist() for head, found in counts.items()},
            "rows": [row.as_dict() for row in rows],
            "settings": config.model_dump(mode="json"),
        },
    ).save(folder)


def _absolute(name: str) -> str:
    """A folder or file by its whole path; other names as they are."""
    return os.fspath(Path(name).resolve()) if Path(name).exists() else name
