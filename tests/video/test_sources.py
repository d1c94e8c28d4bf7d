"""A video may be a path, bytes, an open file or an address; each failure has its own error."""

import http.server
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from video_clips import encode, numbers

from vjepa2.errors import (
    InputError,
    VideoAccessError,
    VideoNotFoundError,
    VideoOpenError,
    VideoTooLargeError,
)
from vjepa2.video.limits import ReadLimits
from vjepa2.video.reader import VideoReader
from vjepa2.video.sources import open_source


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(codec="libx264", container="mp4", frames=12, codec_options={"g": "6"})


def check(reader: VideoReader) -> None:
    with reader:
        assert numbers(reader.get_frames_at([11, 2]).data) == [11, 2]


# ---- on this machine --------------------------------------------------------------------------


def test_a_path_as_text_or_path_object(clip: bytes, tmp_path: Path):
    path = tmp_path / "clip"  # no suffix: the content decides
    path.write_bytes(clip)
    check(VideoReader(path))
    check(VideoReader(str(path)))


@pytest.mark.parametrize(
    "name", ["a%03d.mp4", "concat:b|c.mp4", "file:x.mp4", "-i.mp4", "ü 中.mp4"]
)
def test_a_name_is_only_a_name(clip: bytes, tmp_path: Path, name: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(clip)
    check(VideoReader(name))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_in_memory(clip: bytes, kind):
    check(VideoReader(kind(clip)))


def test_an_open_file_stays_open(clip: bytes, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    with path.open("rb") as file:
        check(VideoReader(file))
        assert not file.closed


class Upload:
    """A file as web frameworks hand it over: it can seek but does not say so."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


class Pipe:
    """A stream that only flows forward, a little at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 1000))


def test_uploads_and_streams_that_cannot_seek(clip: bytes):
    check(VideoReader(Upload(clip)))
    check(VideoReader(Pipe(clip)))


def test_a_stream_has_limits(clip: bytes):
    with pytest.raises(VideoTooLargeError, match="larger than 2000 bytes"):
        VideoReader(Pipe(clip), limits=ReadLimits(max_download_bytes=2000))


def test_a_missing_path_names_the_working_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoNotFoundError, match=rf"no video at nope\.mp4.*{tmp_path}") as caught:
        VideoReader("nope.mp4")
    assert isinstance(caught.value, FileNotFoundError)


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(VideoNotFoundError, match="path of the video is empty"):
        VideoReader("")


