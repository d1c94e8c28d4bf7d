"""Published checkpoint files by name: `fetch("vitl.pt")` gives a path, downloaded on first use.

Files lie in `$VJEPA2_CACHE`, else `$XDG_CACHE_HOME/vjepa2`, else `~/.cache/vjepa2`, in the folder
`checkpoints`. They come from the mirrors in `VJEPA2_BASE_URL` (addresses separated by spaces, tried
in their order), then from `PUBLISHED_URL`. A file that was put there by hand is used as well.

Published files come without checksums, so the first download's SHA-256 is recorded beside the file
and verified from then on.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from vjepa2.errors import (
    CheckpointChangedError,
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    OutputError,
)
from vjepa2.weights.file_record import FileRecord, record_path, sha256_of
from vjepa2.weights.partial_file import PartialFile, disk_errors
from vjepa2.weights.signature import SUFFIXES, file_problem
from vjepa2.weights.transfer import AddressError, DownloadLimits, download
from vjepa2.weights.web_opener import URL_SCHEMES

PUBLISHED_URL = "https://dl.fbaipublicfiles.com/vjepa2/"
"""Where the authors of V-JEPA 2 publish their files."""

# Parts joined by "/", none beginning with a dot: never absolute, never "..", no drive letters.
_FILENAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_YES = {"1", "ON", "YES", "TRUE"}


def fetch(
    filename: str,
    *,
    base_urls: str | Sequence[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    sha256: str | None = None,
    limits: DownloadLimits | None = None,
    quiet: bool = False,
) -> Path:
    """Path of a published file, downloaded if it is not in the cache yet.

    Several processes may ask for the same file at once: one downloads, the others wait for it.

    Args:
        filename: relative name, such as "vitl.pt" or "evals/ssv2-vitl-16x2x3.pt".
        base_urls: addresses tried in their order, in place of the mirrors and `PUBLISHED_URL`.
        cache_dir: folder in place of `$VJEPA2_CACHE` and its defaults.
        local_files_only: make no request; also HF_HUB_OFFLINE=1 or VJEPA2_OFFLINE=1.
        sha256: hexadecimal checksum that the file must have, where it is known.
        limits: times and sizes; None for `DownloadLimits()`.
        quiet: show no progress.

    Raises:
        ConfigError: a file name, address or checksum is malformed.
        CheckpointNotFoundError: no address gives the file; the message lists each of them with
            its reason, and the path where to put the file by hand.
        CheckpointChangedError: the file is not the one that was recorded (or that `sha256` names).
        CheckpointFormatError: a file that was put there by hand is no checkpoint.
        OutputError: the disk is full or the cache cannot be written.
    """
    target = cached_path(filename, cache_dir=cache_dir)
    addresses = [f"{base}/{quote(filename)}" for base in _bases(base_urls)]
    expected = _checked_sha256(sha256)
    closed = _closed(local_files_only)
    if _is_ready(target, sha256=expected, quiet=quiet):
        return target
    if closed:
        raise CheckpointNotFoundError(
            f"{filename} is not in the cache, and no request was made because of {closed}. "
            f"Allow the download once. {_by_hand(target)}"
        )
    with _only_one_process(target, quiet=quiet):
        if not _is_ready(target, sha256=expected, quiet=quiet):
            _download_to(
                target, addresses, sha256=expected, limits=limits or DownloadLimits(), quiet=quiet
            )
    return target


def cached_path(filename: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where a published file is or will be; arguments as in `fetch`.

    Raises:
        ConfigError: the name is not relative, leaves the folder, or is no checkpoint's.
    """
    if not isinstance(filename, str) or not _FILENAME.fullmatch(filename):
        raise ConfigError(
            f"{filename!r} is not the name of a published file: give a relative name of letters, "
            "digits, '.', '-', '_' and '/', such as 'vitl.pt'."
        )
    if not filename.endswith(SUFFIXES):
        raise ConfigError(
            f"{filename!r} is not the name of a checkpoint: it must end with {', '.join(SUFFIXES)}."
        )
    return _cache_folder(cache_dir) / "checkpoints" / filename


def _cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    if own := os.environ.get("VJEPA2_CACHE"):
        return Path(own).expanduser().absolute()
    # The XDG standard says that a relative path there is to be ignored.
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "vjepa2"
    try:
        return Path.home() / ".cache" / "vjepa2"
    except RuntimeError as error:
        raise ConfigError(
            "This user has no home folder. Name a folder for downloads in VJEPA2_CACHE."
        ) from error


def _bases(base_urls: str | Sequence[str] | None) -> list[str]:
    """Addresses to try, in their order, each once and without a slash at the end."""
    if base_urls is None:
        bases = [*os.environ.get("VJEPA2_BASE_URL", "").split(), PUBLISHED_URL]
    else:
        bases = base_urls.split() if isinstance(base_urls, str) else list(base_urls)
    if not bases:
        raise ConfigError("base_urls is empty: give at least one http(s) address.")
    for base in bases:
        parts = urlsplit(base)
        if parts.scheme not in URL_SCHEMES or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(
                f"{base!r} is not the address of a mirror: it must be like "
                "'https://host/folder', without '?' and '#'."
            )
        if "@" in parts.netloc:
            raise ConfigError(
                f"The address of the mirror {parts.hostname} holds a user name. Mirrors that ask "
                "for a password are not supported; download by other means and put the file into "
                "the cache by hand."
            )
    return list(dict.fromkeys(base.rstrip("/") for base in bases))


def _checked_sha256(sha256: str | None) -> str | None:
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}.")
    return None if sha256 is None else sha256.lower()


