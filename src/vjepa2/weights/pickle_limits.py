"""Bounds on what PyTorch's reader of pickles is given.

That reader is plain Python: it takes a second and more per megabyte, whether those are tensors or
numbers that someone wrote there to keep it busy. Released files have well under one megabyte of
pickle beside their tensors.
"""

import io
import zipfile
from pathlib import Path

from vjepa2.errors import CheckpointFormatError

MAX_PICKLE_BYTES = 8 << 20
"""Most bytes of pickle in one file; enough for the names and optimizer state of 30,000 tensors."""


def check_zip(path: Path) -> None:
    """Refuse a zip whose tensors cannot be mapped, or whose pickle is too long to read.

    Raises:
        CheckpointFormatError: entries are compressed, there is no pickle, or it is too long.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if entries and f"{entries[0].filename.partition('/')[0]}/constants.pkl" in {
        entry.filename for entry in entries
    }:
        return  # a TorchScript program, whose code is compressed: torch refuses it unread
    packed = next((entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        # Mapped memory would show the packed bytes as if they were values.
        raise CheckpointFormatError(
            f"{path} is a zip with compression ({packed.filename!r}); torch.save writes none. "
            "Something packed it again: unpack it and zip it with `zip -0`, or write it again with "
            "torch.save(torch.load(path, weights_only=True), new_path)."
        )
    pickles = [entry for entry in entries if is_pickle_entry(entry.filename)]
    if not pickles:
        shown = ", ".join(entry.filename for entry in entries[:4]) or "nothing"
        raise CheckpointFormatError(
            f"{path} is a zip, but not one that torch.save wrote: it holds no data.pkl (but "
            f"{shown}). Unpack it, if the checkpoint is inside."
        )
    if (size_bytes := max(entry.file_size for entry in pickles)) > MAX_PICKLE_BYTES:
        raise _too_long(path, f"{size_bytes} bytes")


def is_pickle_entry(filename: str) -> bool:
    """Whether an entry of a zip is the pickle that `torch.save` writes: `archive/data.pkl`."""
    return filename.rpartition("/")[2] == "data.pkl"


class LimitedReader(io.BufferedReader):
    """An old pickle without a zip around it; tensors behind it are not read through here.

    Raises, while it is read:
        CheckpointFormatError: the pickle is too long.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path = path
        self._left = MAX_PICKLE_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """As of a file; counts the bytes."""
        # Without a size everything is read, and that is more than a pickle asks for.
        self._left -= MAX_PICKLE_BYTES + 1 if size is None or size < 0 else size
        if self._left < 0:
            raise _too_long(self._path, f"more than {MAX_PICKLE_BYTES} bytes")
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """As of a file; counts the bytes."""
        line = super().readline(MAX_PICKLE_BYTES if size is None or size < 0 else size)
        self._left -= len(line)
        return line


def _too_long(path: Path, size: str) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"{path} holds {size} of pickle beside its tensors, which would take minutes to read; "
        f"released files have less than {MAX_PICKLE_BYTES >> 20} MiB. Keep only the networks: "
        "torch.save({'encoder': ..., 'predictor': ...}, new_path)."
    )
