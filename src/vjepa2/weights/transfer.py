"""Bring one file from one http(s) address into a folder, or say why that address cannot give it.

The bytes go to `<name>.<address>.partial`. What came stays when the connection breaks or the
process dies, and the next attempt asks the server for the rest; it asks in a way that a server
whose file has changed meanwhile sends the whole new file instead (`If-Range`). No silence lasts
longer than `DownloadLimits.timeout_seconds`, and no attempt is repeated without end.
"""

import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vjepa2.errors import ConfigError, OutputError
from vjepa2.progress import track
from vjepa2.weights.file_record import MEBIBYTE
from vjepa2.weights.partial_file import PartialFile, Version, disk_errors
from vjepa2.weights.signature import HEAD_BYTES, file_problem, head_problem
from vjepa2.weights.web_opener import RedirectRefused, web_opener

# Answers that another attempt may turn into the file; all others go on to the next address.
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT_SECONDS = 60.0
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True, kw_only=True)
class DownloadLimits:
    """How long and how much; all above 0, except `retries` and `backoff_seconds` (0 or more).

    Attributes:
        timeout_seconds: longest silence of a server, while connecting and between bytes.
        min_bytes_per_second: slower than this over `timeout_seconds` counts as silence.
        retries: attempts after the first one that may fail in a row, none of them bringing a MiB
            more than was there before; then the next address has its turn.
        backoff_seconds: pause before the first retry; each further pause is twice as long.
        max_bytes: largest file (default 64 GiB; the largest published one has about 30).
        min_free_bytes: what must stay free on the disk.

    Raises:
        ConfigError: a limit is not such a number.
    """

    timeout_seconds: float = 30.0
    min_bytes_per_second: float = 1024.0
    retries: int = 4
    backoff_seconds: float = 1.0
    max_bytes: int = 64 * 2**30
    min_free_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            may_be_zero = field.name in ("retries", "backoff_seconds")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (value > 0 or (may_be_zero and value == 0)):
                words = "0 or more" if may_be_zero else "above 0"
                raise ConfigError(
                    f"DownloadLimits.{field.name} must be a number {words}, got {value!r}."
                )


