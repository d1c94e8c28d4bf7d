"""The environment of torchrun is complete or refused; never one process where many were meant."""

import socket
import time

import pytest
import torch
from torch import nn

from vjepa2.errors import ConfigError, ProcessesError
from vjepa2.training import distributed
from vjepa2.training.distributed import one_process, open_processes, read_environment
from vjepa2.training.sharding import (
    choose_sharding,
    full_state_dict,
    gradient_sync,
    unwrap,
    wrap,
)

TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_without_torchrun_there_is_one_process() -> None:
    assert read_environment({}) == (0, 1, 0)
    assert read_environment({"SLURM_STEP_NUM_TASKS": "1", "MASTER_ADDR": "x"}) == (0, 1, 0)
    assert read_environment(TORCHRUN) == (1, 4, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RANK": None}, "RANK missing"),
        ({"MASTER_PORT": ""}, "MASTER_PORT missing"),
        ({"WORLD_SIZE": None, "LOCAL_RANK": None}, "WORLD_SIZE, LOCAL_RANK missing"),
        ({"RANK": "4"}, "RANK=4, LOCAL_RANK=1 and WORLD_SIZE=4 contradict"),
        ({"RANK": "0"}, "contradict each other"),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE='four' is no whole number"),
        ({"RANK": "-1"}, "RANK='-1' is no whole number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http' is no whole number"),
    ],
)
def test_half_an_environment_is_refused(changes: dict[str, str | None], words: str) -> None:
    values = {name: value for name, value in {**TORCHRUN, **changes}.items() if value is not None}
    with pytest.raises(ProcessesError, match=words):
        read_environment(values)


@pytest.mark.parametrize(
    ("name", "launcher"),
    [("SLURM_STEP_NUM_TASKS", "srun"), ("OMPI_COMM_WORLD_SIZE", "mpirun"), ("PMI_SIZE", "mpiexec")],
)
def test_another_launcher_is_told_to_start_torchrun(name: str, launcher: str) -> None:
    with pytest.raises(ProcessesError, match=f"{launcher} started 8 processes .* torchrun"):
        read_environment({name: "8"})


def set_environment(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in {**TORCHRUN, **changes}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("rank", ["0", "1", "2"])
def test_processes_that_do_not_meet_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], rank: str
) -> None:
    """One of three processes: 0 waits for others, 1 where nobody listens, 2 for the third."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    set_environment(
        monkeypatch,
        **{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "3"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    )
    agent = None
    if rank == "2":  # as with torchrun, which serves the addresses itself
        agent = torch.distributed.TCPStore("127.0.0.1", port, is_master=True)
        attempt = torch.distributed.PrefixStore("/worker/attempt_0", agent)  # older PyTorch
        for store in (agent, attempt):
            store.add(distributed.JOINED_KEY, 1)
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    joining = open_processes("cpu", join_seconds=1)
    started = time.monotonic()
    with pytest.raises(
        ProcessesError, match=f"Process {rank} of 3 cannot join .*127.0.0.1:{port}"
    ) as found:
        joining.__enter__()
    assert time.monotonic() - started < 20  # the work itself may wait for half an hour
    assert ("only 2 are there" in str(found.value)) == (agent is not None)
    assert not torch.distributed.is_initialized()
    assert f"vjepa2: waiting for 3 processes at 127.0.0.1:{port}\n" in capfd.readouterr().err


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({}, {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}):
        for name in TORCHRUN:
            monkeypatch.delenv(name, raising=False)
        if environment:
            set_environment(monkeypatch, **environment)
        with open_processes("cpu") as processes:
            assert not torch.distributed.is_initialized()
            assert processes == one_process("cpu")
            assert processes.mean({"a": 2.0}) == {"a": 2.0}
            assert processes.gather(3) == [3]
            assert processes.from_first(4) == 4
            assert processes.largest(-5) == -5
            processes.raise_together(None)
            with pytest.raises(ConfigError, match="wrong"):
                processes.raise_together(ConfigError("wrong"))


def test_devices_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch)

    def device(name: str) -> None:
        monkeypatch.setattr(distributed, "resolve_device", lambda _: torch.device(name))
        open_processes(name).__enter__()

    with pytest.raises(ConfigError, match="'cuda:1' names one device for all 4 processes"):
        device("cuda:1")
    with pytest.raises(ConfigError, match="work on 'cpu' and 'cuda', not on 'mps'"):
        device("mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="has 1 CUDA devices. .*--nproc-per-node 1"):
        device("cuda")


def test_shardings_for_one_process() -> None:
    alone = one_process()
    assert choose_sharding("auto", alone) == "none"
    for sharding in ("ddp", "fsdp2"):
        with pytest.raises(ConfigError, match="needs several processes and there is one"):
            choose_sharding(sharding, alone)
    with pytest.raises(ConfigError, match="Did you mean 'fsdp2'"):
        choose_sharding("fsdp", alone)
    module = nn.Linear(2, 2)
    assert wrap(module, "none", alone, blocks=(nn.Linear,)) is module
    assert unwrap(module) is module
    with gradient_sync(module, False):
        pass
    whole = full_state_dict(module, alone)
    assert whole.keys() == {"weight", "bias"}
    with torch.no_grad():
        module.weight.add_(1)
    assert not torch.equal(whole["weight"], module.weight)  # a copy, not a view
