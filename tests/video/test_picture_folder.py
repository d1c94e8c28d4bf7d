"""A folder of pictures is read as a video."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_clips import FPS, HEIGHT, WIDTH, encode, numbers, picture

from vjepa2.errors import (
    ConfigError,
    NoVideoStreamError,
    VideoDecodeError,
    VideoTooLargeError,
)
from vjepa2.video.jpeg import jpeg_is_cut
from vjepa2.video.limits import ReadLimits
from vjepa2.video.reader import VideoReader


def still(number: int, *, codec: str = "png", width: int = WIDTH) -> bytes:
    return encode(
        codec=codec,
        container="image2pipe",
        pix_fmt="rgb24" if codec == "png" else "yuvj420p",
        frames=1,
        width=width,
        draw=lambda _: picture(number, width=width),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures whose names sort differently as text, and files that are none."""
    for number in range(12):
        (tmp_path / f"frame{number}.PNG").write_bytes(still(number))
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".frame99.png").write_text("hidden")
    return tmp_path


def test_pictures_are_frames_in_natural_order(folder: Path):
    with VideoReader(folder) as reader:
        assert len(reader) == 12
        assert numbers(reader[:]) == list(range(12))
        frames = reader.get_frames_at([11, 3, 3])
        assert numbers(frames.data) == [11, 3, 3]
        np.testing.assert_array_equal(
            frames.data[0].permute(1, 2, 0).numpy(),
            picture(11),  # PNG loses nothing
        )
        np.testing.assert_allclose(frames.pts_seconds, np.array([11, 3, 3]) / FPS)


def test_the_rate_can_be_chosen(folder: Path):
    with VideoReader(str(folder), frames_per_second=10) as reader:
        assert reader.metadata.average_fps == 10
        assert reader.metadata.duration_seconds == pytest.approx(1.2)
        assert numbers(reader.get_frames_played_at([0.25, 1.19]).data) == [2, 11]
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match="frames_per_second must be above 0"):
            VideoReader(folder, frames_per_second=wrong)


def test_metadata(folder: Path):
    facts = VideoReader(folder).metadata
    assert (facts.width, facts.height, facts.codec) == (WIDTH, HEIGHT, "png")
    assert (facts.container, facts.pixel_format) == ("folder", "rgb24")
    assert facts.num_frames == 12


def test_jpeg(tmp_path: Path):
    for number in (1, 2):
        (tmp_path / f"{number}.jpeg").write_bytes(still(number, codec="mjpeg"))
    assert numbers(VideoReader(tmp_path)[:]) == [1, 2]


def test_a_jpeg_that_was_cut_off(tmp_path: Path):
    """FFmpeg would show a grey rest and say nothing."""
    whole = still(1, codec="mjpeg")
    (tmp_path / "1.jpg").write_bytes(whole)
    (tmp_path / "2.jpg").write_bytes(whole[:-40])
    with VideoReader(tmp_path) as reader:
        assert numbers(reader[:1]) == [1]
        with pytest.raises(VideoDecodeError, match=r"2\.jpg is damaged"):
            reader.get_frame_at(1)
    assert len(VideoReader(tmp_path, on_damage="skip")) == 1
    with pytest.raises(VideoDecodeError, match="ends in the middle of frame 0"):
        len(VideoReader(tmp_path / "2.jpg"))


def test_a_preview_inside_a_jpeg_is_not_taken_for_its_end():
    whole = still(1, codec="mjpeg")
    preview = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    with_preview = whole[:2] + b"\xff" + preview + whole[2:]  # and a fill byte
    assert not jpeg_is_cut(whole)
    assert not jpeg_is_cut(with_preview)
    assert not jpeg_is_cut(with_preview + b"more")
    for size in (3, len(preview), len(with_preview) - 40):
        assert jpeg_is_cut(with_preview[:size])


def test_a_folder_without_pictures(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(NoVideoStreamError, match="holds no pictures .*png"):
        VideoReader(tmp_path)


def test_pictures_of_different_sizes(folder: Path):
    (folder / "frame5.PNG").write_bytes(still(5, width=136))
    with VideoReader(folder) as reader:
        assert numbers(reader.get_frames_at([4, 6]).data) == [4, 6]
        with pytest.raises(VideoDecodeError, match=r"frame5\.PNG is 136x96, but .*frame0\.PNG"):
            reader.get_frames_at([4, 5])


def test_a_damaged_picture(folder: Path):
    path = folder / "frame5.PNG"
    path.write_bytes(path.read_bytes()[:150])
    with VideoReader(folder) as reader:
        assert numbers(reader.get_frames_at([4, 6]).data) == [4, 6]
        with pytest.raises(VideoDecodeError, match=r"frame5\.PNG is damaged.*on_damage='skip'"):
            reader.get_frame_at(5)
    with VideoReader(folder, on_damage="skip") as reader:
        assert numbers(reader[:]) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_a_folder_of_damaged_pictures(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(NoVideoStreamError, match="no pictures that can be read"):
        VideoReader(tmp_path, on_damage="skip")


def test_limits_hold(folder: Path):
    with pytest.raises(VideoTooLargeError, match="holds 12 pictures, more than max_frames = 11"):
        VideoReader(folder, limits=ReadLimits(max_frames=11))
    with pytest.raises(VideoTooLargeError, match="128x96"):
        len(VideoReader(folder, limits=ReadLimits(max_pixels=1000))[:])


def test_only_pyav_reads_folders(folder: Path):
    with pytest.raises(ConfigError, match="read it with backend='pyav'"):
        VideoReader(folder, backend="torchcodec")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_opacity_is_ignored_as_the_port_does(tmp_path: Path, mode: str):
    """A transparent pixel shows its stored colour; Pillow's `convert("RGB")` is the port's way."""
    shown = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
    shown[:4, :, 3], shown[4:8, :, 3] = 0, 128  # transparent, half and anything
    if mode == "P":
        image = Image.fromarray(shown[:, :, :3]).quantize(16)
        image.save(tmp_path / "0.png", transparency=3)
        expected = np.asarray(image.convert("RGB"))
    elif mode == "LA":
        Image.fromarray(shown[:, :, [0, 3]], mode).save(tmp_path / "0.png")
        expected = shown[:, :, [0, 0, 0]]
    else:
        Image.fromarray(shown, mode).save(tmp_path / "0.png")
        expected = shown[:, :, :3]
    with Image.open(tmp_path / "0.png") as stored:
        assert "A" in stored.getbands() or "transparency" in stored.info
        np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), expected)
    with VideoReader(tmp_path) as reader:
        np.testing.assert_array_equal(reader[0].permute(1, 2, 0).numpy(), expected)
