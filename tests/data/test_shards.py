"""Shards are read where their members lie; nothing in them is trusted or unpacked."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from vjepa2.data.decode import ClipDecoder
from vjepa2.data.manifest import read_source
from vjepa2.data.sample import ClipTask, FileRef
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.data.shards import Section, read_shard
from vjepa2.errors import DataError, DataNotFoundError, ListError, VideoNotFoundError


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            item = tarfile.TarInfo(name)
            item.size = len(data)
            shard.addfile(item, io.BytesIO(data))
    return path


def test_members_lie_where_the_index_says(tmp_path: Path) -> None:
    members = [
        ("a/1.mp4", b"first clip" * 100),
        ("a/1.cls", b"5"),
        ("a/2.json", json.dumps({"label": 8, "text": "x"}).encode()),
        ("a/2.seg.mp4", b"second"),
        ("a/3.jpg", b"third"),
        ("a/readme.txt", b"not a clip"),
        ("a/3.cls", b"not a number"),
    ]
    shard = write_shard(tmp_path / "s.tar", members)
    found = read_shard(shard)
    assert [(item.name, item.label) for item in found] == [
        ("a/1.mp4", 5),
        ("a/2.seg.mp4", 8),
        ("a/3.jpg", None),
    ]
    data = shard.read_bytes()
    assert data[found[1].offset : found[1].offset + found[1].size_bytes] == b"second"


def test_a_section_is_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    path.write_bytes(b"0123456789")
    with Section(str(path), 3, 4, "part") as section:
        assert section.read() == b"3456" and section.read(1) == b""
        assert (section.seek(-2, 2), section.read(9)) == (2, b"56")
        assert (section.seek(1), section.read(2), section.tell()) == (1, b"45", 3)
        assert section.seek(100) == 100 and section.read() == b""
        assert section.name.endswith("whole!part")
    assert section.closed
    with pytest.raises(VideoNotFoundError, match="no shard"):
        Section(str(tmp_path / "gone"), 0, 1, "x")


def test_clips_are_decoded_inside_shards(
    clip_folder: Path, tmp_path: Path, frame_numbers: Callable[[Tensor], list[int]]
) -> None:
    clip = (clip_folder / "clip1.mp4").read_bytes()
    for number in range(2):
        write_shard(
            tmp_path / f"s-{number}.tar", [("pad.txt", b"x" * 700), (f"{number}.mp4", clip)]
        )
    for path in (tmp_path, tmp_path / "s-{0..1}.tar"):
        config = DataConfig(sources=(SourceConfig(path=str(path), fps=4),), moment="middle")
        table = read_source(config.sources[0])
        assert [table[i].name for i in range(2)] == [
            f"{tmp_path}/s-{number}.tar!{number}.mp4" for number in range(2)
        ]
    decoder = ClipDecoder(config=config, augment=AugmentConfig(), num_frames=4, size=(32, 32))
    inside = decoder[ClipTask(0, 0, 0, 0, (table[1],))].sample
    beside = decoder[ClipTask(0, 0, 0, 0, (FileRef(str(clip_folder / "clip1.mp4")),))].sample
    assert inside is not None and beside is not None
    assert inside.frames.equal(beside.frames)
    first, *others = frame_numbers(inside.frames)
    assert others == [first + 3, first + 6, first + 9]


def test_names_are_never_used_as_paths(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as shard:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        shard.addfile(link)
        hard = tarfile.TarInfo("hard.mp4")
        hard.type, hard.linkname = tarfile.LNKTYPE, str(secret)
        shard.addfile(hard)
        item = tarfile.TarInfo("../../secret.mp4")
        item.size = 4
        shard.addfile(item, io.BytesIO(b"mine"))
    (member,) = read_shard(path)
    with Section(str(path), member.offset, member.size_bytes, member.name) as section:
        assert section.read() == b"mine"


def test_bad_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no shard at"):
        read_shard(tmp_path / "gone.tar")
    (tmp_path / "text.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(ListError, match="cannot be read as a tar file"):
        read_shard(tmp_path / "text.tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as shard:
        shard.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(ListError, match="unpack them with gunzip"):
        read_shard(tmp_path / "packed.tar")
    whole = write_shard(tmp_path / "whole.tar", [("a.mp4", b"x" * 5000)])
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(ListError, match="cut off"):
        read_shard(tmp_path / "cut.tar")
    write_shard(tmp_path / "none.tar", [("a.txt", b"x")])
    with pytest.raises(DataError, match="1 shards of .* hold no file of kind 'auto'"):
        read_source(SourceConfig(path=str(tmp_path / "none.tar"), fps=4))
