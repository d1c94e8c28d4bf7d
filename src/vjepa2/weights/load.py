"""Put the tensors of a checkpoint into a network: completely, or not at all.

The network is built on the meta device (no memory, no random numbers) and every parameter is then
replaced by the stored tensor itself, a view of the memory-mapped file. So there is no second copy
of the weights, and loading takes the time of opening the file. Only a change of element type or
device makes new memory, and so do tensors that share theirs with another.

A head that is there in only one of the two is the one difference that has a meaning: a base model
takes the base part of a classifier, and a classifier on a base checkpoint starts with a fresh
head. An encoder that was exported without its predictor gets a fresh one on request. Every other
difference is a `CheckpointMismatchError`. `LoadReport` names everything that was dropped, made
fresh or cast, and why.
"""

import bisect
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vjepa2.errors import ConfigError
from vjepa2.weights.mismatch import Differences, fold
from vjepa2.weights.pages import FilePages
from vjepa2.weights.read import Checkpoint, Origin
from vjepa2.weights.values import check_values

HEADS = ("pooler.", "classifier.", "classifiers.")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class LoadReport:
    """What happened to every tensor that was not simply put in place.

    Attributes:
        files: files that were read.
        loaded: number of parameters that hold stored values.
        dropped: stored name to the reason why it has no place in this network.
        fresh: parameter name to the reason why it holds new random values.
        cast: parameter name to `"float32 -> float16"`.
        mismatched: (name, shape in the file, shape in the network) of replaced tensors.
        stored_names: parameter name to its name in the file.
        from_key: sub-dictionary of an original file that the encoder was read from; "" otherwise.
        assumed: configuration field to the reason for its value, which nothing in the file tells.
    """

    files: tuple[Path, ...] = ()
    loaded: int = 0
    dropped: Mapping[str, str] = field(default_factory=dict)
    fresh: Mapping[str, str] = field(default_factory=dict)
    cast: Mapping[str, str] = field(default_factory=dict)
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    stored_names: Mapping[str, str] = field(default_factory=dict, repr=False)
    from_key: str = ""
    assumed: Mapping[str, str] = field(default_factory=dict)

    def as_loading_info(self) -> dict[str, Any]:
        """The dictionary that `from_pretrained(output_loading_info=True)` of the port returns."""
        replaced = {name for name, _, _ in self.mismatched}
        return {
            "missing_keys": set(self.fresh) - replaced,
            "unexpected_keys": set(self.dropped),
            "mismatched_keys": set(self.mismatched),
            "error_msgs": [],
        }

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors from {', '.join(path.name for path in self.files)}"]
        if self.from_key:
            parts.append(f"taken from {self.from_key!r}")
        for word, names in (("dropped", self.dropped), ("fresh", self.fresh), ("cast", self.cast)):
            if names:
                parts.append(f"{len(names)} {word}: {fold(names)}")
        if self.assumed:
            parts.append(f"assumed: {', '.join(self.assumed)}")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What differs between a file and a network, and what may be done about it.

    Attributes:
        base_prefix: name of the base model inside a network with a head ("vjepa2").
        dtype: element type of the parameters; None keeps the stored ones.
        place: device of a parameter, by its name.
        replace_mismatched: make mis-shaped tensors fresh instead of refusing them.
        fresh_predictor: make the predictor fresh, which the checkpoint must not have.
        look_at_values: refuse NaN, infinity and weights of zeros; reads the whole file.
        make_fresh: called with the names of parameters that need new values.
    """

    base_prefix: str
    make_fresh: Callable[[set[str]], None]
    dtype: torch.dtype | None = None
    place: Callable[[str], torch.device] = lambda name: torch.device("cpu")
    replace_mismatched: bool = False
    fresh_predictor: bool = False
    look_at_values: bool = False


def load_into(network: nn.Module, checkpoint: Checkpoint, plan: LoadPlan) -> LoadReport:
    """Fill a network that was built on the meta device.

    Args:
        network: all its parameters are replaced.
        checkpoint: from `read_checkpoint`.
        plan: see `LoadPlan`.

    Returns:
        What was dropped, made fresh and cast.

    Raises:
        CheckpointMismatchError: tensors are missing, unexpected, mis-shaped or not of a floating
            type; the message names the likely cause.
        CheckpointFormatError: values are NaN, infinite or zero throughout, see `LoadPlan`.
        ConfigError: finite values would be infinite in the element type that was asked for, or a
            fresh predictor was asked for where there is one.
    """
    assert not list(network.buffers()), "buffers would stay on the meta device"
    needed = network.state_dict(keep_vars=True)
    stored_names, dropped = _rename(network, needed, checkpoint.tensors, plan.base_prefix)
    found = {name: checkpoint.tensors[stored] for name, stored in stored_names.items()}
    fresh = _fresh_head(network, needed, found, plan.base_prefix)
    if plan.fresh_predictor:
        fresh |= _fresh_predictor(network, needed, found, plan.base_prefix)
    diff = Differences(
        needed=needed,
        found=found,
        missing=sorted(set(needed) - set(found) - set(fresh)),
        unexpected=sorted(set(found) - set(needed)),
        mismatched=sorted(
            name
            for name, tensor in found.items()
            if name in needed and not _same_kind(tensor, needed[name])
        ),
        translated=checkpoint.origin is not None,
    )
    if plan.replace_mismatched:
        for name, got, wanted in map(diff.describe, diff.mismatched):
            fresh[name] = f"the file has {got}, the network needs {wanted}"
    if diff.unexpected or diff.missing or set(diff.mismatched) - set(fresh):
        where = ", ".join(str(path) for path in checkpoint.paths[:3])
        raise diff.error(network=type(network).__name__, where=where)

    origin = checkpoint.origin or Origin()
    pages = FilePages(checkpoint.paths)
    stored_names = {
        name: origin.names.get(stored_names[name], stored_names[name])
        for name in needed
        if name not in fresh
    }
    if plan.look_at_values:
        values = {name: found[name] for name in stored_names}
        where = ", ".join(str(path) for path in checkpoint.paths)
        check_values(values, names=stored_names, where=where, pages=pages)
    cast = _assign(
        network, {name: found.get(name) for name in needed}, fresh=fresh, plan=plan, pages=pages
    )
    return LoadReport(
        files=checkpoint.paths,
        loaded=len(needed) - len(fresh),
        dropped={**origin.dropped, **dropped},
        fresh=fresh,
        cast=cast,
        mismatched=tuple(
            (name, tuple(found[name].shape), tuple(needed[name].shape)) for name in diff.mismatched
        ),
        stored_names=stored_names,
        from_key=origin.from_key,
    )


def stored_dtype(checkpoint: Checkpoint) -> torch.dtype | None:
    """Element type that holds all floating values of a checkpoint exactly; None without any."""
    found = {tensor.dtype for tensor in checkpoint.tensors.values() if tensor.dtype in FLOATS}
    return functools.reduce(torch.promote_types, found) if found else None


def _rename(
    network: nn.Module,
    needed: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    base_prefix: str,
) -> tuple[dict[str, str], dict[str, str]]:
    """The network's name to the stored name; and stored names that belong to a head it lacks."""
    dotted = f"{base_prefix}."
    has_head = hasattr(network, base_prefix)
    names: dict[str, str] = {}
    dropped: dict[str, str] = {}
    from_head = not has_head and any(name.startswith(dotted) for name in stored)
    for name in stored:
        # Names that fit nowhere keep their stored form, so that the message shows it.
        other = f"{dotted}{name}" if has_head else name.removeprefix(dotted)
        if from_head and name.startswith(HEADS):
            dropped[name] = f"part of a head; {type(network).__name__} has none"
        elif other in needed and other not in stored:
            names[other] = name
        else:
            names[name] = name
    return names, dropped


