"""Memory that `vjepa2 pretrain` announces beside what its process comes to hold, on a CPU.

    python -m benchmarks.process_memory

Real commands in fresh processes, from mp4 files: recipes as they are, and with larger clips and
batches; two updates each, with measuring, saving and the finished model. Measured is the peak of
resident memory of the process that trains, as Linux counts it (VmHWM); workers come on top.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import parser, save
from vjepa2.video.synthetic_world_files import write_world_videos

CASES = {
    "tiny_cpu": ["--recipe", "tiny_cpu"],
    "tiny_cpu, decoding in the process": ["--recipe", "tiny_cpu", "--set", "data.workers=0"],
    "small_world": ["--recipe", "small_world"],
    "tiny_cpu, 32 clips": ["--recipe", "tiny_cpu", "--set", "clip.batch_size=32"],
    "tiny_cpu, 128 px": ["--recipe", "tiny_cpu", "--set", "clip.crop_size=128"],
}
# Runs the command and prints its own peak, which no parent process has a share in.
CHILD = """
import sys
from vjepa2.cli.main import app
app(sys.argv[1:], standalone_mode=False)
[line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print("peak", int(line.split()[1]) * 1024)
"""


def measure(videos: Path, run: Path, options: list[str]) -> dict[str, Any]:
    """One command."""
    words = ["pretrain", "--data", str(videos), "--out", str(run), *options]
    words += ["--set", "schedule.num_steps=2", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    [peak] = [line for line in done.stdout.splitlines() if line.startswith("peak ")]
    told = json.loads((run / "forecast.json").read_text())
    announced = max(one["memory_bytes"] for one in told.values() if isinstance(one, dict))
    measured = int(peak.split()[1])
    return {
        "announced": announced,
        "measured": measured,
        "announced_over_measured": round(announced / measured, 3),
    }


def main() -> None:
    parser(__doc__).parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        videos = write_world_videos(Path(folder) / "videos", count=48, seed=0, quiet=True)
        for number, (name, options) in enumerate(CASES.items()):
            results[name] = measure(videos, Path(folder) / f"run{number}", options)
            print(name, results[name], flush=True)
    save("process_memory", {"cases": results})


if __name__ == "__main__":
    main()
