"""The reader's methods: numbers, times, refusals, and how little it decodes."""

import gc
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from video_clips import FPS, HEIGHT, WIDTH, audio_only, encode, numbers

from vjepa2.errors import ConfigError, InputError, MissingExtraError, VideoTooLargeError
from vjepa2.video import cursor as cursor_module
from vjepa2.video.frames import Frame, Frames
from vjepa2.video.limits import ReadLimits
from vjepa2.video.reader import VideoReader
from wrong_values import assert_named, is_number, is_whole

END = 40 / FPS


@pytest.fixture(scope="module")
def clip() -> bytes:
    """40 frames of H.264 with B-frames, a keyframe every 10."""
    options = {"g": "10", "keyint_min": "10", "bf": "2", "sc_threshold": "0"}
    return encode(codec="libx264", container="mp4", codec_options=options)


@pytest.fixture
def reader(clip: bytes) -> VideoReader:
    return VideoReader(clip)


# ---- by number --------------------------------------------------------------------------------


def test_the_snippet_of_the_model_documentation_runs(clip: bytes):
    vr = VideoReader(clip)
    frame_idx = np.arange(0, 32)
    video = vr.get_frames_at(indices=frame_idx).data
    assert video.dtype == torch.uint8
    assert tuple(video.shape) == (32, 3, HEIGHT, WIDTH)
    assert numbers(video) == list(range(32))


def test_asked_order_and_repeats_are_kept(reader: VideoReader):
    asked = [30, 2, 2, 39, 0, 30]
    frames = reader.get_frames_at(asked)
    assert isinstance(frames, Frames)
    assert numbers(frames.data) == asked
    np.testing.assert_allclose(frames.pts_seconds, np.array(asked) / FPS)
    np.testing.assert_allclose(frames.duration_seconds, np.full(6, 1 / FPS))


@pytest.mark.parametrize(
    "indices",
    [[1, 5], (1, 5), range(1, 6, 4), np.array([1, 5]), torch.tensor([1, 5]), np.array([-39, 5])],
    ids=["list", "tuple", "range", "array", "tensor", "negative"],
)
def test_numbers_may_come_in_any_container(reader: VideoReader, indices: object):
    assert numbers(reader.get_frames_at(indices).data) == [1, 5]


def test_no_numbers_give_no_frames(reader: VideoReader):
    assert tuple(reader.get_frames_at([]).data.shape) == (0, 3, HEIGHT, WIDTH)


def test_one_frame(reader: VideoReader):
    frame = reader.get_frame_at(-1)
    assert isinstance(frame, Frame)
    assert numbers(frame.data[None]) == [39]
    assert frame.pts_seconds == pytest.approx(39 / FPS)


def test_ranges_cut_like_slices(reader: VideoReader):
    assert numbers(reader.get_frames_in_range(10, 20, 4).data) == [10, 14, 18]
    assert numbers(reader.get_frames_in_range(36, 100).data) == [36, 37, 38, 39]
    assert numbers(reader.get_frames_in_range(-2, 40).data) == [38, 39]
    assert len(reader.get_frames_in_range(5, 5)) == 0


def test_brackets_and_loops_give_pixels(reader: VideoReader):
    assert numbers(reader[3][None]) == [3]
    assert numbers(reader[-3:]) == [37, 38, 39]
    assert numbers(reader[38:35:-1]) == [38, 37, 36]
    assert numbers(torch.stack(list(reader))) == list(range(40))


