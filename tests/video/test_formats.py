"""Frame i is frame i in every container and codec, however it is reached.

Each file is compared with a decoding from beginning to end, and with the numbers drawn in its
pictures.
"""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
import pytest
from video_clips import (
    FPS,
    HEIGHT,
    WIDTH,
    decode_all,
    encode,
    numbers,
    picture,
    read_number,
    remux,
)

from vjepa2.video.reader import VideoReader

X264 = {"g": "12", "bf": "3", "preset": "veryfast"}
X265 = {"x265-params": "log-level=none:keyint=12:min-keyint=12:pools=none", "preset": "veryfast"}
VP = {"g": "12", "cpu-used": "8", "deadline": "good", "b": "200k"}


def h264(**options: object) -> bytes:
    return encode(codec="libx264", **{"container": "mp4", "codec_options": X264, **options})


def shifted(seconds: float) -> Callable:
    """All packets later by so much."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            offset = int(seconds / packet.time_base)
            packet.pts += offset
            packet.dts += offset
        return packets

    return change


def hide_packet(at: int) -> Callable:
    """Clear the bit by which a VP8 packet says that it is shown."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        old = packets[at]
        data = bytearray(bytes(old))
        data[0] &= ~0x10
        new = av.Packet(bytes(data))
        new.pts, new.dts, new.time_base = old.pts, old.dts, old.time_base
        new.is_keyframe = False
        return [*packets[:at], new, *packets[at + 1 :]]

    return change


def size_change() -> bytes:
    """A WebM whose pictures halve their size after ten frames."""
    small = encode(
        codec="libvpx", container="webm", frames=10, width=64, height=48, codec_options=VP
    )

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        with av.open(io.BytesIO(small)) as container:
            more = [p for p in container.demux(container.streams.video[0]) if p.size]
        return [*packets, *shifted(10 / FPS)(more)]

    return remux(
        encode(codec="libvpx", container="webm", frames=10, codec_options=VP),
        container="webm",
        change=change,
    )


@dataclass
class Case:
    """A file and what is known of it without decoding."""

    make: Callable[[], bytes]
    shown: list[int]
    begin: float = 0.0


