"""Write weights as safetensors, in one file or in shards with an index.

File names, split and index are those of the Hugging Face port: `model.safetensors`, or
`model-00001-of-00003.safetensors` ... with `model.safetensors.index.json`; with a variant such as
`fp16` the word follows `model`, or stands before `.json`.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vjepa2.errors import ConfigError, OutputError, check_kind
from vjepa2.files import as_new_file


def write_weights(
    tensors: Mapping[str, Tensor],
    folder: Path,
    *,
    max_shard_size: str | int,
    variant: str | None,
    num_parameters: int,
) -> list[str]:
    """Write all tensors into an existing folder and wait until they are on the disk.

    Args:
        tensors: by name; on any device but meta.
        folder: where the files go; the caller makes it appear in one step.
        max_shard_size: bytes, or a string such as "5GB"; a larger checkpoint is split, a single
            larger tensor is not.
        variant: infix of the file names, such as "fp16"; None for none.
        num_parameters: written into the index.

    Returns:
        Names of the written files.

    Raises:
        ConfigError: `max_shard_size` is not a size, or `variant` not a plain word.
        OutputError: the disk is full, or the folder cannot be written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    infix = _infix(variant)
    _check_size(max_shard_size)
    split = split_torch_state_dict_into_shards(
        dict(sorted(tensors.items())),  # so that equal weights give equal shards
        filename_pattern=f"model{infix}{{suffix}}.safetensors",
        max_shard_size=max_shard_size,
    )
    for filename, names in split.filename_to_tensors.items():
        try:
            save_file(
                _separate({name: tensors[name] for name in names}),
                folder / filename,
                metadata={"format": "pt"},
            )
        except SafetensorError as error:
            raise OutputError(f"Cannot write {folder / filename}: {error}.") from error
        as_new_file(folder / filename)
        _wait_for_disk(folder / filename)
    written = list(split.filename_to_tensors)
    if split.is_sharded:
        index = {
            "metadata": {"total_parameters": num_parameters, **split.metadata},
            "weight_map": split.tensor_to_filename,
        }
        name = f"model.safetensors.index{infix}.json"
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
        _wait_for_disk(folder / name)
        written.append(name)
    return written


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, each with memory of its own: the format cannot express shared memory."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        value = tensor.detach().contiguous()
        where = value.untyped_storage().data_ptr()
        separate[name] = value.clone() if where in seen else value
        seen.add(where)
    return separate


def outdated_weights(folder: Path, *, written: list[str], variant: str | None) -> list[Path]:
    """Weights files of an earlier save in `folder` that a reader would mix up with the new ones."""
    infix = re.escape(_infix(variant))
    own = re.compile(
        rf"model{infix}(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index{infix}\.json"
    )
    return [
        path for path in folder.iterdir() if own.fullmatch(path.name) and path.name not in written
    ]


def all_values(network: torch.nn.Module) -> dict[str, Tensor]:
    """State dict of a network whose parameters all hold values.

    Raises:
        OutputError: accelerate keeps some of them elsewhere and streams them in.
    """
    tensors: dict[str, Tensor] = network.state_dict()
    if away := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise OutputError(
            f"{len(away)} parameters, such as {away[0]!r}, are streamed from the disk or host "
            "memory and hold no values to save. Load the model again without device_map; the "
            "weights are memory-mapped, so this takes no more memory."
        )
    return tensors


def _infix(variant: str | None) -> str:
    check_kind("variant", variant, (str, NoneType), words="text, or None")
    if variant is not None and not re.fullmatch(r"[\w-]+", variant):
        raise ConfigError(
            f"variant={variant!r} must be a word of letters, digits, _ and -, such as 'fp16'."
        )
    return f".{variant}" if variant else ""


def _check_size(size: str | int) -> None:
    valid = (
        bool(re.fullmatch(r"\s*[\d.]+\s*[KMGT]B\s*", size, re.IGNORECASE))
        if isinstance(size, str)
        else type(size) is int and size > 0
    )
    if not valid:
        raise ConfigError(
            f"max_shard_size={size!r} is not a size. Give bytes or a string such as '5GB'."
        )


def _wait_for_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
