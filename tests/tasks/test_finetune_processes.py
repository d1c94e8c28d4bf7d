"""Fine-tuning on two processes does what one does: updates, measurements, unreadable files.

Without mixing, dropout and stochastic depth, whose chance belongs to a process's own videos.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny_finetuning import tiny_finetuning, write_encoder, write_labelled
from vjepa2.tasks.finetune import finetune

pytestmark = pytest.mark.timeout(300)  # seconds on a machine of its own

JOBS = Path(__file__).parent / "finetuning_jobs.py"
LORA: dict[str, Any] = {"method": "lora", "adapters": {"rank": 2, "alpha": 4.0}}
KINDS: dict[str, dict[str, Any]] = {"full": {}, "bad": {}, "lora": LORA}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs that the tests below compare, made with one start of two processes.

    Of the "bad" runs a training and two validation files cannot be read, so that one process has
    fewer micro-batches than the other.
    """
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("processes")
    train = write_labelled(folder / "train", count=4, seed=0)
    val = write_labelled(folder / "val", count=3, seed=1)  # 9: the last batch is one video
    encoder = write_encoder(folder / "encoder")
    for name, places in {"train": (2,), "val": (1, 8)}.items():
        shutil.copytree(folder / name, folder / f"bad_{name}")
        lines = (folder / name / "list.csv").read_text().splitlines()[1:]
        for place in places:
            broken = folder / f"bad_{name}" / lines[place].partition(",")[0]
            broken.write_text(f"no array {name} {place}")

    def config(kind: str) -> Any:
        lists = (train, val)
        if kind == "bad":
            lists = (folder / "bad_train" / "list.csv", folder / "bad_val" / "list.csv")
        return tiny_finetuning(
            *lists,
            encoder,
            **KINDS[kind],
            data={"max_bad_share": 0.5},
            batch={"batch_size": 4, "micro_batch": 1},
            # A key's bias has no gradient but rounding, which AdamW would bring up to full size.
            optim={"clip_norm": 1.0, "eps": 1e-5},
            schedule={"epochs": 2},
            runtime={"checkpoint_every": 100},
        )

    jobs = []
    for kind in KINDS:
        finetune(config(kind), folder / f"{kind}_one", quiet=True)
        values = config(kind).model_dump(mode="json")
        jobs.append({"config": values, "out": str(folder / f"{kind}_two")})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(JOBS), str(folder / "jobs.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def lines_of(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "stall_seconds", "measure_seconds")
    return [
        {name: value for name, value in line.items() if name not in timed}
        for line in lines
        if line["kind"] == kind
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(runs: Path, kind: str) -> None:
    one, two = runs / f"{kind}_one", runs / f"{kind}_two"
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    assert first.keys() == second.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 2e-6
    for line_kind, count in (("step", 6), ("validation", 2)):
        lines = [lines_of(run, line_kind) for run in (one, two)]
        assert len(lines[0]) == len(lines[1]) == count
        for alone, together in zip(*lines, strict=True):
            assert alone == pytest.approx(together, abs=1e-5)


def test_what_is_written_is_that_of_one_process(runs: Path) -> None:
    one, two = runs / "bad_one", runs / "bad_two"
    assert {line["videos"] for line in lines_of(one, "validation")} == {7.0}
    for name in ("data.json", "model/training.json"):
        values = [json.loads((run / name).read_text()) for run in (one, two)]
        for value in values:
            value.get("details", {}).pop("settings", None)
            value.get("details", {}).pop("validation", None)  # compared above
        assert values[0] == values[1]
    bad = [
        {json.loads(line)["path"] for line in (run / "bad_files.jsonl").read_text().splitlines()}
        for run in (one, two)
    ]
    assert bad[0] == bad[1] and len(bad[0]) == 3
