"""The log holds whole lines only, and those of the steps that were kept."""

import json
import math
import resource
import sys
from pathlib import Path

import pytest

from vjepa2.errors import MissingExtraError, OutputError
from vjepa2.training.metrics import MetricsLog, read_metrics


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    log = MetricsLog(path)
    assert not path.parent.exists()
    log.start_from(0)
    log.write(0, "step", {"loss": 0.5, "ok": True})
    log.event(0, "saved", {"checkpoint": "step-0000001"})
    assert lines_of(path) == [  # without closing: another program can watch
        {"step": 0, "kind": "step", "loss": 0.5, "ok": True},
        {"step": 0, "kind": "event", "event": "saved", "checkpoint": "step-0000001"},
    ]
    log.sync()
    log.close()


def test_going_on_cuts_what_is_done_again_and_repairs_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": step, "kind": "step", "loss": step / 7} for step in range(6)]
    lines.insert(4, {"step": 3, "kind": "event", "event": "saved"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6, "kin')
    assert list(read_metrics(path)) == lines
    log = MetricsLog(path)
    log.start_from(4)
    log.write(4, "step", {"loss": 1.0})
    log.close()
    assert lines_of(path) == [*lines[:5], {"step": 4, "kind": "step", "loss": 1.0}]
    log.start_from(0)  # from the beginning: nothing stays
    log.close()
    assert path.read_text() == ""


@pytest.mark.parametrize(
    "damage",
    ["9" * 5000, "[" * 100_000, "[" * 100_000 + "]" * 100_000, '"\udcff', "1, 2"],
    ids=["digits", "brackets", "nested", "not UTF-8", "no value"],
)
def test_going_on_leaves_out_damaged_lines(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": step, "kind": "step", "loss": step / 7} for step in range(3)]
    texts = [json.dumps(line) for line in lines]
    texts.insert(1, f'{{"step": 0, "kind": "step", "loss": {damage}}}')
    path.write_text("\n".join(texts), encoding="utf-8", errors="surrogateescape")
    assert list(read_metrics(path)) == lines
    log = MetricsLog(path)
    log.start_from(3)
    log.close()
    assert lines_of(path) == lines


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl", enabled=False, tensorboard=tmp_path / "board")
    log.start_from(0)
    log.write(0, "step", {"loss": 0.5})
    log.sync()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_every_line_is_json(tmp_path: Path) -> None:
    """NaN is no JSON; programs in other languages read this file."""
    path = tmp_path / "m.jsonl"
    log = MetricsLog(path)
    log.start_from(0)
    log.write(0, "step", {"loss": math.nan, "rank": math.inf})
    log.close()
    line = path.read_text().rstrip()
    assert line == '{"step": 0, "kind": "step", "loss": null, "rank": null}'


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.start_from(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OutputError, match="Cannot write .*m.jsonl: File too large"):
            for step in range(10):
                log.write(step, "step", {"loss": 0.5})
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [line["step"] for line in read_metrics(log.path)] == [0, 1, 2, 3]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        MetricsLog(tmp_path / "file" / "m.jsonl").start_from(0)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path / "m.jsonl", tensorboard=tmp_path / "board")
    log.start_from(0)
    for step in range(3):
        log.write(step, "step", {"loss": 0.5 * step, "name": "text stays out"})
    log.event(2, "saved")
    log.close()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert events.Tags()["scalars"] == ["step/loss"]
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(0, 0), (1, 0.5), (2, 1)]


def test_a_missing_tensorboard_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[train\]'"):
        MetricsLog(tmp_path / "m.jsonl", tensorboard=tmp_path / "board")
    log = MetricsLog(tmp_path / "m.jsonl")
    log.start_from(0)
    log.close()
