"""Attentive probes on a frozen encoder: from labelled videos to a classifier.

    result = probe(config, "RUN")        # or: vjepa2 probe --train LIST --val LIST --model M ...

All heads (learning rates x weight decays) are trained at once on the same features. A run lives in
one folder and goes on where it stopped when it is started again:

config.json       the resolved configuration
metrics.jsonl     one line an update, an epoch's measurement of all heads, an event
results.json      accuracy of every head after the last epoch, the best head, chance, majority
data.json         content hashes of the training files, and what is worth knowing about them
bad_files.jsonl   what could not be read, and why
features/         the encoder's tokens (`probe_cache`); not needed any more when the run has ended
checkpoints/      everything needed to go on
model/            the best head on its encoder, processor, labels.json and training.json
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vjepa2.errors import BadFilesError
from vjepa2.files import write_json
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.runtime import resolve_device
from vjepa2.tasks.finetune_networks import find_start, load_encoder
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.tasks.pretrain_folder import (
    BAD_FILES_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    METRICS_NAME,
    MODEL_NAME,
    count_bad_files,
)
from vjepa2.tasks.pretrainer import check_dtype
from vjepa2.tasks.probe_config import AttentiveProbeConfig
from vjepa2.tasks.probe_data import ProbeData, check_probe_data, read_probe_data
from vjepa2.tasks.probe_export import probe_network, save_probe, transformers_note
from vjepa2.tasks.probe_features import FrozenEncoder
from vjepa2.tasks.probe_folder import EncoderIdentity
from vjepa2.tasks.probe_result import ProbeResult, classify_options
from vjepa2.tasks.probe_sources import make_sources
from vjepa2.tasks.prober import Prober
from vjepa2.tasks.run_start import own_random_numbers, run_folder
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import one_process
from vjepa2.training.engine import check_stop_at, run_training
from vjepa2.training.metrics import MetricsLog

DATA_NAME = "data.json"

# What may differ between the start of a run and its continuation. Paths may: the files themselves
# are compared, and the encoder by its weights.
MAY_DIFFER = (
    "recipe",
    "model",
    "data.train",
    "data.val",
    "data.test",
    "data.workers",
    "data.prefetch",
    "data.max_bad_share",
    "cache",
    "micro_batch",
    "encode_batch",
    "recompute",
    "device",
    "checkpoint_every",
)


def probe(
    config: AttentiveProbeConfig,
    folder: str | os.PathLike[str],
    *,
    stop_at: int | None = None,
    quiet: bool = False,
) -> ProbeResult:
    """Train probes, or go on training them.

    Args:
        config: of the run.
        folder: of the run; an interrupted run of the same configuration in it is continued.
        stop_at: end before this update, leaving a checkpoint and no model.
        quiet: nothing on stderr.

    Raises:
        ConfigError: settings are missing or contradict each other, the encoder has not the levels,
            the features need more disk than allowed, or their folder holds others.
        LabelError, LeakError, DataError: the labelled videos cannot be used, see `probe_data`;
            nothing was encoded yet.
        InputError: features are NaN or infinite; the file is named.
        WeightsError: the encoder cannot be loaded, the folder holds a run of another configuration
            (the differences are listed), or a damaged checkpoint.
        DivergedError, TrainingMemoryError, OutputError: see `training.engine.run_training`.
    """
    run = run_folder(folder)
    config.check_complete()
    assert config.model is not None
    device = resolve_device(None if config.device == "auto" else config.device)
    check_dtype(config.dtype, device)
    data = read_probe_data(config.data)
    processes = one_process(device)
    with own_random_numbers(device):
        model = load_encoder(find_start(config.model)).to(device)
        network = probe_network(model.config, config, data.class_names)
        levels = config.heads.levels or ()
        for level in levels:
            model.encoder.norm_of(level)
        identity = EncoderIdentity(
            name=config.model,
            weights=weights_mark(model.encoder.state_dict()),
            width=model.config.hidden_size,
            num_blocks=model.config.num_hidden_layers,
            levels=tuple(levels or (model.config.num_hidden_layers - 1,)),
        )
        store = CheckpointStore(
            run / CHECKPOINTS_NAME,
            config={**config.model_dump(mode="json"), "encoder": identity.weights},
            processes=processes,
            may_differ=MAY_DIFFER,
        )
        hashes = _checked_hashes(run, data, store, quiet=quiet)
        if not quiet:
            _announce(config, data, hashes["notes"], model)
        if store.latest() is None:
            with store.lock():  # not under the feet of a run that has just begun here
                write_json(run / CONFIG_NAME, config.model_dump(mode="json"))
                data.label_map.save(run)
                write_json(run / DATA_NAME, hashes)
        encoder = FrozenEncoder(
            model.encoder,
            levels=levels,
            dtype=config.dtype,
            num_clips=config.encode_batch,
        )
        sources = make_sources(
            config, data, encoder, run=run, weights=identity.weights, quiet=quiet
        )
        log = MetricsLog(run / METRICS_NAME)
        trainer = Prober(
            config,
            network,
            sources,
            baselines=data.baselines,
            fingerprints=data.fingerprints(),
            log=log,
            folder=run,
            device=device,
            quiet=quiet,
        )
        try:
            if stop_at is not None:
                check_stop_at(stop_at, trainer.num_steps)
            result = run_training(
                trainer,
                store,
                log,
                processes=processes,
                num_steps=trainer.num_steps,
                checkpoint_every=config.checkpoint_every or trainer.per_epoch,
                stop_at=stop_at,
                quiet=quiet,
                memory_advice=memory_advice(config),
            )
            results = trainer.results()
            folder_of_model = None
            if result.reason == "finished":
                results = trainer.finish()
                folder_of_model = save_probe(
                    model,
                    trainer.heads.probe(results["best"]["head"]),
                    run / MODEL_NAME,
                    config=config,
                    data=data,
                    encoder=identity,
                    item_hashes=hashes["train"],
                    val_hashes=hashes["val"],
                    results=results,
                )
            trainer.report_bad_files()
            if trainer.failure is not None:
                raise trainer.failure
        except BadFilesError:
            trainer.report_bad_files()
            raise
        finally:
            trainer.close()
    return ProbeResult(
        folder=run,
        reason=result.reason,
        step=result.step,
        resumed_from=result.resumed_from,
        model=folder_of_model,
        results=results,
        transformers=transformers_note(network, config),
        sampling=classify_options(config),
        bad_files=count_bad_files(run / BAD_FILES_NAME),
    )


def memory_advice(config: AttentiveProbeConfig) -> str:
    """What to change when memory runs out, with this run's numbers."""
    micro = config.micro_batch or config.batch_size
    advice = []
    if micro > 1:
        advice.append(f"micro_batch={micro // 2} (now {micro}; the result stays the same)")
    if config.heads.depth > 1 and not config.recompute:
        advice.append("recompute=true (about a third more time)")
    if config.dtype == "float32":
        advice.append("dtype=bfloat16")
    if config.encode_batch > 1:
        advice.append(f"encode_batch={config.encode_batch // 2} (now {config.encode_batch})")
    advice.append(f"fewer heads.lrs or heads.weight_decays (now {len(config.heads.rates)} heads)")
    return f"Set {', or '.join(advice)}."