ALL = list(range(40))
# MPEG-TS and fragments begin later by the reordering delay; the muxers choose these numbers.
CASES = {
    "h264 mp4, B-frames": Case(h264, ALL),
    "h264 mp4, one keyframe": Case(lambda: h264(codec_options={**X264, "g": "250"}), ALL),
    "h264 mp4, open groups": Case(
        lambda: h264(codec_options={**X264, "x264-params": "open-gop=1"}), ALL
    ),
    "h264 mp4, refresh by columns": Case(
        lambda: h264(codec_options={"g": "12", "x264-params": "intra-refresh=1"}), ALL
    ),
    "h264 fragmented": Case(
        lambda: h264(container_options={"movflags": "frag_keyframe+empty_moov"}),
        ALL,
        begin=2 / FPS,
    ),
    "h264 mkv": Case(lambda: h264(container="matroska"), ALL),
    "h264 mkv, late start": Case(
        lambda: remux(h264(), container="matroska", change=shifted(7)), ALL, begin=7.0
    ),
    "h264 ts": Case(lambda: h264(container="mpegts"), ALL, begin=2 / FPS),
    "h264 ts, late start": Case(
        lambda: remux(h264(), container="mpegts", change=shifted(7)), ALL, begin=7.0
    ),
    "h264 ts, starts inside a group": Case(
        lambda: remux(h264(container="mpegts"), container="mpegts", change=lambda p: p[5:]),
        list(range(12, 40)),
        begin=14 / FPS,
    ),
    "h264 ts, two recordings joined": Case(
        lambda: h264(container="mpegts") * 2, ALL + ALL, begin=2 / FPS
    ),
    "h264 mp4, cut without encoding": Case(
        lambda: remux(
            h264(),
            container="mp4",
            change=shifted(-18 / FPS),
            container_options={"avoid_negative_ts": "disabled"},
        ),
        list(range(18, 40)),
    ),
    "h264 avi": Case(lambda: h264(container="avi"), ALL, begin=1 / FPS),
    "h264 raw": Case(lambda: h264(container="h264"), ALL),
    "h264 interlaced ts": Case(
        lambda: h264(container="mpegts", codec_options={**X264, "flags": "+ildct+ilme"}),
        ALL,
        begin=2 / FPS,
    ),
    "h265 mp4": Case(lambda: encode(codec="libx265", container="mp4", codec_options=X265), ALL),
    "h265 mkv 10 bit": Case(
        lambda: encode(
            codec="libx265", container="matroska", pix_fmt="yuv420p10le", codec_options=X265
        ),
        ALL,
    ),
    "vp8 webm": Case(lambda: encode(codec="libvpx", container="webm", codec_options=VP), ALL),
    "vp8 webm, hidden frame": Case(
        lambda: remux(
            encode(codec="libvpx", container="webm", codec_options=VP),
            container="webm",
            change=hide_packet(5),
        ),
        ALL[:5] + ALL[6:],
    ),
    "vp8 webm, size changes": Case(size_change, ALL[:10] * 2),
    "vp9 webm": Case(lambda: encode(codec="libvpx-vp9", container="webm", codec_options=VP), ALL),
    "av1 mp4": Case(
        lambda: encode(
            codec="libsvtav1",
            container="mp4",
            codec_options={"g": "12", "preset": "8", "crf": "20", "svtav1-params": "lp=1"},
        ),
        ALL,
    ),
    "mpeg2 ps": Case(
        lambda: encode(codec="mpeg2video", container="mpeg", codec_options={"bf": "2"}),
        ALL,
        begin=0.5 + 1 / FPS,
    ),
    "mpeg4 avi, B-frames": Case(
        lambda: encode(codec="mpeg4", container="avi", codec_options={"bf": "2"}),
        ALL,
        begin=1 / FPS,
    ),
    "mjpeg avi": Case(lambda: encode(codec="mjpeg", container="avi", pix_fmt="yuvj420p"), ALL),
    "prores mov": Case(
        lambda: encode(codec="prores", container="mov", pix_fmt="yuv422p10le", frames=6), ALL[:6]
    ),
    "gif": Case(lambda: encode(codec="gif", container="gif", pix_fmt="rgb8"), ALL),
    "animated png": Case(
        lambda: encode(codec="apng", container="apng", pix_fmt="rgb24", frames=6), ALL[:6]
    ),
    "one frame": Case(lambda: h264(frames=1), [0]),
    "still png": Case(
        lambda: encode(codec="png", container="image2pipe", pix_fmt="rgb24", frames=1), [0]
    ),
    "still jpeg": Case(
        lambda: encode(codec="mjpeg", container="image2pipe", pix_fmt="yuvj420p", frames=1), [0]
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_way_to_a_frame_gives_the_frame_of_a_full_decoding(name: str):
    case = CASES[name]
    data = case.make()
    expected, _ = decode_all(data)
    assert [read_number(image) for image in expected] == case.shown  # the file is as meant

    with VideoReader(data) as reader:
        count = len(reader)
        assert count == len(expected)
        shuffled = random.Random(0).sample(range(count), count)
        batch = reader.get_frames_at(shuffled).data.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(batch, expected[shuffled])
        for index in shuffled[:12]:  # each call seeks anew
            one = reader.get_frame_at(index).data.permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(one, expected[index])
        np.testing.assert_array_equal(reader[:].permute(0, 2, 3, 1).numpy(), expected)
        times = reader.pts_seconds
        assert float(times[0]) == pytest.approx(case.begin, abs=2e-3)
        assert bool((times.diff() > 0).all())


@pytest.mark.parametrize("name", ["h264 mp4, B-frames", "h264 mkv", "h264 ts", "av1 mp4", "gif"])
def test_times_are_those_of_the_frames(name: str):
    case = CASES[name]
    with VideoReader(case.make()) as reader:
        expected = case.begin + np.arange(40) / FPS
        np.testing.assert_allclose(reader.pts_seconds, expected, atol=1e-3)
        frames = reader.get_frames_at([30, 3])
        np.testing.assert_allclose(frames.pts_seconds, expected[[30, 3]], atol=1e-3)
        np.testing.assert_allclose(frames.duration_seconds, [1 / FPS] * 2, atol=1e-3)
        assert reader.metadata.end_stream_seconds == pytest.approx(case.begin + 1.6, abs=1e-3)
        assert reader.metadata.average_fps == pytest.approx(FPS, rel=1e-3)


def test_joined_recordings_play_on_one_clock():
    with VideoReader(CASES["h264 ts, two recordings joined"].make()) as reader:
        expected = 2 / FPS + np.arange(80) / FPS
        np.testing.assert_allclose(reader.pts_seconds, expected, atol=1e-3)


def test_a_variable_rate_keeps_its_times():
    times = [0, 40, 80, 500, 540, 1000, 1010, 1500, 2500, 2540]
    data = encode(codec="libx264", container="matroska", frames=times, codec_options=X264)
    with VideoReader(data) as reader:
        frames = reader.get_frames_in_range(0, 10)
        assert numbers(frames.data) == list(range(10))
        np.testing.assert_allclose(frames.pts_seconds, np.array(times) / 1000)
        gaps = np.diff(times) / 1000
        np.testing.assert_allclose(frames.duration_seconds[:-1], gaps)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(rotation: int):
    # Stored turned clockwise, with the note to turn it back counter-clockwise.
    def draw(number: int) -> np.ndarray:
        upright = picture(number, width=WIDTH, height=HEIGHT)
        if rotation != 180:
            upright = picture(number, width=HEIGHT, height=WIDTH)
        return np.ascontiguousarray(np.rot90(upright, -rotation // 90))

    data = h264(frames=4, rotation=rotation, draw=draw)
    with VideoReader(data) as reader:
        frames = reader.get_frames_at([3, 1])
        assert numbers(frames.data) == [3, 1]
        sides = (HEIGHT, WIDTH) if rotation == 180 else (WIDTH, HEIGHT)
        assert tuple(frames.data.shape[2:]) == sides
        assert (reader.metadata.height, reader.metadata.width) == sides
        assert reader.metadata.rotation == rotation


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_odd_sizes(pix_fmt: str):
    data = encode(
        codec="libvpx-vp9",
        container="webm",
        frames=5,
        pix_fmt=pix_fmt,
        width=131,
        height=97,
        codec_options=VP,
    )
    with VideoReader(data) as reader:
        assert reader[:].shape == (5, 3, 97, 131)
        assert numbers(reader[:]) == list(range(5))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("libx264", "yuv444p", {"qp": "0"}),
        ("libx265", "yuv444p10le", {"x265-params": "log-level=none:lossless=1:pools=none"}),
    ],
)
def test_colours_are_those_of_the_standard(codec: str, pix_fmt: str, options: dict):
    """Flat colours through a lossless codec: limited-range BT.601, the default, and back."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 130, 200)]

    def draw(number: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), colours[number], dtype=np.uint8)

    data = encode(
        codec=codec,
        container="mp4",
        frames=len(colours),
        pix_fmt=pix_fmt,
        codec_options=options,
        draw=draw,
    )
    with VideoReader(data) as reader:
        got = reader[:].float().mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(got, colours, atol=2.5)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads: int):
    data = h264()
    expected, _ = decode_all(data)
    with VideoReader(data, num_ffmpeg_threads=threads) as reader:
        got = reader.get_frames_at([39, 0, 20, 7]).data.permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(got, expected[[39, 0, 20, 7]])
