"""Color channels and value ranges."""

import pytest
import torch

from vjepa2.errors import DtypeError, InputError, ShapeError
from vjepa2.video.inputs import Clip, open_video
from vjepa2.video.pixels import check_values, to_rgb


def clip_of(frames: torch.Tensor) -> Clip:
    return open_video(frames, layout="channels_first", choice=None, known=None)


def test_rgb_is_left_alone() -> None:
    clip = clip_of(torch.zeros(2, 3, 4, 5))
    assert to_rgb(clip, convert=False) is clip


def test_grey_is_repeated_and_opaque_frames_lose_their_fourth_channel() -> None:
    grey = torch.randint(0, 256, (2, 1, 4, 5), dtype=torch.uint8)
    got = torch.stack(list(to_rgb(clip_of(grey), convert=True).frames))
    assert torch.equal(got, grey.repeat(1, 3, 1, 1))
    opaque = torch.randint(0, 256, (2, 4, 4, 5), dtype=torch.uint8)
    opaque[:, 3] = 255
    got = torch.stack(list(to_rgb(clip_of(opaque), convert=True).frames))
    assert torch.equal(got, opaque[:, :3])


def test_transparent_pixels_are_laid_on_white() -> None:
    frame = torch.tensor([100, 0, 200, 51], dtype=torch.uint8).view(1, 4, 1, 1)  # opacity 1/5
    got = to_rgb(clip_of(frame), convert=True).frames[0].flatten()
    torch.testing.assert_close(got, torch.tensor([224.0, 204.0, 244.0]))  # 204 + value / 5


@pytest.mark.parametrize(
    ("channels", "convert", "words"),
    [
        (1, False, r"got 1 \(grey\).*Pass do_convert_rgb=True"),
        (4, False, r"got 4 \(with opacity\).*Pass do_convert_rgb=True"),
        (2, True, r"got 2 in a video of shape"),
    ],
)
def test_other_channels_are_refused(channels: int, convert: bool, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        to_rgb(clip_of(torch.zeros(2, channels, 6, 7)), convert=convert)


def test_three_frames_before_the_channels_get_a_hint() -> None:
    with pytest.raises(ShapeError, match=r"If it is \[C, T, H, W\], pass video.transpose"):
        to_rgb(clip_of(torch.zeros(3, 4, 6, 7)), convert=False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_is_found_and_its_frame_named(bad: float) -> None:
    frames = torch.full((3, 3, 4, 5), 100.0)
    frames[1, 2, 3, 4] = bad
    with pytest.raises(DtypeError, match=r"in 1 of 3 frames \(first: frame 1\)"):
        check_values(clip_of(frames), rescale_factor=0.0)


def test_floats_that_were_rescaled_before_are_refused() -> None:
    frames = torch.rand(2, 3, 4, 5)
    with pytest.raises(InputError, match=r"rescaled already.*Pass do_rescale=False"):
        check_values(clip_of(frames), rescale_factor=1 / 255)
    check_values(clip_of(frames), rescale_factor=0.0)
    check_values(clip_of(frames * 255), rescale_factor=1 / 255)
    check_values(clip_of(frames * 0), rescale_factor=1 / 255)  # a black video is black either way
    check_values(clip_of(frames), rescale_factor=1.0)


@pytest.mark.parametrize("value", [-1, 256, 1023])
def test_integers_outside_a_byte_are_refused(value: int) -> None:
    frames = torch.zeros(2, 3, 4, 5, dtype=torch.int32)
    frames[0, 0, 0, 0] = value
    with pytest.raises(InputError, match="expected 0 to 255. For another range pass rescale_fac"):
        check_values(clip_of(frames), rescale_factor=1 / 255)
    check_values(clip_of(frames), rescale_factor=1 / 1023)
