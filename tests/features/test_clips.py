"""Sampling and reading of clips: which frames, with which times, in which form."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, InputError, VideoTooShortError
from vjepa2.features.clips import clips_of, one_ahead, read_sampling, source_name
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import ClipSampling
from vjepa2.video.streams import ReaderFrames

PROCESSOR = VJEPA2VideoProcessor(crop_size={"height": 32, "width": 32})
FOUR = ClipSampling(num_frames=4)


def test_texts_become_samplings() -> None:
    assert read_sampling("uniform", num_frames=8) == ClipSampling(num_frames=8)
    assert read_sampling("consecutive", num_frames=None).strategy == "consecutive"
    assert read_sampling("fps=2.5", num_frames=8) == ClipSampling(
        num_frames=8, strategy="fps", fps=2.5
    )
    assert read_sampling("stride=3", num_frames=8) == ClipSampling(
        num_frames=8, strategy="stride", stride=3
    )
    own = ClipSampling(num_frames=5, start_frame=2)
    assert read_sampling(own, num_frames=None) is own
    assert read_sampling(own, num_frames=5) is own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unifrm", "Did you mean 'uniform'"),
        ("fps", "not complete"),
        ("uniform=4", "a number too many"),
        ("fps=fast", "'fast' is not a number"),
        ("stride=1.5", "'1.5' is not a number"),
        ("fps=0", "fps must be above 0"),
        ("fps=nan", "fps must be a finite number"),
    ],
)
def test_wrong_samplings_say_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_sampling(text, num_frames=8)


def test_two_numbers_of_frames_disagree() -> None:
    with pytest.raises(ConfigError, match=r"ClipSampling\(num_frames=4\) disagree"):
        read_sampling(FOUR, num_frames=8)


def test_one_clip_is_what_reader_and_processor_give(clip: Path) -> None:
    [got] = clips_of(clip, processor=PROCESSOR, sampling=FOUR)
    # 20 frames, 4 wanted: 0, 5, 10, 15; 10 frames a second.
    with VideoReader(clip) as reader:
        frames = reader.get_frames_at([0, 5, 10, 15])
    wanted = PROCESSOR(frames.data, return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(got.pixels, wanted)
    assert got.pts_seconds is not None and got.end_seconds is not None
    torch.testing.assert_close(got.pts_seconds, torch.tensor([0, 0.5, 1, 1.5]).double())
    torch.testing.assert_close(got.end_seconds, torch.tensor([0.1, 0.6, 1.1, 1.6]).double())
    assert got.read_seconds > 0


def test_every_form_of_a_video_gives_the_same_pixels(clip: Path) -> None:
    with VideoReader(clip) as reader:
        frames = reader.get_frames_at(range(20))
    channels_last = frames.data.permute(0, 2, 3, 1).contiguous()
    [wanted] = clips_of(clip, processor=PROCESSOR, sampling=FOUR)
    forms = [
        str(clip),
        clip.read_bytes(),
        frames,
        frames.data,
        channels_last,
        channels_last.numpy(),
        list(channels_last.numpy()),
    ]
    for form in forms:
        [got] = clips_of(form, processor=PROCESSOR, sampling=FOUR)
        assert torch.equal(got.pixels, wanted.pixels), type(form)
    with VideoReader(clip) as reader:
        [got] = clips_of(reader, processor=PROCESSOR, sampling=FOUR)
        assert torch.equal(got.pixels, wanted.pixels)


def test_arrays_have_no_clock_and_frames_have(clip: Path) -> None:
    with VideoReader(clip) as reader:
        frames = reader.get_frames_at(range(20))
    [plain] = clips_of(frames.data, processor=PROCESSOR, sampling=FOUR)
    assert plain.pts_seconds is None and plain.end_seconds is None
    [timed] = clips_of(frames, processor=PROCESSOR, sampling=FOUR)
    [file] = clips_of(clip, processor=PROCESSOR, sampling=FOUR)
    assert timed.pts_seconds is not None and file.pts_seconds is not None
    assert torch.equal(timed.pts_seconds, file.pts_seconds)
    assert timed.end_seconds is not None and file.end_seconds is not None
    assert torch.equal(timed.end_seconds, file.end_seconds)


def test_a_processor_with_an_axis_order_keeps_it() -> None:
    # 3 x 8 x 8 x 3 fits both orders, so only the option can tell.
    video = np.random.default_rng(0).integers(0, 255, (8, 3, 40, 3), dtype=np.uint8)
    last = VJEPA2VideoProcessor(
        crop_size={"height": 32, "width": 32}, input_data_format="channels_last"
    )
    [got] = clips_of(video, processor=last, sampling=FOUR)
    wanted = last(video[::2], return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(got.pixels, wanted)


@pytest.mark.parametrize("strategy", ["uniform", "consecutive", "fps=10", "stride=2"])
def test_each_stretch_gives_its_own_clip(clip: Path, strategy: str) -> None:
    sampling = read_sampling(strategy, num_frames=2)
    step = {"uniform": 3, "consecutive": 1, "fps=10": 1, "stride=2": 2}[strategy]
    got = list(clips_of(clip, processor=PROCESSOR, sampling=sampling, num_clips=3))
    # 20 frames in 3 stretches: 0-5, 6-12, 13-19.
    begins = [tuple((10 * c.pts_seconds).round().long().tolist()) for c in got]
    assert begins == [(0, step), (6, 6 + step), (13, 13 + step)]


def test_clips_at_a_rate_stay_inside_their_stretch(clip: Path) -> None:
    sampling = ClipSampling(num_frames=4, strategy="fps", fps=2.0)
    first, second = clips_of(clip, processor=PROCESSOR, sampling=sampling, num_clips=2)
    assert first.pts_seconds is not None and second.pts_seconds is not None
    # One second each, at two frames a second: the last frame of the stretch is repeated.
    assert (10 * first.pts_seconds).round().tolist() == [0, 5, 9, 9]
    assert (10 * second.pts_seconds).round().tolist() == [10, 15, 19, 19]


def test_wrong_requests_say_why(clip: Path) -> None:
    with pytest.raises(ConfigError, match="num_clips must be 1 or more, got 0"):
        list(clips_of(clip, processor=PROCESSOR, sampling=FOUR, num_clips=0))
    with pytest.raises(VideoTooShortError, match="21 clips were asked for, the video has 20"):
        list(clips_of(clip, processor=PROCESSOR, sampling=FOUR, num_clips=21))
    with VideoReader(clip) as reader, pytest.raises(InputError, match="chosen already"):
        chosen = ReaderFrames(reader=reader, indices=[0])
        list(clips_of(chosen, processor=PROCESSOR, sampling=FOUR))
    with pytest.raises(InputError, match="needs pts_seconds"):
        video = np.zeros((8, 40, 40, 3), np.uint8)
        rate = ClipSampling(num_frames=4, strategy="fps", fps=2.0)
        list(clips_of(video, processor=PROCESSOR, sampling=rate))


def test_decoded_frames_are_not_all_held_at_once(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = VideoReader.get_frames_at

    def counting(self: VideoReader, indices: list[int]) -> object:
        calls.append(len(list(indices)))
        return original(self, indices)

    monkeypatch.setattr(VideoReader, "get_frames_at", counting)
    monkeypatch.setattr("vjepa2.video.streams._GROUP_BYTES", 3 * 48 * 64 * 3)  # three frames
    [got] = clips_of(clip, processor=PROCESSOR, sampling=ClipSampling(num_frames=8))
    assert max(calls) == 3 and sum(calls) == 8
    assert got.pts_seconds is not None and len(got.pts_seconds) == 8


def test_names_of_sources() -> None:
    assert source_name("a/b.mp4") == "a/b.mp4"
    assert source_name(Path("a") / "b.mp4") == str(Path("a") / "b.mp4")
    assert source_name(b"1234") == "<bytes>"
    assert source_name(np.zeros(3)) == "<ndarray>"


def test_one_ahead_works_in_another_thread_and_keeps_order_and_errors() -> None:
    threads = set()

    def numbers() -> "object":
        for number in range(3):
            threads.add(threading.current_thread())
            yield number
        raise KeyError("end")

    got = []
    with pytest.raises(KeyError, match="end"):
        for number in one_ahead(numbers()):
            got.append(number)
    assert got == [0, 1, 2]
    assert len(threads) == 1 and threading.current_thread() not in threads
    assert list(one_ahead(iter([]))) == []


def test_one_ahead_makes_only_one_item_in_advance() -> None:
    made = []

    def numbers() -> "object":
        for number in range(10):
            made.append(number)
            yield number

    items = one_ahead(numbers())
    assert next(items) == 0
    items.close()  # waits for the one that is being made
    assert made in ([0, 1], [0])
