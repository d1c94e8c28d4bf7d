"""Each strategy takes exactly the frames that its description says."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from video_clips import encode, numbers

from vjepa2.errors import ConfigError, InputError, VideoTooShortError
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import ClipSampling, clip_indices, sample_clip, sample_indices
from wrong_values import assert_named, is_number, is_whole


def indices(num_video_frames: int, **options: object) -> list[int]:
    return sample_indices(ClipSampling(**options), num_video_frames=num_video_frames)


def at_rate(pts: list[float], end: float, **options: object) -> list[int]:
    return sample_indices(
        ClipSampling(strategy="fps", **options),
        num_video_frames=len(pts),
        pts_seconds=torch.tensor(pts, dtype=torch.float64),
        end_seconds=end,
    )


# ---- by number --------------------------------------------------------------------------------


def test_uniform_by_hand():
    assert indices(10, num_frames=4) == [0, 2, 5, 7]
    assert indices(10, num_frames=4, start_frame=2) == [2, 4, 6, 8]
    assert indices(5, num_frames=5) == [0, 1, 2, 3, 4]


@given(num_frames=st.sampled_from([8, 16, 32, 64]), more=st.integers(0, 5000))
def test_uniform_equals_the_published_processor(num_frames: int, more: int):
    total = num_frames + more
    published = torch.arange(0, total, total / num_frames).int().tolist()
    assert indices(total, num_frames=num_frames) == published


@given(num_frames=st.integers(1, 100), more=st.integers(0, 1000), start=st.integers(0, 50))
def test_uniform_never_repeats_and_never_leaves_the_video(num_frames: int, more: int, start: int):
    total = start + num_frames + more
    chosen = indices(total, num_frames=num_frames, start_frame=start)
    assert len(chosen) == num_frames
    assert chosen[0] == start
    gaps = {b - a for a, b in zip(chosen, [*chosen[1:], total], strict=True)}
    step = (total - start) / num_frames
    assert gaps <= {math.floor(step), math.ceil(step)}


def test_stride_and_consecutive_by_hand():
    assert indices(20, num_frames=4, strategy="stride", stride=3) == [0, 3, 6, 9]
    assert indices(20, num_frames=3, strategy="stride", stride=3, start_frame=5) == [5, 8, 11]
    assert indices(20, num_frames=4, strategy="consecutive", start_frame=16) == [16, 17, 18, 19]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"strategy": "uniform"}, [0, 1, 2, 2, 2]),
        ({"strategy": "consecutive", "start_frame": 1}, [1, 2, 2, 2, 2]),
        ({"strategy": "stride", "stride": 2}, [0, 2, 2, 2, 2]),
        ({"strategy": "uniform", "short_video": "loop"}, [0, 1, 2, 0, 1]),
        ({"strategy": "consecutive", "short_video": "loop", "start_frame": 1}, [1, 2, 1, 2, 1]),
        ({"strategy": "stride", "stride": 2, "short_video": "loop"}, [0, 2, 1, 0, 2]),
    ],
)
def test_a_video_of_three_frames_fills_a_clip_of_five(options: dict, expected: list[int]):
    assert indices(3, num_frames=5, **options) == expected


# ---- by time ----------------------------------------------------------------------------------


def test_fps_takes_what_is_on_the_screen_with_a_variable_rate():
    pts = [0.0, 0.1, 0.2, 1.0, 1.1, 3.0]
    # On the screen at 0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0 s, from the list of times by hand.
    assert at_rate(pts, 3.5, num_frames=7, fps=2.0) == [0, 2, 3, 4, 4, 4, 5]


def test_fps_counts_from_the_first_frame_wherever_the_clock_starts():
    pts = [7.0 + k / 4 for k in range(9)]
    assert at_rate(pts, 9.25, num_frames=3, fps=1.0) == [0, 4, 8]
    assert at_rate(pts, 9.25, num_frames=2, fps=1.0, start_frame=3) == [3, 7]


def test_fps_of_the_video_itself_takes_every_frame_in_spite_of_rounded_stamps():
    pts = [round(k / 30, 3) for k in range(60)]  # as Matroska stores 30 frames a second
    assert at_rate(pts, 2.0, num_frames=60, fps=30.0) == list(range(60))
    assert at_rate(pts, 2.0, num_frames=20, fps=10.0) == list(range(0, 60, 3))


def test_fps_above_the_video_repeats_frames():
    assert at_rate([0.0, 0.5], 1.0, num_frames=4, fps=4.0) == [0, 0, 1, 1]


def test_fps_past_the_end():
    pts = [0.0, 0.5, 1.0]
    assert at_rate(pts, 1.5, num_frames=5, fps=2.0) == [0, 1, 2, 2, 2]
    assert at_rate(pts, 1.5, num_frames=5, fps=2.0, short_video="loop") == [0, 1, 2, 0, 1]
    assert at_rate(pts, 1.5, num_frames=4, fps=2.0, short_video="loop", start_frame=1) == [
        1,
        2,
        1,
        2,
    ]
    with pytest.raises(VideoTooShortError, match=r"needs at least 2\.000 s, .* has 1\.500 s"):
        at_rate(pts, 1.5, num_frames=5, fps=2.0, short_video="error")


# ---- refusals ---------------------------------------------------------------------------------


def test_too_short_says_what_is_needed_and_what_to_do():
    with pytest.raises(VideoTooShortError, match="at least 5, the video has 3 frames") as caught:
        indices(3, num_frames=5, short_video="error")
    assert "short_video to 'repeat_last' or 'loop'" in str(caught.value)
    with pytest.raises(VideoTooShortError, match=r"starts at frame 3, but the video has 3 frames"):
        indices(3, num_frames=1, start_frame=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "unifrom"}, "Did you mean 'uniform'"),
        ({"short_video": "repeat"}, "Did you mean 'repeat_last'"),
        ({"num_frames": 0}, "num_frames must be 1 or more, got 0"),
        ({"start_frame": -1}, "start_frame must be 0 or more, got -1"),
        ({"strategy": "fps"}, "'fps' needs fps above 0, got None"),
        ({"strategy": "fps", "fps": 1e-300}, r"fps=1e-300 is a frame every 1e\+300 s"),
        ({"strategy": "fps", "fps": 5e-324}, r"longer than any video: allowed are 1e-06"),
        ({"strategy": "stride", "stride": 0}, "stride must be 1 or more, got 0"),
        ({"stride": 2}, "stride=2 has no effect with strategy 'uniform'"),
        ({"strategy": "stride", "stride": 2, "fps": 4.0}, "fps=4.0 has no effect"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        ClipSampling(**options)


def test_fps_without_times_is_refused():
    sampling = ClipSampling(strategy="fps", fps=4.0)
    with pytest.raises(InputError, match="needs pts_seconds and end_seconds"):
        sample_indices(sampling, num_video_frames=3)
    with pytest.raises(InputError, match=r"shape \[3\], got \[2\]"):
        sample_indices(
            sampling, num_video_frames=3, pts_seconds=torch.zeros(2).double(), end_seconds=1.0
        )


# ---- on a file --------------------------------------------------------------------------------


def test_sample_clip_decodes_the_chosen_frames():
    times = [0, 40, 80, 500, 540, 1000, 1010, 1500, 2500, 2540]
    data = encode(codec="libx264", container="matroska", frames=times, codec_options={"g": "4"})
    with VideoReader(data) as reader:
        clip = sample_clip(reader, ClipSampling(num_frames=4))
        assert numbers(clip.data) == [0, 2, 5, 7]
        assert clip.pts_seconds.tolist() == pytest.approx([0, 0.08, 1.0, 1.5])
        even = ClipSampling(num_frames=6, strategy="fps", fps=2.0)
        assert clip_indices(reader, even) == [0, 3, 5, 7, 7, 8]
        assert numbers(sample_clip(reader, even).data) == [0, 3, 5, 7, 7, 8]


@pytest.mark.parametrize(
    ("name", "options", "allowed"),
    [
        ("num_frames", {}, lambda value: is_whole(value, least=1, most=65536)),
        ("start_frame", {}, lambda value: is_whole(value, least=0)),
        ("stride", {"strategy": "stride"}, lambda value: is_whole(value, least=1)),
        ("fps", {"strategy": "fps"}, lambda value: is_number(value, above=0)),
        ("strategy", {}, lambda value: False),
        ("short_video", {}, lambda value: False),
    ],
)
def test_options_of_a_wrong_kind(name: str, options: dict, allowed: Callable[[object], bool]):
    assert_named(
        lambda value: ClipSampling(**options, **{name: value}), allowed=allowed, error=ConfigError
    )


def test_arguments_of_a_wrong_kind():
    sampling = ClipSampling(num_frames=2, strategy="fps", fps=1.0)
    times = torch.arange(3, dtype=torch.float64)
    assert_named(lambda value: sample_indices(value, num_video_frames=3), error=ConfigError)
    assert_named(
        lambda value: sample_indices(ClipSampling(num_frames=2), num_video_frames=value),
        allowed=lambda value: is_whole(value, least=1),
    )
    assert_named(
        lambda value: sample_indices(
            sampling, num_video_frames=3, pts_seconds=value, end_seconds=3.0
        ),
        error=InputError,
    )
    assert_named(
        lambda value: sample_indices(
            sampling, num_video_frames=3, pts_seconds=times, end_seconds=value
        ),
        allowed=lambda value: is_number(value, above=-1e300),
        error=InputError,
    )
    assert_named(lambda value: sample_clip(value, sampling), error=InputError)
