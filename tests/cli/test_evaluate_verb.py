"""`vjepa2 evaluate` from the command line, from a probe's training to the page."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evaluated_videos import NAMES, Videos, make_videos
from vjepa2.cli.main import app

VIEWS = ("--segments", 2, "--views", 3)
QUICK = ("--set", "workers=0", "--set", "draws=100", "--quiet")


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    """Lists `few`, `chosen` (one video a class) and `others` with some of the videos."""
    videos = make_videos(tmp_path_factory.mktemp("videos"))
    videos.write("few", videos.rows("train")[:6])
    videos.write("chosen", videos.rows("train")[6:])
    videos.write("others", [row for row in videos.rows() if row[1] in NAMES[:4]][:8])
    return videos


def test_from_a_probe_to_the_page(videos: Videos, tmp_path: Path) -> None:
    lists = [videos.folder / f"{name}.csv" for name in ("few", "others", "chosen")]
    trained = call(
        "probe", "--train", lists[0], "--val", lists[2], "--model", "motion-tiny",
        "--out", tmp_path / "run", "--set", "schedule.epochs=1", "--set", "data.workers=0",
        "--set", "views.num_frames=8", "--quiet",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.stderr
    arguments = [tmp_path / "run" / "model", lists[1], "--out", tmp_path / "out", *QUICK]
    result = call("evaluate", *arguments, "--train", lists[0], "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout.splitlines()[-1])
    assert values["ok"] and values["sound"] and values["num_items"] == 8
    assert set(values["controls"]) == {"as_it_is", "shuffled", "reversed", "first_frame"}
    assert values["measures"]["baselines"]["from_training"]
    assert Path(values["report"]).read_text().startswith("<!doctype html>")
    refused = call("evaluate", tmp_path / "run" / "model", lists[0], "--out", tmp_path / "two")
    assert refused.exit_code == 1 and "All 6 evaluated items" in refused.stderr
    assert "--allow evaluated_on_training_set" in refused.stderr


def test_any_head_of_a_probe_run_is_evaluated(videos: Videos, tmp_path: Path) -> None:
    few, chosen = (videos.folder / f"{name}.csv" for name in ("few", "chosen"))
    trained = call(
        "probe", "--train", few, "--val", chosen, "--model", "motion-tiny",
        "--out", tmp_path / "run", "--set", "schedule.epochs=1", "--set", "data.workers=0",
        "--set", "heads.lrs=[0.002,0.00001]", "--set", "heads.weight_decays=[0.1]",
        "--set", "heads.depth=1", "--set", "views.num_frames=8", "--quiet",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    common = (chosen, *QUICK, "--set", "controls=[]", "--set", "dtype=float32")

    def answered(out: str, *arguments: object) -> list[str]:
        result = call("evaluate", tmp_path / "run", *common, "--out", tmp_path / out, *arguments)
        assert (tmp_path / out / "evaluation.json").exists(), result.stderr
        return (tmp_path / out / "answers.jsonl").read_text().splitlines()

    best = results["best"]["head"]
    heads = [answered(str(number), "--probe-head", number) for number in (0, 1)]
    assert heads[best] == answered("best") and heads[0] != heads[1]
    for number, one in enumerate(results["heads"]):
        stored = json.loads((tmp_path / str(number) / "evaluation.json").read_text())
        assert stored["measures"]["top1"]["value"] == pytest.approx(one["top1"])
        assert stored["model"].endswith(f"run, head {number}")
    unknown = call("evaluate", tmp_path / "run", chosen, "--out", tmp_path / "x", "--probe-head", 7)
    assert unknown.exit_code == 2 and "has no head 7. It has 0: lr 0.002" in unknown.stderr
    single = call("evaluate", videos.model, chosen, "--out", tmp_path / "y", "--probe-head", 0)
    assert single.exit_code == 2 and "one head only" in single.stderr


def test_an_allowed_error_is_in_the_report(videos: Videos, tmp_path: Path) -> None:
    allowed = ("--allow", "evaluated_on_training_set", "--set", "controls=[]")
    arguments = [videos.model, videos.folder / "few.csv", "--out", tmp_path / "out", *QUICK]
    result = call("evaluate", *arguments, *allowed, *VIEWS)
    assert result.exit_code == 0, result.stderr
    assert "error: evaluated_on_training_set" in result.stdout and "top-1" in result.stdout
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert stored["config"]["views"]["num_segments"] == 2
    assert stored["config"]["views"]["num_views"] == 3
    assert "Do not quote this number" in (tmp_path / "out" / "report.html").read_text()


def test_labels_that_fit_better_renumbered_fail(videos: Videos, tmp_path: Path) -> None:
    """Only the answers show it, so the numbers are written, and the command fails."""
    rows = [[path, str((NAMES.index(label) + 1) % 6)] for path, label in videos.rows()[:18]]
    data = videos.write("shifted", rows)
    result = call(
        "evaluate", videos.model, data, "--out", tmp_path / "out", *QUICK,
        "--set", "controls=[]", "--json",
    )  # fmt: skip
    values = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 1 and not values["ok"] and not values["sound"]
    assert "labels_shifted" in [finding["kind"] for finding in values["findings"]]
    assert Path(values["report"]).exists()


def test_the_list_is_given_once(videos: Videos, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    result = call("evaluate", videos.model, videos.val, "--data", videos.val, *out)
    assert result.exit_code == 2 and "Two lists" in result.stderr
    result = call("evaluate", videos.model, *out)
    assert result.exit_code == 2 and "Evaluate on what?" in result.stderr
    result = call("evaluate", videos.model, "--data", tmp_path / "none.csv", *out)
    assert result.exit_code == 1 and "none.csv" in result.stderr


def test_wrong_usage_is_told(videos: Videos, tmp_path: Path) -> None:
    result = call("evaluate", videos.model, tmp_path / "none.csv", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "none.csv" in result.stderr
    result = call(
        "evaluate", videos.model, videos.val, "--out", tmp_path / "out", "--allow", "traind_on"
    )
    assert result.exit_code == 2 and "Did you mean 'trained_on'" in result.stderr
