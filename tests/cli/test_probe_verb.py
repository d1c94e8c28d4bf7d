"""`vjepa2 probe` from the command line, and killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from tiny_finetuning import write_encoder, write_labelled
from tiny_probing import tiny_probing
from vjepa2.cli.main import app
from vjepa2.files import write_json


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("probing")
    train = write_labelled(folder / "train", count=2, seed=0)
    val = write_labelled(folder / "val", count=1, seed=1)
    return train, val, write_encoder(folder / "encoder")


def test_start_stop_go_on_and_json(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, val, model = places
    run = tmp_path / "run"
    settings = ["schedule.epochs=2", "batch_size=3", "data.workers=0", "device=cpu"]
    first = call(
        *("probe", "--train", train, "--val", val, "--model", model, "--out", run),
        *(part for setting in settings for part in ("--set", setting)),
        *("--stop-at", 2),
    )
    assert first.exit_code == 0, first.stderr
    assert f"vjepa2 probe --out {run}" in first.stdout
    for words in ("6 train, 3 val; 3 classes", "20 of depth 1", "4 frames of 32 px"):
        assert words in first.stderr
    second = call("probe", "--out", run, "--json", "--quiet")
    assert (second.exit_code, second.stderr) == (0, "")
    values = json.loads(second.stdout.splitlines()[-1])
    assert (values["reason"], values["step"], values["resumed_from"]) == ("finished", 4, 2)
    assert len(values["results"]["heads"]) == 20
    assert Path(values["model"], "training.json").exists()


def test_recipes_are_listed_and_mistakes_named(tmp_path: Path) -> None:
    listed = call("probe", "--recipes")
    assert listed.exit_code == 0 and "ssv2_384" in listed.stdout
    for arguments, words in (
        (["--out", tmp_path / "none"], "no run in"),
        (["--out", tmp_path, "--train", "t", "--recipe", "sv2"], "Did you mean 'ssv2'"),
        (["--out", tmp_path, "--train", "t", "--set", "heads.dept=2"], "depth"),
        (["--out", tmp_path, "--train", "t"], "There is no encoder"),
    ):
        failed = call("probe", *arguments)
        assert failed.exit_code == 2 and words in failed.stderr


def test_killed_while_it_encodes_and_while_it_trains(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Two real `kill -9`; ten are in `benchmarks/probe_kills.py`."""
    config = tiny_probing(*places, schedule={"epochs": 40}, heads={"lrs": (1e-3,)})
    for name in ("whole", "killed"):
        write_json(tmp_path / name / "config.json", config.model_dump(mode="json"))
    assert call("probe", "--out", tmp_path / "whole", "--quiet").exit_code == 0
    run = tmp_path / "killed"
    program = str(Path(sys.executable).with_name("vjepa2"))
    for sign in ("features/train/index.json", "checkpoints/step-*"):
        process = subprocess.Popen(
            [program, "probe", "--out", str(run), "--quiet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while not list(run.glob(sign)) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (run / "model").exists()
    assert call("probe", "--out", run, "--quiet").exit_code == 0
    first, second = (
        load_file(tmp_path / n / "model/model.safetensors") for n in ("whole", "killed")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    results = [(tmp_path / name / "results.json").read_text() for name in ("whole", "killed")]
    assert results[0] == results[1]
