"""`fetch`: cache, mirrors, checksums, offline, files put by hand, several processes.

What servers do wrong is in test_transfer.py.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_mirror import FakeMirror, checkpoint, running_mirror, send, status, wait_until

from vjepa2.errors import (
    CheckpointChangedError,
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    OutputError,
)
from vjepa2.weights.download import DownloadLimits, cached_path, fetch

QUICK = DownloadLimits(timeout_seconds=0.3, retries=1, backoff_seconds=0.01, min_free_bytes=1)
BODY = checkpoint()
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def mirror() -> Iterator[FakeMirror]:
    with running_mirror() as mirror:
        yield mirror


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no settings of this machine."""
    for name in ("VJEPA2_BASE_URL", "VJEPA2_OFFLINE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("VJEPA2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def get(mirror: FakeMirror, filename: str = "vitl.pt", sha256: str | None = None) -> Path:
    return fetch(filename, base_urls=mirror.url, limits=QUICK, quiet=True, sha256=sha256)


def record_of(path: Path) -> dict[str, object]:
    content = json.loads(path.with_name(f"{path.name}.record.json").read_text())
    assert isinstance(content, dict)
    return content


class TestCache:
    def test_downloads_once(self, mirror: FakeMirror, cache: Path) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        for _ in range(3):
            path = get(mirror)
            assert path == cache / "vitl.pt"
            assert path.read_bytes() == BODY
        assert len(mirror.requests) == 1

    def test_names_with_folders(self, mirror: FakeMirror, cache: Path) -> None:
        mirror.plays["evals/ssv2-vitl-16x2x3.pt"] = [send(BODY)]
        path = get(mirror, "evals/ssv2-vitl-16x2x3.pt")
        assert path == cache / "evals" / "ssv2-vitl-16x2x3.pt"
        assert path.read_bytes() == BODY

    def test_the_record_says_what_was_downloaded(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY, etag='"v1"')]
        path = get(mirror)
        record = record_of(path)
        assert record["sha256"] == SHA256
        assert record["size_bytes"] == len(BODY)
        assert record["url"] == f"{mirror.url}/vitl.pt"
        assert record["etag"] == '"v1"'
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", str(record["downloaded"]))

    def test_nothing_is_left_beside_file_record_and_lock(
        self, mirror: FakeMirror, cache: Path
    ) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        get(mirror)
        names = {path.name for path in cache.iterdir()} - {".vitl.pt.lock"}
        assert names == {"vitl.pt", "vitl.pt.record.json"}

    def test_the_place_of_the_cache(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
    ) -> None:
        assert cached_path("a.pt") == cache / "a.pt"
        assert cached_path("a.pt", cache_dir=tmp_path / "x") == tmp_path / "x/checkpoints/a.pt"
        monkeypatch.delenv("VJEPA2_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cached_path("a.pt") == tmp_path / "xdg/vjepa2/checkpoints/a.pt"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cached_path("a.pt") == tmp_path / "home/.cache/vjepa2/checkpoints/a.pt"

    @pytest.mark.parametrize(
        "name",
        [
            "../vitl.pt", "/etc/vitl.pt", "a/../../vitl.pt", "a//vitl.pt", "a/./vitl.pt",
            "..\\vitl.pt", "C:vitl.pt", "~/vitl.pt", "vitl.pt\x00", "vitl.pt\n", "", ".vitl.pt",
            "a/.hidden.pt", "http://host/vitl.pt", "vitl.pt?x=1", "vitl%2e.pt",
        ],
    )  # fmt: skip
    def test_names_that_could_leave_the_cache_are_refused(
        self, mirror: FakeMirror, name: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match="is not the name of a published file"):
            get(mirror, name)
        assert mirror.requests == []
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["vitl", "vitl.pt.record.json", "vitl.pt.partial", "a.zip"])
    def test_only_names_of_checkpoints(self, mirror: FakeMirror, name: str) -> None:
        with pytest.raises(ConfigError, match=r"must end with \.pt, "):
            get(mirror, name)

    def test_a_cache_that_cannot_be_written(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("VJEPA2_CACHE", str(tmp_path / "file"))
        with pytest.raises(OutputError, match=r"Cannot read or write .*VJEPA2_CACHE"):
            get(mirror)


class TestMirrors:
    def test_addresses_are_tried_in_order(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror.plays["b/vitl.pt"] = [send(BODY)]
        monkeypatch.setenv("VJEPA2_BASE_URL", f" {mirror.url}/a/  {mirror.url}/b {mirror.url}/c")
        path = fetch("vitl.pt", limits=QUICK, quiet=True)
        assert path.read_bytes() == BODY
        assert [request.path for request in mirror.requests] == ["a/vitl.pt", "b/vitl.pt"]

    def test_the_published_address_comes_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from vjepa2.weights.download import _bases

        published = "https://dl.fbaipublicfiles.com/vjepa2"
        assert _bases(None) == [published]
        monkeypatch.setenv("VJEPA2_BASE_URL", "http://a/x/ http://b http://a/x")
        assert _bases(None) == ["http://a/x", "http://b", published]
        assert _bases(["http://c/"]) == ["http://c"]

    def test_a_dead_link_lists_every_address_and_where_to_put_the_file(
        self, mirror: FakeMirror, cache: Path
    ) -> None:
        mirror.plays["b/vitl.pt"] = [status(500)]
        addresses = [f"{mirror.url}/a", f"{mirror.url}/b", "http://127.0.0.1:9"]
        with pytest.raises(CheckpointNotFoundError) as caught:
            fetch("vitl.pt", base_urls=addresses, limits=QUICK, quiet=True)
        lines = str(caught.value).splitlines()
        assert lines[0] == "Cannot download vitl.pt. Tried:"
        assert lines[1] == f"  {mirror.url}/a/vitl.pt: 404 Not Found"
        assert lines[2] == f"  {mirror.url}/b/vitl.pt: 500 Internal Server Error (2 attempts)"
        assert lines[3] == "  http://127.0.0.1:9/vitl.pt: connection refused (2 attempts)"
        assert "VJEPA2_BASE_URL" in lines[4]
        assert lines[4].endswith(f"put the file by hand at {cache / 'vitl.pt'}")
        assert isinstance(caught.value, FileNotFoundError)

    @pytest.mark.parametrize(
        "address",
        ["ftp://host/x", "file:///etc", "host/x", "http://", "http://h/x?y", "http://h#y"],
    )
    def test_addresses_that_are_none(self, address: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(repr(address))):
            fetch("vitl.pt", base_urls=address, quiet=True)

    def test_passwords_are_refused_and_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VJEPA2_BASE_URL", "https://user:secret@host/x")
        with pytest.raises(ConfigError, match="host holds a user name") as caught:
            fetch("vitl.pt", quiet=True)
        assert "secret" not in str(caught.value)

    def test_no_address(self) -> None:
        with pytest.raises(ConfigError, match="at least one"):
            fetch("vitl.pt", base_urls=[], quiet=True)


class TestOffline:
    @pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "VJEPA2_OFFLINE"])
    def test_no_request_is_made(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch, variable: str, cache: Path
    ) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        monkeypatch.setenv(variable, "1")
        with pytest.raises(CheckpointNotFoundError) as caught:
            get(mirror)
        assert f"because of {variable}=1" in str(caught.value)
        assert str(cache / "vitl.pt") in str(caught.value)
        assert mirror.requests == []
        monkeypatch.setenv(variable, "0")
        get(mirror)
        monkeypatch.setenv(variable, "1")
        assert get(mirror).read_bytes() == BODY

    def test_local_files_only(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        with pytest.raises(CheckpointNotFoundError, match="because of local_files_only=True"):
            fetch("vitl.pt", base_urls=mirror.url, local_files_only=True, quiet=True)
        assert mirror.requests == []
        path = get(mirror)
        assert fetch("vitl.pt", base_urls=mirror.url, local_files_only=True, quiet=True) == path


class TestByHand:
    def test_a_file_put_there_is_used_and_recorded(self, mirror: FakeMirror, cache: Path) -> None:
        cache.mkdir(parents=True)
        (cache / "vitl.pt").write_bytes(BODY)
        assert get(mirror) == cache / "vitl.pt"
        record = record_of(cache / "vitl.pt")
        assert (record["sha256"], record["url"], record["etag"]) == (SHA256, None, None)
        assert mirror.requests == []

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"<!DOCTYPE html><p>404", "web page"),
            (BODY[:-50], "cut off or damaged"),
            (b"", "empty"),
            (b"\x89PNG....", "not like a file written by torch"),
        ],
    )
    def test_what_is_no_checkpoint_is_refused(
        self, mirror: FakeMirror, cache: Path, content: bytes, problem: str
    ) -> None:
        cache.mkdir(parents=True)
        (cache / "vitl.pt").write_bytes(content)
        with pytest.raises(CheckpointFormatError, match=problem) as caught:
            get(mirror)
        assert str(cache / "vitl.pt") in str(caught.value)
        assert (cache / "vitl.pt").read_bytes() == content  # whatever it is, it is the user's

    def test_a_folder_in_its_place(self, mirror: FakeMirror, cache: Path) -> None:
        (cache / "vitl.pt").mkdir(parents=True)
        with pytest.raises(CheckpointFormatError, match="is not a file"):
            get(mirror)

    def test_a_link_to_a_file_elsewhere(
        self, mirror: FakeMirror, cache: Path, tmp_path: Path
    ) -> None:
        cache.mkdir(parents=True)
        (tmp_path / "shared.pt").write_bytes(BODY)
        (cache / "vitl.pt").symlink_to(tmp_path / "shared.pt")
        assert get(mirror).read_bytes() == BODY

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_cache_that_may_only_be_read(self, mirror: FakeMirror, cache: Path) -> None:
        cache.mkdir(parents=True)
        (cache / "vitl.pt").write_bytes(BODY)
        cache.chmod(0o555)
        try:
            assert get(mirror).read_bytes() == BODY
        finally:
            cache.chmod(0o755)

    def test_recording_may_fail(
        self, mirror: FakeMirror, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: object) -> None:
            raise OutputError("read-only")

        monkeypatch.setattr("vjepa2.weights.file_record.write_json", refuse)
        cache.mkdir(parents=True)
        (cache / "vitl.pt").write_bytes(BODY)
        assert get(mirror).read_bytes() == BODY


