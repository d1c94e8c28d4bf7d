"""A reader never sees half a file, and a failed write changes nothing."""

import json
import os
from pathlib import Path

import pytest

from vjepa2.errors import OutputError
from vjepa2.files import atomic_folder, atomic_path, write_json


def test_content_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out.json"
    with atomic_path(target) as path:
        path.write_text("new")
        assert not target.exists()
        assert path.suffix == ".json"
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_keeps_the_old_content_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with pytest.raises(KeyError), atomic_path(target) as path:
        path.write_bytes(b"half")
        raise KeyError("boom")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "out") as path:
        path.write_text("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_parent_that_is_a_file_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Cannot write"), atomic_path(tmp_path / "file" / "out"):
        pass
    with pytest.raises(OutputError, match="a file, not a folder"), atomic_folder(tmp_path / "file"):
        pass


def test_a_full_disk_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), atomic_path(tmp_path / "out"):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_folder_keeps_files_it_did_not_write_and_is_unchanged_on_failure(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "config.json").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path) as folder:
        (folder / "config.json").write_text("half")
        raise RuntimeError
    assert (tmp_path / "config.json").read_text() == "old"
    with atomic_folder(tmp_path) as folder:
        (folder / "config.json").write_text("new")
    assert (tmp_path / "config.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "mine.txt"]


def test_json_is_sorted_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    text = (tmp_path / "a.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [2], "b": 1}