def _checked_hashes(
    run: Path, data: ProbeData, store: CheckpointStore, *, quiet: bool
) -> dict[str, Any]:
    """Content hashes of the files; all of them are read only when the run begins."""
    if store.latest() is not None and (run / DATA_NAME).is_file():
        try:
            stored = json.loads((run / DATA_NAME).read_text(encoding="utf-8"))
            if stored["fingerprints"] == data.fingerprints() and "val" in stored:
                return dict(stored)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # made again below
    return check_probe_data(data, quiet=quiet)


def _announce(
    config: AttentiveProbeConfig, data: ProbeData, notes: Sequence[str], model: VJEPA2Model
) -> None:
    """Say on stderr what will be trained on what."""
    sizes = ", ".join(f"{len(found)} {name}" for name, found in data.sets.items())
    heads, views = config.heads, config.views
    clips = f"{views.num_frames} frames of {views.crop_size} px"
    lines = [
        *(f"Note        {note}" for note in (*data.notes, *notes)),
        f"Videos      {sizes}; {len(data.class_names)} classes",
        f"Encoder     {config.model}, {model.config.num_hidden_layers} blocks, frozen",
        f"Clips       {clips}, {views.num_segments} segments x {views.num_views} views",
        f"Heads       {len(heads.rates)} of depth {heads.depth}, {config.schedule.epochs} epochs",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