class TestChecksum:
    def test_a_changed_file_in_the_cache_is_refused(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        path = get(mirror)
        damaged = bytearray(BODY)
        damaged[5000] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointChangedError) as caught:
            get(mirror)
        message = str(caught.value)
        assert SHA256 in message
        assert hashlib.sha256(damaged).hexdigest() in message
        assert "Delete it to download it again" in message
        assert len(mirror.requests) == 1

    def test_a_file_of_another_size_is_refused_without_reading_it(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        path = get(mirror)
        path.write_bytes(BODY + b"!")
        with pytest.raises(CheckpointChangedError, match=f"now it has {len(BODY) + 1} bytes"):
            get(mirror)

    def test_a_copied_file_is_read_once_and_accepted(
        self, mirror: FakeMirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        path = get(mirror)
        before = record_of(path)
        os.utime(path, ns=(10**18, 10**18))
        get(mirror)
        assert record_of(path) == {**before, "mtime_ns": 10**18}

        def refuse(*arguments: object, **options: object) -> str:
            raise AssertionError("read again")

        monkeypatch.setattr("vjepa2.weights.download.sha256_of", refuse)
        get(mirror)

    def test_a_second_download_must_be_equal(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        path = get(mirror)
        path.unlink()
        mirror.plays["vitl.pt"] = [send(checkpoint(seed=1))]
        with pytest.raises(CheckpointChangedError) as caught:
            get(mirror)
        message = str(caught.value)
        assert "vitl.pt changed since it was first downloaded" in message
        assert SHA256 in message
        assert f"delete {path}.record.json and try again" in message
        assert not path.exists()

        Path(f"{path}.record.json").unlink()
        assert get(mirror).read_bytes() == checkpoint(seed=1)

    def test_a_second_download_that_is_equal(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        get(mirror).unlink()
        assert get(mirror).read_bytes() == BODY

    def test_the_next_address_is_tried_when_one_has_another_file(self, mirror: FakeMirror) -> None:
        mirror.plays["a/vitl.pt"] = [send(BODY)]
        both = [f"{mirror.url}/b", f"{mirror.url}/a"]
        fetch("vitl.pt", base_urls=f"{mirror.url}/a", limits=QUICK, quiet=True).unlink()
        mirror.plays["b/vitl.pt"] = [send(checkpoint(seed=1))]
        path = fetch("vitl.pt", base_urls=both, limits=QUICK, quiet=True)
        assert path.read_bytes() == BODY

    def test_a_known_checksum(self, mirror: FakeMirror) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        assert get(mirror, sha256=SHA256.upper()).read_bytes() == BODY
        with pytest.raises(CheckpointChangedError, match=f"{SHA256}, but {'0' * 64} is expected"):
            get(mirror, sha256="0" * 64)

    def test_a_known_checksum_that_no_address_has(self, mirror: FakeMirror, cache: Path) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        with pytest.raises(CheckpointChangedError, match=f"wrong bytes: SHA-256 {SHA256}"):
            get(mirror, sha256="0" * 64)
        assert {path.name for path in cache.iterdir()} <= {".vitl.pt.lock"}

    def test_a_checksum_that_is_none(self, mirror: FakeMirror) -> None:
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            get(mirror, sha256="abc")

    @pytest.mark.parametrize("content", ["", "{", "[1]", '{"sha256": 1}', "null"])
    def test_a_damaged_record_is_made_again(self, mirror: FakeMirror, content: str) -> None:
        mirror.plays["vitl.pt"] = [send(BODY)]
        path = get(mirror)
        Path(f"{path}.record.json").write_text(content)
        get(mirror)
        assert record_of(path)["sha256"] == SHA256


CHILD = """
import sys
from vjepa2.weights.download import DownloadLimits, fetch
limits = DownloadLimits(timeout_seconds=2, backoff_seconds=0.01, min_free_bytes=1)
print(fetch("vitl.pt", base_urls=sys.argv[1], limits=limits, quiet=len(sys.argv) > 2))
"""


def start_child(mirror: FakeMirror, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, mirror.url, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestSeveralProcesses:
    def test_one_downloads_and_the_others_wait(self, mirror: FakeMirror, cache: Path) -> None:
        # About half a second: long enough for both to meet.
        mirror.plays["vitl.pt"] = [send(BODY, piece=len(BODY) // 50, pause=0.01)]
        children = [start_child(mirror) for _ in range(2)]
        for child in children:
            out, err = child.communicate(timeout=60)
            assert child.returncode == 0, err
            assert out.strip() == str(cache / "vitl.pt")
        assert (cache / "vitl.pt").read_bytes() == BODY
        assert len(mirror.requests) == 1
        assert record_of(cache / "vitl.pt")["sha256"] == SHA256

    def test_threads_of_one_process(self, mirror: FakeMirror, cache: Path) -> None:
        mirror.plays["vitl.pt"] = [send(BODY, piece=len(BODY) // 20, pause=0.01)]
        threads = [threading.Thread(target=get, args=(mirror,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (cache / "vitl.pt").read_bytes() == BODY
        assert len(mirror.requests) == 1

    def test_who_waits_is_told(self, mirror: FakeMirror, capfd: pytest.CaptureFixture[str]) -> None:
        mirror.plays["vitl.pt"] = [send(BODY, piece=len(BODY) // 20, pause=0.03)]
        other = threading.Thread(target=get, args=(mirror,))
        other.start()
        wait_until(lambda: bool(mirror.requests))
        fetch("vitl.pt", base_urls=mirror.url, limits=QUICK)
        other.join()
        assert "Another process downloads vitl.pt; waiting for it." in capfd.readouterr().err

    def test_a_killed_download_goes_on_where_it_was(self, mirror: FakeMirror, cache: Path) -> None:
        mirror.plays["vitl.pt"] = [send(BODY, piece=1000, pause=0.02), send(BODY)]
        child = start_child(mirror)

        def arrived() -> int:
            return sum(path.stat().st_size for path in cache.glob("*.partial"))

        wait_until(lambda: arrived() >= 5000, seconds=60)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        size = arrived()
        assert 5000 <= size < len(BODY)
        assert not (cache / "vitl.pt").exists()

        assert get(mirror).read_bytes() == BODY
        assert mirror.requests[1].headers["Range"] == f"bytes={size}-"
        assert record_of(cache / "vitl.pt")["sha256"] == SHA256


def test_progress_is_lines_where_there_is_no_terminal(
    mirror: FakeMirror, capfd: pytest.CaptureFixture[str]
) -> None:
    body = checkpoint(3 << 20)
    mirror.plays["vitl.pt"] = [send(body)]
    fetch("vitl.pt", base_urls=mirror.url, limits=QUICK)
    assert "Downloading vitl.pt (MiB): 4/4, " in capfd.readouterr().err


def test_importing_the_module_is_cheap() -> None:
    code = (
        "import sys, vjepa2.weights.download\n"
        "print(*(m for m in ('torch', 'huggingface_hub', 'filelock', 'numpy') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
