"""The loop: ends, stops, goes on, and says what went wrong and what to change."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa2.errors import (
    CheckpointFormatError,
    ConfigError,
    DivergedError,
    OutputError,
    TrainingMemoryError,
)
from vjepa2.training import console
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.console import StepProgress, time_text
from vjepa2.training.distributed import one_process
from vjepa2.training.engine import (
    MAX_ROLLBACKS,
    RollBack,
    StopSignals,
    StopTraining,
    TrainingResult,
    check_stop_at,
    is_out_of_memory,
    run_training,
)
from vjepa2.training.metrics import MetricsLog, read_metrics

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import TinyRun

STEPS = 10


def train(folder: Path, run: Any = None, **options: Any) -> tuple[TrainingResult, TinyRun]:
    run = TinyRun(one_process()) if run is None else run
    store = CheckpointStore(folder / "c", config={}, processes=one_process(), keep=3)
    values = {"num_steps": STEPS, "checkpoint_every": 4, "quiet": True, **options}
    log = MetricsLog(folder / "m.jsonl")
    return run_training(run, store, log, processes=one_process(), **values), run


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(folder / "m.jsonl") if line["kind"] == kind]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "c").glob("step-*"))


def before_step(run: TinyRun, number: int, action: Callable[[], Any]) -> TinyRun:
    """The same run, with something happening before one of its steps (once)."""
    step, pending = run.run_step, [action]

    def with_action(now: int) -> dict[str, float]:
        if now == number and pending:
            pending.pop()()
        return step(now)

    run.run_step = with_action  # type: ignore[method-assign]
    return run


def test_a_run_saves_every_n_steps_and_at_the_end(tmp_path: Path) -> None:
    seen: list[int] = []
    result, _ = train(tmp_path, on_saved=seen.append)
    assert result == TrainingResult("finished", STEPS, None, None)
    assert seen == [4, 8, 10]
    assert names_in(tmp_path) == ["step-0000004", "step-0000008", "step-0000010"]
    assert [line["step"] for line in lines(tmp_path, "step")] == list(range(STEPS))
    assert [line["event"] for line in lines(tmp_path, "event")] == ["saved"] * 3 + ["stopped"]
    # Once more: nothing is left to do, and nothing is done.
    again, _ = train(tmp_path)
    assert again == TrainingResult("finished", STEPS, STEPS, None)
    assert len(lines(tmp_path, "step")) == STEPS


def test_five_steps_and_five_more_equal_ten_bit_for_bit(tmp_path: Path) -> None:
    _, whole = train(tmp_path / "whole")
    first, _ = train(tmp_path / "parts", stop_at=5)
    assert first == TrainingResult("stop_at", 5, None, None)
    torch.manual_seed(99)  # random numbers come from the checkpoint, not from the surroundings
    second, parts = train(tmp_path / "parts")
    assert second == TrainingResult("finished", STEPS, 5, None)
    for name in ("objective", "teacher"):
        expected = getattr(whole, name).state_dict()
        found = getattr(parts, name).state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    numbers = [
        [(line["loss"], line["norm"], line["noise"]) for line in lines(tmp_path / name, "step")]
        for name in ("whole", "parts")
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    former = signal.getsignal(number)
    run = before_step(TinyRun(one_process()), 5, lambda: os.kill(os.getpid(), number))
    result, _ = train(tmp_path, run)
    assert result == TrainingResult("signal", 6, None, number.name)
    assert names_in(tmp_path)[-1] == "step-0000006"
    assert lines(tmp_path, "event")[-1]["reason"] == "signal"
    assert signal.getsignal(number) is former
    assert train(tmp_path)[0] == TrainingResult("finished", STEPS, 6, None)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, before_step(TinyRun(one_process()), 5, twice))
    assert names_in(tmp_path) == ["step-0000004"]
    assert train(tmp_path)[0].resumed_from == 4


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    import threading

    caught: list[str | None] = []

    def use() -> None:
        with StopSignals() as signals:
            caught.append(signals.caught)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert caught == [None]


def returning(run: TinyRun, number: int, loss: float) -> TinyRun:
    step = run.run_step
    run.run_step = lambda now: {  # type: ignore[method-assign]
        **step(now),
        **({"loss": loss} if now == number else {}),
    }
    return run


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_before_it_is_kept(tmp_path: Path, loss: float) -> None:
    with pytest.raises(DivergedError) as found:
        train(tmp_path, returning(TinyRun(one_process()), 7, loss))
    assert f"The loss of step 7 is {loss}. The newest checkpoint is step-0000004" in str(
        found.value
    )
    assert "Lower schedule.lr" in str(found.value)
    assert names_in(tmp_path) == ["step-0000004"]
    assert lines(tmp_path, "event")[-1] == {
        "step": 6,
        "kind": "event",
        "event": "diverged",
        "loss": str(loss),
    }
    with pytest.raises(DivergedError, match="No checkpoint was written yet"):
        train(tmp_path / "early", returning(TinyRun(one_process()), 0, loss))


def raising(error: Exception) -> TinyRun:
    def fail() -> None:
        raise error

    return before_step(TinyRun(one_process()), 5, fail)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("cannot allocate"),
    ],
)
def test_out_of_memory_says_what_to_change(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(TrainingMemoryError) as found:
        train(tmp_path, raising(error), memory_advice="Set clip.micro_batch=4.")
    text = str(found.value)
    assert text.startswith("Step 5 ran out of memory on cpu") and "\n" not in text
    assert text.endswith("Set clip.micro_batch=4.")
    assert isinstance(found.value, MemoryError)


def test_a_real_allocation_that_is_too_large_is_recognised() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 60)
    assert is_out_of_memory(found.value)


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(tmp_path, raising(RuntimeError("mat1 and mat2 shapes")))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))


def test_a_run_may_go_back_to_an_earlier_checkpoint(tmp_path: Path) -> None:
    _, calm = train(tmp_path / "calm")

    def back() -> None:
        raise RollBack(4, "collapse of the rank")

    result, run = train(tmp_path / "back", before_step(TinyRun(one_process()), 9, back))
    assert (result.reason, result.step) == ("finished", STEPS)
    (event,) = [line for line in lines(tmp_path / "back", "event") if line["event"] == "rollback"]
    assert (event["from_step"], event["reason"]) == (9, "collapse of the rank")
    assert [line["step"] for line in lines(tmp_path / "back", "step")] == list(range(STEPS))
    expected = calm.objective.state_dict()
    found = run.objective.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_run_does_not_go_back_for_ever(tmp_path: Path) -> None:
    run = TinyRun(one_process())
    step, wishes = run.run_step, []

    def always_back(now: int) -> dict[str, float]:
        if now == 6:
            wishes.append(now)
            raise RollBack(4, "collapse")
        return step(now)

    run.run_step = always_back  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=f"went back {MAX_ROLLBACKS} times already"):
        train(tmp_path, run)
    assert len(wishes) == MAX_ROLLBACKS + 1


def test_a_run_may_ask_to_end(tmp_path: Path) -> None:
    def stop() -> None:
        raise StopTraining("the rank of tokens is 1.2")

    result, _ = train(tmp_path, before_step(TinyRun(one_process()), 6, stop))
    assert (result.reason, result.step) == ("alarm", 6)
    assert result.alarm == "the rank of tokens is 1.2"
    assert names_in(tmp_path)[-1] == "step-0000006"


def test_bad_ends_are_refused(tmp_path: Path) -> None:
    for stop_at in (-5, 11):
        with pytest.raises(ConfigError, match=f"stop_at must be 0 to 10, .* got {stop_at}"):
            train(tmp_path, stop_at=stop_at)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ConfigError, match="checkpoint_every must be 1 or more"):
        train(tmp_path, checkpoint_every=0)
    train(tmp_path, stop_at=6)
    with pytest.raises(ConfigError, match="at step 6 already; stop_at=3"):
        train(tmp_path, stop_at=3)


def test_where_a_run_ends() -> None:
    assert [check_stop_at(stop, 7) for stop in (None, 0, 3, 7)] == [7, 0, 3, 7]
    for wrong in (-1, 8, 10**5000, True, 2.0):
        with pytest.raises(ConfigError, match="stop_at must be"):
            check_stop_at(wrong, 7)  # type: ignore[arg-type]


def test_time_of_measurements_is_not_time_of_updates(tmp_path: Path) -> None:
    run = TinyRun(one_process())
    step = run.run_step

    def measured(now: int) -> dict[str, float]:
        measuring = 0.5 if now == 2 else 0.0
        time.sleep(measuring)
        return {**step(now), "measure_seconds": measuring}

    run.run_step = measured  # type: ignore[method-assign]
    train(tmp_path, run, stop_at=3)
    seconds = [line["seconds"] for line in lines(tmp_path, "step")]
    assert 0 < seconds[2] < 0.4
    assert lines(tmp_path, "step")[2]["measure_seconds"] == 0.5


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    def another() -> None:
        with pytest.raises(OutputError, match="Another run trains in"):
            train(tmp_path)

    assert train(tmp_path, before_step(TinyRun(one_process()), 5, another))[0].step == STEPS


def test_a_damaged_newest_checkpoint_stops_the_run_and_names_the_older(tmp_path: Path) -> None:
    train(tmp_path, stop_at=8)
    (tmp_path / "c" / "step-0000008" / "checkpoint.json").write_text("{}")
    with pytest.raises(CheckpointFormatError, match="complete is step-0000004: remove the folder"):
        train(tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_in_a_log_file_is_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with StepProgress(total=100, start=0, stream=out) as progress:
        for step in range(1, 13):
            now[0] += 2.0
            progress.show(step, {"loss": 0.25})
    assert out.getvalue().splitlines() == [
        "steps: 5/100, loss 0.2500, 2 s a step, 3 min left",
        "steps: 10/100, loss 0.2500, 2 s a step, 3 min left",
    ]


def test_time_left_leaves_out_the_first_step_measurements_and_checkpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with StepProgress(total=100, start=0, stream=out) as progress:
        steps = ((60, 0), (2, 0), (31, 29), (2, 0), (50, 0), (2, 0))
        for step, (seconds, measuring) in enumerate(steps, start=1):
            now[0] += seconds
            progress.show(step, {"loss": 0.25, "measure_seconds": float(measuring)})
    assert out.getvalue().splitlines() == [
        "steps: 1/100, loss 0.2500",  # it may have compiled
        "steps: 3/100, loss 0.2500, 2 s a step, 3 min left",
        "steps: 5/100, loss 0.2500, 2 s a step, 3 min left",  # a checkpoint was written
    ]


def test_progress_on_a_terminal_is_a_bar_with_loss_and_time_left() -> None:
    out = Terminal()
    with StepProgress(total=2, start=0, stream=out) as progress:
        progress.show(1, {"loss": 0.5})
        progress.show(2, {"loss": 0.5})
    assert "2/2" in out.getvalue() and "loss 0.5000" in out.getvalue()
    quiet = Terminal()
    with StepProgress(total=1, start=0, quiet=True, stream=quiet) as progress:
        progress.show(1, {"loss": 0.5})
    assert quiet.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (100, "2 min"), (3 * 3600 + 1200, "3 h 20 min"), (180_000, "2 d 2 h")],
)
def test_time_in_words(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
