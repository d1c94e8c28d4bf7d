"""Two processes learn the world model that one learns: DDP, FSDP2, and a change between them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny_worlds import tiny_world, write_dots, write_encoder
from vjepa2.tasks.world_model import train_world_model

pytestmark = pytest.mark.timeout(300)  # seconds on a machine of its own

JOBS = Path(__file__).parent / "world_model_jobs.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs that the tests below compare; one start of two processes."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("processes")
    data, encoder = write_dots(folder / "data"), write_encoder(folder / "encoder")

    def config(sharding: str) -> Any:
        runtime = {"device": "cpu", "sharding": sharding}
        # The gradient of keys' biases is rounding alone; AdamW would blow it up to a full step.
        more: dict[str, Any] = {"optim": {"clip_norm": 1.0, "eps": 1e-4}, "normalise": True}
        return tiny_world(data, encoder=str(encoder), runtime=runtime, **more)

    def job(name: str, sharding: str, stop_at: int | None = None) -> dict[str, Any]:
        values = config(sharding).model_dump(mode="json")
        return {"config": values, "out": str(folder / name), "stop_at": stop_at}

    path = folder / "jobs.json"
    jobs = [job("ddp", "ddp"), job("fsdp2", "fsdp2"), job("changed", "fsdp2", stop_at=3)]
    path.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(JOBS), str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    train_world_model(config("none"), folder / "one", quiet=True)
    train_world_model(config("none"), folder / "changed", quiet=True)
    return folder


def lines(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    passed_over = ("kind", "seconds", "measure_seconds")
    return [
        {name: value for name, value in row.items() if name not in passed_over}
        for row in rows
        if row["kind"] != "event"
    ]


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "changed"])
def test_two_processes_equal_one(runs: Path, name: str) -> None:
    one, two = (load_file(runs / run / "model" / "model.safetensors") for run in ("one", name))
    assert one.keys() == two.keys()
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    alone, together = lines(runs / "one"), lines(runs / name)
    assert len(alone) == len(together) == 9
    for first, second in zip(alone, together, strict=True):
        assert first == pytest.approx(second, abs=1e-5, rel=1e-4)
