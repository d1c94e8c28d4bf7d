"""`vjepa2 report` from the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vjepa2.cli.main import app


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of three updates."""
    folder = tmp_path / "RUN"
    folder.mkdir()
    rows = [
        {"kind": "health", "step": 0, "teacher_token_rank": 20.0, "skill": -0.1},
        *({"kind": "step", "step": step, "loss": 0.8} for step in range(3)),
        {"kind": "health", "step": 3, "teacher_token_rank": 19.0, "skill": 0.25},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text('{"recipe": "tiny"}')
    return folder


def test_the_page_is_written_and_the_state_is_said(run: Path) -> None:
    result = call("report", run)
    assert result.exit_code == 0
    assert "healthy" in result.stdout and "skill 0.25" in result.stdout
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_json_has_the_summary(run: Path, tmp_path: Path) -> None:
    result = call("report", run, "--out", tmp_path / "page.html", "--json")
    values = json.loads(result.stdout.splitlines()[-1])
    assert values["ok"] and values["state"] == "healthy" and values["steps_done"] == 3
    assert values["best_step"] == 3 and values["report"] == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").exists() and not (run / "report.html").exists()


def test_a_folder_that_is_no_run_fails_with_the_reason(tmp_path: Path) -> None:
    result = call("report", tmp_path)
    assert result.exit_code == 1 and "is no folder of a run" in result.stderr
    assert call("report", tmp_path / "none").exit_code == 1


def test_examples_in_help_work(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    lines = call("report", "--help").stdout.splitlines()
    found = [each.split()[1:] for each in lines if each.startswith("    vjepa2 ")]
    assert len(found) >= 2
    for arguments in found:
        assert call(*arguments).exit_code == 0
