"""Views of evaluation and training from real files: the published arithmetic, in little memory."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_clips import FPS, numbered_frames, write_clip
from torch import Tensor

from vjepa2.data.crop import random_box
from vjepa2.data.draws import Purpose
from vjepa2.data.erasing import erase_box
from vjepa2.data.item_frames import ItemDraws
from vjepa2.data.labelled import LabelledItem
from vjepa2.data.rand_augment import RandAugment, apply_operations
from vjepa2.data.settings import IMAGE_MEAN, IMAGE_STD
from vjepa2.data.train_views import train_views
from vjepa2.data.views import (
    TrainViewConfig,
    ViewConfig,
    item_views,
    normalised,
    read_clips,
    spatial_views,
)
from vjepa2.errors import ConfigError, DtypeError, LabelError, VideoTooLargeError
from vjepa2.video.limits import ReadLimits
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.writer import H264, write_video

PLAIN = TrainViewConfig(rand_augment=None, erase=0, scale=(1, 1), ratio=(4 / 3, 4 / 3))
DRAWS = ItemDraws(3, 1, 5)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> LabelledItem:
    """40 frames of 48 x 64 in which every frame and every pixel differs."""
    numbers = torch.Generator().manual_seed(0)
    coarse = torch.rand(40, 3, 12, 16, generator=numbers)
    frames = torch.nn.functional.interpolate(coarse, size=(48, 64), mode="bicubic")
    path = tmp_path_factory.mktemp("noisy") / "noisy.mp4"
    write_video(path, (frames * 255).clamp(0, 255).byte(), codec=H264(fps=FPS, crf=12))
    return LabelledItem(str(path), (0,))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> LabelledItem:
    return LabelledItem(str(write_clip(tmp_path_factory.mktemp("numbered") / "clip.mp4")), (0,))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> LabelledItem:
    """One colourful picture, as an array so that all of its frames are equal."""
    picture = np.random.default_rng(1).integers(0, 256, (1, 40, 60, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("still") / "still.npy"
    np.save(path, np.repeat(picture, 24, axis=0))
    return LabelledItem(str(path), (0,))


# ---- clips ---------------------------------------------------------------------------------


def test_clips_hold_the_frames_that_segments_name(
    numbered: LabelledItem, frame_numbers: Callable[[Tensor], list[int]]
) -> None:
    views = ViewConfig(num_frames=4, frame_step=3, num_segments=2)
    clips = read_clips(numbered, views)
    assert clips.frames.shape == (2, 4, 3, 48, 64)
    assert clips.frames.dtype == torch.uint8
    # Parts of 24 frames, clips of 12: from 6 and from 30 on.
    assert clips.frame_ids.tolist() == [[6, 10, 14, 17], [30, 34, 38, 41]]
    assert [frame_numbers(clip) for clip in clips.frames] == clips.frame_ids.tolist()
    assert np.allclose(clips.pts_seconds, clips.frame_ids / FPS, atol=1e-3)


def test_a_segment_is_counted_from_the_beginning_of_its_file(
    numbered: LabelledItem, frame_numbers: Callable[[Tensor], list[int]]
) -> None:
    in_seconds = LabelledItem(numbered.path, (0,), start_seconds=2.0, end_seconds=3.0)
    in_frames = LabelledItem(numbered.path, (0,), start_frame=24, end_frame=36)
    views = ViewConfig(num_frames=4)
    for item in (in_seconds, in_frames):
        assert frame_numbers(read_clips(item, views).frames[0]) == [24, 27, 30, 33]
    outside = LabelledItem(numbered.path, (0,), start_seconds=3.5, end_seconds=9.0)
    with pytest.raises(LabelError, match=r"clip\.mp4.*outside"):
        read_clips(outside, views)


def test_moments_are_random_where_asked_for_and_follow_from_the_draws(
    numbered: LabelledItem,
) -> None:
    views = ViewConfig(num_frames=4, frame_step=2, moment="random")

    def start(*which: int) -> int:
        return int(read_clips(numbered, views, draws=ItemDraws(*which)).frame_ids[0, 0])

    starts = [start(0, 0, index) for index in range(12)]
    assert starts == [start(0, 0, index) for index in range(12)]
    assert len(set(starts)) > 5
    assert [start(0, 1, index) for index in range(12)] != starts
    assert [start(1, 0, index) for index in range(12)] != starts
    still_middle = views.override(["moment=middle"])
    assert read_clips(numbered, still_middle, draws=DRAWS).frame_ids[0, 0] == 20


def test_clips_that_would_fill_the_memory_are_refused(
    numbered: LabelledItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReadLimits, "max_output_bytes", 100_000)
    with pytest.raises(VideoTooLargeError, match="use item_views"):
        read_clips(numbered, ViewConfig(num_frames=16))


# ---- views of evaluation -------------------------------------------------------------------


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("resize", ["published", "antialiased"])
def test_views_made_while_reading_are_those_of_whole_clips(
    noisy: LabelledItem, num_views: int, resize: str
) -> None:
    views = ViewConfig(
        num_frames=11, num_segments=2, num_views=num_views, crop_size=24, resize=resize
    )
    pixels = item_views(noisy, views)
    assert pixels.shape == (2, num_views, 11, 3, 24, 24)
    expected = spatial_views(read_clips(noisy, views).frames, views)
    assert expected.dtype == torch.float32
    assert torch.equal(normalised(pixels, views), expected)


def test_pixels_are_normalised_with_the_published_numbers() -> None:
    pixels = torch.randint(0, 256, (2, 1, 3, 3, 4, 4), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    found = normalised(pixels, ViewConfig())
    assert torch.allclose(found, (pixels.float() / 255 - mean) / std, atol=1e-6)


def test_antialiased_views_are_the_pixels_of_the_processor(noisy: LabelledItem) -> None:
    views = ViewConfig(num_frames=5, crop_size=24, resize="antialiased")
    frames = read_clips(noisy, views).frames
    processed = VJEPA2VideoProcessor(crop_size=24)(frames[0], return_tensors="pt")
    assert torch.equal(spatial_views(frames, views)[0, 0], processed["pixel_values_videos"][0])


def test_images_become_still_clips_or_one_frame(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "picture.png"
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    item = LabelledItem(str(path), (0,), is_image=True)
    clip = item_views(item, ViewConfig(num_frames=5, num_segments=2, crop_size=35))
    assert clip.shape == (2, 1, 5, 3, 35, 35)  # 35 * 256 / 224 = 40
    expected = torch.from_numpy(picture[2:37, 2:37]).permute(2, 0, 1)  # 2.5 to even
    assert (clip == expected).all()
    frame = ViewConfig(num_frames=5, crop_size=35, images="frame")
    assert item_views(item, frame).shape == (1, 1, 1, 3, 35, 35)
    assert train_views(item, frame, PLAIN, draws=DRAWS).shape == (1, 1, 1, 3, 35, 35)
    assert read_clips(item, frame).is_image


def test_a_long_clip_of_large_frames_takes_little_memory(tmp_path: Path) -> None:
    """Whole frames would be 64 x 0.23 MB = 15 MB; eight of them are 1.8 MB."""
    path = tmp_path / "large.mp4"
    write_video(path, numbered_frames(64, height=240, width=320), codec=H264(fps=25))
    item = LabelledItem(str(path), (0,))
    views = ViewConfig(num_frames=64, crop_size=16)
    # What is imported and kept at the first use does not count.
    train_views(item, views.override(["num_frames=2"]), TrainViewConfig(), draws=DRAWS)
    tracemalloc.start()
    try:
        for resize in ("published", "antialiased"):
            item_views(item, views.override([f"resize={resize}"]))
        evaluation = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        train_views(item, views, TrainViewConfig(scale=(1, 1)), draws=DRAWS)
        training = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert evaluation < 8e6
    assert training < 8e6


def test_arrays_of_other_numbers_than_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "floats.npy"
    np.save(path, np.zeros((8, 16, 16, 3), dtype=np.float32))
    with pytest.raises(DtypeError, match="must be uint8 frames"):
        item_views(LabelledItem(str(path), (0,)), ViewConfig(num_frames=4, crop_size=16))


# ---- views of training ---------------------------------------------------------------------


def test_without_chance_training_resizes_the_whole_frame(noisy: LabelledItem) -> None:
    views = ViewConfig(num_frames=9, frame_step=2, crop_size=24)
    found = train_views(noisy, views, PLAIN, draws=DRAWS)
    assert found.shape == (1, 1, 9, 3, 24, 24)
    frames = read_clips(noisy, views.override(["moment=random"]), draws=DRAWS).frames[0]
    resized = torch.nn.functional.interpolate(frames.float(), size=(24, 24), mode="bilinear")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    assert torch.allclose(found[0, 0], (resized / 255 - mean) / std, atol=1e-5)


def test_the_published_steps_in_their_order(noisy: LabelledItem) -> None:
    """RandAugment, normalise, box, resize, mirror, erase: one after the other, on whole clips."""
    views = ViewConfig(num_frames=9, frame_step=2, num_segments=2, crop_size=24)
    train = TrainViewConfig(flip=0.5, erase=0.6)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    seen = {"changed": 0, "mirrored": 0, "erased": 0}
    for index in range(8):
        draws = ItemDraws(2, 0, index)
        found = train_views(noisy, views, train, draws=draws)
        clips = read_clips(noisy, views.override(["moment=random"]), draws=draws).frames
        for segment, frames in enumerate(clips):
            policy = RandAugment.from_policy("rand-m7-n4-mstd0.5-inc1")
            operations = policy.draw(draws.stream(Purpose.RAND_AUGMENT, segment))
            changed = apply_operations(frames.permute(0, 2, 3, 1).numpy(), operations)
            pixels = torch.from_numpy(changed).permute(0, 3, 1, 2) / 255
            pixels = (pixels - mean) / std
            top, left, height, width = random_box(
                48,
                64,
                scale=(0.08, 1),
                ratio=(0.75, 4 / 3),
                draws=draws.stream(Purpose.CROP, segment),
            )
            box = pixels[:, :, top : top + height, left : left + width]
            result = torch.nn.functional.interpolate(box, size=(24, 24), mode="bilinear")
            mirrored = draws.stream(Purpose.FLIP, segment).uniform() < 0.5
            if mirrored:
                result = result.flip(-1)
            numbers = draws.stream(Purpose.ERASING, segment)
            erased = erase_box(24, 24, probability=0.6, draws=numbers)
            if erased is not None:
                (top, left, height, width) = erased
                noise = numbers.normal((9, 3, height, width))
                result[:, :, top : top + height, left : left + width] = torch.from_numpy(noise)
            assert torch.allclose(found[segment, 0], result, atol=2e-5)
            seen["changed"] += bool(operations)
            seen["mirrored"] += mirrored
            seen["erased"] += erased is not None
    assert all(count > 2 for count in seen.values())


def test_identical_frames_stay_identical_but_for_the_noise_of_an_erased_box(
    still: LabelledItem,
) -> None:
    views = ViewConfig(num_frames=6, frame_step=1, num_segments=2, crop_size=24)
    segments_differ = False
    for index in range(12):
        draws = ItemDraws(0, 0, index)
        clean = train_views(still, views, TrainViewConfig(erase=0, flip=0.5), draws=draws)
        assert (clean == clean[:, :, :1]).all()
        segments_differ |= bool((clean[0] != clean[1]).any())
        noisy = train_views(still, views, TrainViewConfig(erase=1, flip=0.5), draws=draws)
        for segment in range(2):
            differs = (noisy[segment, 0] != clean[segment, 0]).any(dim=(0, 1))
            (rows,) = differs.any(dim=1).nonzero(as_tuple=True)
            (columns,) = differs.any(dim=0).nonzero(as_tuple=True)
            box = differs[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()  # one full rectangle, the same for all frames
            assert 0 < box.numel() < 24 * 24 * 0.4
    assert segments_differ  # each clip has an augmentation of its own


def test_views_of_training_follow_from_seed_epoch_and_item(noisy: LabelledItem) -> None:
    views = ViewConfig(num_frames=4, frame_step=2, crop_size=24)
    first = train_views(noisy, views, TrainViewConfig(), draws=ItemDraws(0, 0, 0))
    again = train_views(noisy, views, TrainViewConfig(), draws=ItemDraws(0, 0, 0))
    assert torch.equal(first, again)
    for other in (ItemDraws(1, 0, 0), ItemDraws(0, 1, 0), ItemDraws(0, 0, 1)):
        assert not torch.equal(train_views(noisy, views, TrainViewConfig(), draws=other), first)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="rand_augment='randm7'"):
        TrainViewConfig(rand_augment="randm7")
    with pytest.raises(ConfigError, match="scale must be two rising numbers"):
        TrainViewConfig(scale=(1.0, 0.5))
    with pytest.raises(ConfigError, match="std must be above 0"):
        ViewConfig(std=(0.2, 0.0, 0.2))
    with pytest.raises(ConfigError, match="num_views"):
        ViewConfig(num_views=0)
