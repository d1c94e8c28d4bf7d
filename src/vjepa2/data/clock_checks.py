"""Checks of clocks and videos: rates, gaps, uneven steps, frames that a file lacks."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vjepa2.data.episode_checks import Finding
from vjepa2.data.trajectories import SAME_RATE, Episode, VideoFrames, resample
from vjepa2.errors import EpisodeError
from vjepa2.video.reader import VideoReader

GAP = 1.6  # of a usual step in time
SLOWEST_STEP = 20.0  # seconds between two states
UNEVEN = 1.4  # longest step over shortest; 15 Hz taken 4 times a second has 4/3


def check_times(episode: Episode, *, nominal_hz: float | None) -> list[Finding]:
    """Gaps, unit and rate of one episode's clock."""
    if len(episode) < 3:
        return []
    steps = np.diff(episode.times_seconds)
    usual = float(np.median(steps))
    if usual > SLOWEST_STEP:
        return [
            Finding(
                "rate",
                True,
                f"States are {usual:g} s apart; no robot is recorded so seldom.",
                "Times are seconds: divide those in milliseconds by 1000.",
                episode.name,
            )
        ]
    found = []
    gaps = np.flatnonzero(steps > GAP * usual)
    if len(gaps):
        lost = int(np.rint(steps[gaps] / usual - 1).sum())
        first = float(episode.times_seconds[gaps[0]])
        found.append(
            Finding(
                "missing frames",
                True,
                f"{lost} moments are missing in {len(gaps)} gaps, the first after {first:.3f} s "
                f"(steps are {1000 * usual:.0f} ms, there {1000 * steps[gaps[0]]:.0f} ms).",
                "Cut the episode at its gaps: an action across one is several actions.",
                episode.name,
            )
        )
    rate = episode.rate_hz
    if nominal_hz is not None and abs(rate / nominal_hz - 1) > SAME_RATE:
        found.append(
            Finding(
                "rate",
                True,
                f"The data set declares {nominal_hz:g} Hz; time stamps are {rate:.2f} Hz.",
                f"Trust the time stamps: resample by them, and correct the rate to {rate:.3g}.",
                episode.name,
            )
        )
    return found


def check_even(episode: Episode, fps: float) -> list[Finding]:
    """Steps of very different length, when an episode is brought to another rate.

    Args:
        fps: moments per second that are to be trained on.
    """
    rate = episode.rate_hz
    if len(episode) < 3 or fps > rate * (1 + SAME_RATE):
        return []
    try:
        steps = np.diff(resample(episode, fps).times_seconds)
    except EpisodeError:
        return []  # a gap, which `check_times` tells
    if len(steps) < 2 or steps.max() <= UNEVEN * steps.min():
        return []
    whole = [f"{rate / parts:.3g}" for parts in (1, 2, 3, 4)]
    return [
        Finding(
            "rate",
            False,
            f"Taken {fps:g} times a second, steps of the recording ({rate:.3g} Hz) last "
            f"{steps.min():.3g} to {steps.max():.3g} s; an action means as much as its step is "
            "long.",
            f"Train on a rate that the recording has: data.fps={', '.join(whole)}.",
            episode.name,
        )
    ]


def check_video(
    episode: Episode, camera: str, *, opened: Callable[[Path], VideoReader], fps: float | None
) -> list[Finding]:
    """Frames and rate of a video against the log of its episode; nothing is decoded.

    Args:
        opened: gives the reader of a file; it stays open.
        fps: moments per second that are to be trained on, for the consequences in words.

    Raises:
        VideoError: the video cannot be read.
        MissingFramesError: it lacks frames.
    """
    source = episode.cameras[camera]
    if not isinstance(source, VideoFrames):
        return []
    reader = opened(source.path)
    source.positions(reader)
    declared, count = reader.metadata.average_fps, len(reader)
    rate = episode.rate_hz
    if not episode.facts.get("frames_are_logged_rows") or not math.isfinite(rate):
        return []
    who = f"Camera {camera!r}"
    if count > len(episode) * (1 + SAME_RATE) + 1:
        return [
            Finding(
                "rate",
                True,
                f"{who}: {count} frames for {len(episode)} rows of the log; row i is read as frame "
                f"i, so that frames fall behind by a factor of {count / len(episode):.2f}.",
                "Give the number of each row's frame (column 'frame' of a table), or cut the video "
                f"to {rate:.3g} frames per second.",
                episode.name,
            )
        ]
    if abs(declared / rate - 1) <= SAME_RATE:
        return []
    goal = 4.0 if fps is None else fps
    step = math.ceil(declared / goal)
    return [
        Finding(
            "rate",
            False,
            f"{who}: the video declares {declared:.4g} frames a second, its {count} frames were "
            f"logged at {rate:.4g} Hz. Taken at its word, {goal:g} moments a second are every "
            f"{step}th frame: {step / rate:.2f} s of the log, not {1 / goal:.2f} s.",
            f"Use the log's clock: every {max(1, round(rate / goal))}th row for {goal:g} moments a "
            "second (resample() does). Only to repeat the published training take the video's, "
            "with published_indices().",
            episode.name,
        )
    ]
