"""Tensors on disk, in parts: one safetensors file per process, and where each row lies.

The files are ordinary safetensors files. They are written tensor by tensor, so that saving needs no
second copy of the state in memory, with a checksum made on the way.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vjepa2.errors import CheckpointFormatError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
READ_BYTES = 1 << 22


class FileFacts(NamedTuple):
    """Size and checksum (CRC-32) of a file."""

    num_bytes: int
    checksum: int


def write_part(path: Path, tensors: Mapping[str, Tensor]) -> FileFacts:
    """Write tensors as one safetensors file and wait until it is on the disk.

    Args:
        path: a new file.
        tensors: by name, on any device, of a type in `DTYPES`.

    Raises:
        OSError: the disk is full or not writable.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of 8 bytes
    with path.open("xb") as file:
        checksum = _write(file, len(text).to_bytes(8, "little") + text, 0)
        for tensor in tensors.values():
            checksum = _write(file, _bytes_of(tensor), checksum)
        file.flush()
        os.fsync(file.fileno())
    return FileFacts(path.stat().st_size, checksum)


def _write(file: BinaryIO, data: Any, checksum: int) -> int:
    file.write(data)
    return zlib.crc32(data, checksum)


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def file_facts(path: Path) -> FileFacts:
    """Size and checksum of a file as it is now.

    Raises:
        OSError: it cannot be read.
    """
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            checksum = zlib.crc32(block, checksum)
    return FileFacts(path.stat().st_size, checksum)


class Rows(NamedTuple):
    """Rows start..stop of a tensor, all that one file has of it; 0..1 for a scalar."""

    file: str
    start: int
    stop: int


class StoredTensor(NamedTuple):
    """Type ("float32"), shape of the whole, and where its rows are, in order."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Rows, ...]


class PartReader:
    """Reads rows of tensors out of the part files of one folder; files are opened once."""

    def __init__(self, folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
        self._folder, self._tensors = folder, tensors
        self._files: dict[str, Any] = {}

    def read_into(self, target: Tensor, name: str, start: int) -> None:
        """Fill `target` with the rows of a stored tensor from `start` on.

        Args:
            target: this process's rows, or a scalar; changed in place.
            name: of the stored tensor, whose shape and type the caller has compared.
            start: number of the first row.

        Raises:
            CheckpointFormatError: the file does not hold what the index says.
        """
        stored = self._tensors[name]
        if not stored.shape:
            target.copy_(self._tensor(stored.parts[0].file, name, stored, ()))
            return
        stop = start + target.shape[0]
        for part in stored.parts:
            first, last = max(start, part.start), min(stop, part.stop)
            if first >= last:
                continue
            shape = (part.stop - part.start, *stored.shape[1:])
            rows = self._tensor(part.file, name, stored, shape, first - part.start, last - first)
            target[first - start : last - start].copy_(rows)

    def _tensor(
        self,
        file: str,
        name: str,
        stored: StoredTensor,
        shape: tuple[int, ...],
        start: int = 0,
        count: int = 0,
    ) -> Tensor:
        try:
            if file not in self._files:
                self._files[file] = safe_open(self._folder / file, framework="pt")
            source = self._files[file].get_slice(name)
            found = (tuple(source.get_shape()), source.get_dtype())
            wanted = (shape, DTYPES[getattr(torch, stored.dtype)])
            if found != wanted:
                raise CheckpointFormatError(
                    f"{self._folder / file}: {name} is {found}, the index says {wanted}."
                )
            if shape:
                rows: Tensor = source[start : start + count]
                return rows
            whole: Tensor = self._files[file].get_tensor(name)
            return whole
        except (OSError, SafetensorError) as error:
            raise CheckpointFormatError(f"{self._folder / file} is damaged: {error}.") from error
