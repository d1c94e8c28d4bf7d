"""The whole transform: scaling by hand, and results that do not depend on how work is divided."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vjepa2.video.geometry import CropRounding, Geometry, center_crop, fit_size
from vjepa2.video.inputs import Clip
from vjepa2.video.metadata import VideoMetadata
from vjepa2.video.resize import ResizeMode
from vjepa2.video.transforms import (
    ColorScale,
    apply_color_scale,
    color_scale,
    transform_frames,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMAL = color_scale(rescale_factor=1 / 255, mean=MEAN, std=STD)


def geometry(
    H: int,
    W: int,
    *,
    edge: int,
    crop: int,
    rounding: CropRounding = "port",
    mode: ResizeMode = "exact",
) -> Geometry:
    height, width = fit_size(H, W, min_height=edge, min_width=edge)
    return Geometry(
        height=height,
        width=width,
        rows=center_crop(height, crop, rounding=rounding),
        columns=center_crop(width, crop, rounding=rounding),
        resample=2,
        mode=mode,
    )


def run(frames: Tensor | list[Tensor], *, plan: Geometry, scale: ColorScale = NORMAL) -> Tensor:
    clip = Clip(frames=frames, metadata=VideoMetadata(total_num_frames=len(frames)))
    dtype = scale.result_dtype(clip.dtype)
    out = torch.full((len(frames), 3, plan.rows.size, plan.columns.size), -7, dtype=dtype)
    transform_frames(clip, geometry=plan, scale=scale, out=out)
    return out


def noise(T: int, H: int, W: int, *, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (T, 3, H, W), dtype=np.uint8))


def test_normalising_is_the_textbook_formula() -> None:
    frames = noise(2, 5, 4)
    out = torch.empty(2, 3, 5, 4)
    apply_color_scale(frames, NORMAL, out=out)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (MEAN, STD))
    wanted = (frames.double().numpy() / 255 - mean) / std
    np.testing.assert_allclose(out.numpy(), wanted, atol=2e-6)


def test_normalising_without_rescaling_and_rescaling_without_normalising() -> None:
    frames = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    out = torch.empty(1, 3, 1, 1)
    unit = color_scale(rescale_factor=None, mean=(0.5,), std=(0.25,))
    apply_color_scale(frames, unit, out=out)
    assert out.flatten().tolist() == [-2.0, 0.0, 2.0]
    half = color_scale(rescale_factor=0.5, mean=None, std=None)
    apply_color_scale(torch.tensor([2, 4, 6], dtype=torch.uint8).view(1, 3, 1, 1), half, out=out)
    assert out.flatten().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("scale", "dtype", "result"),
    [
        (NORMAL, torch.uint8, torch.float32),
        (NORMAL, torch.float64, torch.float32),
        (ColorScale(factor=0.5), torch.uint8, torch.float32),
        (ColorScale(factor=0.5), torch.float16, torch.float16),
        (ColorScale(), torch.uint8, torch.uint8),
    ],
)
def test_element_type_of_the_result(
    scale: ColorScale, dtype: torch.dtype, result: torch.dtype
) -> None:
    assert scale.result_dtype(dtype) == result


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_memory_order_and_lists_make_no_difference(mode: ResizeMode) -> None:
    frames = noise(5, 61, 83)
    plan = geometry(61, 83, edge=36, crop=32, mode=mode)
    wanted = run(frames, plan=plan)
    interleaved = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    cut_out = torch.zeros(5, 3, 90, 90, dtype=torch.uint8)
    cut_out[:, :, 10:71, 4:87] = frames
    for stored in (interleaved, cut_out[:, :, 10:71, 4:87], list(frames), list(interleaved)):
        assert torch.equal(run(stored, plan=plan), wanted)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_frames_do_not_depend_on_their_neighbours_or_on_threads(
    mode: ResizeMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = noise(7, 61, 83)
    plan = geometry(61, 83, edge=36, crop=32, mode=mode)
    wanted = torch.cat([run(frames[index : index + 1], plan=plan) for index in range(7)])
    monkeypatch.setattr("vjepa2.video.transforms._THREAD_BYTES", 1)
    monkeypatch.setattr("vjepa2.video.transforms._GROUP_BYTES", 3 * 32 * 32 * 3)
    for num_threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=num_threads: count)
        assert torch.equal(run(frames, plan=plan), wanted)


def test_float_frames_are_taken_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = noise(5, 61, 83).float()
    plan = geometry(61, 83, edge=36, crop=32)
    wanted = run(frames, plan=plan)
    monkeypatch.setattr("vjepa2.video.transforms._DEVICE_GROUP_BYTES", 2 * 3 * 61 * 83 * 4)
    assert torch.equal(run(frames, plan=plan), wanted)
    assert torch.equal(run(list(frames), plan=plan), wanted)


def test_float_frames_in_fast_mode_are_equal_up_to_rounding() -> None:
    frames = noise(2, 61, 83).float()
    exact = run(frames, plan=geometry(61, 83, edge=36, crop=32))
    fast = run(frames, plan=geometry(61, 83, edge=36, crop=32, mode="fast"))
    torch.testing.assert_close(fast, exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_short_axis_is_padded_with_black(mode: ResizeMode) -> None:
    frames = torch.full((2, 3, 40, 80), 255, dtype=torch.uint8)
    plan = Geometry(
        height=20,
        width=40,
        rows=center_crop(20, 25, rounding="port"),
        columns=center_crop(40, 30, rounding="port"),
        resample=2,
        mode=mode,
    )
    got = run(frames, plan=plan, scale=ColorScale())
    assert got.shape == (2, 3, 25, 30)
    rows = got[0, 0, :, 0].tolist()
    assert rows == [0] * 2 + [255] * 20 + [0] * 3


@pytest.mark.parametrize(
    ("width", "rounding", "left"),
    [
        (97, "port", 24),  # margin 24.5 is truncated
        (97, "meta", 24),  # ... or rounded to the even 24
        (99, "port", 25),
        (99, "meta", 26),  # margin 25.5 is rounded to the even 26
    ],
)
def test_the_crop_lies_where_the_rounding_puts_it(
    width: int, rounding: CropRounding, left: int
) -> None:
    video = noise(1, 54, width)
    plan = geometry(54, width, edge=54, crop=48, rounding=rounding)
    assert torch.equal(
        run(video, plan=plan, scale=ColorScale()), video[..., 3:51, left : left + 48]
    )


def test_no_gradient_is_recorded() -> None:
    frames = (torch.rand(1, 3, 20, 20) * 255).requires_grad_()
    assert not run(frames, plan=geometry(20, 20, edge=10, crop=8)).requires_grad
