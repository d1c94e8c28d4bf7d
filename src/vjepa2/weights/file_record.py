"""What is known of a downloaded file, kept in a small JSON beside it: `vitl.pt.record.json`.

Published checkpoints come without checksums. The SHA-256 of the first download is therefore
recorded, and a later download, or a file that was touched since, must have the same one.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from vjepa2.errors import OutputError
from vjepa2.files import write_json
from vjepa2.progress import track

MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One checkpoint file as it was when it was recorded.

    Attributes:
        sha256: hexadecimal checksum of the whole file.
        size_bytes: its length.
        url: where it came from; None for a file that was put there by hand.
        etag: the server's own mark of this version of the file, if it gave one.
        downloaded: time in UTC, ISO 8601.
        mtime_ns: time of the file's last change; a file with this time and size is not read again.
    """

    sha256: str
    size_bytes: int
    url: str | None
    etag: str | None
    downloaded: str
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, *, sha256: str, url: str | None, etag: str | None) -> Self:
        """Record of the file at `path` as it is now."""
        status = path.stat()
        return cls(
            sha256=sha256,
            size_bytes=status.st_size,
            url=url,
            etag=etag,
            downloaded=datetime.now(UTC).isoformat(timespec="seconds"),
            mtime_ns=status.st_mtime_ns,
        )

    @classmethod
    def beside(cls, path: Path) -> Self | None:
        """The record of the file `path`, or None: there is none, or it is damaged."""
        values = read_object(record_path(path))
        names = [field.name for field in fields(cls)]
        if not all(name in values for name in names):
            return None
        record = cls(**{name: values[name] for name in names})
        whole = isinstance(record.sha256, str) and isinstance(record.size_bytes, int)
        return record if whole else None

    def write(self, path: Path) -> None:
        """Store the record beside `path`.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json(record_path(path), asdict(self))

    def write_if_possible(self, path: Path) -> None:
        """As `write`; in a folder that may only be read, the file is checked again next time."""
        with contextlib.suppress(OutputError):
            self.write(path)

    def is_untouched(self, path: Path) -> bool:
        """Whether size and time of change are still the recorded ones."""
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def record_path(path: Path) -> Path:
    """Where the record of the file `path` lies."""
    return path.with_name(f"{path.name}.record.json")


def read_object(path: Path) -> dict[str, Any]:
    """Content of a JSON file that holds an object; empty when there is none or it is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def sha256_of(path: Path, *, quiet: bool) -> str:
    """Hexadecimal SHA-256 of a file, with progress in MiB.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    blocks = track(
        file_blocks(path),
        total=-(-path.stat().st_size // MEBIBYTE),
        description=f"Checking {path.name} (MiB)",
        quiet=quiet,
    )
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def file_blocks(path: Path) -> Iterator[bytes]:
    """Content of a file in blocks of one MiB; the last one may be shorter."""
    with path.open("rb", buffering=0) as file:
        while block := file.read(MEBIBYTE):
            yield block
