"""Reading files: every damaged, foreign or dangerous one is refused by its own error."""

import argparse
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    UnsafeCheckpointError,
    WeightsError,
)
from vjepa2.weights.hub import FolderSource
from vjepa2.weights.read import read_checkpoint, read_tensors

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b.bias": torch.arange(5.0)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = TENSORS) -> bool:
    return set(found) == set(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


def anonymous_kib() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1])
    raise AssertionError("no Anonymous line")


class TestFormats:
    def test_one_safetensors_file(self, tmp_path: Path) -> None:
        save_file(TENSORS, tmp_path / "model.safetensors")
        checkpoint = read_checkpoint(FolderSource(tmp_path))
        assert same(checkpoint.tensors)
        assert checkpoint.paths == (tmp_path / "model.safetensors",)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_pickle_of_both_generations(self, tmp_path: Path, zipped: bool) -> None:
        path = tmp_path / "pytorch_model.bin"
        torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
        assert same(read_checkpoint(FolderSource(tmp_path)).tensors)

    def test_safetensors_comes_before_the_pickle(self, tmp_path: Path) -> None:
        save_file(TENSORS, tmp_path / "model.safetensors")
        (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
        assert same(read_checkpoint(FolderSource(tmp_path)).tensors)

    @pytest.mark.parametrize(
        ("names", "index"),
        [
            (["model-1.safetensors", "model-2.safetensors"], "model.safetensors.index.json"),
            (["pytorch_model-1.bin", "pytorch_model-2.bin"], "pytorch_model.bin.index.json"),
        ],
    )
    def test_shards(self, tmp_path: Path, names: list[str], index: str) -> None:
        write_shards(tmp_path, names, index)
        checkpoint = read_checkpoint(FolderSource(tmp_path))
        assert same(checkpoint.tensors)
        assert checkpoint.files == {
            "a.weight": tmp_path / names[0],
            "b.bias": tmp_path / names[1],
        }

    def test_variant_has_its_own_names(self, tmp_path: Path) -> None:
        save_file(TENSORS, tmp_path / "model.fp16.safetensors")
        assert same(read_checkpoint(FolderSource(tmp_path), variant="fp16").tensors)
        with pytest.raises(CheckpointNotFoundError, match=r"model\.fp16\.safetensors"):
            read_checkpoint(FolderSource(tmp_path))
        with pytest.raises(CheckpointNotFoundError, match="Is variant='fp32' right"):
            read_checkpoint(FolderSource(tmp_path), variant="fp32")

    def test_variant_shards(self, tmp_path: Path) -> None:
        write_shards(tmp_path, ["x.safetensors", "y.safetensors"], "model.safetensors.index.v.json")
        assert same(read_checkpoint(FolderSource(tmp_path), variant="v").tensors)


class TestMemory:
    """20 MiB of values: reading them must not make 20 MiB of new memory."""

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_tensors_are_views_of_the_file(self, tmp_path: Path, name: str) -> None:
        big = {"w": torch.ones(5 * 2**20)}
        path = tmp_path / name
        save_file(big, path) if name.endswith("safetensors") else torch.save(big, path)
        del big
        before = anonymous_kib()
        found = read_tensors(path)
        assert found["w"].sum().item() == 5 * 2**20  # every page was read
        assert anonymous_kib() - before < 5 * 1024

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_writing_to_a_tensor_leaves_the_file_alone(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        save_file(TENSORS, path) if name.endswith("safetensors") else torch.save(TENSORS, path)
        content = path.read_bytes()
        found = read_tensors(path)
        found["a.weight"].add_(1.0)
        assert torch.equal(found["a.weight"], TENSORS["a.weight"] + 1.0)
        assert path.read_bytes() == content and same(read_tensors(path))


class Runs:
    """Pickles to a call that would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class TestDangerous:
    @pytest.mark.parametrize("how", ["torch", "legacy", "protocol 2", "protocol 4", "nested"])
    def test_a_pickle_with_code_is_refused_and_does_not_run(self, tmp_path: Path, how: str) -> None:
        target, path = tmp_path / "was-run", tmp_path / "pytorch_model.bin"
        content: Any = {"a.weight": torch.zeros(2), "evil": Runs(target)}
        if how == "nested":
            content = {"a.weight": [torch.zeros(2), {"x": Runs(target)}]}
        if how.startswith("protocol"):
            path.write_bytes(pickle.dumps({"evil": Runs(target)}, protocol=int(how[-1])))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
        with pytest.raises(UnsafeCheckpointError, match="would run code") as caught:
            read_checkpoint(FolderSource(tmp_path))
        assert not target.exists()
        assert "safetensors" in str(caught.value) and "weights_only" not in str(caught.value)

    def test_objects_are_refused_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        torch.save({"a": torch.zeros(1), "args": argparse.Namespace(lr=1)}, path)
        with pytest.raises(UnsafeCheckpointError, match=r"argparse\.Namespace"):
            read_tensors(path)
        torch.save(torch.nn.Linear(1, 1), path)
        with pytest.raises(UnsafeCheckpointError, match=r"Linear"):
            read_tensors(path)

    def test_a_program_is_refused(self, tmp_path: Path) -> None:
        import warnings

        path = tmp_path / "x.bin"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit itself
            torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))
            with pytest.raises(UnsafeCheckpointError, match="TorchScript"):
                read_tensors(path)


class TestDamaged:
    @pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
    @pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.9, 0.999])
    def test_truncated(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / f"model{suffix}"
        save_file(TENSORS, path) if suffix == ".safetensors" else torch.save(TENSORS, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(CheckpointFormatError, match="is not a complete checkpoint") as caught:
            read_tensors(path)
        assert str(path) in str(caught.value) and "again" in str(caught.value)

    @pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "it is empty"),
            (b"hello", "of another format"),
            (b"<!DOCTYPE html><html>", "looks like a web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
            (b"\x00" * 100, "of another format"),
            (b"\xff" * 100, "of another format"),
        ],
    )
    def test_another_kind_of_file(
        self, tmp_path: Path, suffix: str, content: bytes, words: str
    ) -> None:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointFormatError, match=words):
            read_tensors(path)

    @pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".legacy.bin"])
    def test_two_hundred_mutations_end_in_tensors_or_a_named_error(
        self, tmp_path: Path, suffix: str
    ) -> None:
        path = tmp_path / f"model{suffix}"
        if suffix == ".safetensors":
            save_file(TENSORS, path)
        else:
            torch.save(TENSORS, path, _use_new_zipfile_serialization=suffix == ".bin")
        original, rng = path.read_bytes(), random.Random(3)
        refused = 0
        for _ in range(200):
            mutated = bytearray(original)
            for _ in range(rng.choice([1, 1, 4, 40])):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            path.write_bytes(bytes(mutated[: rng.choice([len(mutated), rng.randrange(2000)])]))
            try:
                read_tensors(path)
            except WeightsError:
                refused += 1
        assert refused > 20

    def test_a_pickle_that_is_no_dictionary_of_tensors(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        torch.save([torch.zeros(1)], path)
        with pytest.raises(CheckpointFormatError, match="holds a list, not a dictionary"):
            read_tensors(path)
        torch.save({"encoder": {"w": torch.zeros(1)}, "epoch": 3}, path)
        with pytest.raises(CheckpointFormatError, match="original V-JEPA training checkpoint"):
            read_tensors(path)
        torch.save({"ema_encoder": {"w": torch.zeros(1)}}, path)
        with pytest.raises(CheckpointFormatError, match="original V-JEPA training checkpoint"):
            read_tensors(path)
        torch.save({3: torch.zeros(1)}, path)
        with pytest.raises(CheckpointFormatError, match="must map names to tensors"):
            read_tensors(path)


def write_shards(folder: Path, names: list[str], index: str) -> None:
    """Spread TENSORS over two files."""
    for name, (key, value) in zip(names, TENSORS.items(), strict=True):
        write = save_file if name.endswith("safetensors") else torch.save
        write({key: value}, folder / name)
    weight_map = dict(zip(TENSORS, names, strict=True))
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


class TestIndex:
    NAMES = ("one.safetensors", "two.safetensors")
    INDEX = "model.safetensors.index.json"

    def change(self, folder: Path, weight_map: object) -> FolderSource:
        write_shards(folder, list(self.NAMES), self.INDEX)
        (folder / self.INDEX).write_text(json.dumps({"weight_map": weight_map}))
        return FolderSource(folder)

    def test_missing_shard(self, tmp_path: Path) -> None:
        write_shards(tmp_path, list(self.NAMES), self.INDEX)
        (tmp_path / "two.safetensors").unlink()
        with pytest.raises(CheckpointNotFoundError, match=r"names the file 'two\.safetensors'"):
            read_checkpoint(FolderSource(tmp_path))

    def test_tensor_that_its_shard_does_not_hold(self, tmp_path: Path) -> None:
        source = self.change(
            tmp_path, {"a.weight": self.NAMES[0], "b.bias": self.NAMES[1], "c": self.NAMES[1]}
        )
        with pytest.raises(CheckpointFormatError, match=r"says that 'two\.safetensors' holds c,"):
            read_checkpoint(source)

    def test_tensor_in_two_shards(self, tmp_path: Path) -> None:
        source = self.change(tmp_path, {"a.weight": self.NAMES[0], "b.bias": self.NAMES[1]})
        save_file(TENSORS, tmp_path / self.NAMES[1])
        with pytest.raises(CheckpointFormatError, match=r"'a\.weight', which another shard has"):
            read_checkpoint(source)

    @pytest.mark.parametrize(
        "filename",
        [
            "../outside.safetensors",
            "/etc/outside.safetensors",
            "sub/inside.safetensors",
            "..\\outside.safetensors",
            "..",
            "",
            "config.json",
            7,
            None,
        ],
    )
    def test_paths_out_of_the_folder_are_refused(self, tmp_path: Path, filename: object) -> None:
        inner = tmp_path / "inner"
        inner.mkdir()
        save_file(TENSORS, tmp_path / "outside.safetensors")
        source = self.change(inner, {"a.weight": filename})
        with pytest.raises(CheckpointFormatError, match="Do not trust this folder"):
            read_checkpoint(source)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
    def test_no_index_inside(self, tmp_path: Path, text: str) -> None:
        (tmp_path / self.INDEX).write_text(text)
        with pytest.raises(CheckpointFormatError, match=r"not valid JSON|has no 'weight_map'"):
            read_checkpoint(FolderSource(tmp_path))


def test_a_folder_without_weights_lists_what_it_tried_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "vitl.pt").write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError) as caught:
        read_checkpoint(FolderSource(tmp_path))
    message = str(caught.value)
    assert "model.safetensors, pytorch_model.bin" in message and "there: vitl.pt" in message
