"""Learn a world model of a robot: recordings and an encoder in, something to plan with out.

    result = train_world_model(config, "RUN")   # or: vjepa2 world-model train --data ... --out RUN

A run lives in one folder and goes on where it stopped when it is started again:

config.json       the resolved configuration
metrics.jsonl     one line an update, a measurement, an event; `vjepa2 report RUN` draws them
bad_files.jsonl   episodes and videos that cannot be used
latents/          features of all frames, unless cache.folder names another place
checkpoints/      everything needed to go on
model/            see `tasks.world_folder`
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vjepa2.data.robot_statistics import RobotStatistics
from vjepa2.errors import ConfigError, VJEPAError
from vjepa2.files import atomic_folder, write_json
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.tasks.pretrain_folder import (
    BAD_FILES_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    METRICS_NAME,
    MODEL_NAME,
    add_bad_files,
    count_bad_files,
)
from vjepa2.tasks.probe_cache import FeatureCache
from vjepa2.tasks.robot_world import WorldFile, encode_steps
from vjepa2.tasks.run_start import run_folder, running
from vjepa2.tasks.world_folder import processor_for, save_world
from vjepa2.tasks.world_latents import (
    LatentTable,
    cache_identity,
    fill_latents,
    open_latents,
)
from vjepa2.tasks.world_model_config import WorldModelTraining
from vjepa2.tasks.world_model_loss import WorldStep
from vjepa2.tasks.world_networks import choose_trained, finished_action_model, make_action_model
from vjepa2.tasks.world_recordings import Recordings, read_recordings
from vjepa2.tasks.world_samples import WorldSamples
from vjepa2.tasks.world_trainer import WorldTrainer
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.engine import Reason, check_stop_at, run_training
from vjepa2.training.health import Verdict
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.sharding import full_state_dict
from vjepa2.video.processor import VJEPA2VideoProcessor

LATENTS_NAME = "latents"
GIB = 2**30
# What may differ between the start of a run and its continuation.
MAY_DIFFER = ("runtime", "health", "recipe", "cache", "start_from", "encoder", "data.path")


@dataclass(frozen=True)
class WorldModelResult:
    """How a run, or a part of it, ended.

    Attributes:
        folder: of the run.
        reason: "finished", "stop_at", "signal" or "alarm".
        step: updates made in all.
        resumed_from: step of the checkpoint that it went on from, or None.
        model: folder of the model; None while the run is not finished.
        verdict: of the last measurement; None where none was made at the end.
        measured: its numbers, see `WorldTrainer.numbers`.
        alarm: why the run stopped itself, else "".
        bad_files: episodes and videos that cannot be used.
        is_first: whether this is the process that speaks for all.
    """

    folder: Path
    reason: Reason
    step: int
    resumed_from: int | None
    model: Path | None
    verdict: Verdict | None
    measured: dict[str, float]
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
            "measured": self.measured,
            "alarm": self.alarm,
            "bad_files": self.bad_files,
        }

    def __str__(self) -> str:
        lines = self._lines()
        if self.bad_files:
            where = self.folder / BAD_FILES_NAME
            lines.append(f"{self.bad_files} episodes or videos cannot be used, see {where}")
        return "\n".join(lines)

    def _lines(self) -> list[str]:
        report = f"Report: vjepa2 report {self.folder}"
        if self.reason == "alarm":
            return [f"Stopped after {self.step} updates: {self.alarm}", report]
        if self.model is None:
            return [
                f"Stopped after {self.step} updates, all of them saved.",
                f"Go on:  vjepa2 world-model train --out {self.folder}",
                report,
            ]
        own = self.measured
        return [
            f"Done: {self.step} updates. Held-out episodes, mean distance of the next frame:",
            f"  model                {own['held_out_loss']:.4f}",
            f"  with other actions   {own['other_action_loss']:.4f}",
            f"  nothing changes      {own['copy_last_loss']:.4f}",
            f"Model:  {self.model}",
            report,
        ]


def train_world_model(
    config: WorldModelTraining,
    folder: str | os.PathLike[str],
    *,
    stop_at: int | None = None,
    quiet: bool = False,
) -> WorldModelResult:
    """Train, or go on training, in one process or in each of those of torchrun.

    Args:
        config: of the run.
        folder: of the run; an interrupted run of the same configuration in it is continued.
        stop_at: end before this update, leaving a checkpoint and no model.
        quiet: nothing on stderr.

    Raises:
        ConfigError: settings are missing, contradict each other, or the device lacks something.
        DataError: the recordings cannot be used, or too many of them cannot.
        WeightsError: the encoder cannot be loaded, or the folder holds another run.
        DivergedError, TrainingMemoryError, OutputError: see `training.engine.run_training`.
    """
    run = run_folder(folder)
    config.check_complete()
    if stop_at is not None:
        check_stop_at(stop_at, config.schedule.num_steps)
    with running(config.runtime.device) as processes:
        return _train(config, run, processes, stop_at=stop_at, quiet=quiet)


def _train(
    config: WorldModelTraining,
    run: Path,
    processes: Processes,
    *,
    stop_at: int | None,
    quiet: bool,
) -> WorldModelResult:
    told = not quiet and processes.is_first
    recordings = read_recordings(config, quiet=not told)
    statistics = recordings.statistics()
    used = statistics if config.normalise else None
    model = make_action_model(config, statistics=used)
    side = config.crop_size or model.config.crop_size
    processor = processor_for(side, whole=config.frames == "whole")
    weights = weights_mark(model.encoder.state_dict())
    store = CheckpointStore(
        run / CHECKPOINTS_NAME,
        config=config.model_dump(mode="json"),
        processes=processes,
        keep=config.runtime.keep_checkpoints,
        may_differ=MAY_DIFFER,
    )
    store.latest()  # what does not fit the run in the folder is refused before frames are encoded
    bad = list(recordings.bad)
    table = _latents(
        config, run, recordings, model, processor, processes, weights=weights, bad=bad, told=told
    )
    if processes.is_first:
        add_bad_files(run / BAD_FILES_NAME, bad)
    log = MetricsLog(
        run / METRICS_NAME,
        enabled=processes.is_first,
        tensorboard=run / "tensorboard" if config.runtime.tensorboard else None,
    )
    choose_trained(model, config)
    height = side // model.config.patch_size
    views = len(config.data.cameras) if config.data.multi_camera == "tokens" else 1
    trainer = WorldTrainer(
        config,
        model,
        WorldStep(model.predictor, exponent=config.loss_exponent, statistics=used),
        WorldSamples(config, recordings, table, held_out=False),
        WorldSamples(config, recordings, table, held_out=True),
        grid=(max(1, views) * height, height),
        processes=processes,
        store=store,
        log=log,
        mark=f"{recordings.mark} {weights}",
    )
    if told:
        _announce(config, recordings, trainer)
    if store.latest() is None:
        with store.lock():
            if processes.is_first:
                write_json(run / CONFIG_NAME, config.model_dump(mode="json"))
    result = run_training(
        trainer,
        store,
        log,
        processes=processes,
        num_steps=config.schedule.num_steps,
        checkpoint_every=config.runtime.checkpoint_every,
        stop_at=stop_at,
        quiet=quiet,
        memory_advice=_memory_advice(config),
    )
    verdict = folder = None
    if result.reason == "finished":
        verdict = trainer.finish()
        folder = run / MODEL_NAME
        _save(config, folder, trainer, statistics, processor)
    return WorldModelResult(
        folder=run,
        reason=result.reason,
        step=result.step,
        resumed_from=result.resumed_from,
        model=folder,
        verdict=verdict,
        measured=trainer.measured,
        alarm=result.alarm,
        bad_files=count_bad_files(run / BAD_FILES_NAME),
        is_first=processes.is_first,
    )


def _latents(
    config: WorldModelTraining,
    run: Path,
    recordings: Recordings,
    model: VJEPA2ActionModel,
    processor: VJEPA2VideoProcessor,
    processes: Processes,
    *,
    weights: str,
    bad: list[Any],
    told: bool,
) -> LatentTable:
    """Features of all frames; the first process encodes what is missing, the others wait."""
    settings, device = config.cache, processes.device
    side = config.crop_size or model.config.crop_size
    patch = model.config.patch_size
    if side % patch:
        raise ConfigError(f"crop_size={side} must be a multiple of the patches' side, {patch}.")
    place = run / LATENTS_NAME if settings.folder is None else Path(settings.folder)
    failure: VJEPAError | None = None
    identity = cache_identity(
        recordings,
        weights=weights,
        processor=processor.to_dict(),
        mode=config.frames_mode,
        dtype=config.runtime.dtype,
    )

    def opened() -> FeatureCache:
        return open_latents(
            place,
            recordings,
            identity=identity,
            row_shape=((side // patch) ** 2, model.config.hidden_size),
            batch_size=settings.batch_size,
            dtype=settings.dtype,
        )

    def encode(frames: Tensor) -> Tensor:
        pixels = processor(frames, return_tensors="pt")["pixel_values_videos"][0].to(device)
        in_half = config.runtime.dtype == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_half):
            return encode_steps(model.encoder, pixels, config.frames_mode)

    if processes.is_first:
        try:
            cache = opened()
            model.encoder.to(device).eval()
            bad += fill_latents(
                cache,
                recordings,
                encode,
                before=0 if config.frames_mode == "each" else model.config.tubelet_size - 1,
                max_bytes=int(settings.max_gb * GIB),
                max_bad_share=config.data.max_bad_share,
                on_shard=lambda: processes.from_first(None),
                quiet=not told,
            )
            model.encoder.cpu()
        except VJEPAError as error:
            failure = error
        processes.from_first("done")
    else:
        while processes.from_first(None) is None:
            pass  # it goes on
    processes.raise_together(failure)
    return LatentTable(opened(), device=device, max_bytes=int(settings.memory_gb * GIB))


def _announce(config: WorldModelTraining, recordings: Recordings, trainer: WorldTrainer) -> None:
    """Say on stderr what is learned from what."""
    held_out = len({item.episode.name for item in recordings.items if item.held_out})
    total = len({item.episode.name for item in recordings.items})
    trained = sum(value.numel() for value in trainer.plain.parameters() if value.requires_grad)
    cameras = ", ".join(camera or "the first" for camera in recordings.cameras)
    table = {
        "Episodes": f"{total - held_out} to learn from, {held_out} to measure on",
        "Samples": f"{len(trainer.train)} stretches of {config.data.num_frames} frames at "
        f"{config.data.fps:g} per second, camera {cameras}",
        "Tokens": f"{trainer.grid[0]} x {trainer.grid[1]} a frame",
        "Trained": f"{trained:,} weights of the predictor ({config.trained})",
        "Updates": f"{config.schedule.num_steps}, {config.batch_size} samples each",
    }
    sys.stderr.write("".join(f"{name:9} {words}\n" for name, words in table.items()))


def _save(
    config: WorldModelTraining,
    folder: Path,
    trainer: WorldTrainer,
    statistics: RobotStatistics,
    processor: VJEPA2VideoProcessor,
) -> None:
    """Write the model folder; all processes call it together."""
    processes = trainer.processes
    state = full_state_dict(trainer.step, processes)
    if processes.is_first:
        assert config.robot is not None
        prefix = "predictor."
        model = finished_action_model(
            trainer.model,
            {name.removeprefix(prefix): value for name, value in state.items()},
            config,
            statistics=statistics if config.normalise else None,
        )
        settings = WorldFile(
            fps=config.data.fps,
            num_frames=config.data.num_frames,
            cameras=config.data.cameras,
            multi_camera=config.data.multi_camera,
            frames_mode=config.frames_mode,
            statistics=statistics,
            encoder=str(config.encoder or config.start_from),
            validation=trainer.measured,
        )
        with atomic_folder(folder) as temporary:
            save_world(model, temporary, spec=config.robot, processor=processor, settings=settings)
    processes.barrier()


def _memory_advice(config: WorldModelTraining) -> str:
    advice = [f"batch_size={max(1, config.batch_size // 2)} (now {config.batch_size})"]
    if not config.runtime.recompute:
        advice.append("runtime.recompute=true (about a third more time)")
    if config.runtime.dtype == "float32":
        advice.append("runtime.dtype=bfloat16")
    advice.append(f"data.num_frames={max(2, config.data.num_frames // 2)}")
    return f"Set {', or '.join(advice)}."
