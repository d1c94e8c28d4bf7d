"""Requests that reach http and https only, and whose answer begins within a known time.

The standard library's own opener also reads ftp: and file: addresses, follows redirects to them,
and waits for ever for the headers of a server that sends one byte now and then.
"""

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

URL_SCHEMES = ("http", "https")


class RedirectRefused(Exception):  # noqa: N818  # caught by the caller, never shown to users
    """The server points to an address that is not followed."""


def web_opener(*, headers_within_seconds: float) -> urllib.request.OpenerDirector:
    """An opener for http and https; proxies of the environment are used.

    Args:
        headers_within_seconds: longest time between a request and the end of the answer's headers.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(headers_within_seconds),
        _Https(headers_within_seconds),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _WebOnlyRedirects(),
    ):
        opener.add_handler(handler)
    return opener


class _WebOnlyRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, never to a local file or from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()  # the library would read this answer's body to its end, if it has one
        scheme = urlsplit(newurl).scheme
        if scheme not in URL_SCHEMES or (req.type == "https" and scheme == "http"):
            raise RedirectRefused(f"redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Impatient(http.client.HTTPConnection):
    """Hangs up when the headers are not there in time; a slow body is the reader's affair."""

    headers_within_seconds = 60.0

    def getresponse(self) -> http.client.HTTPResponse:
        timer = threading.Timer(self.headers_within_seconds, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
            self.sock.shutdown(socket.SHUT_RDWR)


class _ImpatientTls(_Impatient, http.client.HTTPSConnection):
    """The same over TLS."""


class _Connect:
    """Makes connections of one kind; the library calls it with a host and a timeout."""

    def __init__(self, kind: type[_Impatient], headers_within_seconds: float) -> None:
        self._kind = kind
        self._headers_within_seconds = headers_within_seconds

    def __call__(
        self,
        host: str,
        /,
        *,
        port: int | None = None,
        timeout: float | None = None,
        source_address: tuple[str, int] | None = None,
        blocksize: int = 8192,
    ) -> http.client.HTTPConnection:
        connection = self._kind(
            host, port, timeout=timeout, source_address=source_address, blocksize=blocksize
        )
        connection.headers_within_seconds = self._headers_within_seconds
        return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, headers_within_seconds: float) -> None:
        super().__init__()
        self._connect = _Connect(_Impatient, headers_within_seconds)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, headers_within_seconds: float) -> None:
        super().__init__()
        self._connect = _Connect(_ImpatientTls, headers_within_seconds)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, req)
