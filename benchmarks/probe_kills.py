"""`kill -9` at random moments of a probe run: does every resume work, are the numbers the same?

    python -m benchmarks.probe_kills --kills 10

Kills fall while features are encoded, while heads are trained and while checkpoints are written. In
the end the model and the measures of all heads are compared with those of a run left alone.
"""

import json
import multiprocessing
import random
import tempfile
import time
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.common import parser, save
from vjepa2 import VJEPA2Config, VJEPA2Model
from vjepa2.files import write_json
from vjepa2.recipes.probe import run_config
from vjepa2.tasks.probe import probe
from vjepa2.tasks.probe_config import AttentiveProbeConfig

EPOCHS = 60
LONGEST_DELAY_SECONDS = 4.0


def write_clips(folder: Path, *, count: int, seed: int) -> Path:
    """Arrays of two classes, dark and bright, and a list of them."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    lines = ["path,label"]
    for number in range(count):
        frames = generator.integers(0, 128, size=(8, 40, 40, 3), dtype=np.uint8)
        bright = number % 2
        np.save(folder / f"{number}.npy", frames + np.uint8(40 * bright))
        lines.append(f"{number}.npy,{'bright' if bright else 'dark'}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def go_on(run: Path) -> None:
    """Start or go on with a run, as `vjepa2 probe --out RUN` does."""
    probe(run_config(run), run, quiet=True)


def start(run: Path) -> ForkProcess:
    """The same in a process of its own; forked, so that kills hit the work and not the imports."""
    process = multiprocessing.get_context("fork").Process(target=go_on, args=(run,))
    process.start()
    return process


def traces(run: Path) -> tuple[int, int]:
    """Shards of features and lines of the log: what shows that a run is at work."""
    log = run / "metrics.jsonl"
    lines = log.read_bytes().count(b"\n") if log.exists() else 0
    return len(list(run.glob("features/*/*"))), lines


def disturb(run: Path, chance: random.Random) -> dict[str, Any]:
    """Start, wait until it works, kill at a random moment."""
    process, before, waited = start(run), traces(run), time.monotonic()
    while traces(run) == before and process.is_alive() and time.monotonic() - waited < 120:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, LONGEST_DELAY_SECONDS))
    alive = process.is_alive()
    process.kill()  # SIGKILL
    process.join()
    half_written = [path for path in (run / "checkpoints").glob(".*") if path.is_dir()]
    return {"alive": alive, "traces": traces(run), "half_written": bool(half_written)}


def main() -> None:
    """Measure and write the result."""
    arguments = parser(__doc__)
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = VJEPA2Config(
            hidden_size=48, num_attention_heads=2, num_hidden_layers=2, patch_size=8, crop_size=32,
            frames_per_clip=8, pred_hidden_size=24, pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        )  # fmt: skip
        torch.manual_seed(0)
        VJEPA2Model(network).save_pretrained(folder / "encoder")
        config = AttentiveProbeConfig(
            recipe="probe_kills",
            model=str(folder / "encoder"),
            data={
                "train": str(write_clips(folder / "train", count=24, seed=0)),
                "val": str(write_clips(folder / "val", count=12, seed=1)),
                "workers": 0,
            },
            views={"num_frames": 8, "crop_size": 32},
            heads={"depth": 2},
            schedule={"epochs": EPOCHS},
            batch_size=8,
            device="cpu",
            checkpoint_every=2,
        ).model_dump(mode="json")
        undisturbed, killed = folder / "undisturbed", folder / "killed"
        for run in (undisturbed, killed):
            write_json(run / "config.json", config)
        go_on(undisturbed)
        kills = []
        while len(kills) < given.kills:
            kills.append(disturb(killed, chance))
            print(len(kills), kills[-1], flush=True)
            if not kills[-1]["alive"]:
                break
        process = start(killed)
        process.join()
        finished = process.exitcode == 0
        first, second = (
            load_file(run / "model" / "model.safetensors") if finished else {}
            for run in (undisturbed, killed)
        )
        texts = [
            (run / "results.json").read_text() if finished else "" for run in (undisturbed, killed)
        ]
        results = {
            "kills": sum(kill["alive"] for kill in kills),
            "kills_before_the_first_update": sum(kill["traces"][1] == 0 for kill in kills),
            "kills_while_writing_a_checkpoint": sum(kill["half_written"] for kill in kills),
            "every_resume_worked": finished and all(kill["alive"] for kill in kills),
            "model_equal": finished and all(torch.equal(first[key], second[key]) for key in first),
            "results_equal": finished and texts[0] == texts[1],
            "heads": 20,
            "updates": EPOCHS * 3,
        }
    print(json.dumps(results, indent=2))
    save("probe_kills", results)


if __name__ == "__main__":
    main()
