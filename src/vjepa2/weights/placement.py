"""Which device each part of a network goes to (`device_map`).

One device needs nothing but PyTorch. Several devices, or parts that stay in host memory or on the
disk until they are needed, are the work of `accelerate` (an extra). "auto" takes the best single
device when the weights fit its free memory, and asks accelerate otherwise.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vjepa2.errors import ConfigError, MissingExtraError, OutputError, check_kind, nearest_hint
from vjepa2.runtime import resolve_device
from vjepa2.weights.read import Checkpoint

Device = str | int | torch.device
DeviceMap = Device | Mapping[str, Device]
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
# Room kept free on a device for activations when "auto" decides whether the weights fit.
MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Placement:
    """Device per module name; "" stands for the whole network, "disk" for streaming."""

    devices: dict[str, Device]

    @property
    def single(self) -> torch.device | None:
        """The one device of the whole network, or None when parts must be dispatched."""
        values = {str(device) for device in self.devices.values()}
        if len(values) > 1 or "disk" in values:
            return None
        return resolve_device(next(iter(self.devices.values())))

    def of(self, name: str) -> torch.device:
        """Device on which a parameter is first put; host memory for streamed ones."""
        single = self.single
        if single is not None:
            return single
        return torch.device("cpu" if self.is_streamed(name) else self._assigned(name))

    def is_streamed(self, name: str) -> bool:
        """Whether a parameter is read from the disk whenever it is used."""
        return self._assigned(name) == "disk"

    def _assigned(self, name: str) -> Device:
        # The longest matching module name decides.
        return self.devices[max((key for key in self.devices if _covers(key, name)), key=len)]


def choose_placement(
    network: nn.Module,
    device_map: DeviceMap | None,
    *,
    dtype: torch.dtype | None,
    max_memory: Mapping[Device, int | str] | None = None,
    no_split: Iterable[str] = (),
) -> Placement:
    """Turn what the user asked for into devices per module.

    Args:
        network: built on the meta device; only names and sizes are read.
        device_map: None (PyTorch's default device), a device, one of `STRATEGIES`, or a mapping
            from module names to devices, "cpu" or "disk".
        dtype: element type that the parameters will have.
        max_memory: most bytes per device for the strategies, such as {0: "10GB", "cpu": "30GB"}.
        no_split: class names of modules that must not be divided.

    Raises:
        ConfigError: a device or module does not exist, or modules are left without a device.
        MissingExtraError: accelerate is needed and not installed.
    """
    if max_memory is not None and not (isinstance(device_map, str) and device_map in STRATEGIES):
        raise ConfigError(
            f"max_memory works only with device_map= one of {', '.join(STRATEGIES)}; got "
            f"device_map={device_map!r}."
        )
    if max_memory is not None:
        check_kind("max_memory", max_memory, Mapping, words="a dictionary of devices to bytes")
        for device, limit in max_memory.items():
            _check_memory(device, limit)
    if device_map is None:
        return Placement({"": torch.get_default_device()})
    if isinstance(device_map, Mapping):
        return Placement(_checked_map(network, device_map))
    if device_map not in STRATEGIES:
        return Placement({"": resolve_device(device_map)})
    if max_memory is None and torch.cuda.device_count() <= 1:
        device = resolve_device("auto")
        if _size_bytes(network, dtype) <= MEMORY_SHARE * _free_bytes(device):
            return Placement({"": device})
    accelerate = import_accelerate(f"device_map={device_map!r} over several devices")
    limits = None if max_memory is None else dict(max_memory)
    classes = list(no_split)
    if device_map != "sequential":
        limits = accelerate.utils.get_balanced_memory(
            network,
            max_memory=limits,
            no_split_module_classes=classes,
            dtype=dtype,
            low_zero=device_map == "balanced_low_0",
        )
    devices = accelerate.infer_auto_device_map(
        network, max_memory=limits, no_split_module_classes=classes, dtype=dtype
    )
    return Placement(dict(devices))


def _check_memory(device: object, limit: object) -> None:
    as_text = isinstance(limit, str) and re.fullmatch(r"[\d.]+\s*[KMGT]i?B", limit, re.IGNORECASE)
    if not as_text and (type(limit) is not int or limit < 0):
        raise ConfigError(
            f"max_memory[{device!r}]={limit!r} is not a size. Give bytes or text such as '10GB'."
        )


def dispatch(
    network: nn.Module,
    placement: Placement,
    checkpoint: Checkpoint,
    *,
    stored_names: Mapping[str, str],
    offload_folder: str | os.PathLike[str] | None,
    keep_together: Iterable[str],
) -> None:
    """Let accelerate move inputs and stream weights between the devices of `placement`.

    Args:
        network: parameters are where `Placement.of` says.
        placement: of several devices.
        checkpoint: parts on "disk" are read from its safetensors files at every use.
        stored_names: parameter name to the name in the file.
        offload_folder: where parts on "disk" are written, into a new folder of their own, if the
            checkpoint is a pickle.
        keep_together: class names whose weights are all brought in before they run.

    Raises:
        ConfigError: parts go to "disk", the checkpoint is a pickle, and no folder is given.
        OutputError: `offload_folder` cannot be written.
        MissingExtraError: accelerate is not installed.
    """
    accelerate = import_accelerate("a device_map over several devices")
    on_disk = "disk" in {str(device) for device in placement.devices.values()}
    renamed = checkpoint.origin is not None and bool(checkpoint.origin.names)
    streamable = not renamed and all(path.suffix == ".safetensors" for path in checkpoint.paths)
    if on_disk and not streamable and offload_folder is None:
        raise ConfigError(
            "device_map puts modules on 'disk', which needs offload_folder= because the weights "
            "are a pickle or have Meta's names. Or save them with save_pretrained first."
        )
    streamed = {
        name: str(parameter.dtype).removeprefix("torch.")
        for name, parameter in network.named_parameters()
        if placement.is_streamed(name)
    }
    if new := sorted(set(streamed) - set(stored_names)):
        raise ConfigError(
            f"device_map puts {new[0]!r} on 'disk', but its fresh values are in no file. Give its "
            "module another device."
        )
    index = {
        name: {
            "safetensors_file": str(checkpoint.files[stored_names[name]]),
            "weight_name": stored_names[name],
            "dtype": dtype_name,
        }
        for name, dtype_name in streamed.items()
        if streamable
    }
    devices, own_folder = dict(placement.devices), None
    if on_disk and not streamable:
        assert offload_folder is not None
        own_folder = _new_folder(offload_folder)
        if "" in devices:  # which accelerate writes nothing for
            devices = {name: devices[""] for name, _ in network.named_children()}
    accelerate.dispatch_model(
        network,
        device_map=devices,
        offload_dir=own_folder,
        offload_index=index if on_disk and streamable else None,
        preload_module_classes=list(keep_together),
    )


def _new_folder(parent: str | os.PathLike[str]) -> str:
    """A new folder inside `parent`.

    Without one accelerate takes what an earlier load left there for this network's weights.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        Path(parent).mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="weights-", dir=parent)
    except OSError as error:
        raise OutputError(
            f"offload_folder={os.fspath(parent)!r} cannot be written: {error.strerror}."
        ) from error


def import_accelerate(needed_for: str) -> Any:
    """The accelerate package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import accelerate
    except ImportError as error:
        raise MissingExtraError(
            "accelerate", extra="accelerate", needed_for=needed_for, reason=str(error)
        ) from error
    return accelerate


def _covers(module_name: str, parameter: str) -> bool:
    return module_name in ("", parameter) or parameter.startswith(f"{module_name}.")


def _checked_map(network: nn.Module, device_map: Mapping[str, Device]) -> dict[str, Device]:
    parameters = [name for name, _ in network.named_parameters()]
    known = {name for name, _ in network.named_modules()} | set(parameters)
    for name, device in device_map.items():
        check_kind("A name in device_map", name, str, words="text, the name of a module")
        if name not in known:
            raise ConfigError(
                f"device_map names the module {name!r}, which {type(network).__name__} does not "
                f"have. {nearest_hint(name, [n for n in known if n.count('.') <= 1 and n])}"
            )
        if device != "disk":
            resolve_device(device)
    left = [name for name in parameters if not any(_covers(key, name) for key in device_map)]
    if left:
        raise ConfigError(
            f"device_map gives no device for {left[0]!r} and {len(left) - 1} more parameters. "
            "Add their modules, or '' for everything else."
        )
    return _disjoint(network, "", device_map, inherited=None)


def _disjoint(
    module: nn.Module, name: str, device_map: Mapping[str, Device], *, inherited: Device | None
) -> dict[str, Device]:
    """The same map without entries inside one another, which accelerate does not support."""
    device = device_map.get(name, inherited)
    inside = [key for key in device_map if key != name and _covers(name, key)]
    if not inside:
        return {} if device is None else {name: device}
    devices: dict[str, Device] = {}
    dot = f"{name}." if name else ""
    for leaf, _ in module.named_parameters(recurse=False):
        own = device_map.get(f"{dot}{leaf}", device)
        assert own is not None
        devices[f"{dot}{leaf}"] = own
    for leaf, child in module.named_children():
        devices |= _disjoint(child, f"{dot}{leaf}", device_map, inherited=device)
    return devices


def _size_bytes(network: nn.Module, dtype: torch.dtype | None) -> int:
    return sum(
        parameter.numel() * (dtype or parameter.dtype).itemsize
        for parameter in network.parameters()
    )


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float("inf")  # host memory: the file is mapped and pages come and go
