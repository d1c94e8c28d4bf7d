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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vjepa2.files import write_json
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.anticipate_config import AnticipateConfig
from vjepa2.tasks.anticipate_events import EventSets, read_events
from vjepa2.tasks.anticipate_finish import finish
from vjepa2.tasks.anticipate_scores import EventRow, rows_text
from vjepa2.tasks.anticipate_trainer import AnticipationTrainer
from vjepa2.tasks.anticipator_folder import (
    encoder_mark,
    has_fresh_predictor,
    load_anticipation_model,
)
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.pretrain_folder import CHECKPOINTS_NAME, CONFIG_NAME, METRICS_NAME, MODEL_NAME
from vjepa2.tasks.pretrainer import check_dtype
from vjepa2.tasks.run_start import run_folder, running
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.engine import Reason, check_stop_at, run_training
from vjepa2.training.metrics import MetricsLog

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
    run = run_folder(folder)
    config.check_complete()
    with running(config.runtime.device) as processes:
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
        notes = events.notes
        model_folder = None
        if result.reason == "finished":
            rows, findings, notes = finish(config, run, trainer, events, mark=mark)
            model_folder = run / MODEL_NAME
    return AnticipateResult(
        run,
        result.reason,
        result.step,
        model_folder,
        rows,
        notes,
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
    edge = "stop" if clips.anchor == "published" else "start"
    until = f"{ahead[0]:g}" if ahead[0] == ahead[1] else f"{ahead[0]:g} to {ahead[1]:g}"
    heads = ", ".join(f"{name} {count}" for name, count in trainer.heads.items())
    table = {
        "Events": f"{len(events.train)} to learn from, {len(events.val)} to measure on",
        "Classes": heads,
        "Contexts": f"{clips.num_frames} frames at {clips.fps:g} per second, which end {until} s "
        f"before the event's {edge}",
        "Probes": f"{len(trainer.probes)}: {', '.join(trainer.choices)}",
        "Updates": f"{trainer.schedule.num_steps}: {config.schedule.epochs} epochs of "
        f"{trainer.per_epoch}, {trainer.batch_size} events each",
    }
    lines = [*events.notes, *(f"{name:11} {words}" for name, words in table.items())]
    if clips.anchor == "published":
        lines.append(SEEN_WHILE_THEY_HAPPEN)
    sys.stderr.write("\n".join(lines) + "\n")