def test_chunks_are_the_same_frames(reader: VideoReader):
    asked = [0, 4, 9, 20, 21, 39, 3]
    chunks = list(reader.iter_frames_at(asked, frames_per_chunk=3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert torch.equal(
        torch.cat([chunk.data for chunk in chunks]), reader.get_frames_at(asked).data
    )


@pytest.mark.parametrize("index", [40, -41, 10**9])
def test_a_number_that_does_not_exist(reader: VideoReader, index: int):
    with pytest.raises(InputError, match=rf"no frame {index}: its 40 frames have the numbers 0 to"):
        reader.get_frame_at(index)
    with pytest.raises(IndexError, match="40 frames"):
        reader[index]


@pytest.mark.parametrize("index", [1.0, "1", True, None])
def test_a_number_that_is_none(reader: VideoReader, index: object):
    with pytest.raises(InputError, match="must be an integer, got"):
        reader.get_frames_at([index])


def test_wrong_steps_and_chunks(reader: VideoReader):
    with pytest.raises(InputError, match="step must be 1 or more, got 0"):
        reader.get_frames_in_range(0, 4, 0)
    with pytest.raises(InputError, match="frames_per_chunk must be 1 or more, got 0"):
        next(reader.iter_frames_at([0], frames_per_chunk=0))


# ---- by time ----------------------------------------------------------------------------------


def test_the_frame_on_the_screen(reader: VideoReader):
    assert numbers(reader.get_frame_played_at(0.0).data[None]) == [0]
    assert numbers(reader.get_frame_played_at(7 / FPS + 0.001).data[None]) == [7]
    assert numbers(reader.get_frame_played_at(END - 1e-6).data[None]) == [39]
    frames = reader.get_frames_played_at(torch.tensor([1.01, 0.0, 1.01]))
    assert numbers(frames.data) == [25, 0, 25]


def test_a_long_frame_stays_on_the_screen():
    data = encode(codec="libx264", container="matroska", frames=[0, 40, 1000, 1040])
    reader = VideoReader(data)
    assert numbers(reader.get_frames_played_at([0.039, 0.04, 0.5, 0.999, 1.0]).data) == [
        0,
        1,
        1,
        1,
        2,
    ]


def test_frames_on_the_screen_during_a_stretch(reader: VideoReader):
    # Frame 2 is up from 0.08, frame 3 from 0.12, frame 4 from 0.16 s.
    assert numbers(reader.get_frames_played_in_range(0.09, 0.17).data) == [2, 3, 4]
    assert numbers(reader.get_frames_played_in_range(0.09, 0.1).data) == [2]
    assert len(reader.get_frames_played_in_range(0.1, 0.1)) == 0
    assert len(reader.get_frames_played_in_range(0.0, END)) == 40


@pytest.mark.parametrize("seconds", [-0.001, END, 1e300])
def test_a_time_outside_the_video(reader: VideoReader, seconds: float):
    with pytest.raises(InputError, match=r"plays from 0 s up to \(not including\) 1\.6 s"):
        reader.get_frame_played_at(seconds)


@pytest.mark.parametrize("stretch", [(1.0, 0.5), (-1.0, 0.5), (0.0, END + 0.1)])
def test_a_stretch_outside_the_video(reader: VideoReader, stretch: tuple[float, float]):
    with pytest.raises(InputError, match=r"must lie within 0 and 1\.6 s"):
        reader.get_frames_played_in_range(*stretch)


# ---- the video as a whole ---------------------------------------------------------------------


def test_metadata(reader: VideoReader):
    facts = reader.metadata
    assert len(reader) == facts.num_frames == 40
    assert facts.num_frames_from_header == 40
    assert facts.average_fps == pytest.approx(FPS)
    assert facts.duration_seconds == pytest.approx(END)
    assert (facts.begin_stream_seconds, facts.end_stream_seconds) == (0.0, pytest.approx(END))
    assert (facts.width, facts.height, facts.rotation) == (WIDTH, HEIGHT, None)
    assert (facts.codec, facts.pixel_format, facts.stream_index) == ("h264", "yuv420p", 0)
    assert "mp4" in facts.container


def test_a_sound_track_does_not_disturb(clip: bytes):
    import av

    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(audio_only())) as sound,
        av.open(io.BytesIO(clip)) as picture,
        av.open(buffer, "w", format="mp4") as output,
    ):
        sources = [sound.streams.audio[0], picture.streams.video[0]]
        copies = [output.add_stream_from_template(stream) for stream in sources]
        for container, source, copy in zip((sound, picture), sources, copies, strict=True):
            for packet in container.demux(source):
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)
    reader = VideoReader(buffer.getvalue())
    assert reader.metadata.stream_index == 1
    assert numbers(reader.get_frames_at([39, 4]).data) == [39, 4]


