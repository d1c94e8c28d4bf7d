"""Runs fine-tuning jobs one after the other; started by torchrun, which takes seconds to start.

    torchrun --nproc-per-node 2 finetuning_jobs.py JOBS.json

JOBS.json: [{"config": {...}, "out": "folder"}, ...]
"""

import json
import sys
from pathlib import Path

import torch

from vjepa2.tasks.finetune import finetune
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.training.distributed import open_processes

if __name__ == "__main__":
    torch.set_num_threads(1)
    with open_processes("cpu"):
        for job in json.loads(Path(sys.argv[1]).read_text()):
            finetune(FineTuneConfig(**job["config"]), job["out"], quiet=True)