def _fresh_head(
    network: nn.Module, needed: Mapping[str, Tensor], found: Mapping[str, Tensor], base_prefix: str
) -> dict[str, str]:
    """Parameters of a head that the checkpoint of a base model cannot have, with the reason."""
    head = [name for name in needed if not name.startswith(f"{base_prefix}.")]
    if not hasattr(network, base_prefix) or any(name in found for name in head):
        return {}
    return dict.fromkeys(head, "the checkpoint is a base model without a head")


def _fresh_predictor(
    network: nn.Module, needed: Mapping[str, Tensor], found: Mapping[str, Tensor], base_prefix: str
) -> dict[str, str]:
    """Parameters of the predictor, with the reason."""
    start = f"{base_prefix}.predictor." if hasattr(network, base_prefix) else "predictor."
    parameters = [name for name in needed if name.startswith(start)]
    if not parameters:
        raise ConfigError(f"fresh_predictor=True, but {type(network).__name__} has no predictor.")
    if held := [name for name in found if name.startswith(start)]:
        raise ConfigError(
            f"fresh_predictor=True, but the checkpoint holds a predictor ({fold(held[:3])}, ...). "
            "Leave fresh_predictor out to load it."
        )
    return dict.fromkeys(parameters, "the checkpoint has none, and fresh_predictor=True")


