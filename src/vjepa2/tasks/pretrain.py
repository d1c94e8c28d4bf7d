"""Self-supervised pretraining: from a folder of videos to an encoder (arXiv:2506.09985, section 2).

    result = pretrain(config, "RUN")        # or: vjepa2 pretrain --data FOLDER --out RUN

A run lives in one folder (`pretrain_folder`) and goes on where it stopped when it is started again.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.errors import BadFilesError
from vjepa2.files import write_json
from vjepa2.runtime import resident_bytes
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_export import clip_of, finished_model, save_finished_model
from vjepa2.tasks.pretrain_folder import (
    BAD_FILES_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    FORECAST_NAME,
    METRICS_NAME,
    MODEL_NAME,
    clear_notes,
    count_bad_files,
    is_run,
    newest_index,
    read_rollbacks,
)
from vjepa2.tasks.pretrain_forecast import announce, run_forecasts
from vjepa2.tasks.pretrain_networks import (
    Networks,
    make_networks,
    newest_checkpoint,
    starts_from_average,
    stored_network,
)
from vjepa2.tasks.pretrain_resolve import may_differ, with_absolute_paths, with_micro_batches
from vjepa2.tasks.pretrainer import Pretrainer
from vjepa2.tasks.run_start import run_folder, running
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.engine import Reason, check_stop_at, run_training
from vjepa2.training.health import Verdict
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.sharding import full_state_dict
from vjepa2.training.state import TrainingState, trained_names
from vjepa2.video.processor_options import FILE_NAME as PROCESSOR_FILE_NAME

OPTIMIZER_ANEW = (
    "The networks go on from the run in start_from; the optimizer begins anew, because the two "
    "runs do not train the same parameters."
)


@dataclass(frozen=True)
class PretrainResult:
    """How a run, or a part of it, ended.

    Attributes:
        folder: of the run.
        reason: "finished", "stop_at", "signal" or "alarm".
        step: updates made in all.
        resumed_from: step of the checkpoint that it went on from, or None.
        model: folder of the model; None while the run is not finished.
        verdict: of the last measurement; None where none was made at the end.
        alarm: why the run stopped itself, else "".
        bad_files: files that could not be read, in all of the run.
        is_first: whether this is the process that speaks for all.
    """

    folder: Path
    reason: Reason
    step: int
    resumed_from: int | None
    model: Path | None
    verdict: Verdict | None
    alarm: str = ""
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
            "state": None if self.verdict is None else self.verdict.state,
            "alarm": self.alarm,
            "bad_files": self.bad_files,
        }

    def __str__(self) -> str:
        lines = self._lines()
        if self.bad_files:
            where = self.folder / BAD_FILES_NAME
            lines.append(f"{self.bad_files} files could not be read, see {where}")
        return "\n".join(lines)

    def _lines(self) -> list[str]:
        run = self.folder
        report = f"Report: vjepa2 report {run}"
        if self.reason == "alarm":
            return [f"Stopped after {self.step} updates: {self.alarm}", report]
        if self.model is None:
            return [
                f"Stopped after {self.step} updates, all of them saved.",
                f"Go on:  vjepa2 pretrain --out {run}",
                report,
            ]
        use = f"vjepa2 embed VIDEO --model {self.model} --out features.safetensors"
        if not (self.model / PROCESSOR_FILE_NAME).exists():
            use = "see docs/how-to/pretrain.md, frames that are not in colour"
        return [
            f"Done: {self.step} updates. Health: {self.verdict}",
            f"Model:  {self.model}",
            f"Use it: {use}",
            report,
        ]


def pretrain(
    config: PretrainConfig,
    folder: str | os.PathLike[str],
    *,
    stop_at: int | None = None,
    quiet: bool = False,
) -> PretrainResult:
    """Pretrain, or go on pretraining, in one process or in each of those of torchrun.

    Args:
        config: of the run.
        folder: of the run; an interrupted run of the same configuration in it is continued.
        stop_at: end before this update, leaving a checkpoint and no model.
        quiet: nothing on stderr.

    Raises:
        ConfigError: settings are missing, contradict each other, or the device lacks something.
        DataError: nothing can be read, or too many files are bad.
        CheckpointFormatError: the folder holds a run of another configuration (the differences
            are listed), or a damaged checkpoint.
        DivergedError, TrainingMemoryError, OutputError: see `training.engine.run_training`.
    """
    run = run_folder(folder)
    config.check_complete()
    config = with_absolute_paths(config)
    if stop_at is not None:
        check_stop_at(stop_at, config.schedule.num_steps)
    with running(config.runtime.device) as processes:
        written = newest_index(run)
        config = with_micro_batches(config, written, processes)
        store = CheckpointStore(
            run / CHECKPOINTS_NAME,
            config=config.model_dump(mode="json"),
            processes=processes,
            keep=config.runtime.keep_checkpoints,
            may_differ=may_differ(config, written),
        )
        log = MetricsLog(
            run / METRICS_NAME,
            enabled=processes.is_first,
            tensorboard=run / "tensorboard" if config.runtime.tensorboard else None,
        )
        if (back_to := read_rollbacks(run).to_step) in store.steps():  # killed while it went back
            assert back_to is not None
            with store.lock():
                store.discard_after(back_to)
        # What does not fit the run in the folder is refused before any work.
        latest = store.latest()
        network = None if latest is None else stored_network(store.values(latest))
        resident = resident_bytes()
        networks = make_networks(config, network=network)
        trainer = Pretrainer(config, networks, processes, store=store, log=log, folder=run)
        forecasts = run_forecasts(
            config,
            networks.student.encoder.config,
            processes,
            teacher=networks.target.config if networks.distils else None,
        )
        numbers: dict[str, Any] = {}
        if processes.is_first:
            numbers = announce(forecasts, config, processes.device, resident=resident, quiet=quiet)
        if latest is None:
            start_from_run(trainer)
            with store.lock():  # not under the feet of a run that has just begun here
                if processes.is_first:
                    clear_notes(run)
                    write_json(run / CONFIG_NAME, config.model_dump(mode="json"))
                    write_json(run / FORECAST_NAME, numbers)
        try:
            result = run_training(
                trainer,
                store,
                log,
                processes=processes,
                num_steps=config.schedule.num_steps,
                checkpoint_every=config.runtime.checkpoint_every,
                stop_at=stop_at,
                quiet=quiet,
                memory_advice=memory_advice(config, processes.world_size),
            )
            model = verdict = None
            if result.reason == "finished":
                verdict = trainer.finish()
                model = save_model(trainer, networks, run / MODEL_NAME)
            trainer.report_bad_files()
            if trainer.failure is not None:
                raise trainer.failure
        except BadFilesError as error:
            trainer.report_bad_files(together=False, error=error)
            raise
        finally:
            trainer.close()
    return PretrainResult(
        folder=run,
        reason=result.reason,
        step=result.step,
        resumed_from=result.resumed_from,
        model=model,
        verdict=verdict,
        alarm=result.alarm,
        bad_files=count_bad_files(run / BAD_FILES_NAME),
        is_first=processes.is_first,
    )


def start_from_run(trainer: Pretrainer) -> None:
    """Take networks and optimizer from the run that `start_from` names, if it names one.

    The optimizer begins anew, and the run says so, where the other one trained other parameters.

    Raises:
        WeightsError: its newest checkpoint cannot be used.
    """
    start = trainer.config.start_from
    if start is None or not is_run(start):
        return
    if starts_from_average(trainer.config):  # taken before adapters were put in
        trainer.start_note = f"{OPTIMIZER_ANEW} One of the two runs trains adapters."
        return
    store, step = newest_checkpoint(start, trainer.processes)
    own = trainer.state()
    there, here = store.trained(step), trained_names(own)
    if there == here:
        store.load(step, TrainingState(modules=own.modules, optimizer=own.optimizer))
        return
    store.load(step, TrainingState(modules=own.modules))
    trainer.start_note = (
        f"{OPTIMIZER_ANEW} {len(there - here)} parameters were trained only there and "
        f"{len(here - there)} are only here, such as {min(there ^ here)}."
    )


def save_model(trainer: Pretrainer, networks: Networks, folder: Path) -> Path:
    """Write the averaged encoder with the predictor; all processes call it together."""
    processes: Processes = trainer.processes
    student = full_state_dict(trainer.student, processes)
    average = full_state_dict(networks.average, processes)
    if processes.is_first:
        prefix = "predictor."
        predictor: dict[str, Any] = {
            name.removeprefix(prefix): value
            for name, value in student.items()
            if name.startswith(prefix)
        }
        config = trainer.config
        clip = clip_of(config, config.schedule.num_steps)
        network = networks.student.encoder.config
        model = finished_model(network, average, predictor, clip=clip, adapters=config.adapters)
        save_finished_model(model, folder, clip=clip, augment=config.augment)
    processes.barrier()
    return folder


def memory_advice(config: PretrainConfig, num_processes: int) -> str:
    """What to change when memory runs out, with this run's numbers."""
    clip, advice = config.clip, []
    share = clip.batch_size // num_processes
    micro = min(clip.micro_batch or share, share)
    smaller = max((size for size in range(1, micro) if share % size == 0), default=None)
    if smaller is not None:
        if config.truncation == "micro_batch":
            effect = "masks are cut within it: a new run"
        else:
            effect = "the result stays the same"
        advice.append(f"clip.micro_batch={smaller} (now {micro}; {effect})")
    if not config.runtime.recompute:
        advice.append("runtime.recompute=true (about a third more time)")
    if config.runtime.dtype == "float32":
        advice.append("runtime.dtype=bfloat16")
    if config.health.num_clips > micro:
        advice.append(f"health.num_clips={micro} (now {config.health.num_clips})")
    where = "clip" if config.cooldown_clip is None else "clip (or cooldown_clip)"
    advice.append(
        f"smaller {where}: num_frames (now {clip.num_frames}), crop_size (now {clip.crop_size})"
    )
    return f"Set {', or '.join(advice)}."
