"""Runs pretraining jobs one after the other; started by torchrun, which takes seconds to start.

    torchrun --nproc-per-node 2 pretraining_jobs.py JOBS.json

JOBS.json: [{"config": {...}, "out": "folder", "stop_at": null}, ...]
"""

import json
import sys
from pathlib import Path

import torch

from vjepa2.tasks.pretrain import pretrain
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.training.distributed import open_processes

if __name__ == "__main__":
    torch.set_num_threads(1)
    with open_processes("cpu"):
        for job in json.loads(Path(sys.argv[1]).read_text()):
            config = PretrainConfig(**job["config"])
            pretrain(config, job["out"], stop_at=job.get("stop_at"), quiet=True)
