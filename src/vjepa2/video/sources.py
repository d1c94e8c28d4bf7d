"""What a caller may name as a video, turned into one seekable binary file.

A path, bytes, an open binary file and an http(s) URL all become the same thing: a Python file that
can seek. The decoder never sees a name, so no name can be taken for a protocol, a pattern or a
playlist. A URL is downloaded to a temporary file first: exact frame numbers need the whole file
anyway, and a file on disk can be limited in bytes and seconds.
"""

import http.client
import io
import os
import stat
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from vjepa2.errors import (
    InputError,
    VideoAccessError,
    VideoError,
    VideoNotFoundError,
    VideoOpenError,
    VideoTooLargeError,
    VJEPAError,
    described,
)
from vjepa2.video.limits import ReadLimits

COPY_CHUNK_BYTES = 1 << 20
URL_SCHEMES = ("http", "https")
HTTP_ERRORS: dict[int, type[VideoError]] = {
    401: VideoAccessError,
    403: VideoAccessError,
    404: VideoNotFoundError,
    410: VideoNotFoundError,
}


@runtime_checkable
class BinaryFile(Protocol):
    """The one method that an open binary file must have; `seek` and `tell` are used if present."""

    def read(self, size: int = -1, /) -> Any:
        """Return up to `size` bytes."""
        ...


VideoSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryFile


@dataclass(frozen=True)
class OpenedSource:
    """A seekable binary file and what is known of it.

    Attributes:
        file: positioned anywhere; decoders seek to 0.
        name: for messages.
        size_bytes: length of the file.
        owned: True where `close` also closes `file`.
    """

    file: IO[bytes]
    name: str
    size_bytes: int
    owned: bool

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.owned:
            self.file.close()


def path_text(path: os.PathLike[Any]) -> str:
    """The text of a path object.

    Raises:
        InputError: the object gives something that is neither text nor bytes.
    """
    try:
        return os.fsdecode(path)
    except TypeError as error:
        raise InputError(f"A {type(path).__name__} gives no path: {error}.") from error


def as_folder(source: VideoSource) -> Path | None:
    """Return the path if `source` names an existing folder, else None.

    Raises:
        VideoNotFoundError: empty text, which would be the current folder.
    """
    if isinstance(source, str) and not source:
        raise VideoNotFoundError("The path of the video is empty. Give a file, a folder or a URL.")
    if isinstance(source, str | os.PathLike) and not is_url(source):
        path = Path(source if isinstance(source, str) else path_text(source))
        try:
            return path if path.is_dir() else None
        except (OSError, ValueError):  # a name too long, or with a null byte
            return None
    return None


def is_url(source: object) -> bool:
    """True for text that begins with a scheme and two slashes."""
    return isinstance(source, str) and "://" in source[:12]