def test_the_reader_closes(clip: bytes, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    with VideoReader(path) as reader:
        file = reader._decoder._source.file
        assert len(reader) == 40
        assert not file.closed
    assert file.closed
    reader.close()  # twice does no harm
    with pytest.raises(InputError, match=r"reader of .*clip\.mp4 was closed. Open the video again"):
        len(reader)


def test_a_forgotten_reader_closes_its_file(clip: bytes, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    reader = VideoReader(path)
    reader.get_frame_at(3)
    file = reader._decoder._source.file
    del reader
    gc.collect()
    assert file.closed


# ---- how much is decoded ----------------------------------------------------------------------


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the packets that go into a decoder."""
    packets: list[int] = []
    original = cursor_module.FrameCursor._set_skipping

    def count(self: cursor_module.FrameCursor, pts: int | None) -> None:
        packets.append(pts or 0)
        original(self, pts)

    monkeypatch.setattr(cursor_module.FrameCursor, "_set_skipping", count)
    return packets


def long_clip() -> bytes:
    options = {"g": "20", "keyint_min": "20", "bf": "0", "sc_threshold": "0"}
    return encode(codec="libx264", container="mp4", frames=200, codec_options=options)


def test_far_frames_are_reached_over_keyframes(fed: list[int]):
    reader = VideoReader(long_clip(), num_ffmpeg_threads=1)
    len(reader)
    fed.clear()
    assert numbers(reader.get_frames_at([1, 101, 181]).data) == [1, 101, 181]
    # Two frames from each of three keyframes, of 200; one packet of look-ahead is not counted.
    assert len(fed) <= 3 * 2 + 2


def test_near_frames_are_reached_by_walking_on_and_nothing_is_decoded_twice(fed: list[int]):
    reader = VideoReader(long_clip(), num_ffmpeg_threads=1)
    reader.get_frame_at(0)
    fed.clear()
    for index in range(1, 100):
        assert numbers(reader.get_frame_at(index).data[None]) == [index]
    assert len(fed) <= 100


def test_a_jump_back_uses_the_keyframe_before(fed: list[int]):
    reader = VideoReader(long_clip(), num_ffmpeg_threads=1)
    reader.get_frame_at(190)
    fed.clear()
    assert numbers(reader.get_frames_at([65]).data) == [65]
    assert fed[0] == min(fed)
    assert len(fed) <= 7  # 60 to 65, and one more


def test_frames_that_nothing_leans_on_are_not_decoded_on_the_way():
    options = {"x264-params": "keyint=60:bframes=2:b-adapt=0:b-pyramid=none:scenecut=0"}
    data = encode(codec="libx264", container="mp4", frames=60, codec_options=options)
    reader = VideoReader(data, num_ffmpeg_threads=1)
    reader.get_frame_at(0)
    decoded = []
    cursor = reader._decoder._cursor
    original = cursor._marked
    cursor._marked = lambda frames: original([decoded.append(f.pts) or f for f in frames])
    assert numbers(reader.get_frame_at(50).data[None]) == [50]
    # Every third is a P-frame; frame 0 and a few behind frame 50 come besides.
    assert len(decoded) <= 50 / 3 + 5


# ---- options ----------------------------------------------------------------------------------


def test_too_many_pixels_at_once(clip: bytes):
    reader = VideoReader(clip, limits=ReadLimits(max_output_bytes=4 * WIDTH * HEIGHT * 3))
    assert len(reader.get_frames_at([0, 1, 2, 3])) == 4
    with pytest.raises(VideoTooLargeError, match=r"5 frames of 128x96 are 184320 bytes, more than"):
        reader.get_frames_at([0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "pyva"}, "Did you mean 'pyav'"),
        ({"on_damage": "skp"}, "Did you mean 'skip'"),
        ({"num_ffmpeg_threads": -1}, "must be 0 or more, got -1"),
        ({"frames_per_second": 10.0}, "has no effect: it is for folders of pictures"),
        ({"backend": "torchcodec", "on_damage": "skip"}, "needs backend='pyav'"),
    ],
)
def test_wrong_options_are_refused(clip: bytes, options: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        VideoReader(clip, **options)


@pytest.mark.parametrize("value", [0, -1, "8", True, float("nan")])
def test_limits_must_be_positive_numbers(value: object):
    with pytest.raises(ConfigError, match=r"ReadLimits\.max_pixels must be a number above 0"):
        ReadLimits(max_pixels=value)


def test_the_module_imports_without_pyav_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    code = (
        "import sys; sys.modules['av'] = None\n"
        "import vjepa2.video.reader, vjepa2.video.sampling\n"
        "try: vjepa2.video.reader.VideoReader(b'x')\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("MissingExtraError Reading and writing video files needs the")
    assert done.stdout.rstrip().endswith("pip install av")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="pip install av"):
        VideoReader(b"x")


def test_numbers_times_and_ends_of_a_wrong_kind(reader: VideoReader):
    def is_frame(value: object) -> bool:
        return is_whole(value, least=-40, most=39)

    def is_time(value: object) -> bool:
        return is_number(value, above=-1e-9, most=1.5)

    assert_named(reader.get_frame_at, allowed=is_frame, error=InputError)
    assert_named(reader.get_frame_played_at, allowed=is_time, error=InputError)
    assert_named(
        lambda end: reader.get_frames_played_in_range(0.0, end), allowed=is_time, error=InputError
    )
    for place in range(3):
        assert_named(
            lambda value, place=place: reader.get_frames_in_range(
                *[value if place == at else default for at, default in enumerate((0, 2, 1))]
            ),
            allowed=lambda value, place=place: is_whole(
                value, least=1 if place == 2 else -(10**400)
            ),
            error=InputError,
        )
    for items in (3, None, "12", b"12", {1: 2}, 1.5, object(), [None], [[0]], ["0"]):
        with pytest.raises(InputError):
            reader.get_frames_at(items)
        with pytest.raises(InputError):
            reader.get_frames_played_at(items)
    with pytest.raises(InputError, match="Cannot take the frames"):
        reader[0.5:2]


def test_options_of_a_wrong_kind(clip: bytes):
    for name, allowed in (
        ("backend", lambda value: False),
        ("on_damage", lambda value: False),
        ("limits", lambda value: value is None),
        ("num_ffmpeg_threads", lambda value: is_whole(value, least=0, most=1024)),
        ("frames_per_second", lambda value: value is None),
    ):
        assert_named(
            lambda value, name=name: VideoReader(clip, **{name: value}).close(),
            allowed=allowed,
            error=ConfigError,
        )


def test_sources_of_a_wrong_kind():
    assert_named(VideoReader)
