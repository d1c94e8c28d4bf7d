"""What this machine offers: versions, devices, decoders and the models at hand."""

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vjepa2._version import __version__
from vjepa2.errors import MissingExtraError
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.runtime import resolve_device
from vjepa2.video.container import import_av
from vjepa2.video.torchcodec_decoder import import_video_decoder
from vjepa2.weights.hub import SHIPPED, shipped_folder

PACKAGES = (
    "torch",
    "numpy",
    "safetensors",
    "huggingface_hub",
    "av",
    "pydantic",
    "accelerate",
    "torchcodec",
    "pyarrow",
    "transformers",
)
"""Shown with their versions; the last four are optional."""


@dataclass(frozen=True, kw_only=True)
class ModelAtHand:
    """A model that runs without a download.

    Attributes:
        name: what to pass as `model`.
        where: folder of its files.
        size_bytes: of the files.
    """

    name: str
    where: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Facts about this machine; see the fields.

    Attributes:
        versions: of this package, Python and others; None for what is not installed.
        system: operating system and machine.
        cpu: vector instructions that torch uses.
        cores: processors this process may use.
        threads: threads that torch uses for one operation.
        devices: every device torch can use, the one that is taken by default first, with its name
            and memory in bytes (None for the CPU).
        decoders: what decodes video, with the versions of its libraries; None for what is not
            installed or does not load.
        models: at hand in this package and in the cache of the hub.
    """

    versions: dict[str, str | None]
    system: str
    cpu: str
    cores: int
    threads: int
    devices: list[dict[str, Any]]
    decoders: dict[str, str | None]
    models: list[ModelAtHand]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{name} {version or '(not installed)'}" for name, version in self.versions.items()
        ]
        memory = [device["memory_bytes"] for device in self.devices]
        devices = [
            f"{device['device']}: {device['name']}" + (f", {size / 2**30:.0f} GiB" if size else "")
            for device, size in zip(self.devices, memory, strict=True)
        ]
        decoders = [f"{name}: {text or 'not available'}" for name, text in self.decoders.items()]
        models = [f"{m.name} ({m.size_bytes / 1e6:.0f} MB in {m.where})" for m in self.models]
        return "\n".join(
            [
                _section("Versions", lines),
                _section("Machine", [self.system, f"CPU: {self.cpu}, {self.cores} processors"]),
                _section("Devices (the first is the default)", devices),
                _section("Threads of one operation", [str(self.threads)]),
                _section("Decoders", decoders),
                _section("Models at hand", models),
            ]
        )


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)])


def describe_environment() -> Environment:
    """Look at this machine. Nothing is downloaded."""
    return Environment(
        versions={
            "vjepa2": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        system=platform.platform(),
        cpu=torch.backends.cpu.get_cpu_capability(),
        cores=_cores(),
        threads=torch.get_num_threads(),
        devices=_devices(),
        decoders=_decoders(),
        models=[*_shipped_models(), *_cached_models()],
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _devices() -> list[dict[str, Any]]:
    devices: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        devices.append(
            {"device": f"cuda:{index}", "name": facts.name, "memory_bytes": facts.total_memory}
        )
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU", "memory_bytes": None})
    devices.append({"device": "cpu", "name": platform.machine(), "memory_bytes": None})
    assert devices[0]["device"].startswith(resolve_device().type)
    return devices


def _decoders() -> dict[str, str | None]:
    av = import_av()
    libraries = ", ".join(
        f"{name} {'.'.join(map(str, av.library_versions[name]))}"
        for name in ("libavcodec", "libavformat")
    )
    return {"PyAV": f"{_version('av')} ({libraries})", "torchcodec": _torchcodec()}


def _torchcodec() -> str | None:
    # Installed is not enough: it loads FFmpeg's libraries of the system when it is imported.
    try:
        import_video_decoder()
    except MissingExtraError:
        return None
    return _version("torchcodec")


def _shipped_models() -> list[ModelAtHand]:
    folders = {name: shipped_folder(name) for name in SHIPPED}
    return [
        ModelAtHand(name=name, where=str(folder), size_bytes=_size_of(folder))
        for name, folder in folders.items()
        if folder.is_dir()
    ]


def _cached_models() -> list[ModelAtHand]:
    """V-JEPA 2 models in the cache of the hub, complete or not."""
    from huggingface_hub import constants

    found = []
    for config in sorted(Path(constants.HF_HUB_CACHE).glob(f"models--*/snapshots/*/{CONFIG_NAME}")):
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        except (OSError, ValueError, AttributeError):
            continue
        if kind == VJEPA2Config.model_type:
            repository = config.parents[2].name.removeprefix("models--").replace("--", "/")
            found.append(
                ModelAtHand(
                    name=repository, where=str(config.parent), size_bytes=_size_of(config.parent)
                )
            )
    return found


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
