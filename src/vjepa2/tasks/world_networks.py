"""The network of a run that learns a world model: a frozen encoder, what of a predictor learns."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vjepa2.data.robot_statistics import RobotStatistics
from vjepa2.errors import CheckpointMismatchError, ConfigError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.finetune_networks import find_start, load_encoder
from vjepa2.tasks.pretrain_networks import with_adapters
from vjepa2.tasks.world_folder import world_folder
from vjepa2.tasks.world_model_config import WorldModelTraining
from vjepa2.tasks.world_model_loss import fold_statistics

CONDITIONS = ("action_embeddings", "state_embeddings")


def make_action_model(
    config: WorldModelTraining, *, statistics: RobotStatistics | None
) -> VJEPA2ActionModel:
    """Encoder and predictor before the first update, in float32, the same on every process.

    Args:
        config: of the run.
        statistics: by which states and actions are normalised in the run; None: they are not.

    Raises:
        ConfigError: encoder and predictor do not fit each other.
        WeightsError: weights cannot be loaded.
    """
    assert config.robot is not None  # `check_complete` was called
    sizes = {"action_size": config.robot.action_size, "state_size": config.robot.state_size}
    # Apart from the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.start_from is None:
            return _fresh(config, sizes)
        model = _started(config, sizes, statistics)
    if config.encoder is not None:
        _take_encoder(model, _encoder_of(config.encoder))
    return model


def choose_trained(model: VJEPA2ActionModel, config: WorldModelTraining) -> None:
    """Freeze what the run does not train; put adapters in for trained="lora".

    The encoder never learns, and neither does the layer for poses of a camera, which is not used.

    Raises:
        ConfigError: more blocks than there are, or adapters for layers that do not exist.
        MissingExtraError: adapters without the package `peft`.
    """
    predictor = model.predictor
    model.requires_grad_(False)
    if config.trained == "lora":
        with_adapters(model, config.adapters, seed=config.seed, inside="predictor")
    elif config.trained == "all":
        predictor.requires_grad_(True)
    else:
        depth = len(predictor.layer)
        if config.last_blocks > depth:
            raise ConfigError(
                f"last_blocks={config.last_blocks}, but the predictor has {depth} blocks. Take "
                "fewer, or trained='all'."
            )
        for part in (*predictor.layer[depth - config.last_blocks :], predictor.layernorm):
            part.requires_grad_(True)
        predictor.proj.requires_grad_(True)
    for name in CONDITIONS:
        getattr(predictor.embeddings, name).requires_grad_(True)
    predictor.embeddings.extrinsics_embeddings.requires_grad_(False)
    predictor.gradient_checkpointing = config.runtime.recompute
    model.eval()
    predictor.train()


def finished_action_model(
    model: VJEPA2ActionModel,
    state: Mapping[str, Tensor],
    config: WorldModelTraining,
    *,
    statistics: RobotStatistics | None,
) -> VJEPA2ActionModel:
    """The trained model with adapters merged, which takes numbers in metres and radians.

    Args:
        model: of the run; its encoder is used.
        state: whole tensors of the trained predictor, on the CPU.
        config: of the run.
        statistics: by which the run has normalised its numbers, if it has.
    """
    # A fresh one: the run's own may lie in slices on several processes.
    own = VJEPA2ActionModel(VJEPA2Config.from_dict(model.config.to_dict()))
    own.encoder.load_state_dict(model.encoder.state_dict())
    adapted: nn.Module | None = None
    if config.trained == "lora":
        adapted = with_adapters(own, config.adapters, seed=config.seed, inside="predictor")
    own.predictor.load_state_dict(state)
    if adapted is not None:
        cast(Any, adapted).merge_and_unload()
    if statistics is not None:
        fold_statistics(own.predictor, statistics)
    return own.eval().requires_grad_(True)


def _fresh(config: WorldModelTraining, sizes: dict[str, int]) -> VJEPA2ActionModel:
    assert config.encoder is not None
    source = _encoder_of(config.encoder)
    if source.config.model_type != "vjepa2":
        raise ConfigError(
            f"encoder={config.encoder!r} is a {source.config.model_type} network. An "
            "action-conditioned model has the encoder of V-JEPA 2: take one of those."
        )
    own = config.predictor
    network = source.config.replaced(
        {
            **sizes,
            "model_type": "vjepa2_ac",
            "crop_size": config.crop_size or source.config.crop_size,
            "pred_hidden_size": own.hidden_size,
            "pred_num_hidden_layers": own.num_layers,
            "pred_num_attention_heads": own.num_heads,
            "pred_mlp_ratio": own.mlp_ratio,
            "drop_path_rate": 0.0,
            "head_sizes": None,
            "pooler_levels": None,
        }
    )
    model = VJEPA2ActionModel(network)
    _take_encoder(model, source)
    return model


def _started(
    config: WorldModelTraining, sizes: dict[str, int], statistics: RobotStatistics | None
) -> VJEPA2ActionModel:
    """The model of `start_from`; layers for actions and states begin anew for another robot."""
    assert config.start_from is not None
    path = world_folder(config.start_from)
    name = os.fspath(path) if path.exists() else config.start_from
    model = VJEPA2ActionModel.from_pretrained(name, dtype=torch.float32)
    own = model.config
    if (own.action_size, own.state_size) != tuple(sizes.values()):
        other = VJEPA2ActionModel(own.replaced(sizes))
        other.encoder.load_state_dict(model.encoder.state_dict())
        kept = {
            key: value
            for key, value in model.predictor.state_dict().items()
            if not any(part in key for part in CONDITIONS)
        }
        other.predictor.load_state_dict({**other.predictor.state_dict(), **kept})
        model = other
    elif statistics is not None:
        fold_statistics(model.predictor, statistics, inverse=True)
    if config.crop_size is not None:
        model.config.crop_size = config.crop_size
    return model


def _take_encoder(model: VJEPA2ActionModel, source: VJEPA2Model) -> None:
    try:
        model.encoder.load_state_dict(source.encoder.state_dict())
    except RuntimeError as error:
        raise CheckpointMismatchError(
            f"The encoder does not fit the action-conditioned model: {str(error).splitlines()[-1]} "
            "Leave encoder out, or start_from."
        ) from error


def _encoder_of(name: str) -> VJEPA2Model:
    start = find_start(name)
    if Path(start.name).is_dir() and not start.is_run:
        kind = VJEPA2Config.from_pretrained(start.name).model_type
        if kind == "vjepa2_ac":
            raise ConfigError(
                f"encoder={name!r} is an action-conditioned model. Give it as start_from to train "
                "its predictor on; a fresh predictor needs a model of V-JEPA 2."
            )
    return load_encoder(start)
