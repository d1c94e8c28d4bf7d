"""What every benchmark shares: describing the machine, timing two sides in turn, saving JSON.

Machines are noisy, so a claim is a ratio of two sides that took turns in one run. Absolute times
stand beside it only to give an idea.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vjepa2.files import write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "safetensors", "av", "numpy", "vjepa2")


def cpu_model() -> str:
    """Name of the processor, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Hardware and versions, so that a number can be judged later."""
    import torch

    described: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            described[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            described[package] = None
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def interleaved(
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    repeats: int,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Time both sides in turn, after one warm-up each.

    Returns:
        Median and minimum seconds of each side, and the median over pairs of
        reference / ours: above 1 means ours is faster.
    """
    for side in (ours, reference):
        side()
        synchronize()
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    for repeat in range(repeats):
        pair = [("ours", ours), ("reference", reference)]
        for name, side in pair if repeat % 2 == 0 else reversed(pair):
            start = time.perf_counter()
            side()
            synchronize()
            times[name].append(time.perf_counter() - start)
    pairs = zip(times["ours"], times["reference"], strict=True)
    ratios = [theirs / own for own, theirs in pairs]
    return {
        "repeats": repeats,
        **{
            f"{name}_{kind}_seconds": round(function(values), 6)
            for name, values in times.items()
            for kind, function in (("median", statistics.median), ("min", min))
        },
        "speedup_median": round(statistics.median(ratios), 3),
        "speedup_min": round(min(ratios), 3),
        "speedup_max": round(max(ratios), 3),
    }


def save(what: str, results: dict[str, Any], *, hardware: str = "cpu") -> Path:
    """Write `results/<what>_<hardware>_<yyyymm>.json` and return its path."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    # A path of this machine says nothing to anybody else.
    arguments = " ".join("DIR" if "/" in argument else argument for argument in sys.argv[1:])
    path = RESULTS / f"{what}_{hardware}_{today:%Y%m}.json"
    write_json(
        path,
        {
            "what": what,
            "date": today.isoformat(),
            "command": f"python -m benchmarks.{Path(sys.argv[0]).stem} {arguments}".strip(),
            "machine": machine(),
            "results": results,
        },
    )
    print(f"wrote {path}")
    return path


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Argument parser with the module's docstring as help."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def load(what: str, hardware: str = "cpu") -> dict[str, Any]:
    """Content of the newest result file."""
    path = max(RESULTS.glob(f"{what}_{hardware}_20????.json"))
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def verdict(met: bool) -> str:
    """Met, or missed and said so."""
    return "met" if met else "**missed**"
