"""A pretraining run of milliseconds an update: array clips of moving blobs, a tiny network."""

from pathlib import Path
from typing import Any

import numpy as np

from vjepa2.tasks.pretrain_config import PretrainConfig

NUM_CLIPS, NUM_FRAMES, SIDE = 10, 8, 40


def write_clips(folder: Path, *, count: int = NUM_CLIPS, seed: int = 0) -> Path:
    """Write `.npy` clips of a bright square that wanders over noise; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        frames = generator.integers(0, 60, size=(NUM_FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
        start, way = generator.integers(4, 24, size=2), generator.integers(-2, 3, size=2)
        for time in range(NUM_FRAMES):
            top, left = np.clip(start + time * way, 0, SIDE - 10)
            frames[time, top : top + 10, left : left + 10] = generator.integers(150, 255, size=3)
        np.save(folder / f"clip_{number:02d}.npy", frames)
    return folder


def tiny_run(folder: Path, **changes: Any) -> PretrainConfig:
    """Twelve updates of four clips of 4 frames of 32 px from the arrays in `folder`."""
    values: dict[str, Any] = {
        "recipe": "test",
        "seed": 3,
        "network": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "patch_size": 8,
            "pred_hidden_size": 24,
            "pred_num_layers": 2,
            "pred_num_heads": 2,
            "pred_num_mask_tokens": 1,
            "initializer_range": 0.1,
            "drop_path_rate": 0.1,
        },
        "data": {"sources": [{"path": str(folder), "frame_step": 1}], "workers": 0},
        "clip": {"num_frames": 4, "crop_size": 32, "batch_size": 4},
        "masks": [
            {"num_blocks": 3, "spatial_scale": (0.15, 0.15)},
            {"num_blocks": 1, "spatial_scale": (0.6, 0.6)},
        ],
        "schedule": {
            "num_steps": 12,
            "warmup_share": 0.25,
            "cooldown_share": 0.25,
            "lr": 3e-3,
            "momentum": 0.9,
        },
        "health": {"every": 6, "num_clips": 4},
        "runtime": {"device": "cpu", "checkpoint_every": 5},
    }
    for name, value in changes.items():
        old = values.get(name)
        values[name] = {**old, **value} if isinstance(old, dict) and value else value
    return PretrainConfig(**values)
