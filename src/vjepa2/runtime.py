"""Where computation runs: devices, element types and what this machine offers.

Functions import torch inside, so that `vjepa2 --help` stays quick.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2.errors import ConfigError, check_kind, nearest_hint

if TYPE_CHECKING:
    import torch

DTYPE_NAMES = ("float32", "float16", "bfloat16", "float64")


def resolve_dtype(dtype: "str | torch.dtype") -> "torch.dtype":
    """Turn `"float16"`, `"torch.float16"` or a floating `torch.dtype` into a `torch.dtype`.

    Raises:
        ConfigError: the name is not one of `DTYPE_NAMES`.
    """
    import torch

    name = str(dtype).removeprefix("torch.")
    if name not in DTYPE_NAMES:
        raise ConfigError(f"dtype {dtype!r} does not exist. {nearest_hint(name, DTYPE_NAMES)}")
    resolved = getattr(torch, name)
    assert isinstance(resolved, torch.dtype)
    return resolved


def resolve_device(device: "str | int | torch.device | None" = None) -> "torch.device":
    """Return the device asked for, or the best one at hand: cuda, then mps, then cpu.

    Raises:
        ConfigError: the device does not exist on this machine.
    """
    import torch

    if device is None or (isinstance(device, str) and device == "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if type(device) is not int:  # True is one for Python, but no device
        check_kind("device", device, (str, torch.device), words="a device's name or number")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"Device {device!r} cannot be used here: {reason}. "
            "Allowed: auto, cpu, and the accelerators this torch build sees."
        ) from error
    return resolved


def resident_bytes() -> int:
    """Memory that this process holds now; where a system does not tell, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
