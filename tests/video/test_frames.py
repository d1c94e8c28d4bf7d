"""Frames carry their times, and refuse tensors that are not frames."""

import numpy as np
import pytest
import torch

from vjepa2.errors import DtypeError, FrameIndexError, InputError, ShapeError
from vjepa2.video.frames import Frame, Frames
from wrong_values import assert_named, is_number


def three_frames() -> Frames:
    return Frames(
        data=torch.arange(3 * 3 * 2 * 4, dtype=torch.uint8).reshape(3, 3, 2, 4),
        pts_seconds=torch.tensor([1.0, 1.5, 1.75], dtype=torch.float64),
        duration_seconds=torch.tensor([0.5, 0.25, 0.5], dtype=torch.float64),
    )


def test_an_integer_gives_a_frame_and_everything_else_gives_frames():
    frames = three_frames()
    assert len(frames) == 3
    last = frames[-1]
    assert isinstance(last, Frame)
    assert torch.equal(last.data, frames.data[2])
    assert (last.pts_seconds, last.duration_seconds) == (1.75, 0.5)
    for key in (slice(1, None), [1, 2], torch.tensor([1, 2]), (1, 2)):
        part = frames[key]
        assert isinstance(part, Frames)
        assert torch.equal(part.data, frames.data[1:])
        assert part.pts_seconds.tolist() == [1.5, 1.75]
        assert part.duration_seconds.tolist() == [0.25, 0.5]
    assert len(frames[[]]) == 0


def test_iterating_gives_every_frame_once():
    frames = three_frames()
    assert [frame.pts_seconds for frame in frames] == [1.0, 1.5, 1.75]
    assert torch.equal(torch.stack([frame.data for frame in frames]), frames.data)


def test_a_permuted_view_is_kept_without_a_copy():
    memory = torch.zeros(2, 4, 6, 3, dtype=torch.uint8)
    times = torch.zeros(2, dtype=torch.float64)
    frames = Frames(data=memory.permute(0, 3, 1, 2), pts_seconds=times, duration_seconds=times)
    assert frames.data.data_ptr() == memory.data_ptr()


def test_printing_shows_shapes_and_times_not_pixels():
    frames = three_frames()
    assert repr(frames) == "Frames(data: uint8 [3, 3, 2, 4], 1 to 2.25 s)"
    assert repr(frames[:0]) == "Frames(data: uint8 [0, 3, 2, 4])"
    assert repr(frames[1]) == "Frame(data: uint8 [3, 2, 4], pts_seconds=1.5, duration_seconds=0.25)"


def test_wrong_pixels_are_refused():
    times = torch.zeros(2, dtype=torch.float64)
    good = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(DtypeError, match=r"Frames\.data must be uint8 \(0\.\.255\), got .*float32"):
        Frames(data=good.float(), pts_seconds=times, duration_seconds=times)
    with pytest.raises(ShapeError, match=r"must have shape \[T, C, H, W\], got \[3, 4, 4\]"):
        Frames(data=good[0], pts_seconds=times, duration_seconds=times)
    with pytest.raises(ShapeError, match=r"Frame\.data must have shape \[C, H, W\]"):
        Frame(data=good, pts_seconds=0.0, duration_seconds=0.0)


def test_wrong_times_are_refused():
    times = torch.zeros(2, dtype=torch.float64)
    good = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(DtypeError, match=r"pts_seconds must be a float64 tensor, got .*float32"):
        Frames(data=good, pts_seconds=times.float(), duration_seconds=times)
    with pytest.raises(ShapeError, match=r"each of the 2 frames, shape \[2\], got \[1\]"):
        Frames(data=good, pts_seconds=times, duration_seconds=times[:1])


def test_pixels_that_are_no_tensor_are_refused():
    times = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(DtypeError, match=r"must be a uint8 tensor \[T, C, H, W\], got list"):
        Frames(data=[1, 2], pts_seconds=times, duration_seconds=times)


def test_positions_that_do_not_exist_or_are_none():
    frames = three_frames()
    for number in (3, -4, 10**400):
        with pytest.raises(FrameIndexError, match=r"no frame .* positions 0 to 2"):
            frames[number]
    for key in (1.0, "1", True, None, [True], [0.5], np.array([0.0]), object()):
        with pytest.raises(InputError, match="must be an integer"):
            frames[key]
    with pytest.raises(ShapeError, match=r"one row \[n\], got shape \[1, 1\]"):
        frames[torch.tensor([[0]])]
    for key in (slice(None, None, 0), slice("a", 2), slice(0.5, 2)):
        with pytest.raises(InputError, match="Cannot take the frames"):
            frames[key]


def test_positions_of_every_kind():
    frames = three_frames()
    for key in ([2, 0], (2, 0), np.array([2, 0]), torch.tensor([2, 0]), [-1, np.int64(0)]):
        assert frames[key].pts_seconds.tolist() == [1.75, 1.0]
    assert frames[torch.tensor([True, False, True])].pts_seconds.tolist() == [1.0, 1.75]
    assert frames[np.array([False, True, False])].pts_seconds.tolist() == [1.5]
    assert frames[::-1].pts_seconds.tolist() == [1.75, 1.5, 1.0]
    assert frames[range(1, 3)].pts_seconds.tolist() == [1.5, 1.75]
    assert frames[1:].data.data_ptr() == frames.data[1].data_ptr()  # a view


def test_times_of_one_frame_are_numbers():
    data = torch.zeros(3, 2, 4, dtype=torch.uint8)
    assert_named(
        lambda time: Frame(data=data, pts_seconds=time, duration_seconds=0.5),
        allowed=lambda time: is_number(time, above=-1e300),
        error=InputError,
    )
