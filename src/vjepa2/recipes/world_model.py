"""Recipes of world models: every function without an argument is one, by its name.

    recipe    frames, rate   predictor (width, blocks)   samples    updates   on
    droid     8, 4/s         1024, 24                    256        94,500    several GPUs
    one_gpu   8, 4/s         512, 8                      32         20,000    one GPU
    tiny_cpu  8, 4/s         128, 4                      16         2,000     a CPU
    simulated_arm  4, 4/s    128, 4                      16         1,500     a CPU

The first is V-JEPA 2-AC (arXiv:2506.09985, section 3, appendix B, and its configuration file). The
published code has 8 frames, the paper 16: set data.num_frames.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.recipes.named import first_config, first_lines, named_recipes
from vjepa2.runtime import resolve_device
from vjepa2.tasks.pretrain_config import RuntimeConfig
from vjepa2.tasks.world_model_config import (
    PUBLISHED_RAMP,
    PUBLISHED_STEPS,
    ActionPredictorConfig,
    LatentCacheConfig,
    RobotDataConfig,
    WorldModelTraining,
)
from vjepa2.training.health import HealthConfig
from vjepa2.training.optim import OptimConfig
from vjepa2.training.schedules import ScheduleConfig

RAMP = PUBLISHED_RAMP / PUBLISHED_STEPS


def droid() -> WorldModelTraining:
    """V-JEPA 2-AC as published: DROID, 24 blocks, 256 samples, 94,500 updates in bfloat16."""
    return WorldModelTraining(
        recipe="droid",
        data=RobotDataConfig(layout="droid", val_share=0.01),
        # All frames of DROID at 4 per second are some TiB of features.
        cache=LatentCacheConfig(max_gb=10_000.0),
        runtime=RuntimeConfig(dtype="bfloat16", recompute=True),
    )


def one_gpu() -> WorldModelTraining:
    """Your own robot on one GPU: 8 blocks of width 512, 32 samples, 20,000 updates."""
    return WorldModelTraining(
        recipe="one_gpu",
        predictor=ActionPredictorConfig(hidden_size=512, num_layers=8, num_heads=8),
        batch_size=32,
        schedule=_schedule(20_000, lr=2e-4),
        optim=OptimConfig(clip_norm=1.0),
        runtime=RuntimeConfig(dtype="bfloat16", checkpoint_every=1000),
    )


def tiny_cpu() -> WorldModelTraining:
    """A small encoder and a small predictor on a CPU: 4 blocks of width 128, 2,000 updates."""
    return WorldModelTraining(
        recipe="tiny_cpu",
        predictor=ActionPredictorConfig(hidden_size=128, num_layers=4, num_heads=4),
        normalise=True,
        batch_size=16,
        schedule=_schedule(2_000, lr=1e-3),
        optim=OptimConfig(clip_norm=1.0),
        health=HealthConfig(every=200, num_clips=64),
        runtime=RuntimeConfig(checkpoint_every=500),
    )


def simulated_arm() -> WorldModelTraining:
    """The arm of `vjepa2.simulation` seen by `world-tiny`, at 96 px; 1,500 updates on a CPU."""
    return WorldModelTraining(
        recipe="simulated_arm",
        encoder="world-tiny",
        data=RobotDataConfig(num_frames=4),
        # Twice the side that the encoder learned with: 64 tokens a frame instead of 16, whose
        # distances lead to a goal from farther away.
        crop_size=96,
        predictor=ActionPredictorConfig(hidden_size=128, num_layers=4, num_heads=4),
        normalise=True,
        batch_size=16,
        schedule=_schedule(1_500, lr=1e-3),
        optim=OptimConfig(clip_norm=1.0),
        health=HealthConfig(every=250, num_clips=64),
        runtime=RuntimeConfig(checkpoint_every=250),
    )


def _schedule(num_steps: int, *, lr: float) -> ScheduleConfig:
    """Warm-up and cool-down of the published shares."""
    return ScheduleConfig(
        num_steps=num_steps,
        warmup_share=RAMP,
        cooldown_share=RAMP,
        start_lr=lr * 7.5e-5 / 4.25e-4,
        lr=lr,
        final_lr=0.0,
        weight_decay=0.04,
    )


def default_recipe() -> str:
    """Of a new run: "one_gpu" where there is one, else "tiny_cpu"."""
    return "tiny_cpu" if resolve_device().type == "cpu" else "one_gpu"


def recipes() -> Mapping[str, Callable[[], WorldModelTraining]]:
    """All recipes of world models by name, alphabetically."""
    return named_recipes(WorldModelTraining, sys.modules[__name__])


def describe_recipes() -> dict[str, str]:
    """The first line of every recipe's description, by name."""
    return first_lines(recipes())


def run_config(
    folder: str | os.PathLike[str],
    *,
    data: str | None = None,
    robot: str | os.PathLike[str] | None = None,
    encoder: str | None = None,
    start_from: str | None = None,
    recipe: str | None = None,
    settings: Iterable[str] = (),
) -> WorldModelTraining:
    """The configuration of a new run, or of the one in `folder` that goes on.

    Args:
        folder: of the run.
        data: recordings; None: those of the run or of `settings`.
        robot: file of a `RobotSpec`; None likewise.
        encoder: of the frames; None likewise.
        start_from: an action-conditioned model to train on; None likewise.
        recipe: name; None: that of the run in `folder`, or `default_recipe` where there is none.
        settings: changes, `name=value`.

    Raises:
        UnknownOptionError: a setting does not exist.
        ConfigError: no such recipe, a value is not allowed, or there is neither data nor a run.
        DataNotFoundError: there is no such file of a robot.
    """
    config, _ = first_config(
        folder,
        WorldModelTraining,
        recipes(),
        recipe=recipe,
        default=None if data is None else default_recipe(),
        needs="recordings (--data), what their numbers mean (--robot) and an encoder (--encoder)",
    )
    values = config.model_dump()
    if data is not None:
        # Also seen from another folder, when the run goes on.
        values["data"]["path"] = os.fspath(Path(data).absolute())
    if robot is not None:
        values["robot"] = RobotSpec.from_file(robot).model_dump()
    named = {"encoder": encoder, "start_from": start_from}
    for name, text in named.items():
        if text is not None:
            there = Path(text).exists()
            values[name] = os.fspath(Path(text).absolute()) if there else text
    return WorldModelTraining(**values).override(settings)
