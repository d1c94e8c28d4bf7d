"""Downloads from servers that are slow, stall, break off, change the file or lie."""

import errno
import hashlib
import json
import struct
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_mirror import (
    Act,
    FakeMirror,
    checkpoint,
    raw,
    redirect,
    running_mirror,
    send,
    silence,
    status,
    without_length,
)

from vjepa2.errors import CheckpointNotFoundError, ConfigError, OutputError
from vjepa2.weights.download import DownloadLimits, fetch
from vjepa2.weights.partial_file import PartialFile

QUICK = DownloadLimits(timeout_seconds=0.15, retries=2, backoff_seconds=0.001, min_free_bytes=1)
BODY = checkpoint()
OTHER = checkpoint(seed=1)
PAGE = b"<!DOCTYPE html>\n<html>Not here</html>" * 20


@pytest.fixture
def mirror() -> Iterator[FakeMirror]:
    with running_mirror() as mirror:
        yield mirror


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("VJEPA2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def get(
    mirror: FakeMirror, *acts: Act, name: str = "vitl.pt", limits: DownloadLimits = QUICK
) -> bytes:
    """What `fetch` brings when the server plays these acts; the last one is repeated."""
    if acts:
        mirror.plays[name] = list(acts)
    return fetch(name, base_urls=mirror.url, limits=limits, quiet=True).read_bytes()


def reason(mirror: FakeMirror, *acts: Act, name: str = "vitl.pt", **options: Any) -> str:
    """Why `fetch` gives up on the address; the whole must not take long."""
    start = time.monotonic()
    with pytest.raises(CheckpointNotFoundError) as caught:
        get(mirror, *acts, name=name, **options)
    assert time.monotonic() - start < 3
    prefix = f"  {mirror.url}/{name}: "
    (line,) = (line for line in str(caught.value).splitlines() if line.startswith(prefix))
    return line.removeprefix(prefix)


def ranges(mirror: FakeMirror) -> list[str | None]:
    return [request.headers["Range"] for request in mirror.requests]


