"""`vjepa2 finetune` from the command line, killed and stopped too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tiny_finetuning import tiny_finetuning, write_encoder, write_labelled
from vjepa2.cli.main import app
from vjepa2.files import write_json
from vjepa2.tasks.finetuner import FineTuner


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("finetuning")
    train = write_labelled(folder / "train", count=2, seed=0)
    val = write_labelled(folder / "val", count=1, seed=1)
    return train, val, write_encoder(folder / "encoder")


SMALL = [
    "views.num_frames=4", "views.crop_size=32", "batch.batch_size=3", "schedule.epochs=2",
    "data.workers=0", "runtime.device=cpu",
]  # fmt: skip


def test_start_stop_go_on_and_json(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, val, start = places
    settings = [part for setting in SMALL for part in ("--set", setting)]
    run = tmp_path / "run"
    first = call(
        *("finetune", "--train", train, "--val", val, "--start-from", start, "--out", run),
        *("--recipe", "tiny_cpu", *settings, "--stop-at", 2),
    )
    assert first.exit_code == 0, first.stderr
    assert f"vjepa2 finetune --out {run}" in first.stdout
    for word in ("Train", "Start", "Updates", "Memory", "6 videos of 3 classes"):
        assert word in first.stderr
    second = call("finetune", "--out", run, "--json", "--quiet")
    assert (second.exit_code, second.stderr) == (0, "")
    values = json.loads(second.stdout.splitlines()[-1])
    assert (values["reason"], values["step"], values["resumed_from"]) == ("finished", 4, 2)
    assert [line["epoch"] for line in values["history"]] == [1, 2]
    assert Path(values["model"], "labels.json").exists()


def test_recipes_are_listed_and_complete_but_for_data() -> None:
    from vjepa2.recipes.finetune import recipes

    result = call("finetune", "--recipes", "--json")
    listed = json.loads(result.stdout.splitlines()[-1])["recipes"]
    assert set(listed) == {"full", "last_blocks", "lora", "tiny_cpu"}
    for name, recipe in recipes().items():
        assert recipe().recipe == name and listed[name]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "run"], "Give labelled videos"),
        (["--out", "run", "--train", "no.csv"], "no model to start from"),
        (["--out", "run", "--train", "no.csv", "--start-from", "motion-tiny"], "no.csv"),
        (["--out", "run", "--recipe", "tiny"], "Did you mean 'tiny_cpu'"),
        (["--out", "run", "--recipe", "lora", "--set", "metod=full"], "Did you mean 'method'"),
        (["--train", "no.csv"], "--out"),
    ],
)
def test_wrong_usage_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("finetune", *arguments)
    assert result.exit_code in (1, 2)
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_stops(
    places: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    whole_update = FineTuner.run_step

    def interrupted(self: FineTuner, step: int) -> dict[str, float]:
        if step == 0:
            os.kill(os.getpid(), number)
        return whole_update(self, step)

    monkeypatch.setattr(FineTuner, "run_step", interrupted)
    run = tmp_path / "run"
    write_json(run / "config.json", tiny_finetuning(*places).model_dump(mode="json"))
    result = call("finetune", "--out", run, "--json", "--quiet")
    values = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, values["reason"], values["step"]) == (0, "signal", 1)
    assert (run / "checkpoints" / "step-0000001").is_dir()


def test_a_kill_loses_no_more_than_since_the_last_checkpoint(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = tiny_finetuning(*places, schedule={"epochs": 50_000})
    write_json(run / "config.json", config.model_dump(mode="json"))
    program = str(Path(sys.executable).with_name("vjepa2"))
    process = subprocess.Popen(
        [program, "finetune", "--out", str(run), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = run / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"step": 5' in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    seen = max(json.loads(line)["step"] for line in log.read_text().splitlines()[:-1])
    again = call("finetune", "--out", run, "--stop-at", seen + 10, "--json", "--quiet")
    values = json.loads(again.stdout.splitlines()[-1])
    assert values["ok"] and values["resumed_from"] >= seen - 2
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "step"] == list(range(seen + 10))
