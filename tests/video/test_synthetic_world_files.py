"""A folder of videos of the small world: real files, their truth, going on after a stop."""

import json
from pathlib import Path

import pytest
import torch

from vjepa2.errors import ConfigError, InputError
from vjepa2.video.reader import VideoReader
from vjepa2.video.synthetic_world import make_world_clips
from vjepa2.video.synthetic_world_files import LABELS_NAME, file_world, write_world_videos

WORLD = file_world(seconds=1.0, size=(32, 48))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_hold_the_worlds_and_the_labels_what_is_true_of_them(tmp_path: Path) -> None:
    write_world_videos(tmp_path / "new", count=3, seed=5, config=WORLD, quiet=True)
    names = sorted(path.name for path in (tmp_path / "new").glob("*.mp4"))
    assert names == [f"world-{number:08d}.mp4" for number in range(3)]
    lines = (tmp_path / "new" / LABELS_NAME).read_text().splitlines()
    facts = [json.loads(line) for line in lines]
    assert [fact["path"] for fact in facts] == names
    clips = make_world_clips(WORLD, seed=5, numbers=range(3))
    for row, (name, fact) in enumerate(zip(names, facts, strict=True)):
        assert fact["count"] == int(clips.count[row]) == len(fact["objects"])
        assert fact["collided"] == bool(clips.collided[row])
        with VideoReader(tmp_path / "new" / name) as reader:
            frames = reader.get_frames_at(range(12))
        assert frames.data.shape == (12, 3, 32, 48)
        error = (frames.data.float() - clips.frames[row].float()).abs().mean()
        assert error < 12, "the file shows another world"


def test_writing_goes_on_and_makes_the_same_files(tmp_path: Path) -> None:
    write_world_videos(tmp_path / "whole", count=4, seed=1, config=WORLD, quiet=True)
    write_world_videos(tmp_path / "parts", count=2, seed=1, config=WORLD, quiet=True)
    kept = tmp_path / "parts" / "world-00000000.mp4"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "parts" / "world-00000001.mp4").unlink()
    write_world_videos(tmp_path / "parts", count=4, seed=1, config=WORLD, quiet=True)
    assert kept.stat().st_mtime_ns == stamp
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_folder_of_other_videos_is_refused(tmp_path: Path) -> None:
    write_world_videos(tmp_path, count=1, seed=1, config=WORLD, quiet=True)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="seed 1"):
        write_world_videos(tmp_path, count=1, seed=2, config=WORLD, quiet=True)
    with pytest.raises(InputError, match="world"):
        write_world_videos(tmp_path, count=1, seed=1, config=file_world(), quiet=True)
    assert contents(tmp_path) == before
    (tmp_path / LABELS_NAME).write_text("no label\n")
    with pytest.raises(InputError, match="line 1"):
        write_world_videos(tmp_path, count=1, seed=1, config=WORLD, quiet=True)


@pytest.mark.parametrize("count", [0, -1, 1.5, "many"])
def test_wrong_counts_are_named(tmp_path: Path, count: object) -> None:
    with pytest.raises(ConfigError, match="count"):
        write_world_videos(tmp_path, count=count, seed=0, quiet=True)  # type: ignore[arg-type]


def test_the_usual_world_is_long_enough_for_many_clips() -> None:
    config = file_world()
    assert config.num_frames / config.fps == pytest.approx(5)
    assert torch.tensor(config.size).remainder(2).eq(0).all()