class TestInterrupted:
    def test_truncated_then_resumed(self, mirror: FakeMirror) -> None:
        assert get(mirror, send(BODY, cut_after=30_000), send(BODY)) == BODY
        assert ranges(mirror) == [None, "bytes=30000-"]
        assert mirror.requests[1].headers["If-Range"] == mirror_etag(BODY)

    def test_truncated_again_and_again_until_all_is_there(self, mirror: FakeMirror) -> None:
        assert get(mirror, send(BODY, cut_after=40_000)) == BODY
        assert ranges(mirror) == [None, "bytes=40000-", "bytes=80000-"]

    def test_attempts_end(self, mirror: FakeMirror) -> None:
        words = reason(mirror, send(BODY, cut_after=1000))
        assert words == f"the connection ended after 3000 of {len(BODY)} bytes (3 attempts)"

    def test_attempts_that_bring_more_are_not_counted(self, mirror: FakeMirror) -> None:
        body = checkpoint(6 << 20)
        assert get(mirror, send(body, cut_after=(1 << 20) + 100)) == body
        assert len(mirror.requests) == 6

    def test_the_next_call_goes_on(self, mirror: FakeMirror) -> None:
        reason(mirror, send(BODY, cut_after=1000))
        assert get(mirror, send(BODY)) == BODY
        assert ranges(mirror)[-1] == "bytes=3000-"

    def test_what_one_mirror_sent_is_not_continued_by_another(
        self, mirror: FakeMirror, cache: Path
    ) -> None:
        # The same mark for other bytes: only the address tells them apart.
        mirror.plays["a/vitl.pt"] = [send(BODY, cut_after=1000, etag='"1"')]
        mirror.plays["b/vitl.pt"] = [send(OTHER, etag='"1"')]
        both = [f"{mirror.url}/a", f"{mirror.url}/b"]
        assert fetch("vitl.pt", base_urls=both, limits=QUICK, quiet=True).read_bytes() == OTHER
        assert mirror.requests[-1].headers["Range"] is None
        assert not list(cache.glob("*.partial*"))

    def test_a_server_that_ignores_ranges(self, mirror: FakeMirror) -> None:
        acts = [send(BODY, cut_after=30_000, ranges=False), send(BODY, ranges=False)]
        assert get(mirror, *acts) == BODY
        assert ranges(mirror) == [None, "bytes=30000-"]

    @pytest.mark.parametrize("etag", ["", 'W/"1"', None])
    def test_a_file_that_changes_between_two_attempts(
        self, mirror: FakeMirror, etag: str | None
    ) -> None:
        dates = ["Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"]
        first = send(BODY, cut_after=30_000, etag=etag, last_modified=dates[0])
        assert get(mirror, first, send(OTHER, etag=etag, last_modified=dates[1])) == OTHER
        mark = mirror_etag(BODY) if etag == "" else dates[0]  # a weak ETag may not stand there
        assert mirror.requests[1].headers["If-Range"] == mark

    def test_without_a_mark_of_the_version_all_begins_again(self, mirror: FakeMirror) -> None:
        acts = [send(BODY, cut_after=30_000, etag=None), send(OTHER, etag=None)]
        assert get(mirror, *acts) == OTHER
        assert ranges(mirror) == [None, None]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content_Range": f"bytes 29999-{len(BODY) - 1}/{len(BODY)}"},
            {"Content_Range": f"bytes 30000-{len(BODY)}/{len(BODY) + 1}"},
            {"Content_Range": f"bytes 30000-{len(BODY) - 1}/{len(BODY)}", "ETag": '"other"'},
            {"Content_Range": "bytes 30000-*/*"},
            {},
        ],
    )
    def test_a_rest_that_does_not_fit(self, mirror: FakeMirror, headers: dict[str, str]) -> None:
        def wrong_rest(handler: Any) -> None:
            handler.head(206, Content_Length=len(BODY) - 30_000, **headers)
            handler.wfile.write(OTHER[30_000:])

        assert get(mirror, send(BODY, cut_after=30_000), wrong_rest, send(BODY)) == BODY
        assert ranges(mirror) == [None, "bytes=30000-", None]

    def test_a_range_that_the_server_refuses(self, mirror: FakeMirror) -> None:
        assert get(mirror, send(BODY, cut_after=30_000), status(416), send(OTHER)) == OTHER
        assert ranges(mirror) == [None, "bytes=30000-", None]

    def test_a_server_that_changes_the_file_each_time(self, mirror: FakeMirror) -> None:
        acts = [send(checkpoint(seed=seed), cut_after=30_000) for seed in range(20)]
        assert reason(mirror, *acts).endswith("(3 attempts)")
        assert len(mirror.requests) == 3

    def test_a_partial_file_of_a_killed_process_that_is_complete(
        self, mirror: FakeMirror, cache: Path
    ) -> None:
        """Killed after the last byte, before the file moved to its place."""
        url = f"{mirror.url}/vitl.pt"
        left_behind(cache, url, BODY)
        assert get(mirror) == BODY
        assert mirror.requests == []

    def test_a_complete_one_without_a_mark_of_its_version(
        self, mirror: FakeMirror, cache: Path
    ) -> None:
        left_behind(cache, f"{mirror.url}/vitl.pt", OTHER, {"etag": None})
        assert get(mirror, send(BODY)) == BODY

    @pytest.mark.parametrize(
        "about",
        [
            {"total_bytes": 10},
            {"total_bytes": "many"},
            {"etag": 5},
            {"etag": None},
            {"url": "http://elsewhere/vitl.pt"},
        ],
    )
    def test_notes_about_a_partial_file_that_make_no_sense(
        self, mirror: FakeMirror, cache: Path, about: dict[str, object]
    ) -> None:
        url = f"{mirror.url}/vitl.pt"
        left_behind(cache, url, OTHER[:5000], about)
        assert get(mirror, send(BODY)) == BODY
        assert ranges(mirror) == [None]


def mirror_etag(body: bytes) -> str:
    return f'"{hashlib.sha1(body).hexdigest()}"'


