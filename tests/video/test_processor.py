"""The processor against arrays of the published one, and by its own rules."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    InputError,
    ShapeError,
    UnknownOptionError,
    VideoTooLargeError,
)
from vjepa2.video.metadata import VideoMetadata
from vjepa2.video.processor import VJEPA2VideoProcessor as Processor
from vjepa2.video.resize import has_vector_kernel
from wrong_values import assert_named

FIXTURES = Path(__file__).parent / "fixtures" / "processor"
CASES = json.loads((FIXTURES / "manifest.json").read_text())["cases"]


@pytest.fixture(scope="module")
def arrays() -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "processor.safetensors")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))


def pixels(video: object, *, processor: Processor | None = None, **options: Any) -> torch.Tensor:
    processor = processor or Processor(crop_size=32)
    return processor(video, return_tensors="pt", **options).pixel_values_videos


@pytest.mark.parametrize("order", ["TCHW", "THWC", "frames"])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_published_processor(
    name: str, order: str, arrays: dict[str, torch.Tensor]
) -> None:
    case, video = CASES[name], arrays[f"{name}/video"]
    forms = {"TCHW": video, "THWC": video.permute(0, 2, 3, 1).contiguous(), "frames": list(video)}
    got = pixels(forms[order], processor=Processor(crop_size=case["crop_size"]), **case["kwargs"])
    wanted = arrays[f"{name}/pixel_values_videos"]
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    # The arrays were made with a vector kernel; without one, uint8 may round to the next level.
    exact = has_vector_kernel(torch.uint8, num_channels=3) or video.dtype != torch.uint8
    tolerance = 0.0 if exact else 1 / (255 * 0.22)
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=0)


def test_one_result_computed_in_slow_steps(arrays: dict[str, torch.Tensor]) -> None:
    video = arrays["wide_16x9/video"]  # 54 x 96, the short side is right already: only crop, scale
    wanted = np.empty((1, 4, 3, 48, 48))
    for t, c, y, x in np.ndindex(4, 3, 48, 48):
        level = int(video[t, c, y + 3, x + 24]) / 255
        mean, std = (0.485, 0.456, 0.406)[c], (0.229, 0.224, 0.225)[c]
        wanted[0, t, c, y, x] = (level - mean) / std
    got = pixels(video, processor=Processor(crop_size=48))
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 3),
    height=st.integers(1, 120),
    width=st.integers(5, 120),
    crop=st.integers(1, 60),
    mode=st.sampled_from(["exact", "fast"]),
)
def test_shape_and_range_for_any_size(
    frames: int, height: int, width: int, crop: int, mode: str
) -> None:
    processor = Processor(crop_size=crop, do_normalize=False, resize_mode=mode)
    got = pixels(noise(frames, 3, height + 4, width), processor=processor)
    assert got.shape == (1, frames, 3, crop, crop)
    assert got.dtype == torch.float32
    assert got.min() >= 0
    assert got.max() <= 1


def test_a_list_of_different_videos_equals_each_alone() -> None:
    videos = [
        noise(4, 3, 40, 70),
        noise(4, 90, 50, 3, seed=1).numpy(),  # another size and another order
        list(noise(4, 3, 36, 36, seed=2)),
        noise(4, 3, 40, 70, seed=3).float(),
    ]
    together = pixels(videos)
    assert together.shape == (4, 4, 3, 32, 32)
    for position, video in enumerate(videos):
        assert torch.equal(together[position], pixels(video)[0])


def test_videos_of_different_lengths_come_as_a_list_only() -> None:
    videos = [noise(4, 3, 40, 70), noise(2, 3, 40, 70)]
    result = Processor(crop_size=32)(videos)["pixel_values_videos"]
    assert [video.shape[0] for video in result] == [4, 2]
    assert torch.equal(result[1], pixels(videos[1])[0])
    with pytest.raises(ShapeError, match="needs videos of one length and size"):
        pixels(videos)


def test_numpy_results() -> None:
    video = noise(2, 3, 40, 70)
    got = Processor(crop_size=32)(video, return_tensors="np")["pixel_values_videos"]
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, pixels(video).numpy())


def test_models_take_the_result_as_keywords() -> None:
    def model(pixel_values_videos: torch.Tensor) -> tuple[int, ...]:
        return tuple(pixel_values_videos.shape)

    inputs = Processor(crop_size=32)(noise(2, 3, 40, 70), return_tensors="pt")
    assert model(**inputs.to("cpu", torch.float16)) == (1, 2, 3, 32, 32)
    assert inputs.pixel_values_videos.dtype == torch.float16


def test_work_can_move_to_another_device() -> None:
    video = noise(2, 3, 40, 70)
    here, there = pixels(video), pixels(video, device="cpu")
    assert torch.equal(here, there)
    moved = pixels(video.to("meta"), device=None)
    assert moved.device.type == "meta"
    assert pixels(video, device="meta").shape == here.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_an_accelerator_gives_the_same_up_to_one_grey_level(mode: str) -> None:
    video = noise(3, 3, 270, 480)
    processor = Processor(do_normalize=False, resize_mode=mode)
    here = pixels(video, processor=Processor(do_normalize=False))
    there = pixels(video, processor=processor, device="cuda")
    assert there.is_cuda
    assert (here - there.cpu()).abs().max() * 255 < 1.01


def test_call_options_replace_those_of_the_processor() -> None:
    video, processor = noise(2, 3, 40, 70), Processor(crop_size=32)
    for options in (
        {"do_normalize": False},
        {"image_mean": (0.5, 0.5, 0.5), "image_std": 0.5},
        {"size": {"shortest_edge": 50}},
        {"crop_rounding": "meta"},
        {"resample": 3},
    ):
        other = Processor(crop_size=32, **options)
        assert torch.equal(pixels(video, **options), pixels(video, processor=other))
    assert processor == Processor(crop_size=32)


def test_crop_size_of_a_call_cuts_from_the_frame_of_the_processor() -> None:
    video = noise(1, 3, 36, 64)  # the short side is that of crop 32 already
    plain = {"do_rescale": False, "do_normalize": False}
    cut = pixels(video, crop_size=16, **plain)
    assert torch.equal(cut[0, 0], video[0, :, 10:26, 24:40])
    resized = pixels(video, crop_size=16, size={"shortest_edge": 18}, **plain)
    assert torch.equal(resized, pixels(video, processor=Processor(crop_size=16, **plain)))


def test_a_crop_that_is_not_square_shows_the_picture_without_padding() -> None:
    video = torch.full((1, 3, 90, 40), 255, dtype=torch.uint8)  # tall, the crop is wide
    got = pixels(video, processor=Processor(crop_size=(28, 56), do_normalize=False))
    assert got.shape == (1, 1, 3, 28, 56)
    assert torch.equal(got, torch.ones_like(got))


def test_meta_rounding_moves_the_crop_of_a_wide_video_by_one_pixel() -> None:
    ramp = torch.arange(519, dtype=torch.uint8).expand(1, 3, 292, 519).contiguous()
    plain = {"do_rescale": False, "do_normalize": False}
    assert pixels(ramp, processor=Processor(**plain))[0, 0, 0, 0, 0] == 131
    meta = Processor(crop_rounding="meta", **plain)
    assert pixels(ramp, processor=meta)[0, 0, 0, 0, 0] == 132


def test_the_layout_can_be_told() -> None:
    narrow = noise(2, 3, 8, 3)
    first = pixels(narrow, input_data_format="channels_first")
    last = pixels(narrow.permute(0, 2, 3, 1).contiguous(), input_data_format="channels_last")
    assert torch.equal(first, last)
    with pytest.raises(ShapeError, match="both orders"):
        pixels(narrow)


def test_frames_are_sampled_and_their_origin_returned() -> None:
    video = noise(10, 3, 40, 70)
    processor = Processor(crop_size=32, do_sample_frames=True, return_metadata=True)
    result = processor(video, num_frames=4, return_tensors="pt")
    assert torch.equal(result.pixel_values_videos, pixels(video[[0, 2, 5, 7]]))
    (origin,) = result.video_metadata
    assert origin.frames_indices == [0, 2, 5, 7]
    known = {"total_num_frames": 10, "fps": 20.0}
    result = processor(video, fps=8, video_metadata=known, return_tensors="pt")
    assert torch.equal(result.pixel_values_videos, pixels(video[[0, 2, 5, 7]]))
    assert result.video_metadata[0].timestamps == [0.0, 0.1, 0.25, 0.35]
    both = processor([video, video], num_frames=2, video_metadata=[known, known])
    assert [item.fps for item in both.video_metadata] == [20.0, 20.0]
    assert all(isinstance(item, VideoMetadata) for item in both.video_metadata)


def test_a_call_chooses_frames_by_number_or_rate_but_a_processor_not_by_both() -> None:
    video = noise(10, 3, 40, 70)
    processor = Processor(crop_size=32, do_sample_frames=True, fps=3.0)
    assert pixels(video, processor=processor, num_frames=2).shape[1] == 2
    with pytest.raises(ConfigError, match="num_frames=2 and fps=3 exclude each other"):
        pixels(video, num_frames=2, fps=3.0, do_sample_frames=True)


def test_a_number_of_frames_without_sampling_warns() -> None:
    with pytest.warns(UserWarning, match="have no effect without do_sample_frames=True"):
        got = pixels(noise(4, 3, 40, 70), num_frames=2)
    assert got.shape[1] == 4


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"crop_sise": 3}, UnknownOptionError, "no option 'crop_sise'. Did you mean 'crop_size'"),
        ({"images": 3}, UnknownOptionError, "no option 'images'"),
        ({"return_tensors": "tf"}, ConfigError, "return_tensors 'tf' does not exist"),
        ({"resample": 4}, ConfigError, "resample=4 is not available"),
    ],
)
def test_wrong_call_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Processor(crop_size=32)(noise(2, 3, 40, 70), **options)


def test_floats_within_one_are_refused_where_they_would_be_divided_again() -> None:
    video = torch.rand(2, 3, 40, 70)
    with pytest.raises(InputError, match="rescaled already"):
        pixels(video)
    torch.testing.assert_close(
        pixels(video, do_rescale=False), pixels(video * 255), atol=1e-5, rtol=0
    )


def test_preprocess_is_the_call() -> None:
    video = noise(2, 3, 40, 70)
    result = Processor(crop_size=32).preprocess(video, return_tensors="pt")
    assert torch.equal(result.pixel_values_videos, pixels(video))
    assert Processor.model_input_names == ("pixel_values_videos",)


def test_videos_and_call_options_of_a_wrong_kind() -> None:
    processor = Processor(crop_size=32)
    video = noise(2, 3, 40, 48)
    assert_named(processor, allowed=lambda value: getattr(value, "is_meta", False))
    assert_named(
        lambda value: processor(video, return_tensors=value), allowed=lambda value: value is None
    )
    assert_named(
        lambda value: processor(video, video_metadata=value), allowed=lambda value: value is None
    )
    for metadata in ({"total_num_frames": "2"}, {"total_num_frames": 2, "fps": "x"}):
        with pytest.raises(ConfigError, match="video_metadata"):
            processor(video, video_metadata=metadata)


def test_tensors_without_pixels_are_refused() -> None:
    processor = Processor(crop_size=32)
    with pytest.raises(DtypeError, match=r"dense tensor, got one stored as torch.sparse_coo"):
        processor(noise(2, 3, 40, 48).to_sparse())
    with pytest.raises(DtypeError, match="meta device, which holds no pixels to bring to cpu"):
        processor(noise(2, 3, 40, 48).to("meta"), device="cpu")
    with pytest.raises(DtypeError, match="must hold its pixels"):
        processor(noise(2, 4, 40, 48).to("meta"), do_convert_rgb=True)


def test_a_result_that_does_not_fit_into_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*shape: object, **options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(VideoTooLargeError, match=r"no memory on cpu .* \[1, 2, 3, 32, 32\]"):
        Processor(crop_size=32)(noise(2, 3, 40, 48))
    with pytest.raises(ConfigError, match="more than 67108864 pixels a frame"):
        Processor(crop_size=10**9)
