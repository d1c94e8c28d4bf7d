"""Modules on several processes: a copy on each (DDP), or parts on each (FSDP2).

    "none"   one process
    "ddp"    every process holds all weights; gradients are averaged
    "fsdp2"  every process holds a slice (first axis) of every weight, gradient and optimizer state;
             a block's whole weights exist only while it computes

Sharded parameters are `DTensor`s: the optimizer, `clip_gradients` and the teacher's average work on
the slices as they are.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vjepa2.errors import ConfigError, check_choice
from vjepa2.training.distributed import Processes
from vjepa2.training.optim import canonical_name

# Importing FSDP2 takes as long as the rest of PyTorch; a run of one process does without.
if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

Sharding = Literal["none", "ddp", "fsdp2"]
SHARDINGS = ("none", "ddp", "fsdp2")

Module = TypeVar("Module", bound=nn.Module)


def choose_sharding(sharding: str, processes: Processes) -> Sharding:
    """The way to spread modules: "auto" is "none" for one process and "ddp" for several.

    Raises:
        ConfigError: unknown, or it does not fit the number of processes.
    """
    check_choice("sharding", sharding, ("auto", *SHARDINGS))
    several = processes.world_size > 1
    if sharding == "auto":
        return "ddp" if several else "none"
    if several and sharding == "none":
        raise ConfigError(
            f"sharding='none' with {processes.world_size} processes would train each for itself. "
            "Choose 'ddp' or 'fsdp2', or start one process."
        )
    if not several and sharding != "none":
        raise ConfigError(
            f"sharding={sharding!r} needs several processes and there is one. Start with "
            "torchrun --nproc-per-node N, or choose 'none'."
        )
    return cast(Sharding, sharding)


def wrap(
    module: nn.Module,
    sharding: Sharding,
    processes: Processes,
    *,
    blocks: tuple[type[nn.Module], ...],
) -> nn.Module:
    """Spread a module over the processes; all call it together, before the optimizer is made.

    Args:
        module: on its device, with the same weights in every process ("ddp" copies those of
            process 0). A teacher is copied from the student before, and wrapped in the same way.
        sharding: how.
        processes: of the run.
        blocks: "fsdp2": classes whose weights are brought together block by block; the direct
            children of `module` and the module itself bring together what is left.

    Returns:
        the module to call: for "ddp" a new one around it, else the same.

    Raises:
        ConfigError: the sharding does not fit the number of processes.
    """
    choose_sharding(sharding, processes)
    if sharding == "none" or not any(True for _ in module.parameters()):
        return module
    if sharding == "ddp":
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module  # a teacher: no gradients to average
        devices = [processes.device] if processes.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.world_size,))
    inner = [part for part in module.modules() if isinstance(part, blocks) and part is not module]
    children = [part for part in module.children() if part not in inner and _has_weights(part)]
    for part in [*inner, *children, module]:
        fully_shard(part, mesh=mesh)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        # Without a backward pass nothing gives the outermost weights back, and the next forward
        # would use these copies although the slices have moved on.
        module.register_forward_hook(_give_back)
    return module


def make_callable(module: nn.Module, *methods: str) -> None:
    """Let methods other than `forward` of a sharded module bring its weights together too."""
    if _is_sharded(module):
        from torch.distributed.fsdp import register_fsdp_forward_method

        for method in methods:
            register_fsdp_forward_method(cast(nn.Module, module), method)


def _has_weights(module: nn.Module) -> bool:
    # ModuleList and the like have no forward that could bring weights together.
    has_forward = type(module).forward is not nn.Module.forward
    return has_forward and any(True for _ in module.parameters())


def _give_back(module: nn.Module, inputs: Any, outputs: Any) -> None:
    cast("FSDPModule", module).reshard()


def _is_sharded(module: nn.Module) -> "TypeGuard[FSDPModule]":
    return hasattr(module, "set_requires_gradient_sync")


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside `wrap`'s."""
    return module.module if isinstance(module, DistributedDataParallel) else module


@contextlib.contextmanager
def gradient_sync(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Whether a backward pass inside the block averages gradients over the processes.

    With several micro-batches only the last one does; the others add up on each process.
    """
    if isinstance(module, DistributedDataParallel):
        with contextlib.nullcontext() if enabled else module.no_sync():
            yield
        return
    if _is_sharded(module):
        module.set_requires_gradient_sync(enabled)
    yield


@torch.no_grad()
def full_state_dict(module: nn.Module, processes: Processes) -> dict[str, Tensor]:
    """Whole parameters and buffers on the CPU, in process 0; the others get nothing.

    All processes call it together; one tensor at a time is brought together.
    """
    whole = {}
    for name, tensor in unwrap(module).state_dict().items():
        value = cast(Any, tensor).full_tensor() if hasattr(tensor, "full_tensor") else tensor
        if processes.is_first:
            # A copy: the state dict shares memory with the weights, which go on moving.
            whole[canonical_name(name)] = value.detach().to("cpu", copy=True)
    return whole