def test_a_path_through_a_file_is_missing(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(VideoNotFoundError):
        VideoReader(tmp_path / "file" / "clip.mp4")


def test_a_path_that_may_not_be_read(clip: bytes, tmp_path: Path, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    # The administrator may read everything, so permissions cannot be tested with chmod alone.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VideoAccessError, match=r"may not be read by this user.*chmod \+r"):
        VideoReader(path)


def test_a_pipe_on_disk_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VideoOpenError, match="neither a file nor a folder"):
        VideoReader(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_an_impossible_name(name: str):
    with pytest.raises(VideoOpenError, match="cannot be opened"):
        VideoReader(name)


@pytest.mark.parametrize("source", [3, None, ["clip.mp4"]])
def test_other_things_are_no_video(source: object):
    with pytest.raises(InputError, match=r"path, an http\(s\) URL, bytes or an open binary file"):
        VideoReader(source)


def test_text_files_are_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    with (tmp_path / "a.txt").open() as file, pytest.raises(InputError, match="mode 'rb'"):
        VideoReader(file)

    class TextPipe:
        def read(self, size: int = -1) -> str:
            return "text"

    with pytest.raises(InputError, match="gives text, not bytes"):
        VideoReader(TextPipe())


class GivesNoPath(os.PathLike[str]):
    """A path object that gives whatever it is told."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __fspath__(self) -> str:
        return self._value  # type: ignore[return-value]


def test_path_objects_may_give_bytes_but_nothing_else(clip: bytes, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    check(VideoReader(GivesNoPath(os.fsencode(path))))
    for value in (3, None, object()):
        with pytest.raises(InputError, match="A GivesNoPath gives no path"):
            VideoReader(GivesNoPath(value))


def test_a_closed_file_is_named(clip: bytes, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    with path.open("rb") as file:
        pass
    with pytest.raises(VideoOpenError, match=r"clip.mp4 is closed. Open it again"):
        VideoReader(file)
    memory = io.BytesIO(clip)
    memory.close()
    with pytest.raises(VideoOpenError, match="the open BytesIO is closed"):
        VideoReader(memory)


def test_views_of_memory(clip: bytes):
    spread = bytearray(2 * len(clip))
    spread[::2] = clip
    check(VideoReader(memoryview(spread)[::2]))
    padded = clip + bytes(-len(clip) % 4)
    check(VideoReader(memoryview(padded).cast("i")))
    released = memoryview(clip)
    released.release()
    with pytest.raises(InputError, match="bytes of the video cannot be read"):
        VideoReader(released)


class Odd:
    """A file of somebody's own whose methods do something odd."""

    def __init__(self, **methods: object) -> None:
        for name, outcome in methods.items():
            setattr(self, name, lambda *_, outcome=outcome: self._do(outcome))

    @staticmethod
    def _do(outcome: object) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def read(self, size: int = -1) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("methods", "error", "words"),
    [
        ({"read": 3}, InputError, r"no binary file: read\(\) gives 3"),
        ({"read": None}, InputError, r"no binary file: read\(\) gives None"),
        ({"read": [1]}, InputError, r"no binary file: read\(\) gives \[1\]"),
        ({"read": ""}, InputError, "gives text, not bytes"),
        ({"read": ValueError("broken")}, VideoOpenError, "the open Odd cannot be read: broken"),
        ({"read": OSError(5, "I/O error")}, VideoOpenError, "cannot be read: .*I/O error"),
        ({"seek": OSError(5, "no"), "tell": 0}, VideoOpenError, "cannot be read: .*no"),
        ({"seek": 0, "tell": ValueError("lost")}, VideoOpenError, "cannot be read: lost"),
        ({"seek": 0, "tell": None}, InputError, r"tell\(\) gives None"),
        ({"seek": 0, "tell": 0, "seekable": ValueError("x")}, VideoOpenError, "be read: x"),
    ],
)
def test_files_of_ones_own_that_fail(
    methods: dict[str, object], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        VideoReader(Odd(**methods))


# ---- over the network -------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """What the test server answers under each path."""

    clip = b""

    def do_GET(self) -> None:
        path = self.path
        if path == "/clip":
            self._answer(200, self.clip)
        elif path == "/moved":
            self._answer(302, b"", location="/clip")
        elif path == "/to-file":
            self._answer(302, b"", location="file:///etc/hostname")
        elif path == "/to-ftp":
            self._answer(302, b"", location="ftp://localhost/clip")
        elif path == "/loop":
            self._answer(302, b"", location="/loop")
        elif path == "/short":
            self._answer(200, self.clip[:-100], length=len(self.clip))
        elif path == "/silent":
            self.server.release.wait(5)
        elif path == "/drip":
            self._drip()
        elif path == "/garbage":
            self.wfile.write(b"\0\1\2 not http\r\n\r\n")
        else:
            self._answer(int(path[1:]), b"")

    def _answer(
        self, status: int, body: bytes, *, location: str = "", length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(500):
            if self.server.release.wait(0.01):
                return
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, *args: object) -> None:
        """Keep the test log quiet."""


@pytest.fixture(scope="module")
def server(clip: bytes) -> Iterator[str]:
    Handler.clip = clip
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.release = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("no_proxy", "127.0.0.1")
            yield f"http://127.0.0.1:{server.server_port}"
        server.release.set()
        server.shutdown()
        thread.join()


def test_an_address_with_and_without_a_redirect(server: str):
    check(VideoReader(f"{server}/clip"))
    check(VideoReader(f"{server}/moved"))


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("404", VideoNotFoundError, "the server answered 404"),
        ("410", VideoNotFoundError, "the server answered 410"),
        ("403", VideoAccessError, "the server answered 403"),
        ("500", VideoOpenError, "the server answered 500"),
        ("short", VideoOpenError, r"ended after \d+ of \d+ bytes. Try again"),
        ("to-file", VideoOpenError, "'file:///etc/hostname' is not allowed"),
        ("to-ftp", VideoOpenError, r"redirects to ftp://localhost/clip"),
        ("loop", VideoOpenError, "redirect"),
        ("garbage", VideoOpenError, "Cannot download"),
    ],
)
def test_an_address_that_fails(server: str, path: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        VideoReader(f"{server}/{path}")


def test_a_download_has_limits(server: str):
    with pytest.raises(VideoTooLargeError, match="larger than 2000 bytes. Raise ReadLimits"):
        VideoReader(f"{server}/clip", limits=ReadLimits(max_download_bytes=2000))


@pytest.mark.parametrize(
    ("path", "limits", "message"),
    [
        ("silent", ReadLimits(connect_timeout_seconds=0.2), "raise connect_timeout_seconds"),
        ("drip", ReadLimits(download_timeout_seconds=0.2), r"not complete after 0\.2 s"),
    ],
)
def test_a_slow_server_does_not_hang(server: str, path: str, limits: ReadLimits, message: str):
    begin = time.monotonic()
    with pytest.raises(VideoOpenError, match=message):
        VideoReader(f"{server}/{path}", limits=limits)
    assert time.monotonic() - begin < 3


def test_a_server_that_is_not_there():
    with pytest.raises(VideoOpenError, match="Cannot download .* Check the address"):
        VideoReader("http://127.0.0.1:9/clip.mp4")


@pytest.mark.parametrize(
    "url", ["ftp://host/a.mp4", "file:///etc/hostname", "rtsp://host/a", "HTTPX://host/a"]
)
def test_other_schemes_are_refused(url: str):
    with pytest.raises(VideoOpenError, match="is not allowed, only http and https"):
        VideoReader(url)


def test_a_temporary_file_is_gone_after_use(server: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = open_source(f"{server}/clip", limits=ReadLimits())
    assert opened.size_bytes == len(Handler.clip)
    opened.close()
    assert opened.file.closed
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_no_address_is_named():
    with pytest.raises(VideoOpenError, match=r"http://\[::1 is no address.*Check its spelling"):
        VideoReader("http://[::1")