def left_behind(
    cache: Path, url: str, content: bytes, about: dict[str, object] | None = None
) -> None:
    """What a killed process leaves; `about` replaces fields of its note."""
    cache.mkdir(parents=True)
    path = cache / f"vitl.pt.{hashlib.sha256(url.encode()).hexdigest()[:8]}.partial"
    path.write_bytes(content)
    note = {"url": url, "etag": mirror_etag(BODY), "last_modified": None}
    note = {**note, "total_bytes": len(BODY), **(about or {})}
    path.with_name(f"{path.name}.json").write_text(json.dumps(note))


class TestSlow:
    def test_a_slow_server_is_fast_enough(self, mirror: FakeMirror) -> None:
        """100 kB in about 0.4 s, with pauses much shorter than the timeout."""
        assert get(mirror, send(BODY, piece=5000, pause=0.02)) == BODY
        assert len(mirror.requests) == 1

    def test_dripping_bytes_count_as_silence(self, mirror: FakeMirror) -> None:
        words = reason(mirror, send(BODY, piece=1, pause=0.02))
        assert words.startswith("too slow: ")
        assert words.endswith(" bytes per second (3 attempts)")

    def test_a_server_that_stalls(self, mirror: FakeMirror) -> None:
        words = reason(mirror, send(BODY, stall_after=1000))
        assert words == "timed out: silent for 0.15 s (3 attempts)"

    def test_a_stall_is_resumed(self, mirror: FakeMirror) -> None:
        assert get(mirror, send(BODY, stall_after=1000), send(BODY)) == BODY
        assert ranges(mirror) == [None, "bytes=1000-"]

    def test_a_server_that_says_nothing(self, mirror: FakeMirror) -> None:
        assert reason(mirror, silence()).startswith("timed out")

    def test_headers_that_drip(self, mirror: FakeMirror) -> None:
        """Each byte comes in time, the headers never end."""
        answer = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000
        words = reason(mirror, raw(answer, pause=0.05))
        assert words.endswith("(3 attempts)")


