"""The command line: exit codes, what goes to stdout and stderr, help that works."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from vjepa2 import __version__
from vjepa2.cli.main import app, run
from vjepa2.errors import VJEPAError
from vjepa2.features.store import read_header, read_rows

VERBS = ("demo", "embed", "classify", "inspect", "convert", "compare", "info")
COMMAND = [sys.executable, "-c", "from vjepa2.cli.main import run; run()"]


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def answer(result: Result) -> dict[str, Any]:
    """The JSON object on the last line of stdout."""
    values = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(values, dict)
    return values


# -- help and usage -------------------------------------------------------------------------------


def test_version() -> None:
    result = call("--version")
    assert result.exit_code == 0 and result.stdout == f"vjepa2 {__version__}\n"


def test_help_lists_the_verbs() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for verb in (*VERBS, "pretrain", "report"):
        assert re.search(rf"^  {verb} ", result.stdout, re.MULTILINE)
    summaries = result.stdout.partition("Commands:")[2]
    assert "..." not in summaries  # none is cut off


def examples(verb: str) -> list[list[str]]:
    lines = call(verb, "--help").stdout.splitlines()
    return [line.split()[1:] for line in lines if line.startswith("    vjepa2 ")]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_in_help_work(
    verb: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "clip.mp4")
    shutil.copy(clip, "other.mp4")
    found = examples(verb)
    assert len(found) >= 2
    for arguments in found:
        assert arguments[0] == verb
        result = call(*arguments)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["embed", "clip.mp4"], "--out"),
        (["embed", "clip.mp4", "--outt", "x"], "--out"),
        (["embedx"], "embed"),
        (["classify"], "files"),
        (["classify", "clip.mp4", "--top", "many"], "--top"),
        (["info", "too", "many"], "too"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments: list[str], words: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["embed", "clip.mp4", "--out", "x", "--bogus", "--json"], "--bogus"),
        (["embed", "clip.mp4", "--json"], "--out"),
        (["embed", "--json"], "files"),
        (["classify", "clip.mp4", "--top", "many", "--json"], "--top"),
        (["embedx", "--json"], "embedx"),
        (["--json"], "--json"),
        (["info", "--json", "too"], "too"),
    ],
)
def test_wrong_usage_is_a_json_object_too(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["vjepa2", *arguments])
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == 2
    said = capsys.readouterr()
    [line] = said.out.splitlines()
    values = json.loads(line)
    assert values["ok"] is False and values["error"] and words in values["reason"]
    assert values["reason"] in said.err and "Usage: " in said.err


def test_the_entry_point_keeps_the_codes_of_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for arguments, code in (
        (["info", "--json"], 0),
        (["classify", "--help", "--json"], 0),
        (["classify", str(tmp_path / "missing.mp4"), "--json"], 1),
        (["classify", "a.mp4", "--num-clips", "0", "--json"], 2),
    ):
        monkeypatch.setattr("sys.argv", ["vjepa2", *arguments])
        with pytest.raises(SystemExit) as left:
            run()
        assert left.value.code == code, arguments
        if "--help" not in arguments:
            assert json.loads(capsys.readouterr().out)["ok"] is (code == 0)
        else:
            capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pool", "maen"], "Did you mean 'mean'"),
        (["--sampling", "unifrm"], "Did you mean 'uniform'"),
        (["--format", "numpy"], "Did you mean 'npy'"),
        (["--device", "nowhere"], "cannot be used here"),
        (["--num-clips", "0"], "num_clips must be 1 or more"),
    ],
)
def test_wrong_values_exit_with_2(
    options: list[str], words: str, clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    result = call("embed", clip, "--model", model_folder, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2 and words in result.stderr
    assert "Traceback" not in result.output


# -- verbs ----------------------------------------------------------------------------------------


def test_embed_prints_where_the_features_are(
    videos: list[Path], model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all.safetensors"
    result = call("embed", *videos, "--model", model_folder, "--out", out)
    assert result.exit_code == 0
    assert "3 of 3 videos embedded" in result.stdout and str(out) in result.stdout
    assert "Embed: 3/3" in result.stderr
    assert len(read_rows(out)[0]) == 3


def test_embed_as_json(videos: list[Path], model_folder: Path, tmp_path: Path) -> None:
    options = ["--num-frames", 4, "--sampling", "stride=2", "--num-clips", 2, "--pool", "tokens"]
    out = tmp_path / "folder"
    result = call(
        "embed", *videos, "--model", model_folder, "--out", out, "--json", "--quiet", *options
    )
    assert result.exit_code == 0 and result.stderr == ""
    assert len(result.stdout.splitlines()) == 1
    values = answer(result)
    assert values["ok"] is True
    assert values["out"] == str(out) and values["embedded"] == [str(path) for path in videos]
    assert values["reused"] == values["failed"] == [] and values["num_rows"] == 6
    assert values["settings"]["sampling"]["stride"] == 2
    assert values["settings"]["pool"] == "tokens" and values["seconds"] > 0


def test_embed_goes_on_after_a_bad_file_and_exits_with_1(
    videos: list[Path], bad_video: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all.npy"
    files = [videos[0], bad_video, videos[1]]
    result = call("embed", *files, "--model", model_folder, "--out", out, "--json")
    assert result.exit_code == 1
    assert str(bad_video) in result.stderr and "Traceback" not in result.output
    values = answer(result)
    assert values["ok"] is False and len(values["embedded"]) == 2
    assert [failure["source"] for failure in values["failed"]] == [str(bad_video)]
    header = read_header(out)
    assert header is not None and len(header.rows) == 2


def test_classify_prints_labels(clip: Path, bad_video: Path, model_folder: Path) -> None:
    result = call("classify", clip, "--model", model_folder, "--top", 2)
    assert result.exit_code == 0
    first, *labels = result.stdout.splitlines()
    assert first == str(clip) and len(labels) == 2
    assert re.fullmatch(r" *\d+\.\d%  \w+", labels[0])
    result = call("classify", bad_video, clip, "--model", model_folder, "--json")
    assert result.exit_code == 1 and str(bad_video) in result.stderr
    values = answer(result)
    assert values["ok"] is False
    [found] = values["results"]
    assert found["source"] == str(clip) and len(found["labels"]) == 5
    assert set(found["labels"][0]) == {"label", "index", "probability"}


def test_classify_refuses_a_model_without_a_head(clip: Path, base_folder: Path) -> None:
    result = call("classify", clip, "--model", base_folder, "--json")
    assert result.exit_code == 2 and "no trained head" in result.stderr
    assert answer(result) == {
        "ok": False,
        "error": "ConfigError",
        "reason": answer(result)["reason"],
    }


def test_demo_writes_a_report_and_prints_where_it_is(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a demo"
    result = call("demo", "--model", model_folder, "--out", out)
    assert result.exit_code == 0
    for words in ("16 tokens of 24 numbers", "Labels", "Encoder", str(out / "report.html")):
        assert words in result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "clip.mp4",
        "features.safetensors",
        "report.html",
    ]
    result = call("demo", out / "clip.mp4", "--model", model_folder, "--out", out, "--json")
    values = answer(result)
    assert values["ok"] is True and values["report"] == str(out / "report.html")
    assert values["painted"] is None and values["tokens_shape"] == [16, 24]


def test_info_as_text_and_json() -> None:
    result = call("info")
    assert result.exit_code == 0 and f"vjepa2 {__version__}" in result.stdout
    values = answer(call("info", "--json"))
    assert values["ok"] is True
    for name in ("versions", "devices", "threads", "decoders", "models", "cores", "cpu"):
        assert values[name], name


# -- failures -------------------------------------------------------------------------------------


def test_a_missing_model_is_one_message(clip: Path, tmp_path: Path) -> None:
    for verb in ("embed", "classify", "demo"):
        arguments = [verb, clip, "--model", "./no/such/model", "--json"]
        if verb == "embed":
            arguments += ["--out", tmp_path / "a.npy"]
        result = call(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("vjepa2: There is no folder")
        assert answer(result)["error"] == "CheckpointNotFoundError"


def test_places_that_cannot_be_written(clip: Path, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for verb in ("embed", "demo"):
        result = call(verb, clip, "--model", model_folder, "--out", tmp_path / "file" / "out")
        assert result.exit_code == 1 and "Cannot write" in result.stderr
        assert "Traceback" not in result.output


def test_file_names_that_are_no_text(clip: Path, model_folder: Path, tmp_path: Path) -> None:
    good = tmp_path / os.fsdecode(b"stra\xdfe \xff.mp4")
    bad = tmp_path / os.fsdecode(b"bad \xff.mp4")
    shutil.copy(clip, good)
    bad.write_bytes(b"no video")
    done = subprocess.run(
        [*COMMAND, "classify", good, bad, "--model", model_folder], capture_output=True, timeout=120
    )
    assert done.returncode == 1
    assert b"stra\\udcdfe" in done.stdout and b"bad \\udcff" in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_exits_with_130_and_says_what_is_kept(
    videos: list[Path], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vjepa2.features.embed.Embedder.row", stopped)
    out = tmp_path / "a.npy"
    result = call("embed", *videos, "--model", model_folder, "--out", out, "--json")
    assert result.exit_code == 130
    assert "0 of 3 videos are done" in result.stderr
    assert answer(result)["error"] == "EmbedInterrupted"
    monkeypatch.setattr("vjepa2.features.classify.Classifier.scores", stopped)
    result = call("classify", *videos, "--model", model_folder)
    assert result.exit_code == 130 and result.stderr == "vjepa2: stopped.\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_process_leaves_whole_files_only(
    how: signal.Signals, clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    files = []
    for number in range(400):
        files.append(tmp_path / f"video{number}.mp4")
        files[-1].symlink_to(clip)
    out = tmp_path / "out"
    command = [*COMMAND, "embed", *files, "--model", model_folder, "--out", out, "--quiet"]
    # A shell starts background jobs with SIGINT ignored, and children inherit that, not a handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 100
    while len(list(out.glob("video*.safetensors"))) < 3 and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    done = list(out.glob("video*.safetensors"))
    assert 3 <= len(done) < 400
    for path in done:
        header = read_header(path)
        assert header is not None and header.rows[0]["source"] in map(str, files)
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        told = re.search(rf"(\d+) of 400 videos are done and kept in {re.escape(str(out))}", errors)
        assert told and "Traceback" not in errors
        # A file may be in place while its video is not counted yet.
        assert int(told[1]) in (len(done) - 1, len(done))
        listed = json.loads((out / "manifest.json").read_text())["videos"]
        assert len(listed) in (len(done) - 1, len(done))
        assert [path for path in out.iterdir() if path.name.startswith(".")] == []


def test_unforeseen_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug must show its traceback; only errors that are meant for users become messages."""

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("vjepa2.features.environment.describe_environment", broken)
    result = CliRunner().invoke(app, ["info"])
    assert isinstance(result.exception, ZeroDivisionError)
    assert not issubclass(ZeroDivisionError, VJEPAError)
