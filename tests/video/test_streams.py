"""Frames decoded while they are processed: same pixels and times, in bounded memory."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from video_clips import encode, numbers

from vjepa2.errors import InputError, ShapeError
from vjepa2.features.clips import clips_of
from vjepa2.video.metadata import FrameChoice, VideoMetadata
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import ClipSampling
from vjepa2.video.streams import ReaderFrames, StreamedClip, opened_clip

FILE = encode(codec="libx264", container="mp4", frames=30)


class Recorder:
    """A reader that remembers how many frames it was asked for at a time."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.metadata = reader.metadata
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.reader)

    def get_frames_at(self, indices: list[int]) -> Any:
        self.asked.append(len(indices))
        return self.reader.get_frames_at(indices)


def test_files_readers_and_chosen_frames_give_the_same_as_decoding_first() -> None:
    processor = VJEPA2VideoProcessor(crop_size=48, return_metadata=True)
    chosen = list(range(0, 30, 5))
    with VideoReader(FILE) as reader:
        frames = reader.get_frames_at(chosen)
        assert numbers(frames.data) == chosen
        wanted = processor(frames, return_tensors="pt")
        forms: list[tuple[object, dict[str, Any]]] = [
            (ReaderFrames(reader=reader, indices=chosen), {}),
            (reader, {"do_sample_frames": True, "num_frames": 6}),
            (FILE, {"do_sample_frames": True, "num_frames": 6}),
            (FILE, {"do_sample_frames": True, "fps": 5}),  # 25 frames a second
        ]
        for video, options in forms:
            got = processor(video, return_tensors="pt", **options)
            assert torch.equal(got.pixel_values_videos, wanted.pixel_values_videos)
            (origin,) = got.video_metadata
            assert origin.pts_seconds == frames.pts_seconds.tolist()
            assert origin.frames_indices == chosen
            assert (origin.total_num_frames, origin.fps) == (30, 25.0)


def test_a_path_is_decoded_whole_without_a_choice(tmp_path: Any) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(FILE)
    processor = VJEPA2VideoProcessor(crop_size=32)
    one = processor(path, return_tensors="pt").pixel_values_videos
    assert one.shape == (1, 30, 3, 32, 32)
    both = processor([str(path), FILE], return_tensors="pt").pixel_values_videos
    assert torch.equal(both, one.repeat(2, 1, 1, 1, 1))


def test_few_frames_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoReader(FILE) as reader:
        recorder = Recorder(reader)
        processor = VJEPA2VideoProcessor(crop_size=32)
        wanted = processor(recorder, return_tensors="pt").pixel_values_videos
        assert recorder.asked == [30]
        frame_bytes = reader.metadata.width * reader.metadata.height * 3
        monkeypatch.setattr("vjepa2.video.streams._GROUP_BYTES", 7 * frame_bytes)
        recorder.asked.clear()
        got = processor(recorder, return_tensors="pt").pixel_values_videos
        assert recorder.asked == [7, 7, 7, 7, 2]
        assert torch.equal(got, wanted)


def test_the_file_is_open_only_inside_the_block() -> None:
    with opened_clip(FILE, layout=None, choice=FrameChoice(num_frames=3), known=None) as clip:
        assert clip.shape == (3, 3, 96, 128)
        groups = list(clip.groups(2))
    assert [len(group) for group in groups] == [2, 1]
    assert clip.metadata.pts_seconds == [0.0, 0.4, 0.8]  # frames 0, 10 and 20 of 25 a second


def test_useless_readers_and_choices_are_refused() -> None:
    origin = VideoMetadata(total_num_frames=4)
    with pytest.raises(InputError, match="No frame was chosen"):
        StreamedClip(SimpleNamespace(), indices=[], metadata=origin)
    last = SimpleNamespace(data=torch.zeros(2, 8, 9, 3), pts_seconds=torch.zeros(2))
    reader = SimpleNamespace(get_frames_at=lambda indices: last)
    with pytest.raises(ShapeError, match=r"float32 frames of shape \[2, 8, 9, 3\], expected uint8"):
        StreamedClip(reader, indices=[0, 1], metadata=origin)


def test_the_model_documentations_snippets_run() -> None:
    processor = VJEPA2VideoProcessor(crop_size=32)
    reader = VideoReader(FILE)
    frame_idx = np.arange(0, 16)
    video = reader.get_frames_at(indices=frame_idx).data  # T x C x H x W
    inputs = processor(video, return_tensors="pt").to("cpu")
    assert inputs["pixel_values_videos"].shape == (1, 16, 3, 32, 32)
    image = Image.fromarray(reader[0].permute(1, 2, 0).numpy())
    pixel_values = processor(image, return_tensors="pt").to("cpu")["pixel_values_videos"]
    pixel_values = pixel_values.repeat(1, 16, 1, 1, 1)
    assert torch.equal(pixel_values[:, 7], inputs["pixel_values_videos"][:, 0])
    reader.close()


class LooksLike:
    """Has the attributes it is given, and a length."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 30


FACTS = SimpleNamespace(average_fps=25.0, width=64, height=48, duration_seconds=1.2)
NO_READERS = [
    (SimpleNamespace(reader=3, indices=[0]), r"lacks get_frames_at\(\), len\(\), metadata"),
    (LooksLike(reader=3, indices=[0], metadata=FACTS), r"lacks get_frames_at\(\)\."),
    (SimpleNamespace(get_frames_at=len, metadata=FACTS), r"lacks len\(\)\."),
    (LooksLike(get_frames_at=3, metadata=FACTS), r"lacks get_frames_at\(\)"),
    (LooksLike(get_frames_at=len, metadata=None), "lacks metadata.average_fps, metadata.width"),
    (VideoReader, r"lacks len\(\)"),
    (
        LooksLike(get_frames_at=len, metadata=SimpleNamespace(**vars(FACTS) | {"width": "64"})),
        "metadata.width of the reader must be an integer",
    ),
    (LooksLike(get_frames_at=len, metadata=FACTS), r"get_frames_at\(\) of a LooksLike gives a int"),
]


@pytest.mark.parametrize(("video", "words"), NO_READERS)
def test_what_only_looks_like_a_reader_is_named(video: object, words: str) -> None:
    processor = VJEPA2VideoProcessor(crop_size=32)
    with pytest.raises(InputError, match=words):
        processor(video, return_tensors="pt")
    with pytest.raises(InputError, match=words):
        list(clips_of(video, processor=processor, sampling=ClipSampling(num_frames=2)))


def test_a_reader_without_times_cannot_be_sampled_in_time() -> None:
    video = LooksLike(get_frames_at=len, metadata=FACTS)
    sampling = ClipSampling(num_frames=2, strategy="fps", fps=1.0)
    processor = VJEPA2VideoProcessor(crop_size=32)
    with pytest.raises(InputError, match="fps needs to know when each frame appears"):
        list(clips_of(video, processor=processor, sampling=sampling))


def test_indices_that_are_none_are_named() -> None:
    with VideoReader(FILE) as reader, pytest.raises(InputError, match="indices must be a list"):
        VJEPA2VideoProcessor(crop_size=32)(ReaderFrames(reader=reader, indices=5))