class TestErrors:
    @pytest.mark.parametrize("code", [401, 403, 404, 410])
    def test_final_answers_are_not_asked_again(self, mirror: FakeMirror, code: int) -> None:
        assert reason(mirror, status(code)).startswith(f"{code} ")
        assert len(mirror.requests) == 1

    @pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
    def test_passing_answers_are_asked_again(self, mirror: FakeMirror, code: int) -> None:
        assert reason(mirror, status(code)).startswith(f"{code} ")
        assert len(mirror.requests) == 3

    def test_503_then_the_file(self, mirror: FakeMirror) -> None:
        assert get(mirror, status(503), status(503), send(BODY)) == BODY

    def test_the_pause_that_a_server_asks_for(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("vjepa2.weights.transfer.time.sleep", pauses.append)
        get(mirror, status(503, Retry_After="7"), status(503, Retry_After="9999"), send(BODY))
        assert pauses == [7.0, 60.0]

    def test_pauses_double(self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("vjepa2.weights.transfer.time.sleep", pauses.append)
        limits = DownloadLimits(retries=7, backoff_seconds=1, timeout_seconds=1)
        reason(mirror, status(500), limits=limits)
        assert pauses == [1, 2, 4, 8, 16, 32, 60]

    @pytest.mark.parametrize(
        "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\x00" * 50]
    )
    def test_answers_that_are_not_http(self, mirror: FakeMirror, answer: bytes) -> None:
        assert reason(mirror, raw(answer)).endswith("(3 attempts)")

    def test_what_a_server_writes_cannot_steer_the_terminal(self, mirror: FakeMirror) -> None:
        answer = b"HTTP/1.1 404 \x1b[2J" + b"x" * 500 + b"\r\nContent-Length: 0\r\n\r\n"
        words = reason(mirror, raw(answer))
        assert words.startswith("404  [2Jxxx")
        assert len(words) == 200


class TestWrongBytes:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (PAGE, "wrong bytes: it is a web page, no checkpoint"),
            (b"\n\n  <html>", "wrong bytes: it is a web page, no checkpoint"),
            (b"\x89PNG\r\n\x1a\n" * 9, "wrong bytes: it begins with b'\\x89PNG"),
            (b"", "wrong bytes: it is empty"),
            (b"PK", "wrong bytes: it begins with b'PK', not like"),
            (BODY[:-60], f"wrong bytes: it is cut off or damaged ({len(BODY) - 60} bytes)"),
        ],
    )
    def test_another_file_is_refused_and_not_kept(
        self, mirror: FakeMirror, cache: Path, body: bytes, words: str
    ) -> None:
        assert reason(mirror, send(body)).startswith(words)
        assert len(mirror.requests) == 1
        assert {path.name for path in cache.iterdir()} <= {".vitl.pt.lock"}

    def test_another_file_is_seen_from_its_first_bytes(self, mirror: FakeMirror) -> None:
        def act(handler: Any) -> None:
            handler.head(200, Content_Length=10**9, ETag='"1"')
            handler.wfile.write(PAGE)
            handler.server.closing.wait(5)

        assert reason(mirror, act) == "wrong bytes: it is a web page, no checkpoint"

    def test_an_old_pickle_is_a_checkpoint(self, mirror: FakeMirror) -> None:
        body = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100)
        assert get(mirror, send(body)) == body

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda whole: whole, ""),
            (lambda whole: whole[:-1], "cut off or damaged"),
            (lambda whole: whole + b"x", "cut off or damaged"),
            (lambda whole: struct.pack("<Q", 10**12) + whole[8:], "not like a safetensors file"),
            (lambda whole: PAGE, "web page"),
            (lambda whole: BODY, "not like a safetensors file"),
        ],
    )
    def test_safetensors(self, mirror: FakeMirror, change: Any, words: str) -> None:
        header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
        body = change(struct.pack("<Q", len(header)) + header + b"1234")
        if words:
            assert words in reason(mirror, send(body), name="model.safetensors")
        else:
            assert get(mirror, send(body), name="model.safetensors") == body

    def test_a_length_that_is_too_long(self, mirror: FakeMirror) -> None:
        def boast(handler: Any) -> None:
            handler.head(200, Content_Length=len(BODY) + 100, ETag='"1"')
            handler.wfile.write(BODY)
            handler.close_connection = True

        words = reason(mirror, boast)
        assert words.startswith(f"the connection ended after {len(BODY)} of {len(BODY) + 100}")

    def test_a_length_that_is_too_short(self, mirror: FakeMirror) -> None:
        def understate(handler: Any) -> None:
            handler.head(200, Content_Length=len(BODY) - 100, ETag='"1"')
            handler.wfile.write(BODY)
            handler.close_connection = True

        assert reason(mirror, understate).startswith("wrong bytes: it is cut off or damaged")

    @pytest.mark.parametrize("length", [None, "many", "-5", "1e3"])
    def test_a_server_that_does_not_say_how_long(
        self, mirror: FakeMirror, length: str | None
    ) -> None:
        def act(handler: Any) -> None:
            handler.close_connection = True
            handler.head(200, Content_Length=length, Connection="close")
            handler.wfile.write(BODY)

        assert reason(mirror, act) == "the server does not say how long the file is"

    def test_endless_data(self, mirror: FakeMirror, cache: Path) -> None:
        words = reason(mirror, without_length(BODY))
        assert words == "the server does not say how long the file is"
        assert {path.name for path in cache.iterdir()} <= {".vitl.pt.lock"}

    def test_more_data_than_promised(self, mirror: FakeMirror) -> None:
        def endless(handler: Any) -> None:
            handler.head(200, Content_Length=len(BODY), ETag='"1"')
            handler.wfile.write(BODY)
            while not handler.server.closing.is_set():
                handler.wfile.write(BODY)

        assert get(mirror, endless) == BODY

    def test_a_rest_with_more_data_than_promised(self, mirror: FakeMirror) -> None:
        def act(handler: Any) -> None:
            place = f"bytes 30000-{len(BODY) - 1}/{len(BODY)}"
            handler.head(206, Content_Range=place, Content_Length=2 * len(BODY))
            handler.wfile.write(BODY[30_000:] + BODY)

        assert get(mirror, send(BODY, cut_after=30_000), act) == BODY

    def test_compressed(self, mirror: FakeMirror) -> None:
        def act(handler: Any) -> None:
            handler.head(200, Content_Length=len(BODY), Content_Encoding="gzip")
            handler.wfile.write(BODY)

        assert "compresses the file" in reason(mirror, act)
        assert mirror.requests[0].headers["Accept-Encoding"] == "identity"


