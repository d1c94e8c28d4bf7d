"""Which frames clips of a stretch take: the published rule by hand, real times, short stretches."""

import numpy as np
import pytest
import torch

from vjepa2.data.moments import Clock
from vjepa2.data.segments import SegmentConfig, segment_frames
from vjepa2.errors import ConfigError, UnknownOptionError, VideoTooShortError


def clock(count: int, *, fps: float = 12.0, start: float = 0.0) -> Clock:
    times = start + torch.arange(count, dtype=torch.float64) / fps
    return Clock(pts_seconds=times, end_seconds=start + count / fps, average_fps=fps)


def published(length: int, *, T: int, step: int, segments: int, ends: list[int]) -> list[list[int]]:
    """The words of the specification, frame by frame; `ends` are the drawn ones."""
    span, part = T * step, length // segments
    clips = []
    for number in range(segments):
        if part > span:
            end = ends[number]
            spread = [end - span + span * k / (T - 1) for k in range(T)]
            own = [int(min(max(at, end - span), end - 1)) + number * part for at in spread]
        else:
            most = min(span, length) - 1
            values = most // step
            spread = [most * k / (values - 1) if values > 1 else 0.0 for k in range(values)]
            spread += [float(most)] * (T - values)
            shift = (length - span) // (segments - 1) if length > span else 0
            own = [int(min(max(at, 0), max(most - 1, 0))) + number * shift for at in spread]
        clips.append(own)
    return clips


# ---- the published rule --------------------------------------------------------------------


def test_the_vector_of_the_specification() -> None:
    config = SegmentConfig(num_frames=16, frame_step=7)
    found = segment_frames(config, clock(113), moments=[0.0])
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 7, 14, 22, 29, 37, 44, 52, 59, 67, 74, 82, 89, 97, 104, 111]]


