"""Writing results so that a reader never sees half a file."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vjepa2.errors import OutputError, check_path


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it replaces `target` in one step.

    The parent folder is made. When the block raises, `target` keeps its old content and the
    temporary file is removed.

    Raises:
        ConfigError: `target` is no path.
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    check_path("The file to write", target)
    final = Path(target)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept: some writers choose their format by it.
        handle, name = tempfile.mkstemp(
            prefix=f".{final.stem[:40]}.", suffix=final.suffix, dir=final.parent
        )
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise OutputError(f"Cannot write {final}: {_reason(error)}.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        as_new_file(temporary)  # mkstemp makes private files; results are shared ones
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(final)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"Cannot write {final}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def as_new_file(path: Path) -> None:
    """Give a file the permissions that a new one gets here: some writers make private ones."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


@contextlib.contextmanager
def atomic_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder; on success each file in it moves into `target`.

    Each file is replaced in one step; files of an existing `target` that the block did not write
    stay. When the block raises, `target` is unchanged.

    Raises:
        ConfigError: `target` is no path.
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    check_path("The folder to write", target)
    final = Path(target)
    try:
        if final.exists() and not final.is_dir():
            raise OutputError(f"Cannot write into {final}: it is a file, not a folder.")
        final.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=final))
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"Cannot write into {final}: {_reason(error)}.") from error
    try:
        yield temporary
        for item in sorted(temporary.iterdir()):
            item.replace(final / item.name)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"Cannot write into {final}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as sorted, indented JSON, atomically."""
    with atomic_path(target) as path:
        path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
