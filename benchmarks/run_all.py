"""Run every benchmark, one after the other, and rewrite the table in the README.

python -m benchmarks.run_all
"""

import subprocess
import sys

BENCHMARKS = (
    "operations",
    "imports",
    "memory",
    "load",
    "preprocess",
    "decode",
    "profile_layer",
    "encode",
)


def main() -> None:
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
    subprocess.run([sys.executable, "-m", "benchmarks.table", "--write"], check=True)


if __name__ == "__main__":
    main()
