"""Progress: lines where there is no terminal, a bar where there is one, nothing when quiet."""

import io

import pytest

from vjepa2 import progress
from vjepa2.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    assert list(track("abc", total=3, description="embedding", stream=out)) == ["a", "b", "c"]
    assert out.getvalue() == "embedding: 3/3, 0 s\n"


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    out = io.StringIO()
    list(track(range(5), total=5, description="x", stream=out))
    # Lines at least 10 s apart: after items 2 (12 s), 4 (24 s), and after the last one.
    assert out.getvalue().splitlines() == ["x: 2/5, 12 s", "x: 4/5, 24 s", "x: 5/5, 30 s"]


def test_a_terminal_gets_a_bar() -> None:
    out = Terminal()
    assert list(track([1, 2], total=2, description="work", stream=out)) == [1, 2]
    assert "work" in out.getvalue()
    assert "100%" in out.getvalue()


def test_quiet_shows_nothing() -> None:
    out = io.StringIO()
    assert list(track([1], total=1, description="x", quiet=True, stream=out)) == [1]
    assert out.getvalue() == ""
