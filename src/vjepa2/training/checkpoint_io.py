"""One process's share of a checkpoint: which tensors it writes, and how it fills its own again."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vjepa2.errors import CheckpointMismatchError
from vjepa2.training.checkpoint_index import CheckpointIndex, PartFile, TensorEntry
from vjepa2.training.distributed import Processes
from vjepa2.training.parts import PartReader, StoredTensor, write_part
from vjepa2.training.state import (
    TrainingState,
    local_slice,
    named_tensors,
    prepare_optimizer,
    random_states,
    set_random_states,
)


def write_state(
    path: Path, state: TrainingState, processes: Processes
) -> tuple[PartFile, dict[str, TensorEntry]]:
    """Write what this process answers for: its slices, and its share of what all hold whole.

    Args:
        path: a new part file.
        state: of the run now.
        processes: of the run.

    Returns:
        size and checksum of the file, and what is in it.

    Raises:
        OSError: the disk is full or not writable.
    """
    own: dict[str, Tensor] = {}
    entries: dict[str, TensorEntry] = {}
    for number, (name, tensor) in enumerate(named_tensors(state).items()):
        part = local_slice(tensor)
        has_rows = part.stop > part.start or processes.is_first
        mine = has_rows if part.is_part else number % processes.world_size == processes.rank
        if mine:
            own[name] = part.tensor
            entries[name] = _entry(part.tensor, part.shape, (path.name, part.start, part.stop))
    for key, tensor in random_states(processes.device).items():
        name = f"random.{processes.rank}.{key}"
        own[name] = tensor
        entries[name] = _entry(tensor, tuple(tensor.shape), (path.name, 0, tensor.shape[0]))
    facts = write_part(path, own)
    return PartFile(num_bytes=facts.num_bytes, checksum=facts.checksum), entries


def _entry(tensor: Tensor, shape: tuple[int, ...], part: tuple[str, int, int]) -> TensorEntry:
    return TensorEntry(dtype=_dtype_name(tensor), shape=shape, parts=(part,))


def joined_entries(shares: list[dict[str, TensorEntry]]) -> dict[str, TensorEntry]:
    """The entries of all processes, by rank, with the parts of each tensor side by side."""
    parts: dict[str, list[TensorEntry]] = {}
    for share in shares:
        for name, entry in share.items():
            parts.setdefault(name, []).append(entry)
    return {
        name: entries[0].model_copy(
            update={"parts": tuple(part for entry in entries for part in entry.parts)}
        )
        for name, entries in parts.items()
    }


def read_state(
    folder: Path, index: CheckpointIndex, state: TrainingState, processes: Processes
) -> None:
    """Fill modules, optimizer and random numbers with what a checkpoint holds.

    Args:
        folder: of the checkpoint.
        index: of it.
        state: live modules and optimizer; this process's slices are filled in place. Stored
            statistics are passed over where it has no optimizer.
        processes: of the run, as many as wrote it or not. Random numbers go on in processes whose
            rank was there before; others keep theirs, as seeded at their start.

    Raises:
        CheckpointMismatchError: the tensors are not those of the modules.
        CheckpointFormatError: a file does not hold what the index says.
    """
    stored = {
        name: entry.stored()
        for name, entry in index.tensors.items()
        if state.optimizer is not None or not name.startswith("optimizer.")
    }
    prepare_optimizer(state, {name: tensor.dtype for name, tensor in stored.items()})
    live = named_tensors(state)
    _check_tensors(folder, live, stored)
    reader = PartReader(folder, stored)
    for name, tensor in live.items():
        part = local_slice(tensor)
        reader.read_into(part.tensor, name, part.start)
    prefix = f"random.{processes.rank}."
    states = {}
    for name, facts in stored.items():
        if name.startswith(prefix):
            values = torch.empty(facts.shape, dtype=getattr(torch, facts.dtype))
            reader.read_into(values, name, 0)
            states[name.removeprefix(prefix)] = values
    if states:
        set_random_states(states, processes.device)


def _check_tensors(
    folder: Path, live: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]
) -> None:
    """Raise `CheckpointMismatchError` unless both have the same names, shapes and types."""
    kept = {name: facts for name, facts in stored.items() if not name.startswith("random.")}
    missing, unexpected = live.keys() - kept.keys(), kept.keys() - live.keys()
    mismatched = []
    for name in live.keys() & kept.keys():
        has = f"{kept[name].dtype} {list(kept[name].shape)}"
        needs = f"{_dtype_name(live[name])} {list(live[name].shape)}"
        if has != needs:
            mismatched.append((name, has, needs))
    if missing or unexpected or mismatched:
        first = sorted([*missing, *unexpected, *(name for name, _, _ in mismatched)])[0]
        raise CheckpointMismatchError(
            f"The tensors of {folder} are not those of this run: {len(missing)} are missing, "
            f"{len(unexpected)} have no place, {len(mismatched)} differ in shape or type; the "
            f"first is {first!r}. Go on with the code and configuration that wrote it.",
            missing=missing,
            unexpected=unexpected,
            mismatched=mismatched,
        )


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
