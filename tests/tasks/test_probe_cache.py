"""Features on the disk: rows come back, damage and differences are named."""

from pathlib import Path

import pytest
import torch

from tiny_finetuning import write_labelled
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.tasks.probe_cache import FeatureCache, Layout, first_difference, item_marks


def cache_in(folder: Path, *, dtype: str = "float32", weights: str = "a") -> FeatureCache:
    return FeatureCache(
        folder,
        {"encoder": {"weights": weights}},
        row_shape=(1, 2, 3),
        num_items=5,
        batch_size=2,
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_come_back_in_any_order(tmp_path: Path, dtype: str) -> None:
    cache = cache_in(tmp_path, dtype=dtype)
    assert cache.bytes_to_write() == 5 * 6 * cache.dtype.itemsize and not cache.is_complete
    rows = torch.randn(4, 1, 2, 3)
    cache.write(0, [rows[:2], rows[2:]], [4, 0, 3, 1], [2])
    for opened in (cache, cache_in(tmp_path, dtype=dtype)):
        assert opened.is_complete and opened.bytes_to_write() == 0 and opened.bad == {2}
        assert opened.readable([0, 1, 2, 3]) == [0, 1, 3]
        found = opened.rows([1, 4, 0])
        assert found.dtype is torch.float32
        assert torch.equal(found, rows[[3, 0, 1]].to(cache.dtype).float())


def test_shards_hold_whole_batches() -> None:
    layout = Layout(num_items=11, batch_size=2, per_shard=4)
    assert (layout.num_batches, layout.num_shards) == (6, 2)
    assert [list(layout.batches(shard)) for shard in range(2)] == [[0, 1, 2, 3], [4, 5]]


def test_damage_is_named(tmp_path: Path) -> None:
    cache_in(tmp_path).write(0, [torch.zeros(5, 1, 2, 3)], [0, 1, 2, 3, 4], [])
    with pytest.raises(ConfigError, match=r"encoder.weights: 'a' and 'b'"):
        cache_in(tmp_path, weights="b")
    shard = tmp_path / "shard-000000.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointFormatError, match="shard-000000"):
        cache_in(tmp_path)
    for broken in ("{", "[]", "[" * 100_000):
        (tmp_path / "index.json").write_text(broken)
        with pytest.raises(CheckpointFormatError, match=r"index.json is damaged"):
            cache_in(tmp_path)


def test_differences_are_found_wherever_they_are() -> None:
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) == ""
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a.1.b: 2 and 3"
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == "a: 1 and 2"
    assert first_difference({"a": None}, {"a": {"b": 1}}) == "a: None and {'b': 1}"


def test_a_set_is_known_by_its_files_not_their_place_or_labels(tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "one", count=1, seed=0)
    marks = item_marks(read_labelled(path))
    moved = path.parent.rename(tmp_path / "two") / path.name
    moved.write_text(moved.read_text().replace(",nothing moves", ",rest"))
    assert item_marks(read_labelled(moved)) == marks
    clip = sorted(moved.parent.glob("*.npy"))[0]
    content = bytearray(clip.read_bytes())
    content[-1] ^= 1
    clip.write_bytes(content)
    assert sum(a != b for a, b in zip(item_marks(read_labelled(moved)), marks, strict=True)) == 1


def test_a_change_in_the_middle_of_a_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    file = tmp_path / "walk" / "a.mp4"
    content = bytearray(1_000_000)
    file.write_bytes(content)
    marks = item_marks(read_labelled(tmp_path))
    content[500_000] = 1
    file.write_bytes(content)
    assert item_marks(read_labelled(tmp_path)) != marks
