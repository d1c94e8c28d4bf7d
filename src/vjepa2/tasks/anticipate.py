"""Learn to anticipate events: labelled stretches of videos and an encoder in, a model out.

    result = learn_to_anticipate(config, "RUN")   # or: vjepa2 anticipate --train ... --val ...

A run lives in one folder and goes on where it stopped when it is started again:

config.json       the resolved configuration
metrics.jsonl     one line an update, an epoch's measurement, an event
checkpoints/      everything needed to go on
results.json      the table: ablations, chance and label prior beside every number
model/            the model that anticipates, see `tasks.anticipator_folder`
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vjepa2.errors import OutputError, check_path
from vjepa2.files import write_json
from vjepa2.models.anticipation import Anticipator, TokenChoice
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.anticipate_ablations import save_ablations
from vjepa2.tasks.anticipate_answers import scored_items
from vjepa2.tasks.anticipate_config import AnticipateConfig
from vjepa2.tasks.anticipate_events import EventSets, read_events
from vjepa2.tasks.anticipate_scores import Answers, EventRow, event_rows, rows_text
from vjepa2.tasks.anticipate_trainer import AnticipationTrainer
from vjepa2.tasks.anticipator_folder import (
    AnticipatorFile,
    LoadedAnticipator,
    encoder_mark,
    has_fresh_predictor,
    load_anticipation_model,
    save_anticipator,
)
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.fooling_events import all_time_findings, disturbed_future
from vjepa2.tasks.pretrain_folder import CHECKPOINTS_NAME, CONFIG_NAME, METRICS_NAME, MODEL_NAME
from vjepa2.tasks.pretrainer import check_dtype
from vjepa2.tasks.probe_folder import EncoderIdentity, TrainedOn
from vjepa2.tasks.scored import ScoredItem
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes, open_processes
from vjepa2.training.engine import Reason, check_stop_at, run_training
from vjepa2.training.metrics import MetricsLog

RESULTS_NAME = "results.json"
UNTRAINED_PREDICTOR = (
    "The predictor of this model was never trained (all of its biases are zero): what it fills in "
    "of the future is noise, and only the row 'encoder only' means something. Take encoder and "
    "predictor of a pretraining run, or set future.tokens=encoder."
)
SEEN_WHILE_THEY_HAPPEN = (
    "WARNING: clips.anchor='published' counts back from the event's stop: events that last longer "
    "than the anticipation time are seen while they happen. Such numbers are no anticipation."
)
# What may differ between the start of a run and its continuation.
MAY_DIFFER = ("runtime", "recipe", "start_from", "data", "horizons")


@dataclass(frozen=True)
class AnticipateResult:
    """How a run, or a part of it, ended.

    Attributes:
        folder: of the run.
        reason: "finished", "stop_at" or "signal".
        step: updates made in all.
        model: folder of the model; None while the run is not finished.
        rows: the table; empty while the run is not finished.
        notes: what was left out and why, and what is worth knowing about the events.
        anchor: which end of events the contexts were counted back from.
        findings: of the looks for contexts that saw their event, see `tasks.fooling_events`.
    """

    folder: Path
    reason: Reason
    step: int
    model: Path | None
    rows: tuple[EventRow, ...]
    notes: tuple[str, ...]
    anchor: str = "start"
    findings: tuple[Finding, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "folder": str(self.folder),
            "reason": self.reason,
            "step": self.step,
            "model": None if self.model is None else str(self.model),
            "rows": [row.as_dict() for row in self.rows],
            "notes": list(self.notes),
            "anchor": self.anchor,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        if self.model is None:
            return (
                f"Stopped after {self.step} updates, all of them saved.\n"
                f"Go on:  vjepa2 anticipate --out {self.folder}"
            )
        warning = f"{SEEN_WHILE_THEY_HAPPEN}\n" if self.anchor == "published" else ""
        found = "".join(f"{one.severity}: {one}\n" for one in self.findings)
        return (
            f"{rows_text(self.rows)}\n{warning}{found}"
            f"Model:  {self.model}\n"
            f"Use it: vjepa2 anticipate VIDEO --model {self.model}"
        )


def learn_to_anticipate(
    config: AnticipateConfig,
    folder: str | os.PathLike[str],
    *,
    stop_at: int | None = None,
    quiet: bool = False,
) -> AnticipateResult:
    """Train probes (and the network, with learn="all"), or go on training; then measure.

    Args:
        config: of the run.
        folder: of the run; an interrupted run of the same configuration in it is continued.
        stop_at: end before this update, leaving a checkpoint and no model.
        quiet: nothing on stderr.

    Raises:
        ConfigError: settings are missing or contradict each other.
        LabelError, LeakError, DataError: the events cannot be used: no start, outside their file,
            all too early, classes in validation that are never learned, a video in both sets.
        WeightsError: the encoder cannot be loaded, or the folder holds another run.
        DtypeError: features are not finite.
        DivergedError, TrainingMemoryError, OutputError: see `training.engine.run_training`.
    """
    check_path("The run's folder", folder)
    config.check_complete()
    run = Path(folder)
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run} is a file. The folder of a run (--out) must be a folder or new.")
    # Updates set PyTorch's random numbers; the caller's go on as if nothing had been drawn.
    with (
        open_processes(config.runtime.device) as processes,
        torch.random.fork_rng([processes.device] if processes.device.type == "cuda" else []),
    ):
        check_dtype(config.runtime.dtype, processes.device)
        events = read_events(config, quiet=quiet)
        model = _start_model(config)
        if config.learn == "probe" and config.future.tokens != "encoder":
            events = _with_note(events, model)
        # Of what stays frozen: what is trained along has no mark to be compared with.
        mark = encoder_mark(model, config.future) if config.learn == "probe" else ""
        store = CheckpointStore(
            run / CHECKPOINTS_NAME,
            # The model may have moved, but it must be the same.
            config={**config.model_dump(mode="json"), "start_from_weights": mark},
            processes=processes,
            keep=config.runtime.keep_checkpoints,
            may_differ=MAY_DIFFER,
        )
        log = MetricsLog(run / METRICS_NAME, tensorboard=_board(config, run))
        trainer = AnticipationTrainer(
            config, model, events.train, events.val, processes,
            log=log, mark=events.mark, quiet=quiet,
        )  # fmt: skip
        if stop_at is not None:
            check_stop_at(stop_at, trainer.schedule.num_steps)
        if not quiet:
            _announce(config, events, trainer)
        if store.latest() is None:
            with store.lock():
                write_json(run / CONFIG_NAME, config.model_dump(mode="json"))
        result = run_training(
            trainer,
            store,
            log,
            processes=processes,
            num_steps=trainer.schedule.num_steps,
            checkpoint_every=config.runtime.checkpoint_every,
            stop_at=stop_at,
            quiet=quiet,
            memory_advice="Set a smaller batch_size, crop_size or clips.num_frames.",
        )
        rows: tuple[EventRow, ...] = ()
        findings: tuple[Finding, ...] = ()
        model_folder = None
        if result.reason == "finished":
            rows, findings = _finish(config, run, trainer, events, processes, mark=mark)
            model_folder = run / MODEL_NAME
    return AnticipateResult(
        run,
        result.reason,
        result.step,
        model_folder,
        rows,
        events.notes,
        config.clips.anchor,
        findings,
    )


def _board(config: AnticipateConfig, run: Path) -> Path | None:
    return run / "tensorboard" if config.runtime.tensorboard else None


def _with_note(events: EventSets, model: VJEPA2Model) -> EventSets:
    """Say so where the predictor cannot tell anything."""
    if not has_fresh_predictor(model):
        return events
    return replace(events, notes=(UNTRAINED_PREDICTOR, *events.notes))


def _start_model(config: AnticipateConfig) -> VJEPA2Model:
    """Encoder and predictor before the first update, in float32."""
    if config.network is not None:
        torch.manual_seed(config.seed)
        network = config.network.network(
            crop_size=config.crop_size, num_frames=config.clips.num_frames
        )
        return VJEPA2Model(network)
    assert config.start_from is not None
    return load_anticipation_model(config.start_from).float()


def _announce(config: AnticipateConfig, events: EventSets, trainer: AnticipationTrainer) -> None:
    """Say on stderr what is learned from what."""
    clips = config.clips
    ahead = clips.train_seconds or (clips.seconds, clips.seconds)
    heads = ", ".join(f"{name} {count}" for name, count in trainer.heads.items())
    table = {
        "Events": f"{len(events.train)} to learn from, {len(events.val)} to measure on",
        "Classes": heads,
        "Contexts": f"{clips.num_frames} frames at {clips.fps:g} per second, over {ahead[0]:g} to "
        f"{ahead[1]:g} s before the event's start",
        "Probes": f"{len(trainer.probes)}: {', '.join(trainer.choices)}",
        "Updates": f"{trainer.schedule.num_steps}: {config.schedule.epochs} epochs of "
        f"{trainer.per_epoch}, {trainer.batch_size} events each",
    }
    lines = [*events.notes, *(f"{name:11} {words}" for name, words in table.items())]
    if clips.anchor == "published":
        lines.append(SEEN_WHILE_THEY_HAPPEN)
    sys.stderr.write("\n".join(lines) + "\n")


def _finish(
    config: AnticipateConfig,
    run: Path,
    trainer: AnticipationTrainer,
    events: EventSets,
    processes: Processes,
    *,
    mark: str,
) -> tuple[tuple[EventRow, ...], tuple[Finding, ...]]:
    """Choose the probes, measure all horizons, look for leaks, write results and model."""
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
            "notes": [*events.notes, *filter(None, [disturbed.note])],
            "findings": [finding.as_dict() for finding in findings],
            "disturbed": disturbed.tried,
        },
    )
    save_ablations(
        run / MODEL_NAME,
        {choice: trainer.probes[name] for choice, name in chosen.items() if choice != own},  # type: ignore[misc]
    )
    _save(config, run / MODEL_NAME, network, settings, events, rows, counts, mark=mark)
    return tuple(rows), findings


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
