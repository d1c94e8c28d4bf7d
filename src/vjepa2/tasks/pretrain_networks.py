"""The networks of a pretraining run: made, or loaded from a model or another run.

student   encoder and predictor that are trained
average   moving average of the student's encoder; what users get
target    says what hidden tokens are: the average, or a frozen teacher (distillation)
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from vjepa2.ema import frozen_copy
from vjepa2.errors import CheckpointNotFoundError, ConfigError, MissingExtraError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.masked_prediction import MaskedPrediction
from vjepa2.tasks.pretrain_config import AdapterConfig, PretrainConfig
from vjepa2.tasks.pretrain_folder import CHECKPOINTS_NAME, is_run, load_run_config
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes, one_process
from vjepa2.training.state import TrainingState


@dataclass(frozen=True)
class Networks:
    """What one process of a run holds, not yet on a device nor wrapped.

    Attributes:
        student: with the loss as its forward.
        average: of the student's encoder, frozen.
        target: `average`, or a frozen teacher.
    """

    student: MaskedPrediction
    average: VJEPA2Encoder
    target: VJEPA2Encoder

    @property
    def distils(self) -> bool:
        """Whether a frozen teacher makes the targets."""
        return self.target is not self.average


def make_networks(config: PretrainConfig, *, network: VJEPA2Config | None = None) -> Networks:
    """Make or load student, average and target; the same weights on every process.

    Args:
        config: of the run.
        network: of the student of a run that goes on, whose weights come from its checkpoint:
            what it once started from need not be there any more. None: a run begins.

    Raises:
        ConfigError: the clips do not fit the network, or the teacher does not fit the student.
        WeightsError: a checkpoint cannot be loaded.
        MissingExtraError: adapters without the package `peft`.
    """
    model = start_model(config) if network is None else _fresh_model(network, seed=config.seed)
    network = model.config
    config.check_fits(
        variant=network.model_type,
        in_chans=network.in_chans,
        patch_size=network.patch_size,
        tubelet_size=network.tubelet_size,
    )
    if config.adapters is not None:
        with_adapters(model, config.adapters, seed=config.seed)
    _train_only_what_is_used(model, with_images=config.images is not None)
    objective = config.objective
    student = MaskedPrediction(
        model.encoder,
        model.predictor,
        exponent=objective.exponent,
        distance_weights=objective.distance_weights,
        distance_unit=objective.distance_unit,
    ).train()
    average = frozen_copy(model.encoder)
    target = average
    if objective.teacher is not None:
        target = frozen_copy(
            VJEPA2Model.from_pretrained(objective.teacher, dtype=torch.float32).encoder
        )
    _check_teacher(target.config, model.config)
    for part in (model.encoder, model.predictor):
        part.gradient_checkpointing = config.runtime.recompute
    return Networks(student, average, target)


def start_model(config: PretrainConfig) -> VJEPA2Model:
    """The network before the first update, in float32."""
    if config.network is None:
        assert config.start_from is not None  # `check_complete` was called
        if is_run(config.start_from):
            if starts_from_average(config):
                return averaged_model(config.start_from)
            # Its weights come from its checkpoint, once all is wrapped.
            store, step = newest_checkpoint(config.start_from, one_process())
            return _model_of_run(load_run_config(config.start_from), store.values(step))
        return VJEPA2Model.from_pretrained(config.start_from, dtype=torch.float32)
    network = config.network.network(
        crop_size=config.clip.crop_size, num_frames=config.clip.num_frames
    )
    return _fresh_model(network, seed=config.seed)


def _fresh_model(network: VJEPA2Config, *, seed: int) -> VJEPA2Model:
    # Apart from the caller's random numbers, and alike on every process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VJEPA2Model(network)


def stored_network(values: Mapping[str, Any]) -> VJEPA2Config | None:
    """The network of a run by the small values of its checkpoint; None before they held it."""
    stored = values.get("network")
    return None if stored is None else VJEPA2Config.from_dict(stored)


def _model_of_run(config: PretrainConfig, values: Mapping[str, Any]) -> VJEPA2Model:
    """The network of a run, to be filled from its checkpoint."""
    network = stored_network(values)
    if network is None:
        return start_model(config)
    return _fresh_model(network, seed=config.seed)


def starts_from_average(config: PretrainConfig) -> bool:
    """Whether only the average and the predictor of another run are taken: one has adapters."""
    if config.start_from is None or not is_run(config.start_from):
        return False
    return not (config.adapters is None and load_run_config(config.start_from).adapters is None)


def newest_checkpoint(
    run: str | os.PathLike[str], processes: Processes
) -> tuple[CheckpointStore, int]:
    """The checkpoints of another run, and the step of the newest one.

    Raises:
        CheckpointNotFoundError: there is none yet.
    """
    store = CheckpointStore(
        Path(run) / CHECKPOINTS_NAME,
        config=load_run_config(run).model_dump(mode="json"),
        processes=processes,
        may_differ=tuple(PretrainConfig.model_fields),  # its tensors decide what fits
    )
    step = store.latest()
    if step is None:
        raise CheckpointNotFoundError(f"The run in {run} has no checkpoint yet.")
    return store, step


def averaged_model(run: str | os.PathLike[str], *, step: int | None = None) -> VJEPA2Model:
    """The averaged encoder and the predictor of a run's checkpoint, adapters merged.

    Args:
        run: its folder.
        step: of the checkpoint; None: the newest.

    Raises:
        WeightsError: the checkpoint is not there or cannot be used.
    """
    config = load_run_config(run)
    # Every process reads it for itself: nothing is wrapped yet.
    store, newest = newest_checkpoint(run, one_process())
    step = newest if step is None else step
    model = _model_of_run(config, store.values(step))
    adapted = None
    if config.adapters is not None:
        adapted = with_adapters(model, config.adapters, seed=config.seed)
    average = frozen_copy(model.encoder)
    student = nn.ModuleDict({"encoder": model.encoder, "predictor": model.predictor})
    store.load(step, TrainingState(modules={"student": student, "average": average}))
    model.encoder.load_state_dict(average.state_dict())
    if adapted is not None:
        cast(Any, adapted).merge_and_unload()
    return model.requires_grad_(True)


def with_adapters(
    model: VJEPA2Model | VJEPA2ActionModel,
    adapters: AdapterConfig,
    *,
    seed: int,
    inside: Literal["encoder", "predictor"] = "encoder",
) -> nn.Module:
    """Put low-rank adapters into one part, in place; in the encoder, the predictor learns as it is.

    Args:
        model: changed.
        adapters: which, and how large.
        seed: of their first weights, the same ones on every process.
        inside: which part; all else of the predictor is frozen where they are in the predictor.

    Returns:
        PEFT's wrapper, which can merge the adapters into the weights again.

    Raises:
        MissingExtraError: the package `peft` is not installed.
        ConfigError: no layer of the encoder has one of the names.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError(
            "peft", needed_for="Training adapters", reason=str(error)
        ) from error
    wanted = re.compile(rf"{inside}\..*\.({'|'.join(map(re.escape, adapters.targets))})")
    names = [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and wanted.fullmatch(name)
    ]
    if not names:
        raise ConfigError(
            f"adapters.targets={adapters.targets} names no layer of the {inside}. Its matrices are "
            "called query, key, value, proj, fc1 and fc2."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(
            cast(Any, model),
            LoraConfig(
                r=adapters.rank,
                lora_alpha=cast(int, adapters.alpha),
                lora_dropout=adapters.dropout,
                target_modules=names,
            ),
        )
    if inside == "encoder":
        model.predictor.requires_grad_(True)
    return adapted


def mark_of(network: nn.Module) -> str:
    """Digest of a network's first weights, which tells one teacher from another in no time."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _train_only_what_is_used(model: VJEPA2Model, *, with_images: bool) -> None:
    """Freeze what the loss does not reach: processes would wait for gradients that never come.

    In V-JEPA 2.1 the weights for still images where there are none (weight decay would shrink
    them), and the norms of levels that the predictor does not read.
    """
    encoder = model.encoder
    if encoder.layernorms is None:
        return
    read = model.config.predictor_levels or (len(encoder.layer) - 1,)
    for block, norm in zip(model.config.levels, encoder.layernorms, strict=True):
        if block not in read:
            norm.requires_grad_(False)
    if with_images:
        return
    for name, parameter in model.named_parameters():
        if ".patch_embeddings_img." in name or name.endswith("modality.image"):
            parameter.requires_grad_(False)


def _check_teacher(teacher: VJEPA2Config, student: VJEPA2Config) -> None:
    """Refuse a teacher whose tokens are not those that the student predicts."""
    several = bool(student.predictor_levels)
    has = len(teacher.levels) if several else 1, teacher.hidden_size
    needs = len(student.predictor_levels) or 1, student.pred_output_size or student.hidden_size
    tokens = [(c.patch_size, c.tubelet_size) for c in (teacher, student)]
    if has != needs or tokens[0] != tokens[1]:
        raise ConfigError(
            f"The teacher gives {has[0]} level(s) of width {has[1]} for patches and tubelets of "
            f"{tokens[0]}; the student predicts {needs[0]} level(s) of width {needs[1]} for "
            f"{tokens[1]}. Set objective.teacher to the one it was distilled from, or "
            "network.pred_output_size and network.pred_num_levels to match."
        )
