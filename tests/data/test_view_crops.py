"""Sizes and places of views by the published numbers; pixels to the last bit as OpenCV's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vjepa2.data.fixed_resize import fixed_resize, fixed_taps
from vjepa2.data.view_crops import ViewCrops, view_crops
from vjepa2.errors import ShapeError

OPENCV = Path(__file__).parent.parent / "fixtures" / "opencv" / "bilinear.npz"


def plan(height: int, width: int, *, crop: int = 256, views: int = 1, **how: object) -> ViewCrops:
    settings: dict[str, object] = {"resize": "published", **how}
    return view_crops(height=height, width=width, crop_size=crop, num_views=views, **settings)  # type: ignore[arg-type]


def pattern(height: int, width: int) -> NDArray[np.uint8]:
    i, j, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    frame: NDArray[np.uint8] = ((i * i * 37 + j * 101 + c * 59 + i * j * 7) % 256).astype(np.uint8)
    return frame


# ---- places --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        # short side int(256 * 256 / 224) = 292; margins halved, halves rounded to even
        ((240, 320), (292, 389), (18, 66)),  # 133 / 2 = 66.5
        ((320, 240), (389, 292), (66, 18)),
        ((1080, 1920), (292, 519), (18, 132)),  # 263 / 2 = 131.5
        ((292, 292), (292, 292), (18, 18)),
    ],
)
def test_one_view_is_the_middle_of_the_frame(
    size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    crops = plan(*size)
    assert (crops.resized, crops.corners) == (resized, (corner,))


@pytest.mark.parametrize(
    ("size", "views", "resized", "corners"),
    [
        ((240, 320), 3, (256, 341), [(0, 0), (0, 42), (0, 84)]),  # (341 - 256) // 2
        ((320, 240), 3, (341, 256), [(0, 0), (42, 0), (84, 0)]),
        ((720, 1280), 3, (256, 455), [(0, 0), (0, 99), (0, 198)]),
        ((720, 1280), 2, (256, 455), [(0, 0), (0, 199)]),
        ((100, 100), 3, (256, 256), [(0, 0), (0, 0), (0, 0)]),
    ],
)
def test_several_views_are_spread_along_the_longer_side(
    size: tuple[int, int],
    views: int,
    resized: tuple[int, int],
    corners: list[tuple[int, int]],
) -> None:
    """Short side to the crop, no factor of 256/224; starts 0, step, 2 step."""
    crops = plan(*size, views=views)
    assert (crops.resized, list(crops.corners)) == (resized, corners)


def test_frames_that_would_become_enormous_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 x 8000"):
        plan(2, 8000, crop=384)


# ---- pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["20x31_13x20", "20x31_33x51", "31x20_18x11", "9x16_40x71"])
def test_resizing_is_that_of_opencv_to_the_last_bit(name: str) -> None:
    (height, width), (new_height, new_width) = (
        [int(number) for number in size.split("x")] for size in name.split("_")
    )
    frame = pattern(height, width)
    with np.load(OPENCV) as stored:
        expected = stored[name]
    rows = fixed_taps(height, new_height, is_row=True)
    columns = fixed_taps(width, new_width, is_row=False)
    kept = frame[rows.kept][:, columns.kept]
    assert np.array_equal(fixed_resize(kept[None], rows, columns)[0], expected)
    rows = fixed_taps(height, new_height, start=3, stop=9, is_row=True)
    columns = fixed_taps(width, new_width, start=2, stop=10, is_row=False)
    part = fixed_resize(frame[rows.kept][:, columns.kept][None], rows, columns)
    assert np.array_equal(part[0], expected[3:9, 2:10])


def test_resizing_is_bilinear_without_antialiasing() -> None:
    """Against PyTorch's interpolation, whose floats differ by the cut-off sums only."""
    frame = pattern(40, 60)
    rows, columns = fixed_taps(40, 17, is_row=True), fixed_taps(60, 25, is_row=False)
    found = fixed_resize(frame[rows.kept][:, columns.kept][None], rows, columns)[0]
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    smooth = torch.nn.functional.interpolate(pixels, size=(17, 25), mode="bilinear")[0]
    assert np.abs(smooth.permute(1, 2, 0).numpy() - found).max() < 1


def test_a_frame_of_the_right_size_is_not_changed() -> None:
    frames = torch.from_numpy(pattern(32, 44)).permute(2, 0, 1)[None]
    views = plan(32, 44, crop=32, views=3).from_whole(frames)
    assert views.shape == (3, 1, 3, 32, 32)
    for number, start in enumerate((0, 6, 12)):
        assert torch.equal(views[number], frames[..., start : start + 32])


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("size", [(40, 61), (61, 40)])
def test_views_are_crops_of_the_resized_frame(views: int, size: tuple[int, int]) -> None:
    frame = pattern(*size)
    crops = plan(*size, crop=24, views=views)
    rows = fixed_taps(size[0], crops.resized[0], is_row=True)
    columns = fixed_taps(size[1], crops.resized[1], is_row=False)
    whole = fixed_resize(frame[rows.kept][:, columns.kept][None], rows, columns)[0]
    found = crops.from_whole(torch.from_numpy(frame).permute(2, 0, 1)[None])
    for view, (top, left) in zip(found, crops.corners, strict=True):
        expected = whole[top : top + 24, left : left + 24]
        assert np.array_equal(view[0].permute(1, 2, 0).numpy(), expected)
