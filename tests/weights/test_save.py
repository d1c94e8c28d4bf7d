"""Writing weights: names, shards, index, what is left of older files, and full disks."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_networks import Base
from torch import Tensor, nn

from vjepa2.errors import ConfigError, OutputError
from vjepa2.weights.hub import FolderSource
from vjepa2.weights.read import read_checkpoint
from vjepa2.weights.save import all_values, outdated_weights, write_weights

# Three tensors of 400 bytes.
TENSORS = {name: torch.full((100,), float(index)) for index, name in enumerate("cab")}


def write(
    folder: Path,
    *,
    tensors: dict[str, Tensor] | None = None,
    size: str | int = "50GB",
    variant: str | None = None,
) -> list[str]:
    return write_weights(
        TENSORS if tensors is None else tensors,
        folder,
        max_shard_size=size,
        variant=variant,
        num_parameters=300,
    )


def test_one_file(tmp_path: Path) -> None:
    assert write(tmp_path) == ["model.safetensors"]
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_are_filled_in_the_order_of_names(tmp_path: Path) -> None:
    names = write(tmp_path, size=800)
    assert names == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    text = (tmp_path / names[2]).read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {
        "metadata": {"total_parameters": 300, "total_size": 1200},
        "weight_map": {"a": names[0], "b": names[0], "c": names[1]},
    }
    found = read_checkpoint(FolderSource(tmp_path)).tensors
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


def test_variant_stands_in_every_name(tmp_path: Path) -> None:
    assert write(tmp_path, variant="fp16") == ["model.fp16.safetensors"]
    names = write(tmp_path, size="1KB", variant="fp16")
    assert names == [
        "model.fp16-00001-of-00002.safetensors",
        "model.fp16-00002-of-00002.safetensors",
        "model.safetensors.index.fp16.json",
    ]


def test_older_files_of_the_same_variant_are_outdated(tmp_path: Path) -> None:
    old = write(tmp_path, size=400)
    write(tmp_path, variant="fp16")
    (tmp_path / "model.safetensors.backup").write_bytes(b"")
    (tmp_path / "my-model.safetensors").write_bytes(b"")
    new = write(tmp_path)
    outdated = outdated_weights(tmp_path, written=new, variant=None)
    assert sorted(path.name for path in outdated) == sorted(old)
    outdated = outdated_weights(tmp_path, written=["x"], variant="fp16")
    assert [path.name for path in outdated] == ["model.fp16.safetensors"]


def test_shared_and_transposed_memory_is_written_out(tmp_path: Path) -> None:
    value = torch.arange(6.0).view(2, 3)
    write(tmp_path, tensors={"x": value, "tied": value, "part": value[1], "turned": value.T})
    found = load_file(tmp_path / "model.safetensors")
    assert torch.equal(found["x"], value) and torch.equal(found["tied"], value)
    assert torch.equal(found["part"], value[1]) and torch.equal(found["turned"], value.T)


@pytest.mark.parametrize("size", ["much", "5", "GB", "", 0, -1, "5 XB"])
def test_sizes_that_are_none(tmp_path: Path, size: str | int) -> None:
    with pytest.raises(ConfigError, match="is not a size. Give bytes or a string such as '5GB'"):
        write(tmp_path, size=size)


@pytest.mark.parametrize("variant", ["", "a/b", "../x", "a b"])
def test_variants_that_are_none(tmp_path: Path, variant: str) -> None:
    with pytest.raises(ConfigError, match="must be a word"):
        write(tmp_path, variant=variant)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        write(tmp_path / "missing")


def test_parameters_without_values_are_not_written() -> None:
    network = Base()
    network.predictor.layernorm.weight = nn.Parameter(torch.empty(4, device="meta"))
    with pytest.raises(OutputError, match=r"1 parameters, such as 'predictor\.layernorm\.weight'"):
        all_values(network)


def test_others_may_read_what_new_files_let_them_read(tmp_path: Path) -> None:
    """safetensors 0.8 makes files that only their owner can read."""
    (tmp_path / "new").touch()
    write(tmp_path)
    wanted = (tmp_path / "new").stat().st_mode
    assert (tmp_path / "model.safetensors").stat().st_mode == wanted
