"""A web server with checkpoint files that misbehaves as told, for tests without a network.

`mirror.plays["vitl.pt"] = [act, act, ...]`: the first request gets the first act, and so on; the
last act is repeated. An act is a function of the request handler; the ones here cover what real
servers do wrong. Every request is noted in `requests`.
"""

import contextlib
import hashlib
import io
import random
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

Act = Callable[["Handler"], None]


def checkpoint(size_bytes: int = 100_000, *, seed: int = 0) -> bytes:
    """A zip of random bytes, as torch writes them; other seeds give other bytes of equal size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), b"\x80\x02}.")
        archive.writestr(
            zipfile.ZipInfo("archive/data/0"), random.Random(seed).randbytes(size_bytes)
        )
    return buffer.getvalue()


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha1(body).hexdigest()}"'


class Request(NamedTuple):
    path: str
    headers: Message


class FakeMirror(ThreadingHTTPServer):
    """The server's state."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plays: dict[str, list[Act]] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up in these tests; that is no news."""

    def next_act(self, path: str) -> Act:
        with self._lock:
            acts = self.plays.get(path, [status(404)])
            return acts.pop(0) if len(acts) > 1 else acts[0]


class Handler(BaseHTTPRequestHandler):
    server: FakeMirror
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append(Request(path, self.headers))
        self.server.next_act(path)(self)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def send(
    body: bytes,
    *,
    ranges: bool = True,
    etag: str | None = "",
    last_modified: str | None = None,
    cut_after: int | None = None,
    piece: int = 1 << 20,
    pause: float = 0.0,
    stall_after: int | None = None,
) -> Act:
    """Send a file, or the rest of it that was asked for.

    Args:
        body: the whole file.
        ranges: whether the server knows ranges; if not it always sends all.
        etag: "" for the hash of the body, None for none.
        last_modified: date, None for none.
        cut_after: close the connection after so many bytes of the answer.
        piece: bytes that leave at once.
        pause: seconds between pieces.
        stall_after: say nothing more after so many bytes of the answer.
    """
    mark = etag_of(body) if etag == "" else etag

    def act(handler: Handler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (None, mark, last_modified)
        start = int(asked[1]) if asked and ranges and same else 0
        about = {"ETag": mark, "Last_Modified": last_modified, "Content_Length": len(body) - start}
        if start:
            place = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.head(206, Content_Range=place, **about)
        else:
            handler.head(200, **about)
        part = body[start:]
        end = min(n for n in (cut_after, stall_after, len(part)) if n is not None)
        for place_in_part in range(0, end, piece):
            handler.wfile.write(part[place_in_part : min(place_in_part + piece, end)])
            if handler.server.closing.wait(pause):
                break
        if stall_after is not None:
            handler.server.closing.wait(5)
        handler.close_connection = True

    return act


def status(code: int, **headers: object) -> Act:
    """An error page."""

    def act(handler: Handler) -> None:
        page = b"<html>sorry</html>"
        handler.head(code, Content_Length=len(page), **headers)
        handler.wfile.write(page)

    return act


def redirect(url: str) -> Act:
    """Point to another address."""
    return status(302, Location=url)


def without_length(body: bytes) -> Act:
    """Send data that ends, or does not, when the connection does."""

    def act(handler: Handler) -> None:
        handler.head(200, ETag='"1"', Connection="close")
        handler.close_connection = True
        while not handler.server.closing.is_set():
            handler.wfile.write(body)

    return act


def raw(answer: bytes, *, pause: float = 0.0) -> Act:
    """Send these bytes as they are, one by one if there is a pause, and close."""

    def act(handler: Handler) -> None:
        handler.close_connection = True
        step = 1 if pause else len(answer) or 1
        for start in range(0, len(answer), step):
            handler.wfile.write(answer[start : start + step])
            if handler.server.closing.wait(pause):
                return

    return act


def silence() -> Act:
    """Accept the connection and say nothing."""
    return lambda handler: handler.server.closing.wait(5) and None


@contextlib.contextmanager
def running_mirror() -> Iterator[FakeMirror]:
    """Serve in a thread for the time of the block."""
    mirror = FakeMirror()
    thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.closing.set()
        mirror.shutdown()
        thread.join()
        mirror.socket.close()


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)
