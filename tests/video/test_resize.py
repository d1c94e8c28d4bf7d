"""Resizing: against slow loops, against PyTorch's whole resize, and the planning of windows."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from vjepa2.errors import ConfigError
from vjepa2.video.resize import (
    BICUBIC,
    BILINEAR,
    NEAREST,
    WindowResizer,
    axis_window,
    has_vector_kernel,
    resample_number,
    resize_frames,
    whole_axis,
)

needs_vector_kernel = pytest.mark.skipif(
    not has_vector_kernel(torch.uint8, num_channels=3), reason="needs an x86 CPU with AVX2"
)


def weights_by_hand(num_in: int, num_out: int) -> np.ndarray:
    """Triangle filter of Pillow's "bilinear" as a matrix [num_out, num_in], in plain loops."""
    ratio = num_in / num_out
    reach = max(ratio, 1.0)
    matrix = np.zeros((num_out, num_in))
    for out in range(num_out):
        center = (out + 0.5) * ratio
        for source in range(num_in):
            matrix[out, source] = max(0.0, 1 - abs(source + 0.5 - center) / reach)
        matrix[out] /= matrix[out].sum()
    return matrix


def resize_whole(frames: Tensor, height: int, width: int, resample: int = BILINEAR) -> Tensor:
    mode = {BILINEAR: "bilinear", BICUBIC: "bicubic"}[resample]
    return torch.nn.functional.interpolate(
        frames, size=(height, width), mode=mode, align_corners=False, antialias=True
    )


def whole(frames: Tensor, height: int, width: int, resample: int = BILINEAR) -> Tensor:
    H, W = frames.shape[-2:]
    return resize_frames(
        frames, rows=whole_axis(H, height), columns=whole_axis(W, width), resample=resample
    )


