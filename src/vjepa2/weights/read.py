"""Read the tensors of a checkpoint without running code in it and without copying it.

Files, in the order they are looked for (as the Hugging Face port does): `model.safetensors`,
`model.safetensors.index.json` with its shards, `pytorch_model.bin`,
`pytorch_model.bin.index.json`. With a variant such as `fp16` the names are
`model.fp16.safetensors` and `model.safetensors.index.fp16.json`.

Tensors are views of the memory-mapped file (private, copy-on-write): reading a 1.3 GB file takes
milliseconds, pages come in when a value is first used, and writing to a tensor never changes the
file. Values are not looked at here; `weights/values.py` does that for files given by their own
path.
"""

import json
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vjepa2.errors import CheckpointFormatError, CheckpointNotFoundError, UnsafeCheckpointError
from vjepa2.weights.hub import FolderSource, Source
from vjepa2.weights.pickle_limits import LimitedReader, check_zip

# How torch names the class or function that a pickle asks for beyond tensors and containers.
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_PICKLE_SCAN_BYTES = 1 << 20
# torch's reader of pickles is plain Python over untrusted bytes: garbage surfaces as any of these
# (found by mutating files; tests/weights/test_read.py).
_READER_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)
ENCODER_KEYS = ("target_encoder", "ema_encoder", "encoder")
"""Sub-dictionaries of original files that hold an encoder, the preferred one first."""
_ORIGINAL_KEYS = {*ENCODER_KEYS, "predictor", "classifiers", "opt", "epoch"}


@dataclass(frozen=True)
class Origin:
    """Where in an original training checkpoint tensors lay, and what became of the rest.

    Attributes:
        from_key: sub-dictionary of the encoder, such as "target_encoder"; "" in a file without.
        names: our name to the name in the file.
        dropped: name in the file to the reason why it is not needed.
    """

    from_key: str = ""
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the file each of them lies in.

    Attributes:
        tensors: by name.
        files: name to its file.
        origin: for tensors of a file that was renamed; None when names are those of the file.
    """

    tensors: dict[str, Tensor]
    files: dict[str, Path]
    origin: Origin | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file, once, in the order of first use."""
        return tuple(dict.fromkeys(self.files.values()))


def read_checkpoint(source: Source, *, variant: str | None = None) -> Checkpoint:
    """Read all weights of a model.

    Args:
        source: folder or repository, from `open_source`.
        variant: infix of the file names, such as "fp16".

    Raises:
        CheckpointNotFoundError: there is no weights file, or an index names a missing one.
        CheckpointFormatError: a file is truncated, is no checkpoint, or an index is wrong.
        UnsafeCheckpointError: a pickle would run code; nothing of it was run.
    """
    infix = f".{variant}" if variant else ""
    single = (f"model{infix}.safetensors", f"pytorch_model{infix}.bin")
    index = (f"model.safetensors.index{infix}.json", f"pytorch_model.bin.index{infix}.json")
    for filename, index_name in zip(single, index, strict=True):
        if path := source.find(filename):
            tensors = read_tensors(path)
            return Checkpoint(tensors, dict.fromkeys(tensors, path))
        if path := source.find(index_name):
            return _read_shards(source, path)
    raise CheckpointNotFoundError(_no_weights(source, [*single, *index], variant=variant))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Memory-map the tensors of one `.safetensors` or `.bin` file.

    Raises:
        CheckpointFormatError, UnsafeCheckpointError: see `read_checkpoint`.
    """
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointFormatError(_damaged(path, error)) from error


def read_content(path: Path) -> Any:
    """What a `.pt`, `.pth`, `.tar` or `.bin` file holds: containers, numbers and mapped tensors.

    Raises:
        CheckpointFormatError, UnsafeCheckpointError: see `read_checkpoint`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd pickles; our error says it
            if zipfile.is_zipfile(path):
                check_zip(path)
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with LimitedReader(path) as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointFormatError:
        raise
    except _READER_ERRORS as error:
        # torch wraps the reader's own message in advice to load the file unsafely; look inside.
        inner = error.__context__ if isinstance(error, pickle.UnpicklingError) else None
        reason = inner or error
        if what := _code_in(path, str(reason)):
            raise UnsafeCheckpointError(
                f"{path} was not loaded: it holds more than tensors ({what}), and reading that "
                "would run code. Ask its author for a .safetensors file."
            ) from error
        raise CheckpointFormatError(_damaged(path, reason)) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content = read_content(path)
    if not isinstance(content, dict):
        raise CheckpointFormatError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors by name."
        )
    strangers = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers or not all(isinstance(key, str) for key in content):
        hint = ""
        if _ORIGINAL_KEYS & set(strangers):
            hint = (
                " These are the parts of an original V-JEPA training checkpoint: give this file's "
                "own path in place of the folder."
            )
        raise CheckpointFormatError(
            f"{path} must map names to tensors; these entries are something else: "
            f"{', '.join(strangers[:8])}.{hint}"
        )
    return content


