"""Features of recordings: every frame once, in its place, whatever cannot be read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vjepa2.data.trajectories import ArrayFrames, Episode
from vjepa2.errors import BadFilesError, DtypeError, VideoDecodeError
from vjepa2.tasks import probe_cache
from vjepa2.tasks.probe_cache import FeatureCache
from vjepa2.tasks.world_latents import FrameNumbers, LatentTable, fill_latents, frame_marks
from vjepa2.tasks.world_recordings import Recording, Recordings

LENGTHS = (5, 3, 9)
CAMERAS = ("a", "b")
TOTAL = 2 * sum(LENGTHS)


class Broken(ArrayFrames):
    def read(self, indices: Any) -> Any:
        raise VideoDecodeError("the file ends in the middle of a frame")


def recordings(*, broken: tuple[int, str] | None = None) -> Recordings:
    """Frames that hold recording, camera and time in their three colours."""
    items = []
    for number, length in enumerate(LENGTHS):
        cameras = {}
        for place, camera in enumerate(CAMERAS):
            pixels = np.zeros((length, 4, 4, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = number, place
            pixels[..., 2] = np.arange(length)[:, None, None]
            kind = Broken if (number, camera) == broken else ArrayFrames
            cameras[camera] = kind(pixels)
        states = np.zeros((length, 7))
        episode = Episode(
            name=f"e{number}", cameras=cameras, states=states, times_seconds=np.arange(length) / 4
        )
        rows = torch.zeros(length, 7)
        items.append(Recording(episode, rows, rows[1:], held_out=number == 2))
    return Recordings(tuple(items), CAMERAS, (), "mark")


def colours(frames: torch.Tensor) -> torch.Tensor:
    """[T, 1, 3]"""
    return frames.float().mean(dim=(2, 3))[:, None]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of 4 frames in a shard."""
    monkeypatch.setattr(probe_cache, "SHARD_BYTES", 2 * 4 * 3 * 2)


def cache_in(folder: Path) -> FeatureCache:
    return FeatureCache(
        folder, {}, row_shape=(1, 1, 3), num_items=TOTAL, batch_size=4, dtype="float16"
    )


def fill(cache: FeatureCache, found: Recordings, **options: Any) -> Any:
    values = {"max_bytes": 1 << 20, "max_bad_share": 0.2, "quiet": True, **options}
    return fill_latents(cache, found, values.pop("encode", colours), **values)


def wanted() -> torch.Tensor:
    rows = [
        (number, place, time)
        for number, length in enumerate(LENGTHS)
        for place in range(2)
        for time in range(length)
    ]
    return torch.tensor(rows, dtype=torch.float32)[:, None]


def test_numbers_of_frames() -> None:
    numbers = FrameNumbers(recordings())
    assert numbers.total == TOTAL
    expected = [tuple(row) for row in wanted()[:, 0].int().tolist()]
    for start in range(0, TOTAL, 3):
        for stop in range(start + 1, TOTAL + 1, 5):
            found = [
                (part.recording, part.camera, time)
                for part in numbers.stretches(start, stop)
                for time in range(part.start, part.stop)
            ]
            assert found == expected[start:stop]
    assert [expected[numbers.first(n, c)] for n in range(3) for c in range(2)] == [
        (n, c, 0) for n in range(3) for c in range(2)
    ]


@pytest.mark.parametrize("max_bytes", [0, 1 << 20])
def test_every_frame_is_in_its_place(tmp_path: Path, max_bytes: int) -> None:
    cache = cache_in(tmp_path)
    assert fill(cache, recordings()) == [] and cache.is_complete
    table = LatentTable(cache, device=torch.device("cpu"), max_bytes=max_bytes)
    torch.testing.assert_close(table.rows(torch.arange(TOTAL)), wanted())
    order = torch.tensor([7, 0, 33, 7])
    torch.testing.assert_close(table.rows(order), wanted()[order])


def test_features_that_depend_on_frames_before(tmp_path: Path) -> None:
    def summed(frames: torch.Tensor) -> torch.Tensor:
        """The time of this frame and of the one before."""
        own = colours(frames)
        own[1:, 0, 2] += own[:-1, 0, 2].clone()
        return own

    cache = cache_in(tmp_path)
    fill(cache, recordings(), encode=summed, before=1)
    expected = wanted()
    expected[..., 2] = 2 * expected[..., 2] - (expected[..., 2] > 0).float()
    torch.testing.assert_close(cache.rows(range(TOTAL))[:, 0], expected)


def test_a_killed_run_goes_on_after_the_last_shard(tmp_path: Path) -> None:
    count = 0

    def killed() -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(cache_in(tmp_path), recordings(), on_shard=killed)
    cache = cache_in(tmp_path)
    assert cache.num_ready == 2
    encoded = 0

    def counted(frames: torch.Tensor) -> torch.Tensor:
        nonlocal encoded
        encoded += len(frames)
        return colours(frames)

    fill(cache, recordings(), encode=counted)
    assert encoded == TOTAL - 2 * 8
    torch.testing.assert_close(cache.rows(range(TOTAL))[:, 0], wanted())


def test_videos_that_cannot_be_read(tmp_path: Path) -> None:
    found = recordings(broken=(1, "b"))
    with pytest.raises(BadFilesError, match=r"e1, camera b: .* the file ends"):
        fill(cache_in(tmp_path / "strict"), found, max_bad_share=0.1)
    cache = cache_in(tmp_path / "lenient")
    bad = fill(cache, found)
    assert [item.path for item in bad] == ["e1, camera b"]
    table = LatentTable(cache, device=torch.device("cpu"), max_bytes=1 << 20)
    assert table.usable(range(13)) and not table.usable(range(10, 16))
    assert table.usable(range(16, TOTAL))
    torch.testing.assert_close(table.rows(torch.arange(16, TOTAL)), wanted()[16:])


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "finite"), (1e6, "float32")])
def test_features_that_are_no_numbers(tmp_path: Path, value: float, message: str) -> None:
    with pytest.raises(DtypeError, match=f"e0.*{message}"):
        fill(cache_in(tmp_path), recordings(), encode=lambda frames: colours(frames) + value)


def test_a_changed_frame_changes_the_mark() -> None:
    before = recordings()
    after = recordings()
    source = after.items[1].episode.camera("b")
    assert isinstance(source, ArrayFrames)
    source.pixels[2, 1, 1, 0] += 1
    first, second = frame_marks(before), frame_marks(after)
    assert [a == b for a, b in zip(first, second, strict=True)] == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]