class TestRedirects:
    def test_followed_with_the_range(self, mirror: FakeMirror) -> None:
        mirror.plays["else/where.pt"] = [send(BODY, cut_after=30_000), send(BODY)]
        assert get(mirror, redirect("/else/where.pt")) == BODY
        assert ranges(mirror) == [None, None, "bytes=30000-", "bytes=30000-"]

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
    def test_only_to_the_web(self, mirror: FakeMirror, url: str) -> None:
        words = reason(mirror, redirect(url))
        assert url in words
        assert len(mirror.requests) == 1

    def test_in_a_circle(self, mirror: FakeMirror) -> None:
        assert "loop" in reason(mirror, redirect("/vitl.pt"))

    def test_with_a_page_that_never_ends(self, mirror: FakeMirror) -> None:
        mirror.plays["else/where.pt"] = [send(BODY)]

        def act(handler: Any) -> None:
            handler.close_connection = True
            handler.head(302, Location="/else/where.pt", Connection="close")
            while not handler.server.closing.is_set():
                handler.wfile.write(PAGE)

        assert get(mirror, act) == BODY


def slow_disk(patch: pytest.MonkeyPatch, *, full_after: int) -> None:
    """Make a disk that takes at most 10 kB at once and no more than `full_after` bytes."""
    opened = PartialFile.opened

    class File:
        def __init__(self, partial: PartialFile) -> None:
            self.file = opened(partial)

        def __enter__(self) -> "File":
            return self

        def __exit__(self, *arguments: object) -> None:
            self.file.close()

        def write(self, block: bytes) -> int:
            if self.file.tell() >= full_after:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(block[:10_000])

    def open_slowly(partial: PartialFile) -> File:  # a method, unlike the class itself
        return File(partial)

    patch.setattr(PartialFile, "opened", open_slowly)


class TestDisk:
    def test_too_little_room_is_seen_before_writing(
        self, mirror: FakeMirror, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 100, 100))
        with pytest.raises(OutputError, match=r"0\.00 GB free; vitl\.pt needs 0\.00 GB more"):
            get(mirror, send(BODY))
        assert {path.name for path in cache.iterdir()} <= {".vitl.pt.lock"}

    def test_room_for_the_rest_is_enough(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reason(mirror, send(BODY, cut_after=30_000, ranges=False))
        usage = namedtuple("usage", "total used free")
        room = len(BODY) - 30_000 + QUICK.min_free_bytes
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1, 1, room - 1))
        with pytest.raises(OutputError):
            get(mirror, send(BODY))
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1, 1, room))
        assert get(mirror, send(BODY)) == BODY

    def test_a_disk_that_takes_little_at_a_time(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow_disk(monkeypatch, full_after=len(BODY))
        assert get(mirror, send(BODY)) == BODY

    def test_a_disk_that_fills_up_meanwhile(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            slow_disk(patch, full_after=20_000)
            with pytest.raises(OutputError, match=r"No space left on device.*VJEPA2_CACHE"):
                get(mirror, send(BODY, piece=15_000, pause=0.005))
        assert get(mirror, send(BODY)) == BODY
        assert mirror.requests[1].headers["Range"] is not None  # what was written is not lost

    def test_larger_than_the_limit(self, mirror: FakeMirror) -> None:
        limits = DownloadLimits(max_bytes=len(BODY) - 1, timeout_seconds=1)
        words = reason(mirror, send(BODY), limits=limits)
        assert words.startswith(f"{len(BODY)} bytes are more than the limit of {len(BODY) - 1}")
        limits = DownloadLimits(max_bytes=len(BODY), timeout_seconds=1)
        assert get(mirror, send(BODY), limits=limits) == BODY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout_seconds", 0),
        ("timeout_seconds", "1"),
        ("retries", -1),
        ("backoff_seconds", float("nan")),
        ("max_bytes", True),
    ],
)
def test_limits_that_make_no_sense(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"DownloadLimits.{field} must be a number"):
        DownloadLimits(**{field: value})
    assert DownloadLimits(retries=0, backoff_seconds=0).retries == 0
