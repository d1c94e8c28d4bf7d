"""Run every benchmark, one after the other, and rewrite the table in the README.

python -m benchmarks.run_all
"""

import subprocess
import sys

from benchmarks.common import parser

BENCHMARKS = (
    "operations",
    "imports",
    "memory",
    "load",
    "load_original",
    "preprocess",
    "decode",
    "data_loading",
    "profile_layer",
    "mask_distances",
    "train_step",
    "train_memory",
    "process_memory",
    "kill_resume",
    "alarms",
    "encode",
)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--reference-path")
    path = arguments.parse_args().reference_path
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        options = ["--reference-path", path] if name == "preprocess" and path else []
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
    subprocess.run([sys.executable, "-m", "benchmarks.table", "--write"], check=True)


if __name__ == "__main__":
    main()