def _closed(local_files_only: bool) -> str:
    """Why no request may be made; empty when one may."""
    if local_files_only:
        return "local_files_only=True"
    for name in ("VJEPA2_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").upper() in _YES:
            return f"{name}={os.environ[name]}"
    return ""


def _is_ready(target: Path, *, sha256: str | None, quiet: bool) -> bool:
    """Whether the file is there; then it is the recorded one, or it is recorded now.

    Raises:
        CheckpointChangedError, CheckpointFormatError: see `fetch`.
    """
    with disk_errors(target):
        if not target.exists():
            return False
        if not target.is_file():
            raise CheckpointFormatError(f"{target} is not a file. Move it away and try again.")
        record = FileRecord.beside(target)
        if record is None:
            record = _record_by_hand(target, quiet=quiet)
        elif not record.is_untouched(target):
            record = _record_again(target, record, quiet=quiet)
    if sha256 not in (None, record.sha256):
        raise CheckpointChangedError(
            f"{target} has the SHA-256 {record.sha256}, but {sha256} is expected. "
            f"Delete it and {record_path(target).name}, and it is downloaded again."
        )
    return True


def _record_by_hand(target: Path, *, quiet: bool) -> FileRecord:
    if problem := file_problem(target, name=target.name):
        raise CheckpointFormatError(
            f"{target} is not a checkpoint: {problem}. Put the right file there, or delete it."
        )
    record = FileRecord.of(target, sha256=sha256_of(target, quiet=quiet), url=None, etag=None)
    record.write_if_possible(target)
    return record


def _record_again(target: Path, record: FileRecord, *, quiet: bool) -> FileRecord:
    """The record of a file whose time or size changed, if its content did not."""
    size_bytes = target.stat().st_size
    sha256 = sha256_of(target, quiet=quiet) if size_bytes == record.size_bytes else ""
    if sha256 != record.sha256:
        now = f"SHA-256 {sha256}" if sha256 else f"{size_bytes} bytes"
        was = f"SHA-256 {record.sha256}" if sha256 else f"{record.size_bytes} bytes"
        raise CheckpointChangedError(
            f"{target} changed since it was recorded ({record.downloaded}): it had {was}, now it "
            f"has {now}. Delete it to download it again, or, if the change is yours, delete "
            f"{record_path(target).name} beside it."
        )
    fresh = FileRecord.of(target, sha256=sha256, url=record.url, etag=record.etag)
    fresh.write_if_possible(target)
    return fresh


@contextlib.contextmanager
def _only_one_process(target: Path, *, quiet: bool) -> Iterator[None]:
    """Hold the lock of one file; the operating system frees it when its process dies."""
    import filelock

    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2)
        except filelock.Timeout:
            if not quiet:
                sys.stderr.write(f"Another process downloads {target.name}; waiting for it.\n")
            lock.acquire()
        except NotImplementedError as error:
            raise OutputError(
                f"The disk of {target.parent} does not support locks, so downloads of several "
                "processes could mix. Choose a folder on another disk with VJEPA2_CACHE."
            ) from error
    try:
        yield
    finally:
        lock.release()


def _download_to(
    target: Path, addresses: list[str], *, sha256: str | None, limits: DownloadLimits, quiet: bool
) -> None:
    """Fill `target` from the first address that gives the file; the caller holds the lock."""
    record = FileRecord.beside(target)
    recorded = None if record is None else record.sha256
    tried: dict[str, str] = {}
    changed = False
    for address in addresses:
        try:
            partial = download(address, target, limits=limits, quiet=quiet)
        except AddressError as error:
            tried[address] = error.reason
            continue
        if partial.sha256 == (sha256 or recorded or partial.sha256):
            _keep(partial, target)
            return
        changed = True
        tried[address] = f"wrong bytes: SHA-256 {partial.sha256}"
        partial.discard()
    raise _no_address(target, tried, record=record, sha256=sha256, changed=changed)


def _keep(partial: PartialFile, target: Path) -> None:
    """Record the complete file, then let it appear; other partial files of it are not needed."""
    # The record goes first: a file that others can see always has one.
    with disk_errors(target):
        record = FileRecord.of(
            partial.path, sha256=partial.sha256, url=partial.url, etag=partial.etag
        )
    record.write(target)
    partial.finish(target)
    for leftover in target.parent.glob(f"{target.name}.*.partial*"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _no_address(
    target: Path,
    tried: dict[str, str],
    *,
    record: FileRecord | None,
    sha256: str | None,
    changed: bool,
) -> CheckpointNotFoundError | CheckpointChangedError:
    lines = "".join(f"\n  {address}: {reason}" for address, reason in tried.items())
    if changed and sha256 is not None:
        return CheckpointChangedError(
            f"No address gives {target.name} with the SHA-256 {sha256}. Tried:{lines}\n"
            f"Name another mirror in VJEPA2_BASE_URL. {_by_hand(target)}"
        )
    if changed and record is not None:
        return CheckpointChangedError(
            f"{target.name} changed since it was first downloaded ({record.downloaded}, SHA-256 "
            f"{record.sha256}). Tried:{lines}\n"
            f"To accept the new file delete {record_path(target)} and try again."
        )
    kept = [path for path in target.parent.glob(f"{target.name}.*.partial") if path.stat().st_size]
    rest = "What arrived is kept; the next call goes on from there. " if kept else ""
    return CheckpointNotFoundError(
        f"Cannot download {target.name}. Tried:{lines}\n{rest}Name another mirror in "
        f"VJEPA2_BASE_URL (addresses separated by spaces). {_by_hand(target)}"
    )


def _by_hand(target: Path) -> str:
    return f"Or put the file by hand at {target}"
