"""Runs that learn world models, one after the other; started by torchrun.

    torchrun --nproc-per-node 2 world_model_jobs.py JOBS.json

JOBS.json: [{"config": {...}, "out": "folder", "stop_at": null}, ...]
"""

import json
import sys
from pathlib import Path

import torch

from vjepa2.tasks.world_model import train_world_model
from vjepa2.tasks.world_model_config import WorldModelTraining
from vjepa2.training.distributed import open_processes

if __name__ == "__main__":
    torch.set_num_threads(1)
    with open_processes("cpu"):
        for job in json.loads(Path(sys.argv[1]).read_text()):
            config = WorldModelTraining(**job["config"])
            train_world_model(config, job["out"], stop_at=job["stop_at"], quiet=True)
