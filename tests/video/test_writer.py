"""Frames through the H.264 encoder: sizes, losses, colours, errors."""

import io
import itertools
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from vjepa2.errors import ConfigError, DtypeError, OutputError, ShapeError
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import H264, encode_video, h264_round_trip, write_video
from wrong_values import assert_named, is_number, is_whole


def smooth_frames(num_frames: int = 6, height: int = 48, width: int = 64) -> Tensor:
    """A colour ramp that drifts to the right by one pixel a frame: easy to compress."""
    y = torch.linspace(0, 200, height)[:, None].expand(height, width)
    x = torch.linspace(0, 200, width)[None, :].expand(height, width)
    picture = torch.stack([x, y, 200 - x]).round().to(torch.uint8)
    return torch.stack([picture.roll(step, dims=-1) for step in range(num_frames)])


def mean_error(frames: Tensor, other: Tensor) -> float:
    return float((frames.float() - other.float()).abs().mean())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_written_file_holds_all_frames_in_order(tmp_path: Path, suffix: str) -> None:
    frames = smooth_frames()
    path = write_video(tmp_path / f"new folder/clip{suffix}", frames, codec=H264(crf=10, fps=12.5))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate) == pytest.approx(12.5)
        decoded = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    assert len(decoded) == 6
    errors = torch.tensor(
        [[mean_error(wrote.permute(1, 2, 0), read) for read in decoded] for wrote in frames]
    )
    assert errors.argmin(dim=1).tolist() == [0, 1, 2, 3, 4, 5]
    assert [path.name for path in path.parent.iterdir()] == [path.name]


def test_round_trip_error_is_small_at_good_quality_and_grows_with_crf() -> None:
    frames = smooth_frames()
    errors = [
        mean_error(frames, h264_round_trip(frames, codec=H264(crf=crf))) for crf in (1, 23, 45)
    ]
    assert errors[0] < 3
    assert errors[0] < errors[1] < errors[2] < 40


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 160, 30)])
def test_colours_survive(colour: tuple[int, int, int]) -> None:
    frames = torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].repeat(2, 1, 32, 32)
    error = h264_round_trip(frames, codec=H264(crf=1)).int() - frames.int()
    assert error.abs().max() <= 2


@pytest.mark.parametrize("size", [(33, 48), (48, 33), (17, 19), (2, 2)])
def test_any_size_works(size: tuple[int, int]) -> None:
    frames = torch.full((3, 3, *size), 100, dtype=torch.uint8)
    decoded = h264_round_trip(frames)
    assert decoded.shape == frames.shape
    assert (decoded.int() - 100).abs().max() <= 2


def test_frames_may_come_one_by_one_and_bytes_are_reproducible() -> None:
    frames = smooth_frames()
    assert encode_video(iter(frames)) == encode_video(frames)


def test_the_same_frames_always_give_the_same_bytes() -> None:
    """x264 with its default settings fails this: it reads memory that it never wrote."""
    generator = torch.Generator().manual_seed(0)
    for label, size in [("object moves left", (86, 152)), ("camera zooms in", (146, 108))]:
        frames = make_motion_clip(label, num_frames=24, size=size, generator=generator)
        found = set()
        for number in range(12):
            torch.full((1000 * number + 1,), number)  # leaves different memory behind
            found.add(encode_video(frames, codec=H264(crf=27)))
        assert len(found) == 1


def test_the_file_says_how_its_colours_are_stored() -> None:
    with av.open(io.BytesIO(encode_video(smooth_frames()))) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)  # BT.709, limited range


def test_keyframes_come_as_often_as_asked() -> None:
    data = encode_video(smooth_frames(12), codec=H264(keyframe_interval=4))
    with av.open(io.BytesIO(data)) as container:
        keys = [frame.key_frame for frame in container.decode(video=0)]
    places = [number for number, key in enumerate(keys) if key]
    assert places[0] == 0
    assert all(later - earlier <= 4 for earlier, later in itertools.pairwise([*places, 12]))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_comment_is_kept_in_the_file(tmp_path: Path, suffix: str) -> None:
    frames = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    path = write_video(tmp_path / f"clip{suffix}", frames, comment="Größe: made by hand")
    with av.open(str(path)) as container:
        found = {name.lower(): text for name, text in container.metadata.items()}
    assert found["comment"] == "Größe: made by hand"
    for comment in (3, b"a", "a\0b", "\ud800"):
        with pytest.raises(ConfigError, match="comment "):
            write_video(tmp_path / f"bad{suffix}", frames, comment=comment)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    frames = [torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 18, 16, dtype=torch.uint8)]
    with pytest.raises(ShapeError, match=r"frame 0 is \[3, 16, 16\], frame 1 is \[3, 18, 16\]"):
        write_video(path, frames)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_bad_input_is_named(tmp_path: Path) -> None:
    good = smooth_frames()
    with pytest.raises(ConfigError, match="Video suffix '.avi' does not exist"):
        write_video(tmp_path / "clip.avi", good)
    with pytest.raises(DtypeError, match=r"frame 0 is torch.float32.*0\.\.255"):
        encode_video(good.float())
    with pytest.raises(ShapeError, match=r"channels first.*\[48, 64, 3\].*permute\(2, 0, 1\)"):
        encode_video(good.permute(0, 2, 3, 1))
    with pytest.raises(OutputError, match="no frames"):
        encode_video([])


def test_what_the_encoder_refuses_is_an_output_error() -> None:
    too_wide = torch.zeros(1, 3, 2, 20_000, dtype=torch.uint8)
    with pytest.raises(OutputError, match="Cannot encode the video"):
        encode_video(too_wide)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crf": 52}, "crf must be 51 or less, got 52"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"preset": "vryfast"}, "Did you mean 'veryfast'"),
        ({"keyframe_interval": 0}, "keyframe_interval must be 1 or more"),
        ({"threads": 0}, "threads must be 1 or more"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        H264(**options)  # type: ignore[arg-type]


def test_settings_and_arguments_of_a_wrong_kind(tmp_path: Path) -> None:
    for name, allowed in (
        ("fps", lambda value: is_number(value, above=0, most=1000)),
        ("crf", lambda value: is_whole(value, least=0, most=51)),
        ("keyframe_interval", lambda value: is_whole(value, least=1, most=1 << 20)),
        ("threads", lambda value: is_whole(value, least=1, most=128)),
        ("preset", lambda value: False),
    ):
        assert_named(
            lambda value, name=name: H264(**{name: value}), allowed=allowed, error=ConfigError
        )
    frames = smooth_frames(2)
    assert_named(lambda value: write_video(value, frames), error=ConfigError)
    assert_named(encode_video)
    assert_named(
        lambda value: encode_video(frames, codec=value), allowed=lambda value: value is None
    )
    assert list(tmp_path.iterdir()) == []
