"""Which frames are seen before an event: contexts that end before it begins, and the original's.

    anchor "start"                                        anchor "published" (anticipation point 0)
    ----[context]<-- seconds -->[event]----               ----[event  [context]<-- seconds -->]----

"start" is what anticipation means, and what the paper describes: every frame that is seen was over
at least `seconds` before the event's *start*, on the file's own time stamps. The original code
counts back from the event's *stop* instead (arXiv:2506.09985 says start; issue 173 of the original
repository), so that long events are seen while they happen. It is here, by name, to reproduce
published numbers with published probes, and for nothing else.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vjepa2.data.draws import Draws
from vjepa2.data.labelled import LabelledItem, segment_seconds
from vjepa2.data.moments import Clock
from vjepa2.errors import ConfigError, LabelError, LeakError, VideoTooShortError, checked_number
from vjepa2.strict_config import StrictConfig
from vjepa2.video.sampling import MAX_CLIP_FRAMES, MIN_FPS, STAMP_TOLERANCE_SECONDS

# Sums of floats; far below the time between two frames of any video.
_EPSILON = 1e-7
MOST_SECONDS = 1e5


class EventClipConfig(StrictConfig):
    """How the context of an event is chosen. The defaults are the published numbers.

    Attributes:
        num_frames: T of a context.
        fps: its frames per second.
        seconds: anticipation time in evaluation: from the end of the context to the event.
        train_seconds: least and greatest anticipation time in training, drawn evenly; None: always
            `seconds`.
        anchor: "start", or the original's "published" (see above), which is no anticipation of
            events that last longer than `seconds`.
        train_point: of "published" in training: least and greatest anticipation point, drawn
            evenly; a share p of the way from the event's stop back to its start.
        early: of a context that would begin before the file does: "repeat_first" shows the first
            frame until then, as published; "skip" leaves such events out.
    """

    num_frames: int = Field(32, ge=1, le=MAX_CLIP_FRAMES)
    fps: float = Field(8.0, ge=MIN_FPS)
    seconds: float = Field(1.0, ge=0, le=MOST_SECONDS)
    train_seconds: tuple[float, float] | None = (0.25, 1.75)
    anchor: Literal["start", "published"] = "start"
    train_point: tuple[float, float] = (0.0, 0.25)
    early: Literal["repeat_first", "skip"] = "repeat_first"

    @model_validator(mode="after")
    def _has_ranges(self) -> Self:
        for name, span, most in (
            ("train_seconds", self.train_seconds, MOST_SECONDS),
            ("train_point", self.train_point, 1.0),
        ):
            if span is not None and not 0 <= span[0] <= span[1] <= most:
                raise ConfigError(f"{name} must be two rising numbers from 0 to {most:g}")
        return self

    def drawn(self, draws: Draws) -> tuple[float, float]:
        """Anticipation time and anticipation point of a training sample."""
        low, high = self.train_seconds or (self.seconds, self.seconds)
        return draws.uniform(low, high), draws.uniform(*self.train_point)


@dataclass(frozen=True, kw_only=True)
class EventClip:
    """The frames seen before one event.

    Attributes:
        frame_ids: T numbers of frames in the file, rising.
        seconds: anticipation time that was asked for.
        context_end_seconds: when the last of these frames is over, on the file's own clock.
        event_start_seconds, event_end_seconds: when the event begins and is over; of an event
            without an end, that of the file.
    """

    frame_ids: tuple[int, ...]
    seconds: float
    context_end_seconds: float
    event_start_seconds: float
    event_end_seconds: float

    @property
    def seconds_to_event(self) -> float:
        """From the end of what is seen to the event's start; negative: the event was seen."""
        return self.event_start_seconds - self.context_end_seconds


def event_clip(
    item: LabelledItem,
    clock: Clock,
    config: EventClipConfig,
    *,
    seconds: float | None = None,
    point: float = 0.0,
) -> EventClip:
    """Choose the frames before an event.

    Frame k of T is the one on the screen at `end - (T - k) / fps`, where `end` is `seconds` before
    the event's start; frames that are not over by `end` are never taken, whatever the rate of the
    file. With anchor "published" it is the original's arithmetic on frame numbers, see
    `published_event_frames`.

    Args:
        item: an event: a stretch of a file, in seconds or frames.
        clock: of its file.
        config: see `EventClipConfig`.
        seconds: anticipation time; None takes `config.seconds`.
        point: anticipation point, only of "published".

    Raises:
        LabelError: the item is no stretch, or lies outside its file.
        VideoTooShortError: no frame of the file is over by then, or the context is not whole and
            `config.early` is "skip".
        ConfigError: `seconds` is no number from 0 on, or `point` not within 0 and 1.
    """
    seconds = config.seconds if seconds is None else checked_number("seconds", seconds)
    if not (0 <= seconds <= MOST_SECONDS and 0 <= point <= 1):
        raise ConfigError(
            f"seconds must be 0 to {MOST_SECONDS:g} and point 0 to 1, got {seconds:g} and {point:g}"
        )
    if item.start_seconds is None and item.start_frame is None:
        raise LabelError(
            f"{item.path} is labelled as a whole; an event to anticipate needs a start, in a "
            "column start_seconds or start_frame of the list."
        )
    start, stop = segment_seconds(item, clock)
    if config.anchor == "published":
        frame_ids = _published(item, clock, config, start, stop, seconds=seconds, point=point)
    else:
        frame_ids = context_frames(clock, start - seconds, config, name=item.path)
    clip = EventClip(
        frame_ids=tuple(frame_ids),
        seconds=seconds,
        context_end_seconds=float(frame_ends(clock)[max(frame_ids)]),
        event_start_seconds=start,
        event_end_seconds=stop,
    )
    if config.anchor == "start":
        check_before_event(clip, name=item.path)
    return clip


