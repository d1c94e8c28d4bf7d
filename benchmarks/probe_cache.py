"""Cached features beside encoding every epoch: 20 epochs of the same probe run, in turn.

    python -m benchmarks.probe_cache

Two whole runs of `vjepa2.tasks.probe` on the same generated mp4s (motions, no augmentation, the
shipped encoder), one with the cache and one without; the cached one fills its cache within its
time. Their final accuracies and losses are compared.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import parser, save
from vjepa2.recipes.probe import run_config
from vjepa2.tasks.probe import probe
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import write_video

LABELS = ("object moves left", "object moves right", "nothing moves")
TRAIN, VAL = 16, 8  # videos per class


def write_videos(folder: Path, *, count: int, seed: int) -> None:
    """A folder per class with `count` mp4s of 24 frames of 128 x 96."""
    generator = torch.Generator().manual_seed(seed)
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            clip = make_motion_clip(label, num_frames=24, size=(96, 128), generator=generator)
            write_video(folder / label / f"{number}.mp4", clip)


def run(folder: Path, name: str, *, epochs: int, use: bool) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of one run, and the measures of its heads."""
    config = run_config(
        folder / name,
        train=str(folder / "train"),
        val=str(folder / "val"),
        model="motion-tiny",
        recipe="small",
        settings=[
            f"schedule.epochs={epochs}",
            f"cache.use={str(use).lower()}",
            "data.workers=0",
            "device=cpu",
            "heads.lrs=[0.003, 0.001]",
            "heads.weight_decays=[0.01, 0.1]",
        ],
    )
    start = time.perf_counter()
    result = probe(config, folder / name, quiet=True)
    return time.perf_counter() - start, result.results["heads"]


def main() -> None:
    """Measure and write the result."""
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=2)
    arguments.add_argument("--epochs", type=int, default=20)
    given = arguments.parse_args()
    times: dict[bool, list[float]] = {True: [], False: []}
    heads: dict[bool, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder / "train", count=TRAIN, seed=0)
        write_videos(folder / "val", count=VAL, seed=1)
        run(folder, "warm", epochs=1, use=True)
        for repeat in range(given.repeats):
            for use in (True, False) if repeat % 2 == 0 else (False, True):
                seconds, heads[use] = run(folder, f"{use}-{repeat}", epochs=given.epochs, use=use)
                times[use].append(seconds)
                print(use, round(seconds, 2), flush=True)
    ratios = [anew / cached for cached, anew in zip(times[True], times[False], strict=True)]
    pairs = list(zip(heads[True], heads[False], strict=True))
    results = {
        "epochs": given.epochs,
        "videos": {"train": TRAIN * len(LABELS), "val": VAL * len(LABELS)},
        "heads": len(pairs),
        "repeats": given.repeats,
        "cached_median_seconds": round(statistics.median(times[True]), 2),
        "encoded_median_seconds": round(statistics.median(times[False]), 2),
        "speedup_median": round(statistics.median(ratios), 2),
        "speedup_min": round(min(ratios), 2),
        "accuracy_difference": max(abs(a["top1"] - b["top1"]) for a, b in pairs),
        "loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in pairs),
    }
    print(json.dumps(results, indent=2))
    save("probe_cache", results)


if __name__ == "__main__":
    main()
