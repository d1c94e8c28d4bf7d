"""Forms of videos: what each becomes, and what is refused with which words."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vjepa2.errors import DtypeError, InputError, ShapeError
from vjepa2.video.frames import Frames
from vjepa2.video.inputs import Clip, Layout, open_video, split_videos

VIDEO = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 10, 12), dtype=np.uint8))
LAST = VIDEO.permute(0, 2, 3, 1).contiguous()


def opened(video: object, *, layout: Layout | None = None) -> Clip:
    return open_video(video, layout=layout, choice=None, known=None)


def pixels(clip: Clip) -> torch.Tensor:
    return torch.stack(list(clip.frames))


@pytest.mark.parametrize(
    "video",
    [
        VIDEO,
        VIDEO.numpy(),
        LAST,
        LAST.numpy(),
        list(VIDEO),
        tuple(LAST.numpy()),
        [Image.fromarray(frame) for frame in LAST.numpy()],
        np.asfortranarray(LAST.numpy()),
        VIDEO.numpy()[:, ::-1][:, ::-1],
        LAST.flip(0).numpy()[::-1],  # negative strides
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_form_of_one_video_holds_the_same_frames(video: object) -> None:
    (single,) = split_videos(video)
    clip = opened(single)
    assert clip.shape == (4, 3, 10, 12)
    assert clip.dtype == torch.uint8
    assert torch.equal(pixels(clip), VIDEO)
    assert clip.metadata.total_num_frames == 4
    assert clip.metadata.frames_indices == [0, 1, 2, 3]
    assert (clip.metadata.height, clip.metadata.width) == (10, 12)


def test_arrays_are_viewed_not_copied() -> None:
    for array in (VIDEO.numpy(), LAST.numpy()):
        clip = opened(array)
        assert clip.frames[0].untyped_storage().data_ptr() == array.ctypes.data
    read_only = LAST.numpy().copy()
    read_only.flags.writeable = False  # torch warns about such arrays; warnings fail the tests
    clip = opened(read_only)
    assert clip.frames[0].data_ptr() == read_only.ctypes.data
    assert torch.equal(pixels(clip), VIDEO)


def test_frames_keep_their_times() -> None:
    times = torch.tensor([0.5, 0.6, 0.8, 1.0], dtype=torch.float64)
    frames = Frames(data=VIDEO, pts_seconds=times, duration_seconds=torch.full_like(times, 0.1))
    (single,) = split_videos(frames)
    clip = opened(single)
    assert torch.equal(pixels(clip), VIDEO)
    assert clip.metadata.pts_seconds == times.tolist()


def test_an_image_is_a_video_of_one_frame() -> None:
    for image in (LAST[0].numpy(), VIDEO[0], Image.fromarray(LAST[0].numpy())):
        (single,) = split_videos(image)
        assert torch.equal(pixels(opened(single)), VIDEO[:1])


def test_nested_lists_and_batches_are_flattened_in_order() -> None:
    other = VIDEO.flip(0)
    frames = list(LAST.numpy())
    for videos in (
        torch.stack([VIDEO, other]),
        [VIDEO, other],
        [[VIDEO], [[other]]],
        [frames, [other]],
        [VIDEO[None], other.numpy()],
    ):
        found = [pixels(opened(video)) for video in split_videos(videos)]
        assert len(found) == 2
        assert torch.equal(found[0], VIDEO)
        assert torch.equal(found[1], other)


def test_sources_and_readers_are_left_for_later() -> None:
    reader = SimpleNamespace(get_frames_at=None, metadata=None)
    assert split_videos(["a.mp4", [b"bytes", reader]]) == ["a.mp4", b"bytes", reader]


def test_every_pillow_mode_becomes_rgb_or_rgba() -> None:
    grey = Image.fromarray(LAST[0, :, :, 0].numpy())
    assert opened([grey]).shape == (1, 3, 10, 12)
    assert opened([grey.convert("RGBA")]).shape == (1, 4, 10, 12)


def test_the_layout_can_be_told() -> None:
    narrow = torch.zeros(2, 3, 8, 3, dtype=torch.uint8)
    assert opened(narrow, layout="channels_first").shape == (2, 3, 8, 3)
    assert opened(narrow, layout="channels_last").shape == (2, 3, 3, 8)
    with pytest.raises(ShapeError, match=r"both orders.*Pass input_data_format="):
        opened(narrow)


@pytest.mark.parametrize(
    ("video", "error", "words"),
    [
        (torch.zeros(4, 4), ShapeError, "A video has 4 axes"),
        ([], InputError, "empty list"),
        ({"video": VIDEO}, InputError, "Cannot read a video from dict. Allowed: NumPy array"),
        ([VIDEO[0], VIDEO], ShapeError, "mixes single frames and whole videos"),
    ],
)
def test_what_is_no_video_is_refused(video: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        split_videos(video)


@pytest.mark.parametrize(
    ("video", "error", "words"),
    [
        (torch.zeros(4, 5, 8, 9), ShapeError, r"\[4, 5, 8, 9\]: expected \[T, C, H, W\] or"),
        (torch.zeros(3, 16, 8, 9), ShapeError, r"looks like \[C, T, H, W\] with C=3"),
        (torch.zeros(0, 3, 8, 9), ShapeError, r"at least one frame.*got \[0, 3, 8, 9\]"),
        (torch.zeros(2, 3, 0, 9), ShapeError, "at least one pixel"),
        ([VIDEO[0], VIDEO[0, :, :5]], ShapeError, "one shape and one element type"),
        ([VIDEO[0], VIDEO[0].float()], ShapeError, "one shape and one element type"),
        (VIDEO.bool(), DtypeError, "Frames of torch.bool are not supported; allowed: uint8"),
        (VIDEO.numpy().astype(np.uint16), DtypeError, "Frames of torch.uint16"),
        (VIDEO.numpy().astype(complex), DtypeError, "NumPy type complex128; expected uint8"),
        (VIDEO.numpy().astype(">f4"), DtypeError, "NumPy type >f4"),
        (VIDEO.numpy().astype(np.longdouble), DtypeError, "NumPy type float128|longdouble"),
        (
            SimpleNamespace(data=VIDEO[0], pts_seconds=[0.0]),
            ShapeError,
            r"Frames.data must be a tensor \[T, C, H, W\], got shape \[3, 10, 12\]",
        ),
    ],
)
def test_frames_that_cannot_be_used_are_refused(
    video: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        opened(video)
