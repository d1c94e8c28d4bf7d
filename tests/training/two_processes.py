"""What two processes do in `test_two_processes.py`; started by torchrun with a folder."""

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import TinyRun

from vjepa2.errors import ConfigError, OutputError, ProcessesError
from vjepa2.training import checkpoint_io
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes, open_processes
from vjepa2.training.engine import run_training
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.sharding import choose_sharding, full_state_dict


def train(run: TinyRun, folder: Path, processes: Processes, **options: Any) -> Any:
    """Train in `folder`, and write the whole weights at the end."""
    store = CheckpointStore(folder / "c", config={}, processes=processes)
    log = MetricsLog(folder / "m.jsonl", enabled=processes.is_first)
    result = run_training(
        run,
        store,
        log,
        processes=processes,
        num_steps=10,
        checkpoint_every=100,
        quiet=True,
        **options,
    )
    whole = full_state_dict(run.objective, processes)
    whole |= {f"t.{k}": v for k, v in full_state_dict(run.teacher, processes).items()}
    if processes.is_first:
        torch.save(whole, folder / "end.pt")
    return result


def expect(error: type[Exception], words: str, call: Any) -> None:
    """`call()` raises `error` with `words` in its message."""
    try:
        call()
    except error as found:
        assert words in str(found), found
    else:
        raise AssertionError(f"no {error.__name__}")


def check_messages(processes: Processes) -> None:
    rank = processes.rank
    assert processes.mean({"b": 1.0 + rank, "a": 10.0 * rank}) == {"a": 5.0, "b": 1.5}
    assert processes.largest(-3 + rank) == -2
    assert processes.gather(f"r{rank}") == ["r0", "r1"]
    assert processes.from_first([rank]) == [0]
    names = {"loss": 1.0, "own" if rank else "other": 2.0}
    expect(ProcessesError, "report different numbers", lambda: processes.mean(names))
    error = OutputError("disk of 1") if rank else None
    expect(OutputError, "disk of 1", lambda: processes.raise_together(error))
    expect(ConfigError, "train each for itself", lambda: choose_sharding("none", processes))
    assert choose_sharding("auto", processes) == "ddp"


def check_failed_save(folder: Path, processes: Processes) -> None:
    """The disk of process 1 is full: both say so, and nothing is left."""
    run = TinyRun(processes, "ddp")
    store = CheckpointStore(folder, config={}, processes=processes)
    store.save(1, run.state())
    write_part = checkpoint_io.write_part

    def full(path: Path, tensors: Any) -> Any:
        raise OSError(28, "No space left on device")

    if processes.rank == 1:
        checkpoint_io.write_part = full
    words = "step-0000002: No space left on device"
    expect(OutputError, words, lambda: store.save(2, run.state()))
    checkpoint_io.write_part = write_part
    assert store.steps() == [1]
    assert sorted(path.name for path in folder.iterdir()) == ["step-0000001"]


def check_signal(folder: Path, processes: Processes) -> None:
    """A signal to one process stops both after the same step."""
    run = TinyRun(processes, "ddp")
    step = run.run_step

    def with_signal(number: int) -> dict[str, float]:
        if number == 3 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(number)

    run.run_step = with_signal  # type: ignore[method-assign]
    result = train(run, folder, processes)
    assert (result.reason, result.step) == ("signal", 4), result
    assert result.signal_name == ("SIGUSR1" if processes.rank else None)


def main(folder: Path) -> None:
    with open_processes("cpu", timeout_seconds=60) as processes:
        assert processes.world_size == 2
        check_messages(processes)
        for sharding in ("ddp", "fsdp2"):
            run = TinyRun(processes, sharding, micro_batch=2, clip_norm=0.4)
            train(run, folder / sharding, processes, stop_at=5)
            # One goes on with two processes, another copy with one (in the test).
            processes.barrier()
            if processes.is_first:
                os.system(f"cp -r {folder / sharding} {folder / sharding}_one")
            processes.barrier()
            run = TinyRun(processes, sharding, micro_batch=2, clip_norm=0.4)
            assert train(run, folder / sharding, processes).resumed_from == 5
            # And a checkpoint of one process goes on with two.
            run = TinyRun(processes, sharding, micro_batch=2, clip_norm=0.4)
            one = folder / f"one_{sharding}"
            assert train(run, one, processes).resumed_from == 5
        check_failed_save(folder / "full", processes)
        check_signal(folder / "signal", processes)
    print(json.dumps({"rank": processes.rank}))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(150, exit=True)
    main(Path(sys.argv[1]))
