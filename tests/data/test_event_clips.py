"""Contexts end before their event, on real time stamps; the original's anchor by its numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.event_clips import (
    EventClip,
    EventClipConfig,
    check_before_event,
    context_frames,
    event_clip,
    published_event_frames,
)
from vjepa2.data.labelled import LabelledItem
from vjepa2.data.moments import Clock
from vjepa2.errors import ConfigError, LabelError, LeakError, VideoTooShortError
from vjepa2.video.reader import VideoReader
from vjepa2.video.writer import H264, write_video


def clock_of(times: list[float], end: float) -> Clock:
    count = len(times)
    return Clock(
        pts_seconds=torch.tensor(times, dtype=torch.float64),
        end_seconds=end,
        average_fps=count / (end - times[0]),
    )


def steady(seconds: float, fps: float, begin: float = 0.0) -> Clock:
    return clock_of(
        [begin + k / fps for k in range(round(seconds * fps))], begin + round(seconds * fps) / fps
    )


def event(start: float, end: float, **more: Any) -> LabelledItem:
    return LabelledItem("clip.mp4", (0,), start_seconds=start, end_seconds=end, **more)


def config(**values: Any) -> EventClipConfig:
    return EventClipConfig(**{"num_frames": 4, "fps": 2.0, "seconds": 1.0, **values})


# -- before the event ---------------------------------------------------------------------------


def test_frames_are_those_that_are_over_a_second_before_the_start() -> None:
    # 10 frames a second; the event begins at 5 s, the context ends at 4 s: half a second from one
    # frame to the next, the last begins at 3.5 s, when frame 35 appears.
    clip = event_clip(event(5.0, 8.0), steady(10, 10), config())
    assert clip.frame_ids == (20, 25, 30, 35)
    assert clip.context_end_seconds == pytest.approx(3.6)
    assert clip.seconds_to_event == pytest.approx(1.4)


def test_a_context_at_the_rate_of_the_file_ends_just_in_time() -> None:
    clip = event_clip(event(5.0, 8.0), steady(10, 4), config(fps=4.0))
    assert clip.frame_ids == (12, 13, 14, 15)  # 3.0 to 4.0 s
    assert clip.seconds_to_event == pytest.approx(1.0)


def test_a_frame_that_is_still_on_the_screen_at_the_end_is_not_taken() -> None:
    # Frames of 2 s: at 4 s the third one (from 4 s) has just begun, the second is just over.
    assert event_clip(event(5.0, 8.0), steady(10, 0.5), config()).frame_ids == (1, 1, 1, 1)
    late = event_clip(event(4.9, 8.0), steady(10, 0.5), config())
    assert late.frame_ids == (0, 0, 0, 0)  # until 3.9 s only the first one is over


def test_length_of_the_event_makes_no_difference() -> None:
    clock = steady(20, 10)
    clips = {event_clip(event(5.0, end), clock, config()).frame_ids for end in (5.1, 8.0, 20.0)}
    assert len(clips) == 1


def test_clock_of_a_file_need_not_begin_at_0() -> None:
    clip = event_clip(event(15.0, 18.0), steady(10, 10, begin=10.0), config())
    assert clip.frame_ids == (20, 25, 30, 35)


def test_events_in_frames_are_placed_by_the_time_stamps() -> None:
    times = [0.0, 1.0, 1.1, 1.2, 3.0, 4.0, 5.0]
    item = LabelledItem("clip.mp4", (0,), start_frame=5, end_frame=6)
    clip = event_clip(item, clock_of(times, 6.0), config(seconds=0.5, fps=1.0))
    # The event begins at 4 s, the context ends at 3.5 s; frame 4 lasts until 4 s.
    assert clip.event_start_seconds == 4.0
    assert clip.frame_ids == (0, 0, 3, 3)  # due at -0.5, 0.5, 1.5 and 2.5 s
    assert clip.context_end_seconds == 3.0


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.floats(0.001, 0.7), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    seconds=st.floats(0, 3),
    fps=st.floats(0.3, 60),
    begin=st.floats(-5, 100),
)
def test_no_frame_reaches_into_the_last_seconds_whatever_the_time_stamps(
    steps: list[float], share: float, seconds: float, fps: float, begin: float
) -> None:
    edges = begin + np.cumsum([0.0, *steps])
    clock = clock_of(edges[:-1].tolist(), float(edges[-1]))
    start = float(edges[0] + share * (edges[-1] - edges[0]))
    item = event(max(start, 0.0), max(start, 0.0) + 1e-3)
    if not edges[0] <= item.start_seconds < edges[-1] - 1e-3:  # type: ignore[operator]
        return
    try:
        clip = event_clip(item, clock, config(seconds=seconds, fps=fps))
    except VideoTooShortError:
        assert edges[1] > item.start_seconds - seconds - 1e-6  # not even the first one is over
        return
    over = edges[1:][list(clip.frame_ids)]
    assert (over <= item.start_seconds - seconds + 1e-6).all()
    assert list(clip.frame_ids) == sorted(clip.frame_ids)


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    frames = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
    path = write_video(tmp_path / "clip.mkv", frames, codec=H264(fps=30.0))
    with VideoReader(path) as reader:
        facts = reader.metadata
        clock = Clock(
            pts_seconds=reader.pts_seconds,
            end_seconds=facts.end_stream_seconds,
            average_fps=facts.average_fps,
        )
        clip = event_clip(event(1.0, 1.2), clock, config(seconds=0.5, fps=30.0, num_frames=8))
        shown = reader.get_frames_at(clip.frame_ids)
    over = shown.pts_seconds + shown.duration_seconds
    assert float(over.max()) <= 0.5 + 2e-3  # Matroska counts milliseconds
    assert clip.frame_ids[-1] in (13, 14)


def test_too_little_before_an_event_is_filled_or_refused() -> None:
    clock = steady(10, 10)
    assert event_clip(event(2.0, 3.0), clock, config()).frame_ids == (0, 0, 0, 5)
    with pytest.raises(VideoTooShortError, match="would begin at -1 s"):
        event_clip(event(2.0, 3.0), clock, config(early="skip"))
    for early in ("repeat_first", "skip"):
        with pytest.raises(VideoTooShortError, match=r"No frame .* is over by 0.05 s"):
            event_clip(event(1.05, 3.0), clock, config(early=early))


def test_contexts_of_any_moment_are_over_by_then() -> None:
    assert context_frames(steady(10, 10), 4.0, config()) == [20, 25, 30, 35]
    assert context_frames(steady(10, 10), 0.1, config()) == [0, 0, 0, 0]


def test_a_context_that_reaches_too_far_is_told() -> None:
    clip = EventClip(
        frame_ids=(1, 2),
        seconds=1.0,
        context_end_seconds=4.5,
        event_start_seconds=5.0,
        event_end_seconds=6.0,
    )
    with pytest.raises(LeakError, match=r"0\.5 s before it, not 1 s"):
        check_before_event(clip)
    check_before_event(
        EventClip(
            frame_ids=(1,),
            seconds=1.0,
            context_end_seconds=4.0,
            event_start_seconds=5.0,
            event_end_seconds=6.0,
        )
    )


# -- the original's anchor ----------------------------------------------------------------------


def test_published_frames_count_back_from_the_stop() -> None:
    # 60 frames a second: step int(60 / 8) = 7. The event lasts from frame 600 to 900; one second
    # before its stop is frame 840, and 32 * 7 = 224 frames before that is 616.
    found = published_event_frames(600, 900, video_fps=60.0, seconds=1.0)
    assert found == list(range(616, 840, 7))
    assert len(found) == 32 and found[-1] == 833  # 233 frames into the event


def test_published_point_1_is_the_start() -> None:
    found = published_event_frames(600, 900, video_fps=60.0, seconds=1.0, point=1.0)
    assert found == list(range(316, 540, 7))
    # A quarter of the way back, as training goes at most: 825 - 60 = 765.
    quarter = published_event_frames(600, 900, video_fps=60.0, seconds=1.0, point=0.25)
    assert quarter == list(range(541, 765, 7))


def test_published_rate_is_rounded_down_and_negative_frames_are_the_first() -> None:
    # int(29.97 / 8) = 3; end = int(100 - 29.97) = 70, 70 - 96 = -26.
    found = published_event_frames(40, 100, video_fps=29.97, seconds=1.0)
    assert found == [0] * 9 + list(range(1, 70, 3))
    assert len(found) == 32


def test_published_anchor_is_chosen_by_name_and_shows_the_event() -> None:
    clip = event_clip(
        event(5.0, 9.0), steady(20, 10), config(anchor="published", num_frames=4, fps=2.0)
    )
    # step 5; end = 90 - 10 = 80.
    assert clip.frame_ids == (60, 65, 70, 75)
    assert clip.seconds_to_event == pytest.approx(5.0 - 7.6)  # the event was seen for 2.6 s


def test_published_anchor_takes_the_frames_of_the_list() -> None:
    item = LabelledItem(
        "clip.mp4", (0,), start_seconds=5.0, end_seconds=9.0, start_frame=48, end_frame=92
    )
    clip = event_clip(item, steady(20, 10), config(anchor="published"), seconds=1.0, point=0.5)
    assert clip.frame_ids == (40, 45, 50, 55)  # end = int(24 + 46 - 10) = 60


def test_a_slow_file_has_no_published_step() -> None:
    with pytest.raises(VideoTooShortError, match="no step"):
        published_event_frames(10, 20, video_fps=5.0, seconds=1.0)


# -- chance in training, wrong settings ---------------------------------------------------------


def test_times_in_training_are_spread_evenly_over_the_published_range() -> None:
    drawn = [
        EventClipConfig().drawn(Draws(0, Purpose.MOMENT, position=place)) for place in range(4000)
    ]
    seconds, points = np.array(drawn).T
    assert 0.25 <= seconds.min() < 0.26 and 1.74 < seconds.max() <= 1.75
    assert 0 <= points.min() < 0.001 and 0.249 < points.max() <= 0.25
    assert abs(seconds.mean() - 1.0) < 0.03 and abs(points.mean() - 0.125) < 0.005
    fixed = EventClipConfig(train_seconds=None, seconds=2.0)
    assert fixed.drawn(Draws(0, Purpose.MOMENT))[0] == 2.0


WRONG: list[dict[str, Any]] = [
    {"train_seconds": (2.0, 1.0)},
    {"train_seconds": (-1.0, 1.0)},
    {"train_point": (0.0, 1.5)},
    {"seconds": -1.0},
    {"anchor": "stop"},
    {"num_frames": 0},
    {"fps": 0.0},
]


@pytest.mark.parametrize("values", WRONG)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        EventClipConfig(**values)


def test_events_without_a_start_or_outside_their_file_are_refused() -> None:
    clock = steady(10, 10)
    with pytest.raises(LabelError, match="needs a start"):
        event_clip(LabelledItem("clip.mp4", (0,)), clock, config())
    with pytest.raises(LabelError, match="outside the file"):
        event_clip(event(12.0, 13.0), clock, config())
    with pytest.raises(LabelError):
        event_clip(event(5.0, 5.0), clock, config())  # no length
    with pytest.raises(ConfigError, match="seconds must be"):
        event_clip(event(5.0, 6.0), clock, config(), seconds=-1.0)
