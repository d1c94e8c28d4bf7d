"""One process or many: who is who, and the few things they tell each other.

torchrun starts the processes and says in environment variables how many there are. What is not
there is an error: a run that was meant for eight processes never goes on as eight runs of one.
"""

import contextlib
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from vjepa2.errors import ConfigError, ProcessesError, VJEPAError
from vjepa2.runtime import resolve_device

Value = TypeVar("Value")

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")

# Set by other launchers, with the number of processes; without torchrun's they would not meet.
OTHER_LAUNCHERS = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
}

DEFAULT_TIMEOUT_SECONDS = 1800.0
DEFAULT_JOIN_SECONDS = 120.0
QUIET_SECONDS = 5.0  # of waiting, before stderr says what is waited for
ASK_SECONDS = 0.05
JOINED_KEY = "vjepa2/joined"


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; made by `open_processes`.

    The methods are called by all processes together, in the same order.

    Attributes:
        rank: its number, 0-based; 0 writes what all share.
        world_size: how many there are.
        local_rank: its number on this machine.
        device: where it computes.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all share."""
        return self.rank == 0

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The mean over all processes of each number, in float64.

        Raises:
            ProcessesError: the processes bring different names.
        """
        names = sorted(numbers)
        if self.world_size == 1:
            return {name: float(numbers[name]) for name in names}
        stamp = zlib.crc32("\0".join(names).encode())
        # Both are asked before either is judged: every process must ask as often as the others.
        highest, lowest = self.largest(stamp), -self.largest(-stamp)
        if highest != lowest:
            raise ProcessesError(
                f"The processes report different numbers; process {self.rank} has "
                f"{', '.join(names)}. Every process must return the same names from a step."
            )
        values = torch.tensor([float(numbers[name]) for name in names], dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(names, (values / self.world_size).tolist(), strict=True))

    def largest(self, value: int) -> int:
        """The largest of one whole number of each process."""
        if self.world_size == 1:
            return value
        values = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return int(values.item())

    def gather(self, value: Value) -> list[Value]:
        """One value of each process, by rank, in every process; small objects only."""
        if self.world_size == 1:
            return [value]
        values: list[Value | None] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return cast(list[Value], values)

    def from_first(self, value: Value) -> Value:
        """The value of process 0 in every process; the others' is passed over."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.largest(0)

    def raise_together(self, error: VJEPAError | None) -> None:
        """Raise the error of any process in all of them, so that none waits for one that failed.

        Raises:
            VJEPAError: that of the lowest rank that has one.
        """
        for rank, found in enumerate(self.gather(error)):
            if found is None:
                continue
            if rank == self.rank and error is not None:
                raise error  # with its own traceback and cause
            raise found


def one_process(device: str | torch.device = "cpu") -> Processes:
    """A run of a single process, whatever the environment says."""
    return Processes(rank=0, world_size=1, local_rank=0, device=resolve_device(device))


@contextlib.contextmanager
def open_processes(
    device: str | torch.device = "auto",
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    join_seconds: float = DEFAULT_JOIN_SECONDS,
) -> Iterator[Processes]:
    """Join the processes that torchrun started; one process where it started none.

    Args:
        device: "auto", "cpu" or "cuda"; with several processes each takes the accelerator of its
            local rank, so that a number ("cuda:1") is refused.
        timeout_seconds: how long a process waits for the others at work before it fails.
        join_seconds: the same until all of them have met.

    Yields:
        who this process is; the group is left when the block ends, unless it was joined before.

    Raises:
        ProcessesError: the environment is incomplete or contradictory, another launcher started
            several processes, or they do not find each other in time.
        ConfigError: the device does not exist here, or there are fewer than processes.
    """
    rank, world_size, local_rank = read_environment(os.environ)
    own = _own_device(device, world_size=world_size, local_rank=local_rank)
    processes = Processes(rank, world_size, local_rank, own)
    if world_size == 1 or dist.is_initialized():
        # A group cannot be left and joined again: the others' old addresses would be found.
        yield processes
        return
    # gloo beside nccl: flags and small numbers stay on the CPU and do not wait for the device.
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        dist.init_process_group(
            backend,
            store=_meet(rank, world_size, address, join_seconds),
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout_seconds),
            device_id=own if own.type == "cuda" else None,
        )
    except (RuntimeError, ValueError, TimeoutError) as error:
        raise ProcessesError(
            f"Process {rank} of {world_size} cannot join the others at {address}: {error}. Start "
            "all of them with torchrun, let them reach that address, and choose a free port."
        ) from error
    failed = True
    try:
        yield processes
        processes.barrier()  # nobody leaves while another still waits for an answer
        failed = False
    finally:
        # After an error others may wait in a collective; nccl would wait with them here.
        if not (failed and own.type == "cuda"):
            dist.destroy_process_group()


def _meet(rank: int, world_size: int, address: str, seconds: float) -> Store:
    """Wait until all processes are here; what they exchange addresses through.

    Raises:
        TimeoutError, RuntimeError, ValueError: they are not, after `seconds`.
    """
    deadline = time.monotonic() + seconds
    note = threading.Timer(min(QUIET_SECONDS, seconds / 2), _say_waiting, (world_size, address))
    note.daemon = True
    note.start()
    try:
        # One that serves the store waits in here, the others below.
        store, *_ = next(rendezvous("env://", rank, world_size, timeout=timedelta(seconds=seconds)))
        num_joined = store.add(JOINED_KEY, 1)
        while num_joined < world_size:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:g} s only {num_joined} are there")
            time.sleep(ASK_SECONDS)
            num_joined = store.add(JOINED_KEY, 0)
    finally:
        note.cancel()
    return cast(Store, store)


def _say_waiting(world_size: int, address: str) -> None:
    sys.stderr.write(f"vjepa2: waiting for {world_size} processes at {address}\n")
    sys.stderr.flush()


def read_environment(environ: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, number of processes and local rank from torchrun's variables; (0, 1, 0) without any.

    Raises:
        ProcessesError: some are missing or are no numbers in range, or another launcher started
            several processes.
    """
    if not any(name in environ for name in NUMBERS):
        for name, launcher in OTHER_LAUNCHERS.items():
            if environ.get(name, "1") != "1":
                raise ProcessesError(
                    f"{launcher} started {environ[name]} processes ({name}), and each would train "
                    "for itself. Let it start one process per machine, torchrun, and that one the "
                    "others: torchrun --nproc-per-node N ..."
                )
        return 0, 1, 0
    if missing := [name for name in (*NUMBERS, *ADDRESS) if not environ.get(name)]:
        raise ProcessesError(
            f"Some variables of torchrun are set and others are not: {', '.join(missing)} "
            f"missing. Start with torchrun, or unset {', '.join(NUMBERS)} to use one process."
        )
    rank, world_size, local_rank = (_whole_number(name, environ[name]) for name in NUMBERS)
    _whole_number("MASTER_PORT", environ["MASTER_PORT"])
    if not (0 <= local_rank <= rank < world_size):
        raise ProcessesError(
            f"RANK={rank}, LOCAL_RANK={local_rank} and WORLD_SIZE={world_size} contradict each "
            "other: 0 <= LOCAL_RANK <= RANK < WORLD_SIZE must hold. Start with torchrun."
        )
    return rank, world_size, local_rank


def _whole_number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ProcessesError(f"{name}={text!r} is no whole number. Start with torchrun.")
    return int(text)


def _own_device(device: str | torch.device, *, world_size: int, local_rank: int) -> torch.device:
    found = resolve_device(device)
    if world_size == 1:
        return found
    if cast("int | None", found.index) is not None:
        raise ConfigError(
            f"device={str(device)!r} names one device for all {world_size} processes. "
            f"Give {found.type!r}: each process takes its own."
        )
    if found.type == "cuda":
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise ConfigError(
                f"torchrun started at least {local_rank + 1} processes on this machine, which has "
                f"{count} CUDA devices. Start one per device: --nproc-per-node {count}"
            )
        own = torch.device("cuda", local_rank)
        torch.cuda.set_device(own)
        return own
    if found.type != "cpu":
        raise ConfigError(
            f"Several processes work on 'cpu' and 'cuda', not on {found.type!r}: "
            "set device to 'cpu', or start one process."
        )
    return found
