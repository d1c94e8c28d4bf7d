"""Sizes and crops: expectations by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.video.geometry import (
    AxisCrop,
    Geometry,
    center_crop,
    crop_dict,
    default_size,
    fit_size,
    resize_edge,
    resized_size,
    size_dict,
)


def test_short_side_is_the_crop_times_256_over_224() -> None:
    assert [resize_edge(crop) for crop in (224, 256, 384, 16)] == [256, 292, 438, 18]


@pytest.mark.parametrize(
    ("frame", "resized"),
    [
        ((1080, 1920), (292, 519)),  # 519.1
        ((1920, 1080), (519, 292)),
        ((480, 640), (292, 389)),  # 389.3
        ((100, 100), (292, 292)),
        ((292, 700), (292, 700)),
    ],
)
def test_the_short_side_is_hit_and_the_long_side_truncated(
    frame: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert resized_size({"shortest_edge": 292}, height=frame[0], width=frame[1]) == resized


def test_a_size_of_both_sides_ignores_the_aspect_ratio() -> None:
    assert resized_size({"height": 50, "width": 70}, height=999, width=10) == (50, 70)


@pytest.mark.parametrize(
    ("length", "crop", "rounding", "expected"),
    [
        (519, 256, "port", AxisCrop(131, 387, 0, 256)),  # margin 131.5 is truncated
        (519, 256, "meta", AxisCrop(132, 388, 0, 256)),  # ... or rounded half to even
        (517, 256, "port", AxisCrop(130, 386, 0, 256)),
        (517, 256, "meta", AxisCrop(130, 386, 0, 256)),  # 130.5 rounds to the even 130
        (292, 256, "port", AxisCrop(18, 274, 0, 256)),
        (256, 256, "port", AxisCrop(0, 256, 0, 256)),
        (25, 32, "port", AxisCrop(0, 25, 3, 32)),  # 3 zeros before, 4 after
    ],
)
def test_center_crop_by_hand(length: int, crop: int, rounding: str, expected: AxisCrop) -> None:
    got = center_crop(length, crop, rounding=rounding)  # type: ignore[arg-type]
    assert got == expected
    assert got.target.stop - got.target.start == got.kept.stop - got.kept.start


@given(length=st.integers(1, 3000), crop=st.integers(1, 600))
def test_a_crop_lies_inside_and_margins_differ_by_one_at_most(length: int, crop: int) -> None:
    axis = center_crop(length, crop, rounding="port")
    assert 0 <= axis.start < axis.stop <= length
    before, after = axis.start, length - axis.stop
    if length <= crop:
        before, after = axis.offset, crop - length - axis.offset
    assert 0 <= after - before <= 1


@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    crop=st.tuples(st.integers(8, 400), st.integers(8, 400)),
)
def test_frames_cover_every_crop_so_nothing_is_padded(
    height: int, width: int, crop: tuple[int, int]
) -> None:
    size = default_size(crop_dict(crop))
    target = (size.get("min_height", 0), size.get("min_width", 0))
    if "shortest_edge" in size:
        target = (size["shortest_edge"],) * 2
    rows, columns = fit_size(height, width, min_height=target[0], min_width=target[1])
    assert rows >= crop[0]
    assert columns >= crop[1]
    assert rows in (target[0], rows) and columns >= target[1] and rows >= target[0]
    assert rows == target[0] or columns == target[1]  # no larger than needed


def test_crops_that_are_not_square_are_covered_by_one_rule() -> None:
    assert default_size({"height": 256, "width": 256}) == {"shortest_edge": 292}
    assert default_size({"height": 256, "width": 448}) == {"min_height": 292, "min_width": 512}
    size = {"min_height": 292, "min_width": 512}
    assert resized_size(size, height=1080, width=1920) == (292, 519)
    assert resized_size(size, height=1920, width=1080) == (910, 512)  # the port would pad here


def test_size_forms_are_read() -> None:
    assert crop_dict(8) == crop_dict((8, 8)) == crop_dict({"height": 8, "width": 8})
    assert size_dict({"shortest_edge": 9}) == {"shortest_edge": 9}
    assert size_dict(9) == size_dict([9, 9]) == {"height": 9, "width": 9}


@pytest.mark.parametrize("crop", [0, -3, 2.5, True, "big", (1, 2, 3), {"height": 4}, (4, 0)])
def test_other_crops_are_refused(crop: object) -> None:
    with pytest.raises(ConfigError, match=r"crop_size=.*allowed: n, \(height, width\)"):
        crop_dict(crop)


@pytest.mark.parametrize("size", [0, 2.5, {"longest_edge": 4}, {"height": 4}, {"shortest_edge": 0}])
def test_other_sizes_are_refused(size: object) -> None:
    with pytest.raises(ConfigError, match=r'size=.*allowed: {"shortest_edge": n}'):
        size_dict(size)


def test_frames_as_thin_as_a_thread_are_refused() -> None:
    with pytest.raises(ShapeError, match="Frames of 1 x 4000 would become 292 x 1168000 pixels"):
        resized_size({"shortest_edge": 292}, height=1, width=4000)


def test_padding_is_noticed() -> None:
    inside, short = center_crop(40, 32, rounding="port"), center_crop(20, 32, rounding="port")
    made = {"height": 40, "width": 40, "resample": 2, "mode": "exact"}
    assert not Geometry(rows=inside, columns=inside, **made).padded  # type: ignore[arg-type]
    assert Geometry(rows=inside, columns=short, **made).padded  # type: ignore[arg-type]


def test_an_enormous_explicit_size_is_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(ShapeError, match="more than 67108864"):
        resized_size({"height": 10**7, "width": 10**7}, height=48, width=64)
