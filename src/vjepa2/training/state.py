"""What a checkpoint holds: live tensors of modules and optimizer, by name, and small numbers.

Names of tensors:

    modules.<module>.<parameter or buffer>        as `state_dict` names them, wrappers left out
    optimizer.<module>.<parameter>/<statistic>    such as optimizer.student.norm.weight/exp_avg
    random.<rank>.<generator>                     states of random numbers of one process

A tensor spread over processes (`DTensor`) is written as slices along its first axis and read back
in whatever slices the processes of the next run hold.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from vjepa2.errors import CheckpointMismatchError, InputError
from vjepa2.training.optim import canonical_name

# Python's Mersenne Twister: 624 words, and where it is in them.
NUM_WORDS = 624


@dataclass(frozen=True)
class TrainingState:
    """What must go on unchanged after a stop; made anew whenever it is asked for.

    Attributes:
        modules: networks by name; wrapped or not. All parameters and buffers are kept.
        optimizer: its statistics are kept for every parameter of `modules`; rates are not, the
            schedule knows them.
        values: small facts as JSON values, such as counters of the health monitor.
    """

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Slice(NamedTuple):
    """The part of a tensor that is in this process.

    Attributes:
        tensor: these rows, or all; shares memory with the live tensor.
        shape: of the whole tensor.
        start, stop: rows along the first axis; 0 and 1 for a scalar.
        is_part: other processes hold other rows.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    start: int
    stop: int
    is_part: bool


def local_slice(tensor: Tensor) -> Slice:
    """What this process holds of a tensor, spread or not.

    Raises:
        InputError: it is spread in another way than by rows over one group of processes.
    """
    shape = tuple(tensor.shape)
    if not hasattr(tensor, "full_tensor"):
        return Slice(tensor.detach(), shape, 0, shape[0] if shape else 1, is_part=False)
    spread = cast(Any, tensor)
    (placement, *others), mesh = spread.placements, spread.device_mesh
    if others or not placement.is_shard(dim=0):
        raise InputError(
            f"A tensor of shape {list(shape)} is spread as {spread.placements}; a checkpoint takes "
            "tensors that are whole, or cut along their first axis over one group of processes."
        )
    per_process = -(-shape[0] // mesh.size())
    start = min(mesh.get_local_rank() * per_process, shape[0])
    stop = min(start + per_process, shape[0])
    local = spread.to_local().detach()
    assert local.shape[0] == stop - start, "FSDP2 cuts rows as torch.chunk does"
    return Slice(local, shape, start, stop, is_part=True)


def named_tensors(state: TrainingState) -> dict[str, Tensor]:
    """All tensors of modules and optimizer that exist now, by name."""
    tensors = {
        f"modules.{name}.{canonical_name(key)}": value
        for name, module in state.modules.items()
        for key, value in module.state_dict().items()
    }
    if state.optimizer is None:
        return tensors
    for parameter, name in _parameter_names(state).items():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}/{key}"] = value
    return tensors


def prepare_optimizer(state: TrainingState, stored: Mapping[str, str]) -> None:
    """Give the optimizer the statistics that a checkpoint holds, with space for their values.

    Args:
        state: its optimizer is changed.
        stored: element type of every stored tensor, by name, such as "float32".

    Raises:
        CheckpointMismatchError: the checkpoint has statistics of parameters that are not trained.
    """
    if state.optimizer is None:
        return
    parameters = {name: parameter for parameter, name in _parameter_names(state).items()}
    state.optimizer.state.clear()
    unknown = []
    for full_name, dtype in stored.items():
        if not full_name.startswith("optimizer."):
            continue
        name, _, key = full_name.removeprefix("optimizer.").rpartition("/")
        if name not in parameters:
            unknown.append(full_name)
            continue
        parameter = parameters[name]
        state.optimizer.state[parameter][key] = _statistic(
            state.optimizer, parameter, key, getattr(torch, dtype)
        )
    if unknown:
        raise CheckpointMismatchError(
            f"The checkpoint trains {len(unknown)} statistics of parameters that this run does not "
            f"train, such as {unknown[0]!r}.",
            unexpected=unknown,
        )


def trained_names(state: TrainingState) -> set[str]:
    """Names of the parameters that the optimizer trains, such as "student.norm.weight"."""
    return set() if state.optimizer is None else set(_parameter_names(state).values())


def trained_in(names: Iterable[str]) -> set[str]:
    """Which parameters have statistics among the tensors of a checkpoint, given by name."""
    prefix = "optimizer."
    return {
        name.removeprefix(prefix).rpartition("/")[0] for name in names if name.startswith(prefix)
    }


def _statistic(
    optimizer: torch.optim.Optimizer, parameter: Tensor, key: str, dtype: torch.dtype
) -> Tensor:
    if key != "step":
        return torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
    # The count of updates lies beside the parameter only for kernels that read it there.
    beside = any(optimizer.defaults.get(name) for name in ("fused", "capturable"))
    return torch.zeros((), dtype=dtype, device=parameter.device if beside else "cpu")


def _parameter_names(state: TrainingState) -> dict[Tensor, str]:
    """Names of the optimizer's parameters.

    Raises:
        InputError: a parameter belongs to none of the modules.
    """
    known = {
        parameter: f"{name}.{canonical_name(key)}"
        for name, module in state.modules.items()
        for key, parameter in module.named_parameters()
    }
    assert state.optimizer is not None
    trained = [value for group in state.optimizer.param_groups for value in group["params"]]
    if homeless := [value for value in trained if value not in known]:
        raise InputError(
            f"The optimizer has {len(homeless)} parameters that are in none of the modules "
            f"{', '.join(state.modules)}: a checkpoint would lose them."
        )
    return {parameter: known[parameter] for parameter in trained}


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of all generators of this process: PyTorch's (CPU, CUDA), Python's and NumPy's."""
    _, words, gauss = random.getstate()
    kind, numpy_words, position, has_gauss, cached = np.random.get_state(legacy=True)
    assert kind == "MT19937" and not isinstance(numpy_words, str)
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*numpy_words.tolist(), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Undo what was drawn since `random_states`."""
    torch.set_rng_state(states["torch"])
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    *words, position, has_gauss = states["numpy"].tolist()
    np.random.set_state(
        ("MT19937", np.array(words, np.uint32), position, has_gauss, states["numpy_gauss"].item())
    )
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
