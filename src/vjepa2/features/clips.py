"""From a video to the pixels of its clips, each with the times of its frames.

    source --reader--> chosen frames --processor--> pixels [1, T, C, h, w] + pts_seconds [T]

A video is cut into `num_clips` stretches of equally many frames and one clip is sampled from each,
so one clip covers the whole video. Clips are made one by one: memory holds the frames of one.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    InputError,
    VideoTooShortError,
    check_choice,
    check_kind,
    checked_integer,
    described,
)
from vjepa2.video.frames import Frames
from vjepa2.video.inputs import Layout, is_frames, is_reader, is_source, open_video
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import STRATEGIES, ClipSampling, sample_indices
from vjepa2.video.sources import is_url, path_text
from vjepa2.video.streams import ReaderFrames, checked_batch, checked_reader

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelClip:
    """One clip, ready for a model.

    Attributes:
        pixels: [1, T, C, h, w] normalised pixels, the processor's output.
        pts_seconds: float64 [T], when each frame appears, on the file's own clock; None for
            arrays, which have no clock.
        end_seconds: float64 [T], when each frame ends; None for arrays.
        read_seconds: time spent on opening and decoding the video so far.
    """

    pixels: Float[Tensor, "1 T C h w"]
    pts_seconds: Tensor | None
    end_seconds: Tensor | None
    read_seconds: float = 0.0


def read_sampling(sampling: str | ClipSampling, *, num_frames: int | None) -> ClipSampling:
    """Turn `"uniform"`, `"consecutive"`, `"fps=4"` or `"stride=2"` into a `ClipSampling`.

    Args:
        sampling: the text, or a `ClipSampling`, which is returned as it is.
        num_frames: T of the clip; None keeps the number of `ClipSampling`.

    Raises:
        ConfigError: an unknown strategy, a number where none belongs or none where one does, or
            `num_frames` given twice.
    """
    if isinstance(sampling, ClipSampling):
        if num_frames is not None and num_frames != sampling.num_frames:
            raise ConfigError(
                f"num_frames={num_frames} and ClipSampling(num_frames={sampling.num_frames}) "
                "disagree. Give one of them."
            )
        return sampling
    check_kind("sampling", sampling, str, words="text such as 'fps=4', or a ClipSampling")
    name, equals, value = sampling.partition("=")
    check_choice("Sampling", name, STRATEGIES)
    if bool(equals) != (name in ("fps", "stride")):
        raise ConfigError(
            f"Sampling {sampling!r} is not complete or has a number too many. "
            "Allowed: uniform, consecutive, fps=NUMBER, stride=NUMBER."
        )
    try:
        fps = float(value) if name == "fps" else None
        stride = int(value) if name == "stride" else None
    except ValueError as error:
        raise ConfigError(f"Sampling {sampling!r}: {value!r} is not a number.") from error
    chosen = ClipSampling(strategy=cast(Any, name), fps=fps, stride=stride)
    if num_frames is None:
        return chosen
    return replace(chosen, num_frames=checked_integer("num_frames", num_frames))


def clips_of(
    video: object,
    *,
    processor: VJEPA2VideoProcessor,
    sampling: ClipSampling,
    num_clips: int = 1,
    device: torch.device | None = None,
) -> Iterator[PixelClip]:
    """Read, sample and process the clips of one video, one after the other.

    Args:
        video: a path, URL or bytes; an open reader; `Frames`; or an array, tensor or list of
            frames (see `vjepa2.video.inputs`).
        processor: makes the pixels.
        sampling: which frames of each stretch.
        num_clips: stretches, above 0.
        device: where to process and leave the pixels; None where the frames are.

    Raises:
        VideoError: the video cannot be read.
        VideoTooShortError: it has fewer frames than `num_clips`.
        InputError: `video` is no video.
        ConfigError: `num_clips` is no integer above 0.
    """
    num_clips = checked_integer("num_clips", num_clips, least=1)
    with _opened(video, layout=processor.input_data_format) as source:
        if source.num_frames < num_clips:
            raise VideoTooShortError(
                f"{num_clips} clips were asked for, the video has {source.num_frames} frames. "
                "Ask for fewer clips."
            )
        for number in range(num_clips):
            indices = _indices(source, sampling, number=number, num_clips=num_clips)
            frames = source.choose(indices)
            batch = processor(
                frames, return_tensors="pt", device=device, input_data_format="channels_first"
            )
            pts_seconds, end_seconds = source.times(indices) or (None, None)
            yield PixelClip(
                pixels=batch["pixel_values_videos"],
                pts_seconds=pts_seconds,
                end_seconds=end_seconds,
                read_seconds=source.read_seconds,
            )


def _indices(source: "_Video", sampling: ClipSampling, *, number: int, num_clips: int) -> list[int]:
    """Frame numbers of clip `number`, sampled from its own stretch."""
    start = source.num_frames * number // num_clips
    stop = source.num_frames * (number + 1) // num_clips
    pts_seconds = end_seconds = None
    clock = source.clock() if sampling.strategy == "fps" else None
    if clock is not None:
        pts_seconds, end_seconds = clock
        end_seconds = end_seconds if stop == source.num_frames else float(pts_seconds[stop])
        pts_seconds = pts_seconds[start:stop]
    indices = sample_indices(
        sampling,
        num_video_frames=stop - start,
        pts_seconds=pts_seconds,
        end_seconds=end_seconds,
    )
    return [start + index for index in indices]


class _Video(Protocol):
    """What sampling needs of a video, whatever form it has."""

    num_frames: int
    read_seconds: float

    def clock(self) -> tuple[Tensor, float] | None:
        """Times of all frames and of the end; None without a clock."""
        ...

    def choose(self, indices: list[int]) -> object:
        """The frames with these numbers, as the processor takes them."""
        ...

    def times(self, indices: list[int]) -> tuple[Tensor, Tensor] | None:
        """Begin and end of the frames chosen last; None without a clock."""
        ...


@contextlib.contextmanager
def _opened(video: object, *, layout: Layout | None) -> Iterator[_Video]:
    if is_source(video):
        start = time.perf_counter()
        with VideoReader(cast(str, video)) as reader:
            yield _ReaderVideo(reader, start=start)
    elif isinstance(video, ReaderFrames):
        raise InputError(
            "These frames are chosen already. Pass the reader itself, and choose with sampling."
        )
    elif is_reader(video):
        yield _ReaderVideo(video, start=time.perf_counter())
    else:
        yield _ArrayVideo(video, layout=layout)


class _ReaderVideo:
    """An open reader; the processor decodes from it, and the times are noted on the way."""

    def __init__(self, reader: Any, *, start: float) -> None:
        self._reader = checked_reader(reader)
        self._parts: list[tuple[Tensor, Tensor]] = []
        self.num_frames = len(reader)
        self.metadata = reader.metadata
        self.read_seconds = time.perf_counter() - start

    def __len__(self) -> int:
        return self.num_frames

    def clock(self) -> tuple[Tensor, float]:
        """Times of all frames and of the end."""
        times = getattr(self._reader, "pts_seconds", None)
        end = getattr(self.metadata, "end_stream_seconds", None)
        if not isinstance(times, Tensor) or end is None:
            raise InputError(
                f"Sampling by fps needs to know when each frame appears, and a "
                f"{type(self._reader).__name__} does not tell: it has no tensor pts_seconds or no "
                "metadata.end_stream_seconds. Pass the file itself, or choose by stride."
            )
        return times, end

    def choose(self, indices: list[int]) -> ReaderFrames:
        """Frames that are decoded while they are processed."""
        self._parts = []
        return ReaderFrames(reader=self, indices=indices)

    def get_frames_at(self, indices: list[int]) -> Any:
        """Decode some frames, note their times and how long it took."""
        start = time.perf_counter()
        frames = checked_batch(
            self._reader,
            self._reader.get_frames_at(indices),
            times=("pts_seconds", "duration_seconds"),
        )
        begins = torch.as_tensor(frames.pts_seconds, dtype=torch.float64)
        lasts = torch.as_tensor(frames.duration_seconds, dtype=torch.float64)
        self._parts.append((begins, begins + lasts))
        self.read_seconds += time.perf_counter() - start
        return frames

    def times(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Begin and end of the frames that were processed."""
        begins, ends = zip(*self._parts, strict=True)
        return torch.cat(begins), torch.cat(ends)