def marked_end(item: LabelledItem, clip: EventClip) -> float | None:
    """When an event is over; None where its list does not say so: it need not fill its file."""
    has_end = item.end_seconds is not None or item.end_frame is not None
    return clip.event_end_seconds if has_end else None


def context_frames(
    clock: Clock, end: float, config: EventClipConfig, *, name: str = "the file"
) -> list[int]:
    """Numbers of the T frames of a context that ends at a time: all of them are over by then.

    Args:
        clock: of the file.
        end: seconds on the file's clock.
        config: number of frames, their rate, and what happens before the beginning of the file.
        name: of the file, for messages.

    Raises:
        VideoTooShortError: as in `event_clip`.
    """
    times = clock.pts_seconds.numpy()
    last = int(np.searchsorted(frame_ends(clock), end + _EPSILON, side="right")) - 1
    if last < 0:
        raise VideoTooShortError(
            f"No frame of {name} is over by {end:g} s (it begins at {float(times[0]):g} s): there "
            "is nothing to anticipate from. Leave such events out, or ask for a shorter time."
        )
    due = end - np.arange(config.num_frames, 0, -1) / config.fps
    if config.early == "skip" and due[0] < float(times[0]) - STAMP_TOLERANCE_SECONDS:
        raise VideoTooShortError(
            f"A context of {config.num_frames} frames at {config.fps:g} per second that ends at "
            f"{end:g} s would begin at {due[0]:g} s; {name} begins at {float(times[0]):g} s. Set "
            "early='repeat_first', or ask for fewer frames."
        )
    shown = np.searchsorted(times, due + STAMP_TOLERANCE_SECONDS, side="right") - 1
    found: list[int] = shown.clip(0, last).tolist()
    return found


def frame_ends(clock: Clock) -> np.ndarray:
    """float64 [n], when each frame of a file is over: when the next one appears."""
    times = clock.pts_seconds.numpy()
    return np.append(times[1:], max(clock.end_seconds, float(times[-1])))


def check_before_event(clip: EventClip, *, name: str = "an event") -> None:
    """Refuse a context that reaches closer to its event than was asked for.

    Raises:
        LeakError: it does; the message says by how much.
    """
    if clip.seconds_to_event < clip.seconds - 2 * _EPSILON:
        raise LeakError(
            f"{name}: the context ends at {clip.context_end_seconds:g} s, the event begins at "
            f"{clip.event_start_seconds:g} s: {clip.seconds_to_event:g} s before it, not "
            f"{clip.seconds:g} s. What is seen holds part of what is to be anticipated. "
            "anchor='start' ends contexts in time."
        )


def published_event_frames(
    start_frame: float,
    stop_frame: float,
    *,
    video_fps: float,
    seconds: float,
    point: float = 0.0,
    num_frames: int = 32,
    fps: float = 8.0,
) -> list[int]:
    """Numbers of frames as the original anticipation code chooses them.

    step = int(video_fps / fps); end = int(start * p + stop * (1 - p) - seconds * video_fps); every
    step-th frame from end - T * step on, `end` itself not included; numbers below 0 become 0.

    Args:
        start_frame, stop_frame: of the event, as in its list.
        video_fps: average rate of the file.
        seconds: anticipation time.
        point: p; 0 (used for validation) counts back from the event's stop.
        num_frames, fps: of the clip.

    Source: V-JEPA 2, `evals/action_anticipation_frozen/epickitchens.py`.

    Raises:
        VideoTooShortError: the file has fewer frames a second than the clip.
    """
    step = int(video_fps / fps)
    if step < 1:
        raise VideoTooShortError(
            f"The file has {video_fps:g} frames a second, fewer than fps={fps:g}, so that the "
            "published rule has no step. Ask for a lower fps, or set anchor='start'."
        )
    end = int(start_frame * point + stop_frame * (1 - point) - seconds * video_fps)
    first = end - num_frames * step
    return [max(0, first + k * step) for k in range(num_frames)]


def _published(
    item: LabelledItem,
    clock: Clock,
    config: EventClipConfig,
    start: float,
    stop: float,
    *,
    seconds: float,
    point: float,
) -> list[int]:
    """`published_event_frames` of an item; times become frames by the average rate."""
    if item.start_frame is not None and item.end_frame is not None:
        first, last = float(item.start_frame), float(item.end_frame)
    else:
        begin = float(clock.pts_seconds[0])
        first, last = ((time - begin) * clock.average_fps for time in (start, stop))
    frame_ids = published_event_frames(
        round(first),
        round(last),
        video_fps=clock.average_fps,
        seconds=seconds,
        point=point,
        num_frames=config.num_frames,
        fps=config.fps,
    )
    return [min(frame, len(clock) - 1) for frame in frame_ids]
