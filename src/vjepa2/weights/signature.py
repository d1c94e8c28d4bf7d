"""Is this file what its name says? Told from its first bytes and from how it ends.

A mirror that is out of order often answers with a web page and "200 OK", or hands out a copy that
was cut off. Both are noticed here, before the bytes take the place of a checkpoint.
"""

import json
import zipfile
from pathlib import Path
from typing import BinaryIO

from vjepa2.weights.pickle_limits import is_pickle_entry

PICKLE_SUFFIXES = (".pt", ".pth", ".tar", ".bin")
SUFFIXES = (*PICKLE_SUFFIXES, ".safetensors")
"""Endings of the names of checkpoint files."""

HEAD_BYTES = 9
"""How many first bytes `head_problem` looks at."""

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library


def head_problem(name: str, head: bytes, *, size_bytes: int) -> str:
    """Why a file that begins with `head` cannot be the checkpoint `name`; "" when it can.

    Args:
        name: file name; its ending tells what is expected.
        head: the first `HEAD_BYTES` bytes, fewer when the file is shorter.
        size_bytes: length of the whole file.
    """
    if not head:
        return "it is empty"
    if name.endswith(".safetensors"):
        header_bytes = int.from_bytes(head[:8], "little")
        right = head[8:9] == b"{" and header_bytes <= min(_MAX_HEADER_BYTES, size_bytes - 8)
        kind = "a safetensors file"
    else:
        right, kind = head.startswith((_ZIP, _PICKLE)), "a file written by torch"
    if right:
        return ""
    if head.lstrip()[:1] == b"<":
        return "it is a web page, no checkpoint"
    return f"it begins with {head!r}, not like {kind}"


def file_problem(path: Path, *, name: str) -> str:
    """Why the whole file at `path` cannot be the checkpoint `name`; "" when it can.

    Beside the first bytes this looks at the length that the format itself tells: the directory at
    the end of a zip, which must name a pickle, the offsets in the header of a safetensors file.
    Old pickles tell none.

    Raises:
        OSError: the file cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if problem := head_problem(name, head, size_bytes=size_bytes):
            return problem
        if name.endswith(".safetensors"):
            whole = _ends_where_its_header_says(file, size_bytes=size_bytes)
        else:
            names = _names_in_zip(file) if head.startswith(_ZIP) else ["data.pkl"]
            whole = names is not None
            if names is not None and not any(map(is_pickle_entry, names)):
                return f"it is a zip of other things ({', '.join(names[:4])}), without a data.pkl"
    return "" if whole else f"it is cut off or damaged ({size_bytes} bytes)"


def _names_in_zip(file: BinaryIO) -> list[str] | None:
    """What a zip holds; None when it is not whole."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None


def _ends_where_its_header_says(file: BinaryIO, *, size_bytes: int) -> bool:
    """Whether the tensors of a safetensors file end exactly at the end of the file."""
    file.seek(0)
    header_bytes = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(header_bytes))
        ends = [
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        ]
        return bool(8 + header_bytes + max(ends, default=0) == size_bytes)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
