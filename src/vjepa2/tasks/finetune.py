"""Supervised fine-tuning: from labelled videos and a model to a classifier.

    result = finetune(config, "RUN")        # or: vjepa2 finetune --train LIST --val LIST ...

A run lives in one folder and goes on where it stopped when it is started again:

config.json       the resolved configuration
metrics.jsonl     one line an update, an epoch's measurement, an event
data.json         content hashes of the labelled files, and what is worth knowing about them
bad_files.jsonl   what could not be read, and why
checkpoints/      everything needed to go on; that of the best epoch is kept
model/            the classifier, its processor, labels.json and training.json
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.errors import BadFilesError, ConfigError
from vjepa2.files import write_json
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.finetune_data import FineTuneData, check_data, read_data
from vjepa2.tasks.finetune_export import finished_classifier, save_classifier
from vjepa2.tasks.finetune_forecast import finetune_forecast, forecast_text
from vjepa2.tasks.finetune_networks import (
    choose_trained,
    describe_start,
    find_start,
    make_classifier,
    stored_classifier,
)
from vjepa2.tasks.finetuner import BEST, FineTuner, epoch_text
from vjepa2.tasks.pretrain_folder import (
    BAD_FILES_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    METRICS_NAME,
    MODEL_NAME,
    count_bad_files,
)
from vjepa2.tasks.run_start import run_folder, running
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.engine import Reason, check_stop_at, run_training
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.sharding import full_state_dict
from vjepa2.training.state import TrainingState

DATA_NAME = "data.json"

# What may differ between the start of a run and its continuation. Paths may: the files themselves
# are compared.
MAY_DIFFER = (
    "runtime",
    "recipe",
    "start_from",
    "data.train",
    "data.val",
    "data.workers",
    "data.prefetch",
    "data.max_bad_share",
    "batch.micro_batch",
)


@dataclass(frozen=True)
class FineTuneResult:
    """How a run, or a part of it, ended.

    Attributes:
        folder: of the run.
        reason: "finished", "stop_at" or "signal".
        step: updates made in all.
        resumed_from: step of the checkpoint that it went on from, or None.
        model: folder of the classifier; None while the run is not finished.
        best: measures of the epoch whose weights the classifier has; None without validation.
        history: measures of every epoch so far.
        epochs: of the whole run.
        sampling: how `vjepa2 classify` takes frames as the run did, "" for its default.
        bad_files: files that could not be read, in all of the run.
        is_first: whether this is the process that speaks for all.
    """

    folder: Path
    reason: Reason
    step: int
    resumed_from: int | None
    model: Path | None
    best: Mapping[str, Any] | None
    history: tuple[Mapping[str, Any], ...]
    epochs: int
    sampling: str = ""
    bad_files: int = 0
    is_first: bool = True

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "folder": str(self.folder),
            "reason": self.reason,
            "step": self.step,
            "resumed_from": self.resumed_from,
            "model": None if self.model is None else str(self.model),
            "best": None if self.best is None else dict(self.best),
            "history": [dict(line) for line in self.history],
            "bad_files": self.bad_files,
        }

    def __str__(self) -> str:
        lines = []
        if self.model is None:
            lines.append(f"Stopped after {self.step} updates, all of them saved.")
            lines.append(f"Go on:  vjepa2 finetune --out {self.folder}")
        else:
            lines.append(f"Done: {self.step} updates.")
            if self.best is None:
                lines.append("Kept: the last epoch. Without --val nothing is measured.")
            else:
                lines.append(f"Kept: {epoch_text(self.best, self.epochs)}")
            lines.append(f"Model:  {self.model}")
            lines.append(f"Use it: vjepa2 classify VIDEO --model {self.model}{self.sampling}")
        if self.bad_files:
            where = self.folder / BAD_FILES_NAME
            lines.append(f"{self.bad_files} files could not be read, see {where}")
        return "\n".join(lines)


def finetune(
    config: FineTuneConfig,
    folder: str | os.PathLike[str],
    *,
    stop_at: int | None = None,
    quiet: bool = False,
) -> FineTuneResult:
    """Fine-tune, or go on fine-tuning, in one process or in each of those of torchrun.

    Args:
        config: of the run.
        folder: of the run; an interrupted run of the same configuration in it is continued.
        stop_at: end before this update, leaving a checkpoint and no model.
        quiet: nothing on stderr.

    Raises:
        ConfigError: settings are missing, contradict each other, or the device lacks something.
        LabelError, LeakError, DataError: the labelled videos cannot be used, see
            `finetune_data.read_data`; nothing was computed yet.
        WeightsError: the model to start from cannot be loaded, the folder holds a run of another
            configuration (the differences are listed), or a damaged checkpoint.
        DivergedError, TrainingMemoryError, OutputError: see `training.engine.run_training`.
    """
    run = run_folder(folder)
    config.check_complete()
    assert config.start_from is not None
    with running(config.runtime.device) as processes:
        speaks = processes.is_first and not quiet
        store = CheckpointStore(
            run / CHECKPOINTS_NAME,
            config=config.model_dump(mode="json"),
            processes=processes,
            keep=config.runtime.keep_checkpoints,
            may_differ=MAY_DIFFER,
        )
        newest = store.latest()
        stored = {} if newest is None else store.values(newest)
        if newest is None:
            start = find_start(config.start_from)
            known = start.class_names if config.head.start == "auto" else ()
            data = read_data(config, known=known)
            beginning = describe_start(config.head, start, data.class_names)
        else:
            data = read_data(config, known=tuple(stored["class_names"]))
            beginning = f"update {newest} of the run in {run}"
        hashes = _checked_hashes(run, data, store, processes, quiet=not speaks)
        log = MetricsLog(
            run / METRICS_NAME,
            enabled=processes.is_first,
            tensorboard=run / "tensorboard" if config.runtime.tensorboard else None,
        )
        model = (
            make_classifier(config, start, data.class_names)
            if newest is None
            else stored_classifier(stored)
        )
        network = model.config
        choose_trained(model, config)
        trainer = FineTuner(
            config, model, data, processes, store=store, log=log, folder=run, quiet=quiet
        )
        try:
            if stop_at is not None:
                check_stop_at(stop_at, trainer.schedule.num_steps)
            if speaks:
                _announce(config, beginning, data, hashes["notes"], trainer)
            if newest is None:
                with store.lock():  # not under the feet of a run that has just begun here
                    if processes.is_first:
                        write_json(run / CONFIG_NAME, config.model_dump(mode="json"))
                        data.train.label_map.save(run)
                        write_json(run / DATA_NAME, hashes)
            result = run_training(
                trainer,
                store,
                log,
                processes=processes,
                num_steps=trainer.schedule.num_steps,
                checkpoint_every=config.runtime.checkpoint_every,
                stop_at=stop_at,
                quiet=quiet,
                memory_advice=memory_advice(config, processes.world_size),
            )
            folder_of_model = None
            if result.reason == "finished":
                trainer.finish()
                _load_best(trainer, store)
                state = full_state_dict(model, processes)
                if processes.is_first:
                    save_classifier(
                        finished_classifier(network, state, config),
                        run / MODEL_NAME,
                        config=config,
                        data=data,
                        item_hashes=hashes["train"],
                        val_hashes=hashes["val"],
                        best=trainer.best,
                    )
                processes.barrier()
                folder_of_model = run / MODEL_NAME
            trainer.report_bad_files()
            if trainer.failure is not None:
                raise trainer.failure
        except BadFilesError:
            trainer.report_bad_files(together=False)
            raise
        finally:
            trainer.close()
    return FineTuneResult(
        folder=run,
        reason=result.reason,
        step=result.step,
        resumed_from=result.resumed_from,
        model=folder_of_model,
        best=trainer.best,
        history=tuple(trainer.history),
        epochs=config.schedule.epochs,
        sampling=classify_options(config),
        bad_files=count_bad_files(run / BAD_FILES_NAME),
        is_first=processes.is_first,
    )


def classify_options(config: FineTuneConfig) -> str:
    """Options of `vjepa2 classify` that take frames as the run did."""
    views, text = config.views, ""
    if views.fps is not None:
        text = f" --sampling fps={views.fps:g}"
    elif views.frame_step is not None:
        text = f" --sampling stride={views.frame_step}"
    return f"{text} --num-clips {views.num_segments}" if views.num_segments > 1 else text


def memory_advice(config: FineTuneConfig, num_processes: int) -> str:
    """What to change when memory runs out, with this run's numbers."""
    share = max(1, config.batch.batch_size // num_processes)
    micro = min(config.batch.micro_batch or share, share)
    advice = []
    if micro > 1:
        advice.append(f"batch.micro_batch={micro // 2} (now {micro}; the result stays the same)")
    if not config.runtime.recompute:
        advice.append("runtime.recompute=true (about a third more time)")
    if config.runtime.dtype == "float32":
        advice.append("runtime.dtype=bfloat16")
    if config.method == "full":
        advice.append("method=lora or last_blocks")
    views = config.views
    advice.append(
        f"smaller views: num_frames (now {views.num_frames}), crop_size (now {views.crop_size})"
    )
    return f"Set {', or '.join(advice)}."


def _checked_hashes(
    run: Path, data: FineTuneData, store: CheckpointStore, processes: Processes, *, quiet: bool
) -> dict[str, Any]:
    """Content hashes by set; read all files only when the run begins."""
    if store.latest() is not None and (run / DATA_NAME).is_file():
        try:
            stored = json.loads((run / DATA_NAME).read_text(encoding="utf-8"))
            if stored["fingerprints"] == data.fingerprints() and "val" in stored:
                return dict(stored)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # made again below
    return processes.from_first(check_data(data, quiet=quiet) if processes.is_first else {})


def _announce(
    config: FineTuneConfig,
    beginning: str,
    data: FineTuneData,
    notes: Sequence[str],
    trainer: FineTuner,
) -> None:
    """Say on stderr what will be trained on what, and what it costs."""
    names = data.class_names
    epochs = f"{config.schedule.epochs} epochs of {trainer.per_epoch}"
    val = "none: the last epoch is kept" if data.val is None else f"{len(data.val)} videos"
    lines = [
        *(f"Note        {note}" for note in (*data.notes, *notes)),
        f"Train       {len(data.train)} videos of {len(names)} classes; validation {val}",
        f"Start       {beginning}",
        f"Updates     {trainer.schedule.num_steps}: {epochs}, {trainer.batch_size} videos each",
        forecast_text(finetune_forecast(config, trainer.model, trainer.processes)),
    ]
    sys.stderr.write("\n".join(lines) + "\n")


def _load_best(trainer: FineTuner, store: CheckpointStore) -> None:
    """Bring the network back to its best epoch."""
    if trainer.best is None or trainer.best["step"] == trainer.schedule.num_steps:
        return
    step = store.protected().get(BEST)
    if step is None or step != trainer.best["step"]:
        raise ConfigError(
            f"The checkpoint of the best epoch ({trainer.best['step']} updates) is not in "
            f"{store.folder} any more. Start the run anew, or take the newest checkpoint by "
            "removing what was measured: --set data.val=null in a new folder."
        )
    store.load(step, TrainingState(modules={"network": trainer.model}))
