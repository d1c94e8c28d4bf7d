"""A fine-tuning run of milliseconds an update: generated motions, a tiny network."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tiny_models import randomise, tiny_config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import write_video

MOTIONS = ("object moves left", "object moves right", "nothing moves")


def write_labelled(
    folder: Path,
    *,
    count: int,
    seed: int,
    labels: tuple[str, ...] = MOTIONS,
    num_frames: int = 8,
    size: tuple[int, int] = (40, 48),
    suffix: str = ".npy",
) -> Path:
    """Write `count` clips of each motion and a list of them; returns the list.

    Arrays are read three times as fast as mp4s, which the runs from end to end use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    lines = ["path,label"]
    for number in range(count):
        for label in labels:
            clip = make_motion_clip(label, num_frames=num_frames, size=size, generator=generator)
            name = f"{label.replace(' ', '_')}_{number:03d}{suffix}"
            if suffix == ".npy":
                np.save(folder / name, clip.permute(0, 2, 3, 1).numpy())
            else:
                write_video(folder / name, clip)
            lines.append(f"{name},{label}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def write_encoder(folder: Path, **changes: Any) -> Path:
    """Write a tiny encoder with random weights; returns the folder."""
    randomise(VJEPA2Model(tiny_config(**changes))).save_pretrained(folder)
    return folder


def tiny_finetuning(train: Path, val: Path | None, start_from: Path, **changes: Any) -> Any:
    """Three epochs of three updates of four videos of 4 frames of 32 px."""
    values: dict[str, Any] = {
        "recipe": "test",
        "seed": 3,
        "start_from": str(start_from),
        "data": {"train": str(train), "val": None if val is None else str(val), "workers": 0},
        "views": {"num_frames": 4, "crop_size": 32},
        "augment": {"rand_augment": None, "scale": (0.5, 1.0)},
        "head": {"num_self_blocks": 1},
        "batch": {"batch_size": 4},
        "schedule": {"epochs": 3, "warmup_epochs": 1, "lr": 2e-3},
        "runtime": {"device": "cpu", "checkpoint_every": 2},
    }
    for name, value in changes.items():
        old = values.get(name)
        values[name] = {**old, **value} if isinstance(old, dict) and value else value
    return FineTuneConfig(**values)
