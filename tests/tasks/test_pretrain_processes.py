"""Two processes do what one does: DDP, FSDP2, and checkpoints that change hands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny_pretraining import tiny_run, write_clips
from vjepa2.tasks.pretrain import pretrain

pytestmark = pytest.mark.timeout(600)  # seconds on a machine of its own

JOBS = Path(__file__).parent / "pretraining_jobs.py"
# Micro-batches of 2, so that one process adds up what two average.
BASE: dict[str, Any] = {
    "clip": {"micro_batch": 2},
    "network": {"drop_path_rate": 0.0},
    "optim": {"clip_norm": 1.0},
    "health": {"every": 100},
}


def run_in_two_processes(jobs: list[dict[str, Any]], folder: Path) -> None:
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(JOBS), str(path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def largest_difference(one: Path, other: Path) -> float:
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs that the tests below compare, made with three starts of Python."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("processes")
    clips = write_clips(folder / "clips")

    def config(sharding: str = "auto", steps: int = 8, **more: Any) -> dict[str, Any]:
        runtime = {"sharding": sharding, **more.pop("runtime", {})}
        run = tiny_run(clips, **{**BASE, **more}, runtime=runtime, schedule={"num_steps": steps})
        return run.model_dump(mode="json")

    def job(name: str, *args: Any, stop_at: int | None = None, **more: Any) -> dict[str, Any]:
        return {"config": config(*args, **more), "out": str(folder / name), "stop_at": stop_at}

    def alone(*jobs: dict[str, Any]) -> None:
        for each in jobs:
            values = tiny_run(clips).__class__(**each["config"])
            pretrain(values, each["out"], stop_at=each["stop_at"], quiet=True)

    deep = {"variant": "vjepa2_1", "levels": [0, 1], "drop_path_rate": 0.0}
    with_images: dict[str, Any] = {
        "network": deep,
        "images": {
            "data": {"sources": [{"path": str(clips), "frame_step": 1}], "workers": 0},
            "crop_size": 24,
            "batch_size": 4,
            "micro_batch": 2,
            "masks": [{"num_blocks": 2, "spatial_scale": (0.2, 0.2)}],
        },
        "objective": {"context_weight": 0.5},
        # A key's bias has no gradient but rounding, which AdamW would bring up to full size.
        "optim": {"clip_norm": 1.0, "eps": 1e-6},
    }
    distilled: dict[str, Any] = {
        "network": {**deep, "pred_num_levels": 1, "pred_output_size": 48},
        "objective": {"teacher": str(folder / "teacher" / "model"), "context_weight": 0.5},
    }
    adapted: dict[str, Any] = {
        "network": None,
        "start_from": str(folder / "one_3"),
        "adapters": {"rank": 2, "alpha": 4.0},
    }
    cheap = {"dtype": "bfloat16", "recompute": True}
    alone(
        job("one_3", steps=3),
        job("teacher", steps=1, network={**deep, "hidden_size": 48}),
        job("images_3", steps=3, **with_images),
        job("distilled_3", steps=3, **distilled),
        job("adapted_3", steps=3, **adapted),
        job("packed_3", steps=3, truncation="none"),
        job("one_8"),
        job("one_then_two", stop_at=4),
    )
    run_in_two_processes(
        [
            job("ddp_3", "ddp", steps=3),
            job("fsdp2_3", "fsdp2", steps=3),
            job("packed_ddp_3", "ddp", steps=3, truncation="none"),
            job("images_ddp_3", "ddp", steps=3, **with_images),
            job("images_fsdp2_3", "fsdp2", steps=3, **with_images),
            job("distilled_ddp_3", "ddp", steps=3, **distilled),
            job("adapted_ddp_3", "ddp", steps=3, **adapted),
            job("adapted_fsdp2_3", "fsdp2", steps=3, **adapted),
            job("cheap_ddp_3", "ddp", steps=3, runtime=cheap),
            job("two_8", "ddp"),
            job("two_4_and_4", "ddp", stop_at=4),
            job("two_4_and_4", "ddp"),
            job("fsdp2_4_and_4", "fsdp2", stop_at=4),
            job("fsdp2_4_and_4", "fsdp2"),
            job("two_then_one", "fsdp2", stop_at=4),
            job("one_then_two", "ddp"),
        ],
        folder,
    )
    alone(job("two_then_one"))
    return folder


@pytest.mark.parametrize("other", ["ddp_3", "fsdp2_3"])
def test_two_processes_equal_one_with_the_double_batch(runs: Path, other: str) -> None:
    assert largest_difference(runs / "one_3", runs / other) < 1e-6


def test_two_processes_equal_one_without_truncation(runs: Path) -> None:
    """Micro-batches then hold different numbers of tokens."""
    assert largest_difference(runs / "packed_3", runs / "packed_ddp_3") < 1e-6


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("images_3", "images_ddp_3"),
        ("images_3", "images_fsdp2_3"),
        ("distilled_3", "distilled_ddp_3"),
        ("adapted_3", "adapted_ddp_3"),
        ("adapted_3", "adapted_fsdp2_3"),
    ],
)
def test_two_processes_equal_one_whatever_is_trained(runs: Path, one: str, two: str) -> None:
    """Some weights are only for images, some are frozen, some are merged at the end."""
    assert largest_difference(runs / one, runs / two) < 1e-6


def test_bfloat16_and_recomputation_on_two_processes_stay_near(runs: Path) -> None:
    assert losses(runs / "cheap_ddp_3") == pytest.approx(losses(runs / "ddp_3"), abs=0.03)


@pytest.mark.parametrize(("whole", "parts"), [("two_8", "two_4_and_4")])
def test_a_resumed_run_of_two_processes_is_bit_exact(runs: Path, whole: str, parts: str) -> None:
    assert losses(runs / whole) == losses(runs / parts)
    assert largest_difference(runs / whole, runs / parts) == 0.0


@pytest.mark.parametrize("changed", ["one_then_two", "two_then_one", "fsdp2_4_and_4"])
def test_a_run_goes_on_with_another_number_of_processes(runs: Path, changed: str) -> None:
    assert losses(runs / changed) == pytest.approx(losses(runs / "one_8"), abs=1e-5)
    assert len(losses(runs / changed)) == 8