class _ArrayVideo:
    """`Frames`, which know their times, or an array, which does not."""

    read_seconds = 0.0

    def __init__(self, video: object, *, layout: Layout | None) -> None:
        # Now channels come first.
        self._pixels = open_video(video, layout=layout, choice=None, known=None).frames
        self._frames = cast(Frames, video) if is_frames(video) else None
        self.num_frames = len(self._pixels)

    def clock(self) -> tuple[Tensor, float] | None:
        """Times of all frames and of the end."""
        frames = self._frames
        if frames is None:
            return None
        return frames.pts_seconds, float(frames.pts_seconds[-1] + frames.duration_seconds[-1])

    def choose(self, indices: list[int]) -> list[Tensor]:
        """One view a frame, no copy."""
        return [self._pixels[index] for index in indices]

    def times(self, indices: list[int]) -> tuple[Tensor, Tensor] | None:
        """Begin and end of the frames."""
        if self._frames is None:
            return None
        begins = self._frames.pts_seconds[indices]
        return begins, begins + self._frames.duration_seconds[indices]


def source_name(video: object) -> str:
    """What to call a video in results: its path or URL, else its kind."""
    if isinstance(video, str | os.PathLike):
        return os.fspath(video) if isinstance(video, str) else path_text(video)
    return f"<{type(video).__name__}>"


def source_names(files: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Paths and URLs as text, in the order given; a video named in two ways is there once.

    Raises:
        InputError: `files` is no list, or holds something that names no file.
    """
    if isinstance(files, str | bytes | os.PathLike) or not isinstance(files, Iterable):
        raise InputError(f"files must be a list of paths or URLs, got {described(files)}.")
    names = list(files)
    for name in names:
        check_kind(
            "A file", name, (str, bytes, os.PathLike), words="a path or URL", error=InputError
        )
    unique: dict[str, str] = {}
    for name in names:
        text = path_text(name) if isinstance(name, os.PathLike) else os.fsdecode(name)
        unique.setdefault(source_identity(text), text)
    return list(unique.values())


def source_identity(source: str) -> str:
    """One name for one video, however it was typed: its absolute path, or the URL as it is.

    Links to folders are followed; a link to a file is a name of its own, so that a folder of links
    is a set of videos.
    """
    if not source or is_url(source):
        return source
    folder, name = os.path.split(source)
    try:
        return os.path.join(os.path.realpath(folder or os.curdir), name)  # noqa: PTH118
    except (OSError, ValueError):  # no path at all: opening it says why
        return source


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield `items` while a second thread makes the next one.

    One item at most waits. Whatever the iterator raises is raised here, in its turn.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="vjepa2-read") as pool:
        pending = pool.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, items, end)
            yield cast(Item, item)
