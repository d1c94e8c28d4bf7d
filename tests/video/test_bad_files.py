"""Every kind of bad file gets its own error that says what to do, and harms nothing."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from video_clips import audio_only, decode_all, encode, numbers, read_number, remux

from vjepa2.errors import (
    NoVideoStreamError,
    VideoDecodeError,
    VideoError,
    VideoOpenError,
    VideoTooLargeError,
)
from vjepa2.video.limits import ReadLimits
from vjepa2.video.reader import VideoReader

GROUPS = {"x264-params": "keyint=10:min-keyint=10:bframes=2:scenecut=0"}


def h264(**options: object) -> bytes:
    return encode(codec="libx264", **{"container": "mp4", "codec_options": GROUPS, **options})


@pytest.fixture(scope="module")
def clip() -> bytes:
    """40 frames, keyframes at 0, 10, 20, 30, the index in front."""
    return h264(container_options={"movflags": "faststart"})


def sample_places(data: bytes) -> list[tuple[int, int, int]]:
    """Position, size and shown number of each packet, in file order."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        order = sorted(p.pts for p in packets)
        return [(p.pos, p.size, order.index(p.pts)) for p in packets]


def damage(data: bytes, *, shown: int) -> bytes:
    """Overwrite the coded picture of one frame."""
    position, size, _ = next(place for place in sample_places(data) if place[2] == shown)
    broken = bytearray(data)
    middle = position + size // 3
    broken[middle : position + size] = bytes(position + size - middle)
    return bytes(broken)


# ---- nothing to open --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\). Was the copy or download cut off"),
        (b"These are only words. " * 50, r"not a video .* begins with b'These are on'"),
        (bytes(100_000), "not a video"),
        (b"\xff" * 100_000, "not a video"),
        (np.random.default_rng(0).bytes(100_000), "not a video"),
    ],
    ids=["empty", "text", "zeros", "ones", "noise"],
)
def test_not_a_video(data: bytes, message: str):
    with pytest.raises(VideoOpenError, match=message):
        VideoReader(data)


def test_a_recording_that_was_not_closed():
    data = h264()  # the index is at the end
    with pytest.raises(VideoOpenError, match="without a complete index: the end is missing"):
        VideoReader(data[: len(data) // 2])


def test_sound_only():
    with pytest.raises(NoVideoStreamError, match="holds no video, only: audio"):
        VideoReader(audio_only())


def test_the_cover_of_an_album_is_no_video(tmp_path: Path):
    path = tmp_path / "song.flac"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("flac", rate=44100)
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        output.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        output.mux(cover.encode(None))
        silence = np.zeros((1, 2 * 2048), dtype=np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="stereo")
        frame.sample_rate = 44100
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1  # FFmpeg shows the cover as a video stream
    with pytest.raises(NoVideoStreamError, match="holds no video, only: audio, cover picture"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile '{0}'\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"),
        (
            "a.mpd",
            (
                "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'>"
                "<Period><AdaptationSet><Representation id='0'><BaseURL>{0}</BaseURL>"
                "</Representation></AdaptationSet></Period></MPD>"
            ),
        ),
    ],
)
def test_a_playlist_cannot_make_us_read_other_files(
    clip: bytes, tmp_path: Path, name: str, text: str
):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clip)
    playlist = tmp_path / name
    playlist.write_text(text.format(secret))
    with pytest.raises(VideoOpenError):
        VideoReader(playlist)
    # The same with a reference relative to the playlist.
    playlist.write_text(text.format("secret.mp4"))
    with pytest.raises(VideoOpenError):
        VideoReader(playlist)


# ---- too large --------------------------------------------------------------------------------


def test_a_large_picture_is_refused_before_it_is_decoded(clip: bytes):
    limits = ReadLimits(max_pixels=100 * 100)
    with pytest.raises(VideoTooLargeError, match="128x96 = 12288 pixels, more than max_pixels"):
        VideoReader(clip, limits=limits)


