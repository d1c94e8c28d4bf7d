"""`vjepa2 pretrain` from the command line, on array clips."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tiny_pretraining import tiny_run, write_clips
from vjepa2.cli.main import app
from vjepa2.files import write_json

SMALL = [
    "clip.batch_size=2", "clip.num_frames=4", "clip.crop_size=32", "network.hidden_size=32",
    "network.num_layers=1", "network.num_heads=2", "network.pred_hidden_size=24",
    "network.pred_num_layers=1", "network.pred_num_heads=2", "schedule.num_steps=4",
    "health.num_clips=2", "data.workers=0", "runtime.device=cpu",
]  # fmt: skip


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), count=4)


def test_start_stop_go_on_and_embed(clips: Path, tmp_path: Path) -> None:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    run = tmp_path / "run"
    new = ("pretrain", "--data", clips, "--recipe", "tiny_cpu", "--out", run, *settings)
    first = call(*new, "--stop-at", 2)
    assert first.exit_code == 0
    assert f"vjepa2 pretrain --out {run}" in first.stdout
    # What it will cost is said before it starts.
    for word in ("Parameters", "Tokens", "Operations", "Memory", "Time"):
        assert word in first.stderr
    second = call("pretrain", "--out", run, "--json", "--quiet")
    assert second.exit_code == 0
    assert second.stderr == ""
    values = json.loads(second.stdout.splitlines()[-1])
    assert (values["reason"], values["step"], values["resumed_from"]) == ("finished", 4, 2)
    assert Path(values["model"], "model.safetensors").exists()
    assert call("report", run).exit_code == 0


def test_recipes_are_listed() -> None:
    lines = call("pretrain", "--recipes").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    starts = {
        line.index(line.split()[1], len(name)) for line, name in zip(lines, names, strict=True)
    }
    assert starts == {max(map(len, names)) + 1}  # one column
    result = call("pretrain", "--recipes", "--json")
    assert "tiny_cpu" in json.loads(result.stdout.splitlines()[-1])["recipes"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--recipe", "tiny_cpu"], "--out RUN"),
        (["--export", "best"], "--out RUN"),
        (
            ["--out", "run", "--recipe", "vitl_pretrain", "--set", "images.data.sources=[]"],
            "V-JEPA 2.1",
        ),
        (["--out", "run"], "Name a recipe"),
        (["--out", "run", "--recipe", "tiny"], "Did you mean 'tiny_cpu'"),
        (["--out", "run", "--recipe", "tiny_cpu"], "nothing to learn from"),
        (["--out", "run", "--recipe", "tiny_cpu", "--data", "nowhere"], "nowhere"),
        (["--out", "run", "--recipe", "tiny_cpu", "--set", "schedule.steps=2"], "num_steps"),
        (["--out", "run", "--recipe", "tiny_cpu", "--set", "schedule.num_steps=a"], "num_steps"),
    ],
)
def test_wrong_usage_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("pretrain", *arguments)
    assert result.exit_code in (1, 2)
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_stops(clips: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    config = tiny_run(clips, schedule={"num_steps": 100_000}, runtime={"checkpoint_every": 50_000})
    write_json(run / "config.json", config.model_dump(mode="json"))
    program = str(Path(sys.executable).with_name("vjepa2"))
    process = subprocess.Popen(
        [program, "pretrain", "--out", str(run), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = run / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"step": 3' in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    values = json.loads(output.splitlines()[-1])
    assert values["reason"] == "signal" and values["step"] >= 4
    assert (run / "checkpoints" / f"step-{values['step']:07d}").is_dir()