@pytest.mark.parametrize("length", [1, 2, 5, 31, 32, 33, 64, 65, 66, 100, 130, 400])
@pytest.mark.parametrize("segments", [1, 2, 3, 8])
@pytest.mark.parametrize("moment", [0.0, 0.37, 0.999999])
def test_published_rule_for_long_and_short_files(length: int, segments: int, moment: float) -> None:
    """8 frames of step 4: parts longer than 32 frames, shorter ones, files shorter than a clip."""
    config = SegmentConfig(num_frames=8, frame_step=4, num_segments=segments, moment="random")
    found = segment_frames(config, clock(length), moments=[moment] * segments)
    ends = [32 + int(moment * (length // segments - 32))] * segments
    assert found.tolist() == published(length, T=8, step=4, segments=segments, ends=ends)
    assert found.min() >= 0 and found.max() < length


def test_the_published_random_end_reaches_all_places_and_no_other() -> None:
    """end ~ U{span, ..., part - 1}: of 40 frames with a span of 32, beginnings 0 to 7."""
    config = SegmentConfig(num_frames=8, frame_step=4, moment="random")
    moments = (np.arange(400) + 0.5) / 400
    starts = [int(segment_frames(config, clock(40), moments=[m])[0, 0]) for m in moments]
    assert {start: starts.count(start) for start in range(8)} == dict.fromkeys(range(8), 50)


def test_without_moments_clips_lie_in_the_middle_of_their_segments() -> None:
    """50 frames a part, 20 a clip: 15 to the left of it and as many to its right."""
    config = SegmentConfig(num_frames=5, frame_step=4, num_segments=2)
    found = segment_frames(config, clock(100))
    assert found.tolist() == [[15, 20, 25, 30, 34], [65, 70, 75, 80, 84]]
    assert found.tolist() == segment_frames(config, clock(101)).tolist()


# ---- real times ----------------------------------------------------------------------------


def test_a_rate_is_counted_on_the_time_stamps_of_the_file() -> None:
    """Half a second at 8 frames a second, then 2 frames a second."""
    times = torch.tensor([0.0, 0.125, 0.25, 0.375, 0.5, 1.0, 1.5], dtype=torch.float64)
    uneven = Clock(pts_seconds=times, end_seconds=2.0, average_fps=3.5)
    config = SegmentConfig(num_frames=8, fps=4)
    # What is on the screen at 0, 0.25, ..., 1.75 s.
    first = segment_frames(config, uneven, moments=[0.0])
    assert first.tolist() == [[0, 2, 4, 4, 5, 5, 6, 6]]
    # A quarter of a second is left: 0.125, 0.375, ..., 1.875 s.
    assert segment_frames(config, uneven).tolist() == [[1, 3, 4, 4, 5, 5, 6, 6]]


def test_clips_with_a_rate_lie_in_the_middle_of_their_part_of_the_time() -> None:
    """12 frames a second, 96 of them: parts of 4 s; 4 frames at 2 a second reach over 1.5 s."""
    config = SegmentConfig(num_frames=4, fps=2, num_segments=2)
    # 1.25 s are left on either side of it.
    assert segment_frames(config, clock(96)).tolist() == [[15, 21, 27, 33], [63, 69, 75, 81]]
    last = segment_frames(config, clock(96), moments=[0.999999, 0.999999])
    assert last.tolist() == [[29, 35, 41, 47], [77, 83, 89, 95]]


def test_clips_with_a_rate_overlap_where_parts_are_short() -> None:
    """24 frames of 2 s; 4 frames at 2 a second reach over 1.5 s, so that half a second is left."""
    config = SegmentConfig(num_frames=4, fps=2, num_segments=3)
    assert segment_frames(config, clock(24))[:, 0].tolist() == [0, 2, 5]
    assert segment_frames(config, clock(24)).max() <= 23


# ---- stretches -----------------------------------------------------------------------------


@pytest.mark.parametrize("start_of_file", [0.0, 1.4])
@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ({"frame_step": 1}, [25, 26, 27, 28]),
        ({"fps": 12.0}, [25, 26, 27, 28]),
        ({}, [24, 25, 27, 28]),
    ],
)
def test_clips_stay_inside_their_stretch(
    rate: dict[str, float], expected: list[int], start_of_file: float
) -> None:
    """Seconds 2 to 2.5 of 12 frames a second are the frames 24 to 29."""
    config = SegmentConfig(num_frames=4, **rate)  # type: ignore[arg-type]
    file = clock(100, start=start_of_file)
    start, end = start_of_file + 2, start_of_file + 2.5
    found = segment_frames(config, file, start_seconds=start, end_seconds=end)
    assert found.tolist() == [expected]
    long = SegmentConfig(num_frames=40, num_segments=3, **rate)  # type: ignore[arg-type]
    found = segment_frames(long, file, start_seconds=start, end_seconds=end)
    assert found.min() >= 24 and found.max() <= 29


def test_a_stretch_between_two_frames_shows_the_frame_on_the_screen() -> None:
    config = SegmentConfig(num_frames=3, fps=12)
    found = segment_frames(config, clock(20), start_seconds=0.51, end_seconds=0.55)
    assert found.tolist() == [[6, 6, 6]]


def test_without_a_rate_clips_cover_their_parts() -> None:
    config = SegmentConfig(num_frames=4, num_segments=2)
    assert segment_frames(config, clock(16)).tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]
    # Parts of 3 frames are shorter than a clip, so clips overlap.
    assert segment_frames(config, clock(7)).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert segment_frames(config, clock(2)).tolist() == [[0, 1, 1, 1], [0, 1, 1, 1]]


# ---- short stretches -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "looped"),
    [
        ({"frame_step": 2}, [0, 2, 4, 1, 3, 0]),
        ({"fps": 6.0}, [0, 2, 4, 1, 3, 0]),
        ({}, [0, 1, 2, 3, 4, 0]),
    ],
)
def test_files_shorter_than_a_clip(rate: dict[str, float], looped: list[int]) -> None:
    short = clock(5)
    last = SegmentConfig(num_frames=6, **rate)  # type: ignore[arg-type]
    assert segment_frames(last, short)[0, -1] >= 3
    assert (np.diff(segment_frames(last, short)) >= 0).all()
    loop = SegmentConfig(num_frames=6, short_video="loop", **rate)  # type: ignore[arg-type]
    assert segment_frames(loop, short).tolist() == [looped]
    skip = SegmentConfig(num_frames=6, short_video="skip", **rate)  # type: ignore[arg-type]
    with pytest.raises(VideoTooShortError, match="A clip of 6 frames"):
        segment_frames(skip, short)
    assert segment_frames(skip, clock(50)).max() < 50


# ---- settings ------------------------------------------------------------------------------


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="fps=4 and frame_step=2 both say"):
        SegmentConfig(fps=4, frame_step=2)
    with pytest.raises(ConfigError, match="moment='random' has no effect"):
        SegmentConfig(moment="random")
    with pytest.raises(UnknownOptionError, match="num_segments"):
        SegmentConfig(num_segment=2)  # type: ignore[call-arg]