def open_source(source: VideoSource, *, limits: ReadLimits) -> OpenedSource:
    """Open a path, bytes, binary file or http(s) URL for reading.

    Raises:
        VideoNotFoundError, VideoAccessError: no such file or URL, or it may not be read.
        VideoOpenError: empty, or not a regular file, or the download failed.
        VideoTooLargeError: the download passes `limits.max_download_bytes`.
        InputError: `source` is none of these kinds.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        opened = _open_bytes(source)
    elif isinstance(source, str) and is_url(source):
        opened = _download(source, limits=limits)
    elif isinstance(source, str | os.PathLike):
        opened = _open_path(Path(source if isinstance(source, str) else path_text(source)))
    elif isinstance(source, io.TextIOBase):
        raise InputError("The file is open as text. Open it with mode 'rb'.")
    elif isinstance(source, BinaryFile):
        opened = _open_file_object(source, limits=limits)
    else:
        raise InputError(
            f"A video must be a path, an http(s) URL, bytes or an open binary file, got "
            f"{type(source).__name__}."
        )
    if opened.size_bytes == 0:
        opened.close()
        raise VideoOpenError(f"{opened.name} is empty (0 bytes). Was the copy or download cut off?")
    return opened


def _open_bytes(source: bytes | bytearray | memoryview) -> OpenedSource:
    try:
        # A view with gaps is copied; all others are used as they are.
        has_gaps = isinstance(source, memoryview) and not source.c_contiguous
        file = io.BytesIO(bytes(source) if has_gaps else source)
    except ValueError as error:
        raise InputError(f"The bytes of the video cannot be read: {error}.") from error
    return OpenedSource(file, "the video in memory", file.getbuffer().nbytes, owned=True)


def _open_path(path: Path) -> OpenedSource:
    try:
        # A pipe or a device could block for ever or never end, so the kind is looked at first.
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise VideoOpenError(
                f"{path} is neither a file nor a folder. Copy its content to a file, or hand over "
                "an open binary file."
            )
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoNotFoundError(
            f"There is no video at {path}. Check the spelling; the working folder is {Path.cwd()}."
        ) from error
    except PermissionError as error:
        raise VideoAccessError(
            f"{path} may not be read by this user. Change its permissions (chmod +r)."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        if isinstance(error, VideoOpenError):
            raise
        raise VideoOpenError(f"{path} cannot be opened: {error}.") from error
    return OpenedSource(file, str(path), os.fstat(file.fileno()).st_size, owned=True)


def _open_file_object(source: BinaryFile, *, limits: ReadLimits) -> OpenedSource:
    name = getattr(source, "name", None)
    label = name if isinstance(name, str) else f"the open {type(source).__name__}"
    try:
        if _can_seek(source):
            return OpenedSource(source, label, _length(source, label), owned=False)  # type: ignore[arg-type]  # read, seek and tell are there
        deadline = time.monotonic() + limits.download_timeout_seconds
        return _copy_to_disk(source, label, limits=limits, deadline=deadline)
    except (OSError, ValueError) as error:
        if isinstance(error, VJEPAError):
            raise
        if getattr(source, "closed", False):
            raise VideoOpenError(f"{label} is closed. Open it again, or give its path.") from error
        raise VideoOpenError(f"{label} cannot be read: {error}.") from error


def _length(source: Any, label: str) -> int:
    source.seek(0, os.SEEK_END)
    length = source.tell()
    if not isinstance(length, int):
        raise InputError(f"{label} is no binary file: tell() gives {described(length)}.")
    return length


def _can_seek(source: BinaryFile) -> bool:
    if not (hasattr(source, "seek") and hasattr(source, "tell")):
        return False
    # Some file-likes (uploads in web frameworks) have no seekable(); they can seek.
    return bool(source.seekable()) if hasattr(source, "seekable") else True


class _WebOnlyRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, never to ftp or a local file."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl).scheme not in URL_SCHEMES:
            raise VideoOpenError(f"{req.full_url} redirects to {newurl}, which is not http(s).")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, *, limits: ReadLimits) -> OpenedSource:
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError as error:
        raise VideoOpenError(f"{url} is no address: {error}. Check its spelling.") from error
    if scheme not in URL_SCHEMES:
        raise VideoOpenError(
            f"Cannot read {url}: scheme {scheme!r} is not allowed, only http and https. "
            "For a local file give its path."
        )
    # Handlers are listed one by one: the default opener would also read ftp: and file: addresses.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _WebOnlyRedirects(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "vjepa2"})
    deadline = time.monotonic() + limits.download_timeout_seconds
    try:
        with opener.open(request, timeout=limits.connect_timeout_seconds) as response:
            opened = _copy_to_disk(response, url, limits=limits, deadline=deadline)
            promised = response.headers.get("Content-Length", "")
            if promised.isdigit() and opened.size_bytes < int(promised):
                opened.close()
                raise VideoOpenError(
                    f"{url}: the connection ended after {opened.size_bytes} of {promised} bytes. "
                    "Try again."
                )
            return opened
    except urllib.error.HTTPError as error:
        kind = HTTP_ERRORS.get(error.code, VideoOpenError)
        raise kind(f"{url}: the server answered {error.code} {error.reason}.") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, VideoOpenError | VideoTooLargeError):
            raise
        reason = getattr(error, "reason", error)
        raise VideoOpenError(
            f"Cannot download {url}: {reason}. Check the address and the network, or raise "
            f"connect_timeout_seconds (now {limits.connect_timeout_seconds:g})."
        ) from error


def _bytes_of(chunk: object, name: str) -> bytes:
    """What a read gave, as bytes; empty at the end."""
    if isinstance(chunk, str):
        raise InputError(f"{name} gives text, not bytes. Open it with mode 'rb'.")
    if not isinstance(chunk, bytes | bytearray | memoryview):
        raise InputError(f"{name} is no binary file: read() gives {described(chunk)}.")
    return bytes(chunk)


def _copy_to_disk(
    stream: BinaryFile, name: str, *, limits: ReadLimits, deadline: float
) -> OpenedSource:
    """Copy a stream of unknown length to an unnamed temporary file."""
    # read1 returns what has arrived; read would wait for the whole chunk, past the deadline.
    read = getattr(stream, "read1", stream.read)
    file = tempfile.TemporaryFile(prefix="vjepa2-video-")  # noqa: SIM115  # outlives this function
    size = 0
    try:
        while chunk := _bytes_of(read(COPY_CHUNK_BYTES), name):
            size += len(chunk)
            if size > limits.max_download_bytes:
                raise VideoTooLargeError(
                    f"{name} is larger than {limits.max_download_bytes} bytes. Raise "
                    "ReadLimits.max_download_bytes, or download it and give the path."
                )
            if time.monotonic() > deadline:
                raise VideoOpenError(
                    f"{name} was not complete after {limits.download_timeout_seconds:g} s "
                    f"({size} bytes came). Raise ReadLimits.download_timeout_seconds."
                )
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    return OpenedSource(file, name, size, owned=True)
