"""Time from starting Python to having a name, beside transformers; fresh processes in turn.

    python -m benchmarks.imports

`beyond torch` subtracts the median time of `import torch` alone, taken in the same turns.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import parser, save

STATEMENTS = {
    "python": "pass",
    "import vjepa2": "import vjepa2",
    "import torch": "import torch",
    "ours": "import torch; from vjepa2 import VJEPA2Model",
    "reference": "import torch; from transformers import VJEPA2Model",
}
REPEATS = 9


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser(__doc__).parse_args()
    commands = {name: [sys.executable, "-c", code] for name, code in STATEMENTS.items()}
    commands["vjepa2 --help"] = [str(Path(sys.executable).with_name("vjepa2")), "--help"]
    for command in commands.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    median = {name: round(statistics.median(values), 3) for name, values in times.items()}
    ours = statistics.median(times["ours"]) - statistics.median(times["import torch"])
    reference = statistics.median(times["reference"]) - statistics.median(times["import torch"])
    results = {
        "median_seconds": median,
        "import_vjepa2_beyond_python": round(median["import vjepa2"] - median["python"], 3),
        "help_beyond_python": round(median["vjepa2 --help"] - median["python"], 3),
        "ours_beyond_torch": round(ours, 3),
        "reference_beyond_torch": round(reference, 3),
        "ratio": round(ours / reference, 3),
    }
    print(results)
    save("imports", results)


if __name__ == "__main__":
    main()
