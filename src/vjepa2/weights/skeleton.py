"""Build a network without memory for its parameters and without initialising them."""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# In-place fillers that constructors and initialisation tables call (torch.nn.init and Tensor).
_FILLERS = frozenset(
    {
        "constant_",
        "copy_",
        "div_",
        "fill_",
        "kaiming_uniform_",
        "mul_",
        "normal_",
        "ones_",
        "trunc_normal_",
        "uniform_",
        "xavier_uniform_",
        "zero_",
        "zeros_",
    }
)


class Skeleton(TorchFunctionMode):
    """Inside this context `torch.empty` makes tensors on the meta device and nothing fills them.

    `torch.device("meta")` alone would still run every initialiser, on tensors without values: for
    ViT-L that takes ten times as long, and the first in-place division imports sympy (0.5 s).
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by PyTorch in place of every function of its own."""
        options = dict(kwargs or {})
        if func is torch.empty:
            options["device"] = "meta"
        elif func.__name__ in _FILLERS:
            target = args[0] if args else options["tensor"]
            if target.is_meta:
                return target
        return func(*args, **options)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Hold Python's cycle collector while thousands of lasting objects are made at once.

    Their number alone would start a full collection, which walks everything imported so far and
    finds nothing (0.1 s of the 0.15 s that the first load of ViT-L takes).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