def _same_kind(found: Tensor, needed: Tensor) -> bool:
    return found.shape == needed.shape and found.dtype in FLOATS


def _assign(
    network: nn.Module,
    found: dict[str, Tensor | None],
    *,
    fresh: Mapping[str, str],
    plan: LoadPlan,
    pages: FilePages,
) -> dict[str, str]:
    """Put every tensor in place; returns the casts."""
    owners = dict(network.named_modules())
    for name in fresh:
        owner, leaf = owners[name.rpartition(".")[0]], name.rpartition(".")[2]
        old = owner._parameters[leaf]
        assert old is not None
        empty = torch.empty(old.shape, dtype=plan.dtype or old.dtype, device="cpu")
        owner._parameters[leaf] = nn.Parameter(empty, requires_grad=old.requires_grad)
    if fresh:
        plan.make_fresh(set(fresh))
    cast = {}
    own_memory = _OwnMemory()
    for name, tensor in found.items():
        prefix, _, leaf = name.rpartition(".")
        owner = owners[prefix]
        old = owner._parameters[leaf]
        assert old is not None
        value = old.detach() if name in fresh or tensor is None else tensor
        dtype = plan.dtype or value.dtype
        if value.dtype != dtype:
            cast[name] = f"{_name(value.dtype)} -> {_name(dtype)}"
        placed = value.to(device=plan.place(name), dtype=dtype)
        if placed is not value:
            _check_range(name, value, placed)
            pages.give_back(value)
        else:
            placed = own_memory.of(placed)
        owner._parameters[leaf] = nn.Parameter(placed, requires_grad=old.requires_grad)
    return cast


class _OwnMemory:
    """Gives every parameter memory of its own.

    Two names in a pickle may share their values, or overlap: as parameters, training one would
    change the other. The first keeps the memory of the file, later ones are copied. Query, key and
    value of one fused matrix lie beside one another and stay where they are.
    """

    def __init__(self) -> None:
        self._taken: list[tuple[int, int]] = []

    def of(self, tensor: Tensor) -> Tensor:
        """`tensor`, or a copy of it."""
        size_bytes = tensor.numel() * tensor.element_size()
        if not size_bytes or tensor.is_meta:
            return tensor
        if not tensor.is_contiguous():
            return tensor.contiguous()  # one value may stand in several places
        first = tensor.data_ptr()
        place = bisect.bisect(self._taken, (first, first + size_bytes))
        before, after = self._taken[max(0, place - 1) : place], self._taken[place : place + 1]
        if any(stop > first for _, stop in before) or any(
            start < first + size_bytes for start, _ in after
        ):
            return tensor.clone()
        self._taken.insert(place, (first, first + size_bytes))
        return tensor


def _check_range(name: str, value: Tensor, cast: Tensor) -> None:
    """Refuse a cast that made infinity of finite values, as float16 does above 65504."""
    if 2 * torch.finfo(cast.dtype).max >= torch.finfo(value.dtype).max or cast.is_meta:
        return
    if not _finite(cast) and _finite(value):
        raise ConfigError(
            f"{name!r} holds values up to {float(value.abs().max()):.4g}; {_name(cast.dtype)} ends "
            f"at {torch.finfo(cast.dtype).max:.4g}, so they would become infinity. Load with "
            "dtype='bfloat16' or 'float32'."
        )


def _finite(tensor: Tensor) -> bool:
    # Smallest and largest need no second tensor, unlike isfinite; NaN shows in both.
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in torch.aminmax(tensor))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
