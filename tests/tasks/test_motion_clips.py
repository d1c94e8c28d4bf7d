"""Clips by number, pools of them on disk, and what becomes of labels."""

from pathlib import Path

import pytest
import torch

from vjepa2.errors import ConfigError
from vjepa2.tasks import motion_clips
from vjepa2.tasks.motion_clips import (
    ClipPool,
    ClipVariety,
    LabelChanges,
    MotionClips,
    normalised,
)
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.synthetic import MOTION_LABELS

ZOOMS = ("camera zooms in", "camera zooms out", "nothing moves")
TINY = ClipVariety(short_side=(24, 30), num_video_frames=(4, 9))


def tiny_clips(count: int = 5, seed: int = 3) -> MotionClips:
    return MotionClips(
        seed=seed, count=count, crop_size=16, num_frames=4, labels=ZOOMS, variety=TINY
    )


def test_a_clip_depends_on_its_number_and_seed_only() -> None:
    clips = tiny_clips()
    frames, label = clips[2]
    assert frames.shape == (4, 3, 16, 16)
    assert frames.dtype == torch.uint8
    assert 0 <= int(label) < len(ZOOMS)
    assert torch.equal(tiny_clips(count=3)[2][0], frames)
    assert not torch.equal(clips[3][0], frames)
    assert not torch.equal(tiny_clips(seed=4)[2][0], frames)
    with pytest.raises(IndexError, match="clip 5 of 5"):
        clips[5]


@pytest.mark.parametrize(("seed", "count"), [(-1, 5), (4096, 5), (0, 0), (0, (1 << 20) + 1)])
def test_seeds_out_of_range_are_named(seed: int, count: int) -> None:
    """Beyond these, clips of one seed would be those of another: test clips seen in training."""
    with pytest.raises(ConfigError, match=rf"0 to 4095 .* got {seed} and {count}"):
        tiny_clips(seed=seed, count=count)


def test_files_vary_as_told() -> None:
    variety = ClipVariety(short_side=(20, 40), aspect=(1.0, 2.0), crf=(20, 22))
    generator = torch.Generator().manual_seed(0)
    sizes = [variety.size(generator) for _ in range(200)]
    assert all(20 <= min(size) <= 40 and max(size) <= 2 * min(size) + 2 for size in sizes)
    assert all(side % 2 == 0 for size in sizes for side in size)
    assert any(height > width for height, width in sizes)
    assert any(height < width for height, width in sizes)
    codecs = [variety.codec(generator) for _ in range(200)]
    assert {codec.crf for codec in codecs} == {20, 21, 22}
    assert {codec.fps for codec in codecs} == {10, 15, 24, 25, 30, 50, 60}


def test_normalised_is_what_the_processor_does() -> None:
    frames = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    processor = VJEPA2VideoProcessor(do_resize=False, do_center_crop=False)
    expected = processor(list(frames), return_tensors="pt")["pixel_values_videos"]
    assert torch.allclose(normalised(frames), expected, atol=1e-5)


def test_a_pool_is_made_once_and_goes_on_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion_clips, "CLIPS_PER_FILE", 2)
    clips = tiny_clips()
    pool = ClipPool(tmp_path, clips, workers=0, quiet=True)
    assert len(pool) == 5
    numbers = torch.tensor([4, 0, 4])
    frames, labels = pool.take(numbers)
    for frame, label, number in zip(frames, labels, numbers.tolist(), strict=True):
        assert torch.equal(frame, clips[number][0])
        assert label == clips[number][1]

    names = sorted(path.name for path in tmp_path.iterdir())
    kept = (tmp_path / names[0]).stat().st_mtime_ns
    (tmp_path / names[1]).unlink()
    again = ClipPool(tmp_path, clips, workers=0, quiet=True)
    assert (tmp_path / names[0]).stat().st_mtime_ns == kept
    assert torch.equal(again.take(numbers)[0], frames)
    assert torch.equal(again.labels, pool.labels)


def test_reversal_keeps_the_pictures_and_changes_the_label() -> None:
    changes = LabelChanges(MOTION_LABELS)
    frames = torch.randint(0, 256, (2, 4, 3, 8, 8), dtype=torch.uint8)
    ids = torch.tensor(
        [MOTION_LABELS.index("object appears"), MOTION_LABELS.index("nothing moves")]
    )
    both, both_ids = changes.with_reversed(frames, ids)
    assert torch.equal(both[2:], frames[:, [3, 2, 1, 0]])
    assert [MOTION_LABELS[number] for number in both_ids] == [
        "object appears",
        "nothing moves",
        "object vanishes",
        "nothing moves",
    ]


def test_turning_changes_frames_and_labels_together() -> None:
    """Each clip holds its own label in its pixels: a mark at one edge that names the direction."""
    names = ("object moves left", "object moves right", "object moves up", "object moves down")
    edges = {"left": (4, 0), "right": (4, 8), "up": (0, 4), "down": (8, 4)}
    ids = torch.tensor([MOTION_LABELS.index(name) for name in names]).repeat(25)
    frames = torch.zeros(100, 1, 3, 9, 9, dtype=torch.uint8)
    for frame, number in zip(frames, ids.tolist(), strict=True):
        row, column = edges[MOTION_LABELS[number].split()[-1]]
        frame[..., row, column] = 255
    turned, turned_ids = LabelChanges(MOTION_LABELS).randomly_turned(
        frames, ids, generator=torch.Generator().manual_seed(0)
    )
    for frame, number in zip(turned, turned_ids.tolist(), strict=True):
        row, column = edges[MOTION_LABELS[number].split()[-1]]
        assert (frame[..., row, column] == 255).all()
    assert set(turned_ids.tolist()) == set(ids.tolist())
    assert 40 < int((turned_ids != ids).sum()) < 90  # three of four changes move the mark


def test_labels_must_be_closed_under_changes() -> None:
    LabelChanges(ZOOMS)
    with pytest.raises(ConfigError, match="also used reversed.*'camera zooms out': add it"):
        LabelChanges(("camera zooms in", "nothing moves"))