def test_a_small_file_that_claims_a_huge_picture():
    data = bytearray(encode(codec="png", container="image2pipe", pix_fmt="rgb24", frames=1))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(VideoTooLargeError, match="30000x30000 = 900000000 pixels"):
        VideoReader(bytes(data))


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("png", "rgb24"), ("mjpeg", "yuvj420p"), ("bmp", "bgr24")]
)
def test_a_large_still_picture(codec: str, pix_fmt: str):
    data = encode(codec=codec, container="image2pipe", pix_fmt=pix_fmt, frames=1)
    assert len(VideoReader(data)) == 1
    with pytest.raises(VideoTooLargeError, match="128x96 = 12288 pixels"):
        VideoReader(data, limits=ReadLimits(max_pixels=100 * 100))


def test_more_frames_than_allowed(clip: bytes):
    reader = VideoReader(clip, limits=ReadLimits(max_frames=39))
    with pytest.raises(VideoTooLargeError, match="more than max_frames = 39 frames"):
        len(reader)
    assert len(VideoReader(clip, limits=ReadLimits(max_frames=40))) == 40


def test_more_counted_frames_than_allowed():
    reader = VideoReader(h264(container="h264"), limits=ReadLimits(max_frames=39))
    with pytest.raises(VideoTooLargeError, match="max_frames = 39"):
        len(reader)


# ---- cut off ----------------------------------------------------------------------------------


def test_a_truncated_mp4_is_refused_and_its_readable_part_can_be_asked_for(clip: bytes):
    places = sample_places(clip)
    cut = clip[: places[25][0] + 20]  # inside the 26th packet
    reader = VideoReader(cut)
    with pytest.raises(VideoDecodeError, match="its index lists 40 frames, 26 are there") as caught:
        reader.get_frame_at(0)
    assert "on_damage='skip'" in str(caught.value)
    reader = VideoReader(cut, on_damage="skip")
    assert len(reader) == 25
    whole = {shown for _, _, shown in places[:25]}
    assert numbers(reader[:]) == sorted(whole)


def test_a_file_cut_between_two_frames(clip: bytes):
    position, size, _ = sample_places(clip)[25]
    reader = VideoReader(clip[: position + size])
    with pytest.raises(VideoDecodeError, match="its index lists 40 frames, 26 are there"):
        len(reader)


