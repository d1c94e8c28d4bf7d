"""WebDataset shards: plain tar files, of which any member is read where it lies.

A tar file is read by its headers once. After that a sample is a place in a shard, so it can be
drawn at random like any other file, and the order of samples stays a function of the seed; nothing
is unpacked to the disk, and no name inside a shard is used as a path.
"""

import io
import json
import os
import tarfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from vjepa2.data.sample import FileRef
from vjepa2.data.suffixes import file_kind
from vjepa2.errors import DataNotFoundError, ListError, VideoNotFoundError, VideoOpenError

MAX_LABEL_BYTES = 1 << 20
LABEL_SUFFIXES = (".cls", ".json")


class Member(NamedTuple):
    """A video, image or array in a shard.

    Attributes:
        name: inside the shard.
        offset, size_bytes: where its bytes lie.
        label: from the `.cls` or `.json` of the same sample; None without one.
    """

    name: str
    offset: int
    size_bytes: int
    label: int | None


def read_shard(path: Path, *, label_key: str = "label") -> list[Member]:
    """List the clips of a shard, in its order.

    A sample is what shares a name up to the first dot behind the last slash, as WebDataset has it:
    `a/7.mp4` and `a/7.cls`. Links, devices and files of other kinds are passed over.

    Args:
        path: an uncompressed tar file.
        label_key: of the class in `.json` members.

    Raises:
        DataNotFoundError: no such file.
        ListError: it is no tar file, is compressed, or is cut off.
    """
    labels: dict[str, int] = {}
    clips: list[tuple[str, Member]] = []
    try:
        size = path.stat().st_size
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as shard:
            for item in shard:
                if not item.isreg() or item.issparse():
                    continue
                end = item.offset_data + item.size
                if end > size:
                    raise ListError(
                        f"{path} is cut off: {item.name} ends at byte {end} of {size}. Copy the "
                        "shard again."
                    )
                key = _sample_key(item.name)
                if item.name[len(key) :].lower() in LABEL_SUFFIXES:
                    label = _read_label(shard, item, label_key=label_key)
                    if label is not None:
                        labels[key] = label
                elif file_kind(item.name) is not None:
                    clips.append((key, Member(item.name, item.offset_data, item.size, None)))
    except FileNotFoundError as error:
        raise DataNotFoundError(f"There is no shard at {path}. Check the spelling.") from error
    except (OSError, tarfile.TarError) as error:
        if isinstance(error, ListError):
            raise
        raise ListError(
            f"{path} cannot be read as a tar file: {error}. Compressed shards (.tar.gz) have no "
            "random access: unpack them with gunzip."
        ) from error
    return [member._replace(label=labels.get(key)) for key, member in clips]


def _sample_key(name: str) -> str:
    """Name up to the first dot behind the last slash."""
    start = name.rfind("/") + 1
    dot = name.find(".", start)
    return name if dot < 0 else name[:dot]


def _read_label(shard: tarfile.TarFile, item: tarfile.TarInfo, *, label_key: str) -> int | None:
    """The class in a `.cls` (a number) or `.json` (an object with `label_key`) member."""
    if item.size > MAX_LABEL_BYTES:
        return None
    file = shard.extractfile(item)
    text = file.read() if file is not None else b""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = value.get(label_key)
    is_label = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return value if is_label else None


class Section(io.RawIOBase):
    """A part of a file as a file of its own, read only."""

    def __init__(self, path: str, offset: int, size_bytes: int, name: str) -> None:
        super().__init__()
        self.name = f"{path}!{name}"
        self._offset = offset
        self._size = size_bytes
        self._at = 0
        try:
            self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115  # closed with this
        except FileNotFoundError as error:
            raise VideoNotFoundError(f"There is no shard at {path}.") from error
        except OSError as error:
            raise VideoOpenError(f"The shard {path} cannot be opened: {error}.") from error

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """Any place of it can be read."""
        return True

    def tell(self) -> int:
        """Place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the beginning, from here or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, all that are left by default."""
        left = max(0, self._size - self._at)
        count = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._offset + self._at)
        data = self._file.read(count) or b""
        self._at += len(data)
        return data

    def close(self) -> None:
        """Close the file below."""
        if not self.closed:
            self._file.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_section(ref: FileRef) -> bytes:
    """All bytes of a member of a shard."""
    with Section(ref.path, ref.offset, ref.size_bytes, ref.member) as section:
        return section.read()
