"""Contexts as pixels: nothing later is seen; training is a function of (seed, epoch, event)."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vjepa2.data.event_clips import EventClipConfig
from vjepa2.data.event_loader import EventReader, subset, usable_events
from vjepa2.data.labelled import LabelledItem, LabelledSet, LabelMap
from vjepa2.data.views import TrainViewConfig, ViewConfig, spatial_views
from vjepa2.errors import BadFilesError, LabelError
from vjepa2.video.reader import VideoReader
from vjepa2.video.writer import H264, write_video

CLIPS = EventClipConfig(num_frames=4, fps=4.0, seconds=1.0, train_seconds=(0.5, 1.5))
VIEWS = ViewConfig(num_frames=4, fps=4.0, crop_size=24)
TRAIN = TrainViewConfig(rand_augment=None, flip=0.5)
LABELS = LabelMap({"verb": ("go", "stay"), "noun": ("cat", "dog", "bird")})
START = 3.0


def noise(count: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 40), dtype=torch.uint8, generator=generator)


def events(folder: Path, *names: str, start: float = START, end: float = 4.0) -> LabelledSet:
    items = tuple(
        LabelledItem(str(folder / name), (0, number % 3), start_seconds=start, end_seconds=end)
        for number, name in enumerate(names)
    )
    return LabelledSet(items, LABELS, str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 5 s that are equal up to 2 s, and one that is none; all keyframes."""
    made = tmp_path_factory.mktemp("events")
    codec = H264(fps=8.0, keyframe_interval=1, crf=0)
    first = noise(40, seed=0)
    other = first.clone()
    other[16:] = noise(24, seed=1)  # everything from 2 s on, a second before the event
    write_video(made / "a.mp4", first, codec=codec)
    write_video(made / "b.mp4", other, codec=codec)
    (made / "broken.mp4").write_bytes(b"no video" * 100)
    return made


@pytest.mark.parametrize("kept_bytes", [0, 1 << 28])
def test_nothing_after_the_context_changes_a_pixel(folder: Path, kept_bytes: int) -> None:
    reader = EventReader(events(folder, "a.mp4", "b.mp4"), CLIPS, VIEWS, kept_bytes=kept_bytes)
    batch = reader.batch([0, 1])
    assert batch.clips[0].frame_ids == batch.clips[1].frame_ids == (8, 10, 12, 14)
    assert torch.equal(batch.pixels[0], batch.pixels[1])
    # The test can fail: half a second later they differ.
    later = reader.batch([0, 1], seconds=0.5)
    assert not torch.equal(later.pixels[0], later.pixels[1])


def test_pixels_are_made_as_those_of_any_evaluated_clip(folder: Path) -> None:
    got = EventReader(events(folder, "a.mp4"), CLIPS, VIEWS).batch([0]).pixels
    with VideoReader(folder / "a.mp4") as reader:
        frames = reader.get_frames_at([8, 10, 12, 14]).data
    torch.testing.assert_close(got, spatial_views(frames[None], VIEWS)[:, 0])


def test_training_is_a_function_of_seed_epoch_and_event(folder: Path) -> None:
    labelled = events(folder, "a.mp4", "b.mp4", "a.mp4")
    first = EventReader(labelled, CLIPS, VIEWS, train=TRAIN, seed=3)
    second = EventReader(labelled, CLIPS, VIEWS, train=TRAIN, seed=3, kept_bytes=0)
    whole = first.batch([0, 1, 2], epoch=4)
    assert torch.equal(whole.pixels[2:], second.batch([2], epoch=4).pixels)
    assert not torch.equal(whole.pixels[0], whole.pixels[2])
    assert not torch.equal(whole.pixels, first.batch([0, 1, 2], epoch=5).pixels)
    seconds = [float(first.batch([0], epoch=epoch).seconds) for epoch in range(20)]
    assert 0.5 <= min(seconds) < 0.8 and 1.2 < max(seconds) <= 1.5
    for epoch in range(20):
        (clip,) = first.batch([0], epoch=epoch).clips
        assert clip.seconds_to_event >= clip.seconds - 1e-6
    assert whole.labels.tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_nothing(folder: Path, workers: int) -> None:
    labelled = events(folder, *["a.mp4", "b.mp4"] * 4)
    reader = EventReader(labelled, CLIPS, VIEWS, train=TRAIN)
    order = [[0, 1], [5, 2], [7], [3, 4]]
    found = list(reader.batches(order, epoch=0, workers=workers))
    assert [batch.indices for batch in found] == order
    for batch in found:
        assert torch.equal(batch.pixels, reader.batch(batch.indices, epoch=0).pixels)


def test_events_without_a_context_are_counted_and_left_out(folder: Path) -> None:
    labelled = LabelledSet(
        (*events(folder, "a.mp4").items, *events(folder, "b.mp4", start=0.9).items), LABELS
    )
    usable = usable_events(labelled, CLIPS, quiet=True)
    assert usable.indices == (0,)
    assert "1 of 2 events come too early" in usable.notes[0]
    assert "b.mp4 at 0.9 s" in usable.notes[0]
    assert subset(labelled, usable.indices).items == labelled.items[:1]
    assert usable_events(labelled, CLIPS, seconds=0.5, quiet=True).indices == (0, 1)
    with pytest.raises(LabelError, match="None of the 1 events"):
        usable_events(events(folder, "a.mp4", start=0.5), CLIPS, quiet=True)


def test_unusable_files_and_events_are_named_before_anything_is_computed(folder: Path) -> None:
    with pytest.raises(BadFilesError, match=r"broken\.mp4"):
        usable_events(events(folder, "broken.mp4"), CLIPS, quiet=True)
    mixed = events(folder, "a.mp4", "broken.mp4", "b.mp4")
    usable = usable_events(mixed, CLIPS, quiet=True)
    assert usable.indices == (0, 2) and "1 of 3 files cannot be read" in usable.notes[0]
    with pytest.raises(LabelError, match="outside the file"):
        usable_events(events(folder, "a.mp4", start=6.0, end=7.0), CLIPS, quiet=True)
