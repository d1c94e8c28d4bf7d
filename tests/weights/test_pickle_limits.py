"""Pickles that would take minutes to read, and zips that torch did not write."""

import time
import zipfile
from pathlib import Path

import pytest
import torch

from vjepa2.errors import CheckpointFormatError
from vjepa2.weights import pickle_limits
from vjepa2.weights.pickle_limits import MAX_PICKLE_BYTES
from vjepa2.weights.read import read_content

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b.bias": torch.arange(5.0)}


def packed_again(path: Path, *, compression: int) -> None:
    """Replace a zip by one with the same entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("junk", [list(range(300, 40_000)), "x" * 70_000])
def test_a_long_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, junk: object, zipped: bool
) -> None:
    monkeypatch.setattr(pickle_limits, "MAX_PICKLE_BYTES", 1 << 16)
    path = tmp_path / "x.pt"
    torch.save({**TENSORS, "junk": junk}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointFormatError, match=r"x\.pt holds .* bytes of pickle beside"):
        read_content(path)


def test_a_compressed_pickle_is_not_even_unpacked(tmp_path: Path) -> None:
    """64 MiB of pickle in 65 KB of file."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02]" + b"]" * (64 << 20))
    start = time.perf_counter()
    with pytest.raises(CheckpointFormatError, match="a zip with compression"):
        read_content(path)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_that_was_compressed(tmp_path: Path, compression: int) -> None:
    """Its mapped bytes are not its values."""
    path = tmp_path / "x.pt"
    torch.save(TENSORS, path)
    packed_again(path, compression=zipfile.ZIP_STORED)
    assert read_content(path)["b.bias"].tolist() == [0, 1, 2, 3, 4]
    packed_again(path, compression=compression)
    with pytest.raises(CheckpointFormatError, match=r"compression \('x/data\.pkl'\).*zip -0"):
        read_content(path)


def test_a_zip_of_other_things(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vitl/vitl.pt", b"inside")
    with pytest.raises(CheckpointFormatError, match=r"holds no data\.pkl \(but vitl/vitl\.pt\)"):
        read_content(path)


def test_what_a_training_run_writes_is_short_enough(tmp_path: Path) -> None:
    """Names as long as any, and a state of the optimizer for every tensor."""
    names = {
        f"module.backbone.blocks.{index}.mlp.fc1.weight": torch.ones(2) for index in range(300)
    }
    state = {
        index: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}
        for index in range(300)
    }
    path = tmp_path / "x.pt"
    torch.save({"encoder": names, "opt": {"state": state}}, path)
    assert len(read_content(path)["encoder"]) == 300
    with zipfile.ZipFile(path) as archive:
        assert 50 * archive.getinfo("x/data.pkl").file_size < MAX_PICKLE_BYTES


def test_large_tensors_of_an_old_file_are_no_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_limits, "MAX_PICKLE_BYTES", 1 << 16)
    path = tmp_path / "x.pt"
    large = torch.arange(100_000)
    torch.save({"a": large, "b": large[1:3]}, path, _use_new_zipfile_serialization=False)
    found = read_content(path)
    assert torch.equal(found["a"], large) and found["b"].tolist() == [1, 2]
