"""Which frames a clip takes: the published vector, real times, short files."""

import numpy as np
import pytest
import torch

from vjepa2.data.moments import Clock, clip_frames, published_frames
from vjepa2.data.settings import SourceConfig
from vjepa2.errors import VideoTooShortError


def clock(count: int, *, fps: float = 12.0, start: float = 0.0) -> Clock:
    times = start + torch.arange(count, dtype=torch.float64) / fps
    return Clock(pts_seconds=times, end_seconds=start + count / fps, average_fps=fps)


def source(**options: object) -> SourceConfig:
    return SourceConfig(path="clips", **options)


def frames(config: SourceConfig, at: Clock, moment: float, **options: object) -> list[int]:
    settings: dict[str, object] = {"num_frames": 4, "short_video": "repeat_last", **options}
    return clip_frames(config, at, moment=moment, **settings)  # type: ignore[arg-type]


# ---- the published rule --------------------------------------------------------------------


def test_published_rule_gives_the_published_numbers() -> None:
    """16 frames, 30 to 4 frames a second: step 7, the ends included."""
    found = published_frames(113, average_fps=29.97, fps=4, num_frames=16, moment=0.0)
    assert found == [0, 7, 14, 22, 29, 37, 44, 52, 59, 67, 74, 82, 89, 97, 104, 111]


def published_by_hand(length: int, step: int, count: int, end: int) -> list[int]:
    """The words of the specification, frame by frame."""
    span = count * step
    if length > span:
        spread = [end - span + span * k / (count - 1) for k in range(count)]
        return [int(min(max(value, end - span), end - 1)) for value in spread]
    own = length // step
    spread = [length * k / (own - 1) if own > 1 else 0.0 for k in range(own)]
    spread += [float(length)] * (count - own)
    return [int(min(max(value, 0), length - 1)) for value in spread]


@pytest.mark.parametrize("length", [1, 3, 20, 31, 32, 33, 40, 200])
@pytest.mark.parametrize("moment", [0.0, 0.4, 0.999999])
def test_published_rule_for_long_and_short_files(length: int, moment: float) -> None:
    found = published_frames(length, average_fps=8.0, fps=2, num_frames=8, moment=moment)
    end = 32 + int(moment * (length - 32))  # any of 32 .. length-1
    assert found == published_by_hand(length, 4, 8, end)
    assert len(found) == 8 and min(found) >= 0 and max(found) < length


def test_published_rule_refuses_a_rate_above_that_of_the_file() -> None:
    """The original divides to a step of 0 and dies on an assertion."""
    with pytest.raises(VideoTooShortError, match="3 frames a second, fewer than fps=4"):
        published_frames(50, average_fps=3.0, fps=4, num_frames=4, moment=0.0)
    config = source(fps=2, rule="published")
    assert frames(config, clock(8, fps=2.0), 0.0) == [0, 1, 2, 3]
    with pytest.raises(VideoTooShortError, match="repeat_last"):
        frames(config, clock(4, fps=2.0), 0.0, short_video="skip")


# ---- the rule of time ----------------------------------------------------------------------


def test_fps_takes_frames_by_time_from_every_possible_beginning() -> None:
    """12 frames a second, 4 wanted: every third; 4 of them need 10 of the 20 frames."""
    starts = [frames(source(fps=4), clock(20), moment)[0] for moment in np.linspace(0, 0.9999, 500)]
    assert set(starts) == set(range(11))
    assert abs(np.bincount(starts) - 500 / 11).max() < 2
    assert frames(source(fps=4), clock(20), 0.0) == [0, 3, 6, 9]
    assert frames(source(fps=4), clock(20), 0.9999) == [10, 13, 16, 19]


def test_fps_follows_stored_times_of_a_variable_rate() -> None:
    times = torch.tensor([0.0, 1.0, 1.1, 1.2, 1.3, 2.0, 3.0, 4.0], dtype=torch.float64) + 50.0
    at = Clock(pts_seconds=times, end_seconds=55.0, average_fps=1.6)
    assert frames(source(fps=1), at, 0.0) == [0, 1, 5, 6]
    # Beginnings up to 1.999 s are possible; the frame of 0 to 1 s has half of the chances.
    starts = [frames(source(fps=1), at, moment)[0] for moment in np.linspace(0, 0.9999, 1000)]
    assert set(starts) == {0, 1, 2, 3, 4}
    assert abs(starts.count(0) - 500) < 10
    assert abs(starts.count(4) - 350) < 10


def test_a_rate_above_that_of_the_file_repeats_frames() -> None:
    assert frames(source(fps=24), clock(20), 0.0) == [0, 0, 1, 1]


def test_frame_step_counts_frames() -> None:
    starts = {frames(source(frame_step=2), clock(10), moment)[0] for moment in (0, 0.3, 0.9999)}
    assert starts == {0, 1, 3}
    assert frames(source(frame_step=2), clock(10), 0.9999) == [3, 5, 7, 9]


def test_duration_spreads_the_clip_over_seconds() -> None:
    """4 frames in 2 s are 2 a second, every sixth of 12."""
    assert frames(source(duration_seconds=2.0), clock(40), 0.0) == [0, 6, 12, 18]


@pytest.mark.parametrize("rate", [{"fps": 4}, {"frame_step": 3}])
def test_short_files(rate: dict[str, int]) -> None:
    """7 frames where 10 are needed: from the beginning, and then as asked."""
    for moment in (0.0, 0.7):
        assert frames(source(**rate), clock(7), moment) == [0, 3, 6, 6]
        assert frames(source(**rate), clock(7), moment, short_video="loop") == [0, 3, 6, 2]
        with pytest.raises(VideoTooShortError):
            frames(source(**rate), clock(7), moment, short_video="skip")
