"""Recordings of a dot that a robot moves, and runs that learn a world model of them in seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vjepa2 import VJEPA2Config, VJEPA2Model
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.tasks.world_model_config import WorldModelTraining

SIDE = 16
SPEC = RobotSpec(gripper_column=6)


def dot_states(count: int, *, seed: int) -> np.ndarray:
    """[T, 7]: the hand walks at random within 20 cm."""
    draw = np.random.default_rng(seed)
    states = np.zeros((count, 7))
    states[:, 2], states[:, 6] = 0.3, 0.5
    states[0, :2] = draw.uniform(-0.2, 0.2, 2)
    for step in range(1, count):
        moved = states[step - 1, :2] + draw.uniform(-0.075, 0.075, 2)
        states[step, :2] = moved.clip(-0.2, 0.2)
    return states


def dot_frames(states: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
    """uint8 [T, H, W, 3]: a bright dot where the hand is."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    x = states[:, 0, None, None] * (-1 if mirrored else 1)
    near = (columns - 2 * x) ** 2 + (rows - 2 * states[:, 1, None, None]) ** 2
    bright = 255 * np.exp(-near / 0.03)
    return np.repeat(bright[..., None], 3, axis=3).astype(np.uint8)


def write_dots(folder: Path, *, count: int = 4, length: int = 12, first_seed: int = 0) -> Path:
    """Episodes as .npz files, at 4 per second."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        states = dot_states(length, seed=first_seed + number)
        np.savez(folder / f"{number}.npz", observations=dot_frames(states), states=states)
    return folder


def write_encoder(folder: Path, *, hidden_size: int = 32) -> Path:
    """An encoder of 2 x 2 tokens a frame that learned nothing, but tells dots apart."""
    torch.manual_seed(5)
    config = VJEPA2Config(
        crop_size=SIDE,
        patch_size=8,
        tubelet_size=2,
        frames_per_clip=4,
        hidden_size=hidden_size,
        num_hidden_layers=1,
        num_attention_heads=2,
        pred_hidden_size=32,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
        pred_num_mask_tokens=2,
        initializer_range=0.2,
    )
    VJEPA2Model(config).save_pretrained(folder)
    return folder


def tiny_world(recordings: Path, **changes: Any) -> WorldModelTraining:
    """Six updates of a predictor of one block; nested changes by the name of their section."""
    values: dict[str, Any] = {
        "seed": 3,
        "robot": SPEC.model_dump(),
        "data": {"path": str(recordings), "num_frames": 4, "val_share": 0.25},
        "predictor": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "mlp_ratio": 2.0},
        "batch_size": 4,
        "schedule": {"num_steps": 6, "lr": 1e-3, "start_lr": 1e-3},
        "cache": {"batch_size": 8},
        "health": {"every": 3, "num_clips": 6},
        "runtime": {"device": "cpu", "checkpoint_every": 100},
    }
    for name, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(name), dict):
            values[name] = {**values[name], **change}
        else:
            values[name] = change
    return WorldModelTraining(**values)
