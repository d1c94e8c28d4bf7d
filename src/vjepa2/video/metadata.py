"""Where the frames of a clip come from, and which frames to take.

Source: names, defaults and the rule of even spacing are those of transformers 5.23 `VideoMetadata`
and its default sampling.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from vjepa2.errors import (
    ConfigError,
    InputError,
    VideoTooShortError,
    check_option_names,
    checked_integer,
    checked_number,
)


@dataclass(kw_only=True)
class VideoMetadata(Mapping[str, Any]):
    """Where the frames of one clip come from; fields by attribute or by key.

    Attributes:
        total_num_frames: number of frames of the video before sampling.
        fps: frames per second of the video, if known.
        width, height: of the frames, in pixels.
        duration: of the video in seconds, if known.
        video_backend: what decoded it; None for arrays.
        frames_indices: positions of the clip's frames in the video.
        pts_seconds: when each frame of the clip is shown, if known.
    """

    total_num_frames: int
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    video_backend: str | None = None
    frames_indices: list[int] | None = None
    pts_seconds: list[float] | None = None

    @property
    def timestamps(self) -> list[float]:
        """Seconds of the clip's frames: measured ones if there are, else positions / fps.

        Raises:
            InputError: neither is known.
        """
        if self.pts_seconds is not None:
            return self.pts_seconds
        if self.fps is None or self.frames_indices is None:
            raise InputError(
                "The times of these frames are not known: the video came without pts_seconds and "
                "without fps. Pass video_metadata={'total_num_frames': ..., 'fps': ...}."
            )
        return [index / self.fps for index in self.frames_indices]

    def __getitem__(self, key: str) -> Any:
        if key not in self._names():
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls)]


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """Which frames of a video to take; with neither number, all.

    Attributes:
        num_frames: take this many, spread evenly from the first frame on.
        fps: take this many per second of video.
    """

    num_frames: int | None = None
    fps: float | None = None

    def indices(self, metadata: VideoMetadata) -> list[int]:
        """Positions of the chosen frames: frame i is `i * total // n`, as in the port.

        Raises:
            InputError: `fps` was asked for and the video's own is not known.
            VideoTooShortError: the video has fewer frames.
        """
        total, wanted = metadata.total_num_frames, self.num_frames
        if wanted is None and self.fps is not None:
            if not metadata.fps:
                raise InputError(
                    f"fps={self.fps:g} was asked for, but the video's own frame rate is not known. "
                    "Pass video_metadata={'total_num_frames': ..., 'fps': ...}, or num_frames."
                )
            wanted = max(1, int(total / metadata.fps * self.fps))
        if wanted is None:
            return list(range(total))
        if wanted > total:
            raise VideoTooShortError(
                f"{wanted} frames were asked for, the video has {total}. "
                "Ask for fewer frames or give a longer video."
            )
        return [position * total // wanted for position in range(wanted)]


def as_metadata(given: object, *, num_videos: int) -> list[VideoMetadata | None]:
    """Read the `video_metadata` argument: one mapping, or one for each video.

    Raises:
        ConfigError: a mapping holds an unknown key, lacks `total_num_frames`, or gives no number.
        InputError: the number of mappings is not that of the videos.
    """
    if given is None:
        return [None] * num_videos
    items = _flat(given)
    if len(items) != num_videos:
        raise InputError(
            f"Got {num_videos} videos but {len(items)} video_metadata entries; pass one a video."
        )
    return [_metadata(item) for item in items]


def _metadata(item: object) -> VideoMetadata:
    names = VideoMetadata._names()
    if not isinstance(item, Mapping):
        raise ConfigError(
            f"video_metadata must be a mapping with the keys {', '.join(names)}, "
            f"got {type(item).__name__}."
        )
    check_option_names("video_metadata", item, names)
    if item.get("total_num_frames") is None:
        raise ConfigError("video_metadata needs total_num_frames, the frames of the whole video.")
    checked_integer("video_metadata['total_num_frames']", item["total_num_frames"], least=1)
    if item.get("fps") is not None:
        checked_number("video_metadata['fps']", item["fps"], above=0)
    return VideoMetadata(**dict(item))


def _flat(value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return [item for part in value for item in _flat(part)]
    return [value]