@pytest.mark.parametrize("size", [(9, 7), (30, 12), (41, 60)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.int64, torch.float16])
def test_bilinear_is_the_triangle_filter_on_both_axes(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    frames = torch.randint(0, 256, (2, 3, 23, 31)).to(dtype)
    rows, columns = weights_by_hand(23, size[0]), weights_by_hand(31, size[1])
    wanted = np.einsum("hH,tcHW,wW->tchw", rows, frames.double().numpy(), columns)
    got = whole(frames, *size)
    assert got.dtype == dtype
    # uint8 rounds twice and carries 16-bit weights; integers round once; half keeps 11 bits.
    tolerance = {torch.uint8: 1.01, torch.int64: 0.501, torch.float16: 0.07}.get(dtype, 1e-9)
    assert np.abs(got.double().numpy() - wanted).max() <= tolerance


def test_nearest_takes_the_pixel_under_the_center() -> None:
    frames = torch.arange(6, dtype=torch.uint8).view(1, 1, 1, 6)
    got = whole(frames, 1, 4, NEAREST)
    # Centers 0.75, 2.25, 3.75, 5.25 lie in pixels 0, 2, 3, 5.
    assert got.flatten().tolist() == [0, 2, 3, 5]


def test_bicubic_integers_stay_in_range_where_the_filter_overshoots() -> None:
    frames = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    frames[..., 4:] = 255
    got = whole(frames, 24, 24, BICUBIC).int()
    assert got[..., :8].max() <= 20  # no wrap-around of small negative values to 255
    assert got[..., 16:].min() >= 235


def random_window(rng: random.Random, resample: int, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """A frame, the window computed from it, and the same part of PyTorch's whole result."""
    H, W = rng.randint(8, 300), rng.randint(8, 300)
    height, width = rng.randint(4, 250), rng.randint(4, 250)
    kept = []
    for length in (height, width):
        start = rng.randint(0, length - 1)
        kept.append((start, rng.randint(start + 1, length)))
    frame = torch.from_numpy(
        np.random.default_rng(rng.randint(0, 9**9)).integers(0, 256, (3, H, W), dtype=np.uint8)
    )
    axes = [
        axis_window(n, m, start=a, stop=b, resample=resample, mode=mode)  # type: ignore[arg-type]
        for n, m, (a, b) in ((H, height, kept[0]), (W, width, kept[1]))
    ]
    resizer = WindowResizer(
        rows=axes[0], columns=axes[1], resample=resample, vertical_first=mode == "fast"
    )
    stored = frame.permute(1, 2, 0).contiguous().permute(2, 0, 1) if rng.random() < 0.5 else frame
    cut = (slice(*kept[0]), slice(*kept[1]))
    got = resizer(stored).permute(2, 0, 1)[:, cut[0], cut[1]].clone()
    wanted = resize_whole(frame[None], height, width, resample)[0][:, cut[0], cut[1]]
    return frame, got, wanted


@needs_vector_kernel
@pytest.mark.parametrize("resample", [BILINEAR, BICUBIC])
def test_exact_windows_equal_the_whole_resize_bit_for_bit(resample: int) -> None:
    rng = random.Random(resample)
    for _ in range(150):
        frame, got, wanted = random_window(rng, resample, "exact")
        assert torch.equal(got, wanted), f"{list(frame.shape)} -> {list(wanted.shape)}"


@needs_vector_kernel
def test_fast_windows_of_white_noise_stay_within_one_level() -> None:
    rng = random.Random(0)
    is_equal = []
    for _ in range(100):
        _, got, wanted = random_window(rng, BILINEAR, "fast")
        difference = (got.int() - wanted.int()).abs()
        assert difference.max() <= 1
        is_equal.append(bool(difference.max() == 0))
    assert not all(is_equal)  # it is another computation


@needs_vector_kernel
def test_a_resizer_gives_the_same_again_after_another_frame() -> None:
    rng = np.random.default_rng(0)
    one, two = torch.from_numpy(rng.integers(0, 256, (2, 3, 60, 81), dtype=np.uint8))
    rows, columns = (
        axis_window(n, m, start=2, stop=m - 3, resample=BILINEAR, mode="fast")
        for n, m in ((60, 36), (81, 48))
    )
    resizer = WindowResizer(rows=rows, columns=columns, resample=BILINEAR, vertical_first=True)
    first = resizer(one).clone()
    resizer(two)
    assert torch.equal(resizer(one), first)


def test_a_window_leaves_out_what_the_crop_does_not_need() -> None:
    window = axis_window(1920, 519, start=131, stop=387, resample=BILINEAR, mode="exact")
    assert window.length == 387
    # Output 131 reaches from 131.5 * 3.6994 - 3.6994 = 482.8, output 386 to 386.5 * ... = 1433.5.
    assert 479 <= window.read_start <= 482
    assert 1434 <= window.read_stop == window.extent <= 1437
    assert window.scale == pytest.approx(519 / 1920)


def test_an_axis_is_computed_whole_where_its_weights_would_have_other_fraction_bits() -> None:
    # Among the first 6 of 167 outputs no weight reaches 1/2, among all some do: one bit fewer.
    window = axis_window(325, 167, start=0, stop=6, resample=BILINEAR, mode="exact")
    assert (window.length, window.extent, window.scale) == (167, 325, None)
    assert axis_window(325, 167, start=0, stop=6, resample=BILINEAR, mode="fast").length == 6


def test_an_axis_is_computed_whole_where_no_scale_gives_the_exact_ratio() -> None:
    num_in, num_out = 854, 519
    guess = num_out / num_in
    near = (guess, math.nextafter(guess, 0), math.nextafter(guess, 1))
    assert all(1 / scale != num_in / num_out for scale in near)
    window = axis_window(num_in, num_out, start=131, stop=387, resample=BILINEAR, mode="exact")
    assert window.scale is None


def test_an_axis_that_keeps_its_length_is_not_resized() -> None:
    window = axis_window(50, 50, start=5, stop=20, resample=BILINEAR, mode="exact")
    assert (window.length, window.extent, window.read, window.scale) == (50, 50, slice(5, 20), None)


def test_filters_have_numbers_and_names() -> None:
    assert [resample_number(name) for name in ("nearest", "bilinear", "bicubic")] == [0, 2, 3]
    assert resample_number(3) == BICUBIC
    with pytest.raises(ConfigError, match=r"resample=1 is not available; allowed: 0 \(nearest\)"):
        resample_number(1)
    with pytest.raises(ConfigError, match="Did you mean 'bilinear'"):
        resample_number("bilinaer")
