"""Memory of mapped files is given back, and of nothing else."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vjepa2.weights.pages import FilePages
from vjepa2.weights.read import read_content, read_tensors

MIB = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep their pages")


def mapped_kib(path: Path) -> int:
    """Resident memory of a mapped file."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1])
    raise AssertionError(f"{path} is not mapped")


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_read_pages_go_and_come_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    stored = {"a": torch.arange(2.0 * MIB), "b": torch.arange(1.0 * MIB)}
    save_file(stored, path) if ending != ".pt" else torch.save(stored, path)
    found = read_tensors(path) if ending != ".pt" else read_content(path)
    for tensor in found.values():
        tensor.sum()
    assert mapped_kib(path) > 11 * 1024
    pages = FilePages([path])
    pages.give_back(found["a"])
    assert 3 * 1024 < mapped_kib(path) < 5 * 1024
    pages.give_back(found["b"])
    assert mapped_kib(path) < 512
    assert all(torch.equal(found[name], stored[name]) for name in stored)


def test_memory_of_another_kind_keeps_its_values(tmp_path: Path) -> None:
    """The system would fill it with zeros."""
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(MIB)}, path)
    mapped = read_tensors(path)["a"]
    pages = FilePages([path])
    own, copied = torch.ones(MIB), mapped.clone()
    for tensor in (own, copied, mapped):
        pages.give_back(tensor)
        assert bool((tensor == 1).all())


def test_neighbours_keep_their_pages(tmp_path: Path) -> None:
    """Only pages that lie entirely inside: a value written beside it must stay."""
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(3 * MIB)}, path)
    whole = read_tensors(path)["a"]
    left, middle, right = whole[: MIB + 100], whole[MIB + 100 : 2 * MIB + 7], whole[2 * MIB + 7 :]
    left.fill_(1.0)
    right.fill_(2.0)
    FilePages([path]).give_back(middle)
    assert left.sum().item() == len(left) and right.sum().item() == 2 * len(right)


def test_small_and_scattered_tensors_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1024, 1024)}, path)
    whole = read_tensors(path)["a"]
    whole.fill_(3.0)
    pages = FilePages([path])
    pages.give_back(whole[:, :512])
    pages.give_back(whole[0])
    pages.give_back(whole[:0])
    assert bool((whole == 3).all())