class AddressError(Exception):
    """An address cannot give the file; caught here and by `fetch`, never shown to users.

    Attributes:
        reason: for the list of addresses tried.
        passing: whether another attempt may succeed.
        wait_seconds: how long the server asks to wait first.
    """

    def __init__(self, reason: str, *, passing: bool, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.wait_seconds = wait_seconds


def download(url: str, target: Path, *, limits: DownloadLimits, quiet: bool) -> PartialFile:
    """Bring the file at `url` completely into a partial file beside `target`.

    Args:
        url: http or https address.
        target: final path; its folder exists. The caller moves the partial file there.
        limits: time and size.
        quiet: show no progress.

    Raises:
        AddressError: this address cannot give the file.
        OutputError: the disk is full or the folder cannot be written.
    """
    partial = PartialFile(target, url, quiet=quiet)
    failures, furthest = 0, partial.size_bytes
    while True:
        try:
            if not partial.is_complete:
                _attempt(url, partial, limits=limits, quiet=quiet)
            _check_whole(partial, target)
            return partial
        except AddressError as error:
            if partial.size_bytes >= furthest + MEBIBYTE:
                failures, furthest = 0, partial.size_bytes
            if not error.passing:
                raise
            if failures >= limits.retries:
                attempts = f" ({failures + 1} attempts)" if failures else ""
                raise AddressError(f"{error.reason}{attempts}", passing=False) from error
            pause = max(error.wait_seconds, limits.backoff_seconds * 2**failures)
            time.sleep(min(pause, _LONGEST_WAIT_SECONDS))
            failures += 1


def _attempt(url: str, partial: PartialFile, *, limits: DownloadLimits, quiet: bool) -> None:
    """One request; what arrives is appended to the partial file."""
    headers = {"User-Agent": "vjepa2", "Accept-Encoding": "identity", **partial.resume_headers()}
    request = urllib.request.Request(url, headers=headers)
    opener = web_opener(headers_within_seconds=2 * limits.timeout_seconds)
    try:
        with opener.open(request, timeout=limits.timeout_seconds) as response:
            total_bytes = _begin(response, partial, limits=limits)
            arriving = _whole_mebibytes(response, partial, limits=limits)
            for _ in track(
                arriving,
                total=-(-total_bytes // MEBIBYTE),
                description=f"Downloading {partial.name} (MiB)",
                quiet=quiet,
            ):
                pass
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE:
            partial.discard()
            raise AddressError("the file changed on the server", passing=True) from error
        raise AddressError(
            _printable(f"{error.code} {error.reason}"),
            passing=error.code in _PASSING_STATUS,
            wait_seconds=_seconds(error.headers.get("Retry-After")),
        ) from error
    except RedirectRefused as error:
        raise AddressError(_printable(str(error)), passing=False) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise _network_failure(error, limits) from error
    if not partial.is_complete:
        raise AddressError(
            f"the connection ended after {partial.size_bytes} of {total_bytes} bytes", passing=True
        )


def _begin(response: Any, partial: PartialFile, *, limits: DownloadLimits) -> int:
    """Decide from the answer's headers where its bytes belong; return the size of the whole file.

    A server that ignores the range, or whose file changed, answers 200: all begins again.
    """
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        raise AddressError("wrong bytes: the server compresses the file", passing=False)
    if response.status == _PARTIAL_CONTENT:
        total_bytes = _resumed_total(headers, partial)
        _check_space(partial, total_bytes - partial.size_bytes, limits)
    else:
        total_bytes = _number(headers.get("Content-Length"))
        if total_bytes < 0:
            raise AddressError("the server does not say how long the file is", passing=False)
        if total_bytes > limits.max_bytes:
            raise AddressError(
                f"{total_bytes} bytes are more than the limit of {limits.max_bytes} "
                "(DownloadLimits.max_bytes)",
                passing=False,
            )
        head = response.read(HEAD_BYTES)  # fewer only at the end of the answer
        if len(head) == min(HEAD_BYTES, total_bytes):
            problem = head_problem(partial.name, head, size_bytes=total_bytes)
            if problem:
                raise AddressError(f"wrong bytes: {problem}", passing=False)
        partial.discard()
        _check_space(partial, total_bytes, limits)
        version = Version(headers.get("ETag"), headers.get("Last-Modified"), total_bytes)
        partial.begin(version, head)
    return total_bytes


def _resumed_total(headers: Any, partial: PartialFile) -> int:
    """Size of the whole file from an answer that holds the rest of it."""
    place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", "").strip())
    first, last, total_bytes = map(int, place.groups()) if place else (-1, -1, -1)
    expected = (partial.size_bytes, total_bytes - 1, partial.total_bytes)
    if (first, last, total_bytes) != expected or not partial.same_etag(headers.get("ETag")):
        partial.discard()
        raise AddressError("the file changed on the server", passing=True)
    return total_bytes


def _whole_mebibytes(
    response: Any, partial: PartialFile, *, limits: DownloadLimits
) -> Iterator[None]:
    """Append what arrives; one item for every MiB of the file that is there, the last one too."""
    shown = 0
    window_start, window_bytes = time.monotonic(), partial.size_bytes
    with partial.opened() as file:
        while True:
            while shown < partial.size_bytes // MEBIBYTE:
                shown += 1
                yield
            # read1 returns what has arrived; read would wait for the whole block.
            block = response.read1(min(MEBIBYTE, partial.total_bytes - partial.size_bytes))
            if not block:
                break
            partial.append(file, block)
            elapsed = time.monotonic() - window_start
            if elapsed >= limits.timeout_seconds:
                speed = (partial.size_bytes - window_bytes) / elapsed
                if speed < limits.min_bytes_per_second and not partial.is_complete:
                    raise AddressError(f"too slow: {speed:.0f} bytes per second", passing=True)
                window_start, window_bytes = time.monotonic(), partial.size_bytes
    if partial.is_complete and partial.size_bytes % MEBIBYTE:
        yield


def _check_space(partial: PartialFile, needed_bytes: int, limits: DownloadLimits) -> None:
    with disk_errors(partial.path):
        free_bytes = shutil.disk_usage(partial.path.parent).free
    if free_bytes < needed_bytes + limits.min_free_bytes:
        raise OutputError(
            f"The disk of {partial.path.parent} has {_gigabytes(free_bytes)} free; {partial.name} "
            f"needs {_gigabytes(needed_bytes)} more, and {_gigabytes(limits.min_free_bytes)} stay "
            "free. Make room, or choose another folder with VJEPA2_CACHE."
        )


def _check_whole(partial: PartialFile, target: Path) -> None:
    """Refuse, and delete, a file that arrived completely but is not a complete checkpoint."""
    with disk_errors(partial.path):
        problem = file_problem(partial.path, name=target.name)
    if problem:
        partial.discard()
        raise AddressError(f"wrong bytes: {problem}", passing=False)


def _network_failure(error: BaseException, limits: DownloadLimits) -> AddressError:
    """What went wrong between here and the server, in words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return AddressError(f"timed out: silent for {limits.timeout_seconds:g} s", passing=True)
    if isinstance(cause, ConnectionRefusedError):
        return AddressError("connection refused", passing=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return AddressError(
            f"its certificate is not trusted: {cause.verify_message}", passing=False
        )
    words = str(cause).strip() or type(cause).__name__
    return AddressError(_printable(words), passing=not isinstance(cause, ValueError))


def _printable(text: str) -> str:
    """What a server wrote, safe for a terminal and not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]


def _number(text: str | None) -> int:
    """A whole number from a header; -1 for anything else."""
    return int(text) if text and re.fullmatch(r"\d{1,18}", text.strip()) else -1


def _seconds(text: str | None) -> float:
    return float(max(0, _number(text)))


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"
