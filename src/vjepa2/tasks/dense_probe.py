"""Train linear dense heads on a frozen encoder: a class or a distance for every pixel.

    result = train_dense_probe(model, WorldStills(...), WorldStills(...), config, "runs/pixels")
    result.best.scores            # at the first size
    DenseHead.from_pretrained("runs/pixels/model")

One head is trained for every learning rate and weight decay, all on the same features (as the
attentive probes are), and the best on the validation pictures is kept. A run lives in one folder:

    checkpoints/    goes on from here when started again with the same arguments
    model/          the best head
    results.json    scores of all heads, sizes and the baseline
"""

import os
from pathlib import Path
from typing import Any

import torch

from vjepa2.errors import LabelError
from vjepa2.files import write_json
from vjepa2.models.dense import DenseHead
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.tasks.dense_config import DenseProbeConfig
from vjepa2.tasks.dense_evaluation import evaluate_heads, survey
from vjepa2.tasks.dense_features import DenseFeatures
from vjepa2.tasks.dense_sets import DenseSet
from vjepa2.tasks.dense_trainer import (
    DenseProbeResult,
    DenseTrainer,
    HeadResult,
    base_of,
    feature_source,
)
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import one_process
from vjepa2.training.state import random_states, set_random_states
from vjepa2.video.processor import VJEPA2VideoProcessor

RESULTS_NAME = "results.json"
MODEL_NAME = "model"


def train_dense_probe(
    model: PretrainedModel,
    train: DenseSet,
    validation: DenseSet,
    config: DenseProbeConfig,
    folder: str | os.PathLike[str],
    *,
    processor: VJEPA2VideoProcessor | None = None,
    stop_at: int | None = None,
    quiet: bool = False,
) -> DenseProbeResult | None:
    """Train heads, or go on training, and write the best into `folder/model`.

    Args:
        model: a `VJEPA2Model` (or a model with one inside), frozen; moved and cast by the caller.
        train, validation: labelled pictures with the same classes.
        config: of the run.
        folder: of the run; an interrupted run of the same arguments is continued.
        processor: normalises the pixels; default: the published normalisation.
        stop_at: end before this update, leaving a checkpoint and no result.
        quiet: no progress on stderr.

    Returns:
        What was reached; None with `stop_at` before the end.

    Raises:
        InputError: `model` has no encoder, or the sets are of another task or of other classes.
        LabelError: labels are out of range, or of one class only; all are looked at first.
        CheckpointFormatError: the folder holds a run with other arguments.
        DivergedError: a loss is NaN.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    # Neither fresh heads nor checkpoints, which bring random numbers along, change the caller's.
    states = random_states(torch.device("cpu"))
    try:
        trainer = DenseTrainer(model, train, validation, config, processor=processor, quiet=quiet)
        store = CheckpointStore(
            folder / "checkpoints",
            config={**config.model_dump(mode="json"), "data": trainer.facts},
            processes=one_process(trainer.device),
            may_differ=("cache_bytes", "checkpoint_every"),
        )
        with store.lock():
            trainer.run(store, stop_at=stop_at)
    finally:
        set_random_states(states, torch.device("cpu"))
    if stop_at is not None and trainer.step < trainer.num_steps:
        return None
    result = trainer.result()
    result.head.save_pretrained(folder / MODEL_NAME)
    write_json(folder / RESULTS_NAME, _as_json(result, config, trainer.facts))
    return result


def evaluate_dense(
    model: PretrainedModel,
    head: DenseHead,
    data: DenseSet,
    *,
    short_side: int,
    processor: VJEPA2VideoProcessor | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score a head on labelled pictures, on the features that it was trained on.

    Args:
        model: the frozen encoder of the head.
        head: from `DenseHead.from_pretrained`.
        data: pictures of the same task and classes.
        short_side: of the pictures as the encoder sees them, pixels.
        processor, quiet: see `train_dense_probe`.

    Returns:
        See `evaluate_heads`.

    Raises:
        ConfigError: the encoder is not the one that the head was trained on.
        InputError, LabelError: see `train_dense_probe`.
    """
    base, config = base_of(model), head.config
    own = config.features
    own.check_same(feature_source(base, levels=own.levels, num_frames=own.num_frames))
    if (data.task, data.class_names) != (config.task, config.class_names):
        raise LabelError(
            f"The head is for {config.task} of {config.class_names}, the labels are for "
            f"{data.task} of {data.class_names}: names and their order must be the same."
        )
    survey(data, config, what="evaluation", quiet=quiet)
    features = DenseFeatures(
        base.encoder, processor or VJEPA2VideoProcessor(), own, data, cache_bytes=0
    )
    was_training = base.encoder.training
    base.encoder.eval()
    try:
        [scores] = evaluate_heads([head.eval()], features, short_side=short_side, quiet=quiet)
    finally:
        base.encoder.train(was_training)
    return scores


def _as_json(
    result: DenseProbeResult, config: DenseProbeConfig, facts: dict[str, Any]
) -> dict[str, Any]:
    def one(head: HeadResult) -> dict[str, Any]:
        sizes = {str(size): scores for size, scores in head.by_size.items()}
        return {"lr": head.lr, "weight_decay": head.weight_decay, "by_size": sizes}

    return {
        "config": config.model_dump(mode="json"),
        "data": facts,
        "best": one(result.best),
        "heads": [one(head) for head in result.heads],
        "baseline": {"says": result.baseline_says, "scores": result.baseline},
    }