def _read_shards(source: Source, index_path: Path) -> Checkpoint:
    weight_map = _weight_map(index_path)
    shards: dict[str, list[str]] = {}
    for name, filename in weight_map.items():
        shards.setdefault(filename, []).append(name)
    tensors: dict[str, Tensor] = {}
    files: dict[str, Path] = {}
    for filename, names in shards.items():
        path = source.find(filename)
        if path is None:
            raise CheckpointNotFoundError(
                f"{index_path} names the file {filename!r}, which {source.name} does not have. "
                "Copy or download it again."
            )
        found = read_tensors(path)
        lost = sorted(set(names) - set(found))
        if lost:
            raise CheckpointFormatError(
                f"{index_path} says that {filename!r} holds {', '.join(lost[:5])}"
                f"{f' and {len(lost) - 5} more' if len(lost) > 5 else ''}, but it does not. "
                "Index and shards belong to different checkpoints; copy all of them again."
            )
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise CheckpointFormatError(f"{path} holds {twice[0]!r}, which another shard has too.")
        tensors.update(found)
        files.update(dict.fromkeys(found, path))
    return Checkpoint(tensors, files)


def _weight_map(index_path: Path) -> dict[str, str]:
    try:
        content = json.loads(index_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointFormatError(
            f"{index_path} is not valid JSON ({error}). Copy or download it again."
        ) from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointFormatError(f"{index_path} has no 'weight_map' from names to files.")
    for name, filename in weight_map.items():
        # A file elsewhere on the disk is never part of a checkpoint: refuse paths.
        plain = (
            isinstance(filename, str)
            and PurePosixPath(filename).name == filename
            and "\\" not in filename
            and filename.endswith((".safetensors", ".bin"))
        )
        if not plain:
            raise CheckpointFormatError(
                f"{index_path} places {name!r} in {filename!r}; only the plain name of a "
                ".safetensors or .bin file beside the index is allowed. Do not trust this folder."
            )
    return weight_map


def _no_weights(source: Source, tried: list[str], *, variant: str | None) -> str:
    message = f"{source.name} has no weights: looked for {', '.join(tried)}. "
    if isinstance(source, FolderSource):
        present = list(_weight_like(source.folder))
        message += f"Similar files there: {', '.join(present) or 'none'}. "
    if variant:
        return message + f"Is variant={variant!r} right? Leave it out for the plain file names."
    return message + "Give the folder or repository that save_pretrained wrote."


def _weight_like(folder: Path) -> Iterator[str]:
    endings = (".safetensors", ".bin", ".pt", ".pth", ".index.json")
    return (entry.name for entry in sorted(folder.iterdir()) if entry.name.endswith(endings))


def _damaged(path: Path, error: BaseException) -> str:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        why = "it is a Git LFS pointer; fetch the real file with `git lfs pull`"
    elif start.lstrip()[:1] == b"<":
        why = "it looks like a web page; the download link was wrong"
    elif size_bytes == 0:
        why = "it is empty"
    else:
        why = f"truncated or of another format ({_first_line(error)})"
    return (
        f"{path} ({size_bytes} bytes) is not a complete checkpoint: {why}. "
        "Copy or download it again."
    )


def _code_in(path: Path, reason: str) -> str:
    """What a refused pickle wanted to call; empty when the file is merely damaged."""
    if forbidden := _FORBIDDEN_GLOBAL.search(reason):
        return forbidden.group(1)
    if "TorchScript" in reason:
        return "a TorchScript program"
    if "Unsupported operand" not in reason:
        return ""
    # A pickle of a newer protocol than PyTorch writes. Listing its steps runs nothing.
    with path.open("rb") as file:
        start = file.read(_PICKLE_SCAN_BYTES)
    try:
        for step, argument, _ in pickletools.genops(start):
            if step.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                return str(argument or "a class or function")
    except (ValueError, LookupError, EOFError, OverflowError, struct.error):
        return ""
    return ""


def _first_line(error: BaseException) -> str:
    text = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0][:300]
