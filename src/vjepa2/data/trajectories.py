"""Episodes of a robot: what its cameras saw, where it was, what it was told, and when.

    for episode in read_episodes("my_dataset"):                # data/robot_layouts.py
        pixels = episode.frames("wrist", [0, 4, 8])            # uint8 [3, C, H, W], decoded now
        states = spec.states(episode.states)                   # float32 [T, K], data/robot_spec.py

An episode holds numbers as they were recorded; what they mean says a `RobotSpec`. Frames stay in
their files until they are asked for: an episode costs the memory of its numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    EpisodeError,
    InputError,
    MissingFramesError,
    VideoError,
    check_choice,
    checked_number,
)
from vjepa2.video.reader import VideoReader

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]
RecordedActions = Literal["changes", "targets"]

# A frame is the one of a time stamp when it is shown within this share of a frame's duration.
NEAR = 0.6
# Rates that differ by more are different rates; clocks of cameras are off by far less.
SAME_RATE = 0.05


class FrameSource(Protocol):
    """The frames of one camera in one episode; they are read when asked for."""

    def __len__(self) -> int:
        """T: frames of the episode, without opening anything."""
        ...

    def read(self, indices: Sequence[int]) -> UInt8[Tensor, "n C H W"]:
        """Frames by their number in the episode, 0 .. T - 1, RGB 0..255.

        Raises:
            VideoError: the file cannot be read.
            MissingFramesError: the file has fewer frames than the episode has states.
        """
        ...

    def take(self, indices: Sequence[int]) -> "FrameSource":
        """The source that has only these frames, in this order."""
        ...


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames in a video file, by their number in it or by the time they are shown.

    Attributes:
        path: of the video.
        numbers: int64 [T], which frame of the file belongs to each moment of the episode.
        seconds: float64 [T], instead: when it is shown, on the file's own clock. Files that hold
            several episodes are cut this way.

    Raises:
        ConfigError: both or neither are given.
    """

    path: Path
    numbers: Indices | None = None
    seconds: Numbers | None = None

    def __post_init__(self) -> None:
        if (self.numbers is None) == (self.seconds is None):
            raise ConfigError("VideoFrames needs either numbers or seconds.")

    @classmethod
    def in_order(cls, path: Path, *, count: int, first: int = 0) -> "VideoFrames":
        """`count` frames one after the other, from number `first` on."""
        return cls(path, numbers=np.arange(first, first + count, dtype=np.int64))

    def __len__(self) -> int:
        held = self.numbers if self.numbers is not None else self.seconds
        assert held is not None
        return len(held)

    def read(self, indices: Sequence[int]) -> UInt8[Tensor, "n C H W"]:
        """See `FrameSource`."""
        with VideoReader(self.path, num_ffmpeg_threads=1) as reader:
            wanted = self.positions(reader)[np.asarray(indices, dtype=np.int64)]
            return reader.get_frames_at(wanted.tolist()).data

    def take(self, indices: Sequence[int]) -> "VideoFrames":
        """See `FrameSource`."""
        at = np.asarray(indices, dtype=np.int64)
        if self.numbers is not None:
            return replace(self, numbers=self.numbers[at])
        assert self.seconds is not None
        return replace(self, seconds=self.seconds[at])

    def positions(self, reader: VideoReader) -> Indices:
        """int64 [T]: numbers of the frames in the opened file.

        Raises:
            MissingFramesError: the file lacks some of them.
        """
        count = len(reader)
        if self.numbers is not None:
            if len(self.numbers) and int(self.numbers.max()) >= count:
                missing = int((self.numbers >= count).sum())
                raise MissingFramesError(
                    f"{self.path} has {count} frames; the episode needs those up to number "
                    f"{int(self.numbers.max())}: {missing} of {len(self)} frames are missing. "
                    "Leave the episode out, or cut it to the length of its video."
                )
            return self.numbers
        assert self.seconds is not None
        shown = reader.pts_seconds.numpy()
        above = np.searchsorted(shown, self.seconds).clip(1, max(count - 1, 1))
        below = above - 1
        above = above.clip(max=count - 1)
        nearer = np.abs(shown[above] - self.seconds) < np.abs(shown[below] - self.seconds)
        found = np.where(nearer, above, below)
        frame = float(np.median(np.diff(shown))) if count > 1 else 1.0
        away = np.abs(shown[found] - self.seconds)
        if (away > NEAR * frame).any():
            worst = int(away.argmax())
            raise MissingFramesError(
                f"{self.path} shows no frame at {self.seconds[worst]:.3f} s (nearest: "
                f"{shown[found[worst]]:.3f} s): {int((away > NEAR * frame).sum())} of {len(self)} "
                "frames of the episode are missing. Check the time stamps of the episode against "
                "its video."
            )
        return found.astype(np.int64)


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Frames in memory, or in a file that is mapped into it.

    Attributes:
        pixels: uint8 [T, H, W, 3], RGB.

    Raises:
        EpisodeError: another shape or element type.
    """

    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise EpisodeError(
                f"Frames of a camera must be uint8 [T, H, W, 3], RGB, got {pixels.dtype} "
                f"{list(pixels.shape)}."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: Sequence[int]) -> UInt8[Tensor, "n C H W"]:
        """See `FrameSource`."""
        chosen = np.ascontiguousarray(self.pixels[np.asarray(indices, dtype=np.int64)])
        return torch.from_numpy(chosen).permute(0, 3, 1, 2)

    def take(self, indices: Sequence[int]) -> "ArrayFrames":
        """See `FrameSource`."""
        return ArrayFrames(self.pixels[np.asarray(indices, dtype=np.int64)])


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """One recording of a robot at work.

    Attributes:
        name: unique in its set.
        cameras: by name, the frames; each has T of them.
        states: float64 [T, K_raw], as recorded.
        times_seconds: float64 [T], rising; when each state was measured.
        actions: float64 [T or T - 1, A_raw] as recorded, of which the last one of T is never seen
            to act; None where none were recorded.
        task: what was to be done, in words.
        facts: of the recording, such as its nominal rate; for reports.

    Raises:
        EpisodeError: no states, lengths that do not fit, NaN or infinite numbers, times that do
            not rise.
    """

    name: str
    cameras: Mapping[str, FrameSource]
    states: Numbers
    times_seconds: Numbers
    actions: Numbers | None = None
    task: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_states(self)
        _check_actions(self)
        for camera, source in self.cameras.items():
            if len(source) != len(self):
                raise EpisodeError(
                    f"Episode {self.name!r}: camera {camera!r} has {len(source)} frames, the "
                    f"episode has {len(self)} states. One frame belongs to each state: cut the "
                    "longer one, or look for dropped frames."
                )

    def __len__(self) -> int:
        return len(self.states)

    def camera(self, name: str | None = None) -> FrameSource:
        """A camera by name; None: the only one, or the first.

        Raises:
            ConfigError: there is none of that name.
        """
        if name is None and self.cameras:
            return next(iter(self.cameras.values()))
        if name is None:
            raise ConfigError(f"Episode {self.name!r} has no camera.")
        check_choice(f"Episode {self.name!r}: camera", name, self.cameras)
        return self.cameras[name]

    def frames(
        self, camera: str | None = None, indices: Sequence[int] | None = None
    ) -> UInt8[Tensor, "n C H W"]:
        """Frames of a camera, by default all.

        Raises:
            ConfigError: no such camera.
            InputError: a number outside 0 .. T - 1.
            EpisodeError: the video cannot be read; `MissingFramesError` where frames are missing.
        """
        source = self.camera(camera)
        wanted = range(len(self)) if indices is None else indices
        if any(not 0 <= index < len(self) for index in wanted):
            raise InputError(
                f"Episode {self.name!r} has the frames 0 to {len(self) - 1}; got {list(wanted)}."
            )
        try:
            return source.read(wanted)
        except VideoError as error:
            raise EpisodeError(f"Episode {self.name!r}: {error}") from error

    @property
    def rate_hz(self) -> float:
        """Measured states per second: of the middle one of all steps in time; nan for one state."""
        if len(self) < 2:
            return float("nan")
        return float(1.0 / np.median(np.diff(self.times_seconds)))

    def take(self, indices: Sequence[int]) -> "Episode":
        """The moments with these numbers, rising, without the recorded actions between them."""
        at = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            cameras={name: source.take(indices) for name, source in self.cameras.items()},
            states=self.states[at],
            times_seconds=self.times_seconds[at],
            actions=None,
        )


class Episodes(Sequence[Episode]):
    """A set of episodes, each read when it is asked for.

    Args:
        names: one per episode.
        load: the episode of a number; raises `EpisodeError` for one that is damaged.
        layout: how the set lies on the disk.
        facts: of the whole set, such as its nominal rate and the names of its numbers.
    """

    def __init__(
        self,
        names: Sequence[str],
        load: Callable[[int], Episode],
        *,
        layout: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.layout = layout
        self.facts = dict(facts or {})
        self._load = load

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int) -> Episode: ...
    @overload
    def __getitem__(self, key: slice) -> "Episodes": ...
    def __getitem__(self, key: int | slice) -> "Episode | Episodes":
        if isinstance(key, slice):
            numbers = range(len(self))[key]
            return Episodes(
                [self.names[number] for number in numbers],
                lambda index: self._load(numbers[index]),
                layout=self.layout,
                facts=self.facts,
            )
        return self._load(range(len(self))[key])

    def __iter__(self) -> Iterator[Episode]:
        for number in range(len(self)):
            yield self._load(number)


def resample(
    episode: Episode, fps: float, *, recorded_actions: RecordedActions | None = None
) -> Episode:
    """The moments of an episode nearest to an even clock, by its real time stamps.

    Frames and states are taken as they are, never blended: what belonged together stays so.

    Args:
        fps: moments per second, at most the rate of the recording.
        recorded_actions: "changes" are added up between two moments, of "targets" the last one
            counts; None: actions are left out.

    Returns:
        An episode whose times are the real ones of the moments taken.

    Raises:
        ConfigError: more moments than were recorded are asked for.
        EpisodeError: a gap in the recording leaves a moment without a frame near it.
    """
    checked_number("fps", fps, above=0)
    if len(episode) < 2:
        return episode
    rate = episode.rate_hz
    if fps > rate * (1 + SAME_RATE):
        raise ConfigError(
            f"Episode {episode.name!r} was recorded at {rate:.2f} Hz; fps={fps:g} asks for moments "
            f"that do not exist. Set fps to {rate:.4g} or less."
        )
    times = episode.times_seconds
    count = int(np.floor((times[-1] - times[0]) * fps + 0.5 * min(1.0, fps / rate))) + 1
    wanted = times[0] + np.arange(count) / fps
    above = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    nearer = np.abs(times[above] - wanted) < np.abs(times[above - 1] - wanted)
    taken = np.where(nearer, above, above - 1)
    away = np.abs(times[taken] - wanted)
    if (away > 0.75 / rate).any():
        worst = int(away.argmax())
        raise EpisodeError(
            f"Episode {episode.name!r} has a gap: nothing was recorded within "
            f"{away[worst]:.3f} s of {wanted[worst]:.3f} s, at a rate of {rate:.2f} Hz. Cut it "
            "there into two episodes."
        )
    taken = np.unique(taken)
    kept = episode.take(taken.tolist())
    if episode.actions is None or recorded_actions is None:
        return kept
    check_choice("recorded_actions", recorded_actions, ("changes", "targets"))
    actions = episode.actions[: len(episode) - 1]
    if recorded_actions == "targets":
        return replace(kept, actions=actions[taken[1:] - 1])
    summed = np.concatenate([np.zeros((1, actions.shape[1])), actions.cumsum(axis=0)])
    return replace(kept, actions=np.diff(summed[taken], axis=0))


def _check_states(episode: Episode) -> None:
    name, states, times = episode.name, episode.states, episode.times_seconds
    if states.ndim != 2 or states.shape[1] < 1:
        raise EpisodeError(
            f"Episode {name!r}: states must be numbers [T, K], got {list(states.shape)}."
        )
    if len(states) == 0:
        raise EpisodeError(f"Episode {name!r} is empty: it has no states. Leave it out.")
    if times.shape != (len(states),):
        raise EpisodeError(
            f"Episode {name!r}: {len(states)} states, but times {list(times.shape)}; one time "
            "belongs to each state."
        )
    _check_finite(name, "states", states)
    _check_finite(name, "times", times[:, None])
    steps = np.diff(times)
    if (steps <= 0).any():
        at = int((steps <= 0).argmax())
        raise EpisodeError(
            f"Episode {name!r}: times must rise, but number {at + 1} is {times[at + 1]:g} s after "
            f"{times[at]:g} s. Sort the rows, or remove those recorded twice."
        )


def _check_actions(episode: Episode) -> None:
    actions = episode.actions
    if actions is None:
        return
    if actions.ndim != 2 or len(actions) not in (len(episode), len(episode) - 1):
        raise EpisodeError(
            f"Episode {episode.name!r}: actions must be [T, A] or [T - 1, A] with T = "
            f"{len(episode)} states, got {list(actions.shape)}."
        )
    _check_finite(episode.name, "actions", actions)


def _check_finite(name: str, what: str, values: Numbers) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise EpisodeError(
            f"Episode {name!r}: {what} hold {int(wrong.sum())} numbers that are NaN or infinite, "
            f"the first in row {row}, column {column}. Leave the episode out, or fill the gap "
            "where you know what happened."
        )
