"""Peak memory of pretraining updates beside the forecast; one process per case.

    python -m benchmarks.train_memory
    python -m benchmarks.train_memory --device cuda --size vit_large --pixels 256 --batch 24 \\
        --dtype bfloat16

On a CPU it is the growth of resident memory from before the networks are made to the peak of
three updates; on a GPU what PyTorch's allocator and the libraries hold at the peak.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import parser, save

CPU_CASES = (
    {"size": "vit_tiny", "frames": 16, "pixels": 112, "batch": 4},
    {"size": "vit_tiny", "frames": 8, "pixels": 96, "batch": 16, "micro": 4},
    {"size": "vit_tiny", "frames": 16, "pixels": 112, "batch": 4, "recompute": True},
    {"size": "vit_small", "frames": 16, "pixels": 112, "batch": 2},
    {"size": "vit_base", "frames": 8, "pixels": 112, "batch": 1},
)


def child(options: dict[str, Any]) -> None:
    """Print measured and forecast bytes of one case as JSON."""
    import resource

    import psutil
    import torch

    from benchmarks.train_step import (
        Case,
        any_source,
        decoded_videos,
        forecast_of,
        make_trainer,
    )

    options = dict(options)
    micro, recompute = options.pop("micro", None), options.pop("recompute", False)
    case = Case(**options)
    torch.set_num_threads(1)
    warm_up(case.device)
    videos = decoded_videos(case)  # whole frames; a run holds only their crops
    with tempfile.TemporaryDirectory() as folder:
        config = case.config(any_source(Path(folder)))
        config = config.model_copy(
            update={
                "clip": config.clip.model_copy(update={"micro_batch": micro}),
                "runtime": config.runtime.model_copy(update={"recompute": recompute}),
            }
        )
        before = psutil.Process().memory_info().rss
        trainer = make_trainer(case, config, Path(folder), videos)
        for step in range(1, 4):
            trainer.run_step(step)
    if case.device.startswith("cuda"):
        free, whole = torch.cuda.mem_get_info()
        held = torch.cuda.memory_reserved() - torch.cuda.max_memory_reserved()
        measured = whole - free - held
    else:
        measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    expected = forecast_of(case, trainer, micro_batch=micro, recompute=recompute)
    print(
        json.dumps(
            {
                "measured": measured,
                "forecast": expected.memory_bytes["total"],
                "moment": expected.peak_moment,
                "parts": dict(expected.memory_bytes),
            }
        )
    )


def warm_up(device: str) -> None:
    """Load kernels and thread pools, which are no part of a run."""
    import torch

    layer = torch.nn.Linear(64, 64, device=device)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)  # imports a compiler
    layer(torch.zeros(64, 64, device=device)).sum().backward()
    optimizer.step()


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """One case in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.train_memory", "--child", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["forecast_over_measured"] = round(result["forecast"] / result["measured"], 3)
    return {"case": case, **result}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--child", help="JSON of one case; what the fresh processes run")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--size", default="vit_large")
    arguments.add_argument("--frames", type=int, default=16)
    arguments.add_argument("--pixels", type=int, default=256)
    arguments.add_argument("--batch", type=int, default=24)
    arguments.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    options = arguments.parse_args()
    if options.child:
        child(json.loads(options.child))
        return
    cases: list[dict[str, Any]] = [dict(case) for case in CPU_CASES]
    if options.device != "cpu":
        names = ("device", "size", "frames", "pixels", "batch", "dtype")
        cases = [{name: getattr(options, name) for name in names}]
    results = [measure(case) for case in cases]
    for result in results:
        print(result["case"], result["forecast_over_measured"], result["measured"])
    worst = max(abs(result["forecast_over_measured"] - 1) for result in results)
    save(
        "train_memory",
        {"largest_error": round(worst, 3), "cases": results},
        hardware="cpu" if options.device == "cpu" else "gpu",
    )


if __name__ == "__main__":
    main()
