"""`kill -9` at random moments of a pretraining run: does every resume work, is nothing changed?

    python -m benchmarks.kill_resume --kills 20

A run with a checkpoint at every second update is killed again and again, at random moments during
updates and while checkpoints are written, and started again each time by `vjepa2 pretrain --out`.
In the end its weights and its log are compared with those of a run that nobody disturbed.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.common import parser, save
from vjepa2.files import write_json
from vjepa2.tasks.pretrain_config import PretrainConfig

NUM_STEPS = 160
LONGEST_DELAY_SECONDS = 1.0


def write_clips(folder: Path) -> None:
    """Arrays instead of videos: starting is then most of the time, and kills hit training."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(8):
        frames = generator.integers(0, 255, size=(8, 40, 40, 3), dtype=np.uint8)
        np.save(folder / f"{number}.npy", frames)


def configuration(clips: Path) -> PretrainConfig:
    """Small updates, many checkpoints, all that has state: stochastic depth, average, alarms."""
    return PretrainConfig(
        recipe="kill_resume",
        seed=5,
        network={
            "hidden_size": 64, "num_layers": 2, "num_heads": 2, "patch_size": 8,
            "pred_hidden_size": 48, "pred_num_layers": 2, "pred_num_heads": 2,
            "pred_num_mask_tokens": 1, "drop_path_rate": 0.1,
        },
        data={"sources": [{"path": str(clips), "frame_step": 1}], "workers": 0},
        clip={"num_frames": 4, "crop_size": 32, "batch_size": 4},
        schedule={"num_steps": NUM_STEPS, "lr": 1e-3, "momentum": 0.99},
        health={"every": 20, "num_clips": 4},
        runtime={"device": "cpu", "checkpoint_every": 2},
    )  # fmt: skip


def start(run: Path) -> subprocess.Popen[bytes]:
    """Start or go on with a run, as a user does."""
    program = str(Path(sys.executable).with_name("vjepa2"))
    return subprocess.Popen(
        [program, "pretrain", "--out", str(run), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def num_lines(run: Path) -> int:
    """Lines in the log, whole or not."""
    log = run / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def losses(run: Path) -> list[float]:
    """Of every update, in order."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def disturb(run: Path, chance: random.Random) -> dict[str, Any]:
    """Start, wait until it trains, kill at a random moment; what lay in the folder then."""
    process = start(run)
    before, waited = num_lines(run), time.monotonic()
    while num_lines(run) <= before and process.poll() is None:
        if time.monotonic() - waited > 300:
            break
        time.sleep(0.01)
    time.sleep(chance.uniform(0, LONGEST_DELAY_SECONDS))
    was_alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    half_written = [path.name for path in (run / "checkpoints").glob(".*") if path.is_dir()]
    return {
        "lines": num_lines(run),
        "alive": was_alive,
        "half_written_checkpoint": bool(half_written),
        "errors": "" if was_alive else errors.decode()[-500:],
    }


def main() -> None:
    """Measure and write the result."""
    arguments = parser(__doc__)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clips(folder / "clips")
        config = configuration(folder / "clips").model_dump(mode="json")
        for run in ("undisturbed", "killed"):
            write_json(folder / run / "config.json", config)
        undisturbed, killed = folder / "undisturbed", folder / "killed"
        process = start(undisturbed)
        assert process.wait() == 0, process.stderr
        kills = []
        while len(kills) < given.kills:
            kills.append(disturb(killed, chance))
            print(len(kills), kills[-1], flush=True)
            if not kills[-1]["alive"]:
                break
        process = start(killed)
        _, errors = process.communicate()
        finished = process.returncode == 0
        first, second = (
            load_file(run / "model" / "model.safetensors") if finished else {}
            for run in (undisturbed, killed)
        )
        results = {
            "kills": sum(kill["alive"] for kill in kills),
            "kills_while_writing_a_checkpoint": sum(
                kill["half_written_checkpoint"] for kill in kills
            ),
            "every_resume_worked": finished and all(kill["alive"] for kill in kills),
            "weights_equal": finished
            and all(torch.equal(first[key], second[key]) for key in first),
            "log_equal": finished and losses(undisturbed) == losses(killed),
            "updates": NUM_STEPS,
            "errors": errors.decode()[-500:] if not finished else "",
        }
    save("kill_resume", results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