def test_truncated_fragments():
    data = h264(container_options={"movflags": "frag_keyframe+empty_moov"})
    cut = data[: sample_places(data)[25][0] + 20]
    with pytest.raises(VideoDecodeError, match="the file ends early"):
        len(VideoReader(cut))
    assert len(VideoReader(cut, on_damage="skip")) == 25


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_formats_without_an_index_simply_end_earlier(container: str):
    data = h264(container=container)
    cut = data[: len(data) * 6 // 10]
    expected, _ = decode_all(cut)
    with VideoReader(cut) as reader:
        assert 10 < len(reader) < 40
        np.testing.assert_array_equal(reader[:].permute(0, 2, 3, 1).numpy(), expected)


def test_a_truncated_avi():
    data = h264(container="avi")
    cut = data[: sample_places(data)[25][0] + 20]
    with pytest.raises(VideoDecodeError, match="the file ends in the middle of frame 25"):
        len(VideoReader(cut))
    assert len(VideoReader(cut, on_damage="skip")) == 25


# ---- damaged inside ---------------------------------------------------------------------------


def test_damage_is_told_where_it_is_and_only_there(clip: bytes):
    broken = damage(clip, shown=10)  # the keyframe that 10 to 19 lean on
    with VideoReader(broken) as reader:
        assert len(reader) == 40
        good = [0, 5, 7, 20, 25, 39]
        assert numbers(reader.get_frames_at(good).data) == good
        with pytest.raises(VideoDecodeError) as caught:
            reader.get_frames_at([3, 15, 30])
        message = str(caught.value)
        assert "frame 15 (at 0.600 s) of 40 cannot be decoded" in message
        assert "From the start, " in message
        assert "on_damage='skip'" in message
        # The reader goes on after the error.
        assert numbers(reader.get_frames_at(good).data) == good


def test_the_readable_part_of_a_damaged_file(clip: bytes):
    broken = damage(clip, shown=10)
    expected, _ = decode_all(broken)
    with VideoReader(broken, on_damage="skip") as reader:
        kept = numbers(reader[:])
        assert set(range(20, 40)) < set(kept)
        assert not {10, 15, 19} & set(kept)
        for number, time in zip(kept, reader.pts_seconds.tolist(), strict=True):
            assert time == pytest.approx(number / 25)
        assert numbers(reader.get_frame_played_at(0.6).data[None]) == [
            max(k for k in kept if k < 10)
        ]
        assert len(expected) > len(kept)
        backwards = reader[::-1]  # reached by jumps, the same pictures
        assert torch.equal(backwards.flip(0), reader[:])


def test_damage_to_a_frame_that_none_leans_on_costs_one_frame(clip: bytes):
    broken = damage(clip, shown=11)  # a B-frame
    with VideoReader(broken) as reader:
        with pytest.raises(VideoDecodeError, match="frame 11 "):
            reader.get_frame_at(11)
        assert numbers(reader.get_frames_at([10, 20]).data) == [10, 20]


@pytest.mark.parametrize("threads", [1, 4])
def test_intact_frames_before_a_damage_come_with_any_number_of_threads(clip: bytes, threads: int):
    broken = damage(clip, shown=20)
    with VideoReader(broken, num_ffmpeg_threads=threads) as reader:
        for index in range(10, 18):
            assert numbers(reader.get_frame_at(index).data[None]) == [index]


def test_damage_where_frames_are_counted():
    data = h264(container="avi")
    assert not VideoReader(data)._decoder.table.by_pts
    broken = damage(data, shown=10)
    with VideoReader(broken) as reader:
        assert numbers(reader.get_frames_at([2, 25]).data) == [2, 25]
        with pytest.raises(VideoDecodeError, match="cannot be decoded"):
            reader.get_frames_at([14])
    with VideoReader(broken, on_damage="skip") as reader:
        kept = numbers(reader[:])
        assert set(range(20, 40)) <= set(kept)
        assert 14 not in kept


@pytest.mark.parametrize("on_damage", ["error", "skip"])
def test_nothing_can_be_decoded(clip: bytes, on_damage: str):
    start = clip.index(b"mdat") + 4
    empty = clip[:start] + bytes(len(clip) - start)
    reader = VideoReader(empty, on_damage=on_damage)
    with pytest.raises(VideoDecodeError, match="no frame can be decoded"):
        reader.get_frame_at(0)


def test_a_packet_too_many_is_left_out():
    """Frames that lean on a part that was cut away before the first keyframe are not counted."""
    data = h264(container="mpegts", codec_options={"x264-params": "keyint=10:open-gop=1:bframes=2"})
    cut = remux(data, container="mpegts", change=lambda packets: packets[10:])
    expected, _ = decode_all(cut)
    with VideoReader(cut) as reader:
        assert numbers(reader[:]) == [read_number(image) for image in expected]


def test_errors_are_also_value_errors(clip: bytes):
    assert issubclass(VideoError, ValueError)
    with pytest.raises(ValueError, match="not a video"):
        VideoReader(b"nothing")


def test_the_decoder_library_prints_nothing(clip: bytes, tmp_path: Path):
    files = {"ok": clip, "damaged": damage(clip, shown=10), "cut": clip[:4000], "text": b"words"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import sys\n"
        "from vjepa2.errors import VideoError\n"
        "from vjepa2.video.reader import VideoReader\n"
        "for path in sys.argv[1:]:\n"
        "    for mode in ('error', 'skip'):\n"
        "        try: VideoReader(path, on_damage=mode)[:]\n"
        "        except VideoError: pass\n"
    )
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
