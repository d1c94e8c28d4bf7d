"""The report of fine-tuning, probe and anticipation runs: their curves, and words that fit them."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from vjepa2.features.run_report import run_summary, write_run_report
from vjepa2.features.run_report_data import read_run
from vjepa2.features.run_report_labelled import task_of

HOSTILE = "<script>alert(1)</script>"


def write_run(
    folder: Path,
    config: dict[str, Any],
    validation: list[dict[str, Any]],
    *,
    results: Any = None,
    loss: tuple[float, ...] = (2.0, 1.5, 1.0, 0.8, 0.6, 0.5),
) -> Path:
    folder.mkdir()
    rows = [{"kind": "step", "step": n, "loss": one, "lr": 1e-3} for n, one in enumerate(loss)]
    rows += [{"kind": "validation", **row} for row in validation]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps(config))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def page_of(run: Path) -> str:
    """Words of a page, without what lies in its head."""
    text = write_run_report(run).read_text()
    assert "<script" not in text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text.partition("<body>")[2])).split())


FINE_TUNING = {"recipe": "custom", "method": "full", "views": {}}
PROBE = {"heads": {}, "views": {}}
ANTICIPATION = {"clips": {}, "future": {}, "probe": {}}


def epochs(*numbers: dict[str, float]) -> list[dict[str, Any]]:
    return [{"step": 2 * n, "epoch": n, **one} for n, one in enumerate(numbers, start=1)]


def test_a_fine_tuning_run_that_learns_by_heart_is_told(tmp_path: Path) -> None:
    measured = epochs(
        {"loss": 0.9, "top1": 0.5, "mean_class": 0.5, "videos": 20.0},
        {"loss": 0.7, "top1": 0.65, "mean_class": 0.6, "videos": 20.0},
        {"loss": 1.4, "top1": 0.6, "mean_class": 0.6, "videos": 20.0},
    )
    run = write_run(tmp_path / "run", FINE_TUNING, measured)
    text = page_of(run)
    assert "Fine-tuning run run" in text and "Overfitting" in text
    assert "top-1 60.0 % after epoch 3; best so far 65.0 % after epoch 2" in text
    assert "least after epoch 2 and has risen since" in text
    assert "The loss of training went from 2 to 0.5" in text
    assert "health" not in text and "vjepa2 classify YOUR_VIDEO.mp4 --model run/model" in text
    summary = run_summary(read_run(run))
    assert summary["task"] == "fine-tuning" and summary["state"] == "overfitting"
    assert summary["steps_done"] == 6 and summary["best"]["top1"] == 0.65
    assert summary["damaged_lines"] == 0


def test_a_probe_run_shows_all_heads(tmp_path: Path) -> None:
    heads = [{"head": n, "lr": 10.0**-n, "weight_decay": 0.1} for n in range(3)]
    measured = [
        {"step": 2 * n, "epoch": n, "heads": [{"top1": t / 10, "loss": 1.0} for t in tops]}
        for n, tops in enumerate([(3, 4, 5), (4, 6, 5), (4, 8, 5)], start=1)
    ]
    last = [own | numbers for own, numbers in zip(heads, measured[-1]["heads"], strict=True)]
    results = {
        "heads": last,
        "best": last[1],
        "baselines": {"val": {"majority": 0.25}},
        "test": {"top1": 0.7},
    }
    run = write_run(tmp_path / "run", PROBE, measured, results=results)
    text = page_of(run)
    assert "Probe run run" in text and "top-1 80.0 % after epoch 3" in text
    assert "The model is head 1" in text and "Top-1 70.0 %" in text
    assert "0.01 0.1 50.0 %" in text  # learning rate, weight decay and accuracy of head 2
    assert run_summary(read_run(run))["state"] == "learning"
    # The same beside a commonest class that is as good.
    results["baselines"] = {"val": {"majority": 0.8}}
    (run / "results.json").write_text(json.dumps(results))
    summary = run_summary(read_run(run))
    assert summary["state"] == "not learned" and "commonest class (80.0 %)" in summary["advice"]


def test_losses_of_two_heads_are_not_compared(tmp_path: Path) -> None:
    """One head is best first, another in the end; the loss of either falls all the time."""
    shown = [((5, 0.6), (4, 0.9)), ((5, 0.55), (6, 0.8)), ((5, 0.5), (8, 0.7))]
    measured = [
        {"step": n, "epoch": n, "heads": [{"top1": top / 10, "loss": loss} for top, loss in heads]}
        for n, heads in enumerate(shown, start=1)
    ]
    run = write_run(tmp_path / "run", PROBE, measured)
    summary = run_summary(read_run(run))
    assert summary["state"] == "learning"
    assert [summary["best"][name] for name in ("top1", "loss")] == [0.8, 0.7]


def anticipated(name: str, accuracy: float, recall: float) -> dict[str, Any]:
    return {
        "seconds": 1.0, "head": "action", "name": name, "accuracy": accuracy, "recall": recall,
        "accuracy_interval": [None, None], "recall_interval": [0.1, 0.9], "k": 5, "count": 30,
    }  # fmt: skip


def test_a_run_that_was_measured_at_its_end_only_is_judged_by_that(tmp_path: Path) -> None:
    rows = [
        {**anticipated(name, accuracy, 0.4), "seconds": seconds}
        for seconds in (1.0, 2.0)
        for name, accuracy in (("encoder only", 0.2), ("both", 0.3), ("label prior", 0.1))
    ]
    run = write_run(tmp_path / "run", ANTICIPATION, [], results={"rows": rows})
    summary = run_summary(read_run(run))
    assert summary["state"] == "learned"
    assert summary["reason"].startswith(
        "action, 2 s ahead: 30.0 % of 30 events right, the label prior 10.0 %."
    )
    assert "Nothing was measured" not in page_of(run)
    rows[-1]["accuracy"] = 0.35
    run = write_run(tmp_path / "other", ANTICIPATION, [], results={"rows": rows})
    assert run_summary(read_run(run))["state"] == "not learned"


def test_an_anticipation_run_has_its_table(tmp_path: Path) -> None:
    numbers = [
        {"verb_top1": 0.6, "verb_recall_at_1": 0.5, "action_top1": 0.2, "action_recall_at_5": r}
        for r in (0.3, 0.45, 0.45)
    ]
    rows = [anticipated("encoder only", 0.2, 0.4), anticipated("label prior", 0.1, 0.2)]
    finding = {"severity": "error", "kind": "context_after_event", "reason": "Saw it."}
    run = write_run(
        tmp_path / "run",
        ANTICIPATION,
        epochs(*numbers),
        results={"rows": rows, "findings": [finding]},
    )
    text = page_of(run)
    assert "Anticipation run run" in text and "action, 1 s ahead (30 events)" in text
    assert "action recall@5 45.0 % after epoch 3" in text and "encoder only" in text
    assert "error: Saw it." in text and "vjepa2 anticipate YOUR_VIDEO.mp4" in text
    assert run_summary(read_run(run))["state"] == "learned"
    (run / "results.json").write_text(json.dumps({"rows": [anticipated("label prior", 0.1, 0.5)]}))
    assert "the label prior (50.0 %)" in run_summary(read_run(run))["advice"]


@pytest.mark.parametrize("results", [3, [], {"rows": 3, "heads": "x", "findings": [1]},
                                     {"rows": [{"head": 1}], "heads": [{}, 3], "best": 7,
                                      "baselines": {"val": 1}, "test": 2}])  # fmt: skip
def test_damaged_and_hostile_values_do_no_harm(tmp_path: Path, results: Any) -> None:
    measured: list[dict[str, Any]] = [
        {"step": 1, "heads": [3, None]},
        {"step": 2, "heads": [{"top1": "x"}, {"top1": None}]},
        {"step": 3, "top1": 1e400, HOSTILE: 0.5},
        {"step": 4, "epoch": HOSTILE, HOSTILE: 0.25, "top1": 0.25},
    ]
    for number, config in enumerate((FINE_TUNING, PROBE, ANTICIPATION)):
        run = write_run(tmp_path / str(number), config, measured, results=results)
        assert "top-1" in page_of(run)


def test_nothing_measured_yet(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", FINE_TUNING, [], loss=(1.0, 1.0, 1.2))
    assert "Nothing was measured on validation videos so far" in page_of(run)
    summary = run_summary(read_run(run))
    assert summary["state"] is None and "it does not fall" in summary["reason"]


def test_the_task_is_told_without_a_configuration(tmp_path: Path) -> None:
    probe = write_run(tmp_path / "a", {}, [{"step": 1, "heads": [{"top1": 0.5}]}])
    tuned = write_run(tmp_path / "b", {}, [{"step": 1, "top1": 0.5}])
    none = write_run(tmp_path / "c", {}, [])
    tasks = [task_of(read_run(run)) for run in (probe, tuned, none)]
    assert tasks == ["probe", "fine-tuning", "pretraining"]
