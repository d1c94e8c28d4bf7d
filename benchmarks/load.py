"""Time and memory of `from_pretrained` on a ViT-L folder, beside transformers; processes in turn.

    python -m benchmarks.load

A folder with random weights is made once in a temporary place (1.3 GB, float32, one safetensors
file) and read once, so that both sides find it in the page cache. Every measurement is a fresh
process with one thread; imports are not counted:

* `first_seconds` is the first `from_pretrained` of a process, `again_seconds` the second one;
* `anonymous_mib` is the growth of memory that is not part of the file (a second copy of the
  weights would be 1245 MiB), after loading and after reading every weight once.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import parser, save

SIDES = {
    "ours": "from vjepa2 import VJEPA2Model",
    "reference": (
        "from transformers import VJEPA2Model\n"
        "from transformers.utils import logging; logging.disable_progress_bar()"
    ),
}
CHILD = """
import json, sys, time
import torch
{statement}

def anonymous_mib():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024

result = {{}}
before = anonymous_mib()
for name in ("first_seconds", "again_seconds"):
    start = time.perf_counter()
    model = VJEPA2Model.from_pretrained(sys.argv[1])
    result[name] = time.perf_counter() - start
result["anonymous_mib_loaded"] = anonymous_mib() - before
for parameter in model.parameters():
    parameter.detach().sum()
result["anonymous_mib_read"] = anonymous_mib() - before
print(json.dumps(result))
"""


def measure(side: str, folder: Path) -> dict[str, float]:
    """Numbers of one process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(statement=SIDES[side]), str(folder)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=11)
    repeats = arguments.parse_args().repeats

    from vjepa2 import VJEPA2Config, VJEPA2Model

    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        VJEPA2Model(VJEPA2Config()).save_pretrained(folder)
        size_bytes = len((folder / "model.safetensors").read_bytes())
        for _ in range(repeats):
            for side in SIDES:
                runs[side].append(measure(side, folder))
    results: dict[str, object] = {
        "repeats": repeats,
        "threads_of_the_measured_processes": 1,
        "file_mib": round(size_bytes / 2**20),
    }
    for side, numbers in runs.items():
        for key in numbers[0]:
            median = statistics.median(run[key] for run in numbers)
            results[f"{side}_{key}"] = round(median, 4)
    for key in ("first_seconds", "again_seconds"):
        pairs = zip(runs["ours"], runs["reference"], strict=True)
        ratios = [own[key] / theirs[key] for own, theirs in pairs]
        results[f"ratio_{key}"] = round(statistics.median(ratios), 3)
    print(json.dumps(results, indent=2))
    save("load", results)


if __name__ == "__main__":
    main()
