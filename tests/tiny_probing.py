"""A probe run of milliseconds an update: generated motions, a tiny frozen encoder."""

from pathlib import Path
from typing import Any

from vjepa2.tasks.probe_config import AttentiveProbeConfig


def tiny_probing(train: Path, val: Path | None, encoder: Path, **changes: Any) -> Any:
    """Three epochs of three updates of four videos of 4 frames of 32 px, four heads."""
    values: dict[str, Any] = {
        "recipe": "test",
        "seed": 3,
        "model": str(encoder),
        "data": {"train": str(train), "val": None if val is None else str(val), "workers": 0},
        "views": {"num_frames": 4, "crop_size": 32},
        "heads": {"lrs": (1e-2, 1e-3), "weight_decays": (0.01, 0.4)},
        "schedule": {"epochs": 3},
        "batch_size": 4,
        "device": "cpu",
        "checkpoint_every": 2,
    }
    for name, value in changes.items():
        old = values.get(name)
        values[name] = {**old, **value} if isinstance(old, dict) and value else value
    return AttentiveProbeConfig(**values)
