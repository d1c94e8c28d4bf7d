"""A download in progress: the bytes that came, and which version of the server's file they are.

Two files: `<name>.<address>.partial` and its `.json`. `<address>` is a short hash of the address,
so that what one mirror sent is never continued with the bytes of another.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vjepa2.errors import OutputError
from vjepa2.files import write_json
from vjepa2.weights.file_record import file_blocks, read_object


class Version(NamedTuple):
    """What a server says of its file; another ETag, date or size is another file."""

    etag: str | None
    last_modified: str | None
    total_bytes: int

    @property
    def validator(self) -> str | None:
        """The mark that `If-Range` may carry; weak ETags may not stand there."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.last_modified


class PartialFile:
    """The bytes of one address that have come so far, hashed as they come.

    Attributes:
        name: name of the finished file.
        path: where the bytes lie.
        url: where they come from.
    """

    def __init__(self, target: Path, url: str, *, quiet: bool) -> None:
        """Take up what an earlier attempt left, also one of a process that was killed.

        Raises:
            OutputError: the folder cannot be read or written.
        """
        mark = hashlib.sha256(url.encode()).hexdigest()[:8]
        self.name = target.name
        self.url = url
        self.path = target.with_name(f"{target.name}.{mark}.partial")
        self._about = self.path.with_name(f"{self.path.name}.json")
        self._version = Version(None, None, -1)
        self._forget()
        with disk_errors(self.path):
            self._take_up()

    def _forget(self) -> None:
        self.size_bytes = 0
        self._hash = hashlib.sha256()

    def _take_up(self) -> None:
        about = read_object(self._about)
        etag, date = about.get("etag"), about.get("last_modified")
        total_bytes = about.get("total_bytes")
        if about.get("url") != self.url or not isinstance(total_bytes, int):
            return
        if not (isinstance(etag, str | None) and isinstance(date, str | None)):
            return
        version = Version(etag, date, total_bytes)
        size_bytes = self.path.stat().st_size if self.path.is_file() else 0
        # Without a mark of the version nobody can tell whether the rest would fit.
        if version.validator is None or not 0 < size_bytes <= total_bytes:
            return
        self._version = version
        for block in file_blocks(self.path):
            self._hash.update(block)
            self.size_bytes += len(block)

    @property
    def total_bytes(self) -> int:
        """Size of the finished file; -1 before a server said it."""
        return self._version.total_bytes

    @property
    def etag(self) -> str | None:
        """The server's mark of this version of the file."""
        return self._version.etag

    @property
    def sha256(self) -> str:
        """Checksum of the bytes that are there."""
        return self._hash.hexdigest()

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return self.size_bytes == self.total_bytes

    def same_etag(self, etag: str | None) -> bool:
        """Whether an answer belongs to the version that is here (or does not say)."""
        return etag is None or self.etag is None or etag == self.etag

    def resume_headers(self) -> dict[str, str]:
        """Request headers that ask for the rest, if the file is still the same one."""
        validator = self._version.validator
        if not self.size_bytes or validator is None:
            return {}
        return {"Range": f"bytes={self.size_bytes}-", "If-Range": validator}

    def begin(self, version: Version, head: bytes) -> None:
        """Begin with the first bytes of a file of that version; `discard` was called before.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json(self._about, {"url": self.url, **version._asdict()})
        self._version = version
        with self.opened() as file:
            self.append(file, head)

    def opened(self) -> BinaryIO:
        """The file, open for `append`.

        Raises:
            OutputError: it cannot be written.
        """
        with disk_errors(self.path):
            return self.path.open("ab", buffering=0)

    def append(self, file: BinaryIO, block: bytes) -> None:
        """Write the bytes that come next.

        Raises:
            OutputError: the disk is full.
        """
        with disk_errors(self.path):
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
        self._hash.update(block)
        self.size_bytes += len(block)

    def finish(self, target: Path) -> None:
        """Move the complete file to its place in one step.

        Raises:
            OutputError: it cannot be moved.
        """
        with disk_errors(target):
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            self.path.replace(target)
            self._about.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete what came."""
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            self._about.unlink(missing_ok=True)
        self._version = Version(None, None, -1)
        self._forget()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Failures of the disk as `OutputError`, with what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"Cannot read or write {path}: {error.strerror or error}. Make room there, or "
            "choose another folder with VJEPA2_CACHE."
        ) from error
