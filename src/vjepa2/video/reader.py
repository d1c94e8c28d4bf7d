"""Open a video and take frames from it, by number or by time.

`VideoReader` has the methods of torchcodec's `VideoDecoder`, so code written for that runs with
the class renamed. Frame numbers are exact: number i is the i-th picture that decoding the whole
file would give, for every container and codec. Taking frames costs the memory of those frames plus
a constant, however long the video is.
"""

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Never, Protocol, Self, overload

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    FrameIndexError,
    InputError,
    VideoTooLargeError,
    check_choice,
    check_kind,
    checked_integer,
    checked_number,
    described,
    in_digits,
)
from vjepa2.video.frame_table import DEFAULT_FPS, FrameTable
from vjepa2.video.frames import Frame, Frames, slice_range
from vjepa2.video.limits import ReadLimits
from vjepa2.video.picture_folder import PictureFolder
from vjepa2.video.pyav_decoder import PyAVDecoder
from vjepa2.video.rgb import NUM_CHANNELS
from vjepa2.video.sources import VideoSource, as_folder, open_source, path_text
from vjepa2.video.stream_metadata import VideoStreamMetadata
from vjepa2.video.torchcodec_decoder import TorchcodecDecoder

BACKENDS = ("pyav", "torchcodec")
MAX_THREADS = 1024


class FrameDecoder(Protocol):
    """What a backend does: know the frames of one video and decode chosen ones."""

    @property
    def table(self) -> FrameTable:
        """Number and times of the frames."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a returned frame."""
        ...

    def metadata(self) -> VideoStreamMetadata:
        """Facts of the video."""
        ...

    def decode(self, indices: list[int]) -> UInt8[Tensor, "T C H W"]:
        """Return the frames with these numbers, in this order."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class VideoReader:
    """Frames of one video.

    Args:
        source: path of a video or of a still image (one frame), a folder of pictures (see
            `PictureFolder`), http(s) URL, bytes, or open binary file.
        backend: "pyav", or "torchcodec" where that is installed; the frames are the same.
        limits: of pixels, bytes and seconds; see `ReadLimits`.
        on_damage: "error" raises `VideoDecodeError` when a damaged frame is asked for, or the
            file is cut off; "skip" decodes the whole file once and leaves out what is damaged,
            so that numbers count readable frames only (their times stay true).
        num_ffmpeg_threads: decoder threads, 0 for one per processor (at most 8). Take 1 where
            several readers run side by side.
        frames_per_second: rate of a folder of pictures, above 0 (default 25). Only for folders.

    Raises:
        VideoError: a subclass says what is wrong: see `vjepa2.errors`.
        ConfigError: an option is wrong or has no effect.
        MissingExtraError: the backend is not installed.

    A reader is for one thread and one process: open it where it is used.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        backend: Literal["pyav", "torchcodec"] = "pyav",
        limits: ReadLimits | None = None,
        on_damage: Literal["error", "skip"] = "error",
        num_ffmpeg_threads: int = 0,
        frames_per_second: float | None = None,
    ) -> None:
        check_choice("Video backend", backend, BACKENDS)
        check_choice("on_damage", on_damage, ("error", "skip"))
        threads = checked_integer(
            "num_ffmpeg_threads", num_ffmpeg_threads, least=0, most=MAX_THREADS
        )
        self._limits = ReadLimits() if limits is None else limits
        check_kind("limits", self._limits, ReadLimits, words="a ReadLimits")
        if isinstance(source, os.PathLike):
            source = Path(path_text(source))
        self._name = str(source) if isinstance(source, str | Path) else "the video"
        opened = _open_decoder(
            source,
            backend=backend,
            limits=self._limits,
            skip_damage=on_damage == "skip",
            threads=threads,
            fps=frames_per_second,
        )
        self._process_id = os.getpid()
        self._opened: FrameDecoder | None = opened
        # Also closes the file of a reader that is simply forgotten.
        self._close = weakref.finalize(self, opened.close)
        self._metadata: VideoStreamMetadata | None = None

    # ---- the video as a whole --------------------------------------------------------------

    @property
    def metadata(self) -> VideoStreamMetadata:
        """Facts of the video; found on first use."""
        if self._metadata is None:
            self._metadata = self._decoder.metadata()
        return self._metadata

    @property
    def pts_seconds(self) -> Tensor:
        """float64 [num_frames]: when each frame of the video appears, in seconds."""
        return torch.from_numpy(self._decoder.table.pts_seconds.copy())

    def __len__(self) -> int:
        return len(self._decoder.table)

    def close(self) -> None:
        """Free the decoder and the file; the reader cannot be used afterwards."""
        self._opened = None
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ---- by number -------------------------------------------------------------------------

    def get_frame_at(self, index: int) -> Frame:
        """Return one frame.

        Args:
            index: -len <= index < len; negative ones count from the end.

        Raises:
            FrameIndexError: no such frame.
            InputError: not an integer.
            VideoDecodeError: the frame is damaged.
        """
        return self.get_frames_at([index])[0]

    def get_frames_at(self, indices: Iterable[int] | Tensor) -> Frames:
        """Return frames by number, in the order asked for; numbers may repeat.

        Args:
            indices: integers, as a list, range, int array or int tensor; -len <= index < len.

        Raises:
            FrameIndexError: no such frame.
            InputError: not integers.
            VideoTooLargeError: more bytes than `limits.max_output_bytes`.
            VideoDecodeError: a frame is damaged.
        """
        return self._take(self._checked(indices))

    def iter_frames_at(
        self, indices: Iterable[int] | Tensor, *, frames_per_chunk: int = 8
    ) -> Iterator[Frames]:
        """Yield the frames of `get_frames_at` in chunks, so that all are never in memory at once.

        Args:
            indices: as in `get_frames_at`; rising ones are read in one pass.
            frames_per_chunk: frames in each `Frames`, above 0; the last may hold fewer.

        Raises:
            InputError, VideoDecodeError: as in `get_frames_at`.
        """
        checked_integer("frames_per_chunk", frames_per_chunk, least=1, error=InputError)
        checked = self._checked(indices)
        for start in range(0, len(checked), frames_per_chunk):
            yield self._take(checked[start : start + frames_per_chunk])

    def get_frames_in_range(self, start: int, stop: int, step: int = 1) -> Frames:
        """Return frames start, start + step, ... below `stop`; ends are cut as in a list's slice.

        Raises:
            InputError: `step` is not above 0, or a number is not an integer.
        """
        checked_integer("start", start, error=InputError)
        checked_integer("stop", stop, error=InputError)
        checked_integer("step", step, least=1, error=InputError)
        return self._take(list(range(*slice(start, stop, step).indices(len(self)))))

    @overload
    def __getitem__(self, key: int) -> UInt8[Tensor, "C H W"]: ...
    @overload
    def __getitem__(self, key: slice) -> UInt8[Tensor, "T C H W"]: ...
    def __getitem__(self, key: int | slice) -> Tensor:
        """Return pixels only: uint8 [C, H, W] for a number, [T, C, H, W] for a slice."""
        if isinstance(key, slice):
            return self._take(list(slice_range(key, length=len(self)))).data
        return self.get_frames_at([key]).data[0]

    def __iter__(self) -> Iterator[UInt8[Tensor, "C H W"]]:
        for index in range(len(self)):
            yield self[index]

    # ---- by time ---------------------------------------------------------------------------

    def get_frame_played_at(self, seconds: float) -> Frame:
        """Return the frame on the screen at a time: the last with pts_seconds <= `seconds`.

        Args:
            seconds: on the file's own clock, begin_stream_seconds <= seconds <
                end_stream_seconds.

        Raises:
            InputError: no frame is on the screen then, or it is not a number.
        """
        return self.get_frames_played_at([seconds])[0]

    def get_frames_played_at(self, seconds: Iterable[float] | Tensor) -> Frames:
        """Return the frames on the screen at several times, in the order asked for.

        Raises:
            InputError: no frame is on the screen then, or a time is not a number.
        """
        times = [
            checked_number("A time in seconds", time, error=InputError)
            for time in _items(seconds, what="seconds")
        ]
        table = self._decoder.table
        begin, end = float(table.pts_seconds[0]), table.end_seconds
        for time in times:
            if not begin <= time < end:
                raise InputError(
                    f"No frame of {self._name} is on the screen at {time:g} s: it plays from "
                    f"{begin:g} s up to (not including) {end:g} s. Its clock starts at {begin:g}."
                )
        indices = np.searchsorted(table.pts_seconds, times, side="right") - 1
        return self._take(indices.tolist())

    def get_frames_played_in_range(self, start_seconds: float, stop_seconds: float) -> Frames:
        """Return the frames on the screen at any time in [start_seconds, stop_seconds).

        Args:
            start_seconds, stop_seconds: begin_stream_seconds <= start <= stop <=
                end_stream_seconds. Equal ones give no frames.

        Raises:
            InputError: the range is reversed or leaves the video, or an end is not a number.
        """
        start_seconds = checked_number("start_seconds", start_seconds, error=InputError)
        stop_seconds = checked_number("stop_seconds", stop_seconds, error=InputError)
        table = self._decoder.table
        begin, end = float(table.pts_seconds[0]), table.end_seconds
        if not begin <= start_seconds <= stop_seconds <= end:
            raise InputError(
                f"start_seconds <= stop_seconds must lie within {begin:g} and {end:g} s, the time "
                f"that {self._name} plays; got {start_seconds:g} and {stop_seconds:g}."
            )
        if start_seconds == stop_seconds:
            return self._take([])
        first = int(np.searchsorted(table.pts_seconds, start_seconds, side="right")) - 1
        stop = int(np.searchsorted(table.pts_seconds, stop_seconds, side="left"))
        return self._take(list(range(first, stop)))

    # ---- inside ----------------------------------------------------------------------------

    @property
    def _decoder(self) -> FrameDecoder:
        if self._opened is None:
            raise InputError(f"The reader of {self._name} was closed. Open the video again.")
        if os.getpid() != self._process_id:
            # The decoder's threads did not come along: it would wait for them forever.
            raise InputError(self._of_another_process())
        return self._opened

    def _of_another_process(self) -> str:
        return (
            f"The reader of {self._name} belongs to the process that opened it. Keep the path, and "
            "open the video in the worker."
        )

    def __reduce__(self) -> Never:
        raise InputError(self._of_another_process())

    def _take(self, indices: list[int]) -> Frames:
        height, width = self._decoder.size
        size_bytes = len(indices) * height * width * NUM_CHANNELS
        if size_bytes > self._limits.max_output_bytes:
            raise VideoTooLargeError(
                f"{len(indices)} frames of {width}x{height} are {size_bytes} bytes, more than "
                f"max_output_bytes = {self._limits.max_output_bytes}. Ask for fewer frames at a "
                "time, or raise ReadLimits.max_output_bytes."
            )
        table = self._decoder.table
        at = np.array(indices, dtype=np.int64)
        return Frames(
            data=self._decoder.decode(indices),
            pts_seconds=torch.from_numpy(table.pts_seconds[at]),
            duration_seconds=torch.from_numpy(table.duration_seconds[at]),
        )

    def _checked(self, indices: Iterable[int] | Tensor) -> list[int]:
        checked = []
        for item in _items(indices, what="indices"):
            index = checked_integer("A frame index", item, error=InputError)
            if not -len(self) <= index < len(self):
                raise FrameIndexError(self._no_such_frame(index))
            checked.append(index % len(self))
        return checked

    def _no_such_frame(self, index: int) -> str:
        return (
            f"{self._name} has no frame {in_digits(index)}: its {len(self)} frames have the "
            f"numbers 0 to {len(self) - 1} (or -{len(self)} to -1 from the end)."
        )


def _open_decoder(
    source: VideoSource,
    *,
    backend: str,
    limits: ReadLimits,
    skip_damage: bool,
    threads: int,
    fps: float | None,
) -> FrameDecoder:
    if backend == "torchcodec" and skip_damage:
        raise ConfigError("on_damage='skip' needs backend='pyav'.")
    folder = as_folder(source)
    if folder is not None:
        fps = DEFAULT_FPS if fps is None else checked_number("frames_per_second", fps, above=0)
        if backend != "pyav":
            raise ConfigError(f"{folder} is a folder of pictures: read it with backend='pyav'.")
        return PictureFolder(folder, fps=fps, limits=limits, skip_damage=skip_damage)
    if fps is not None:
        raise ConfigError(
            f"frames_per_second={fps} has no effect: it is for folders of pictures, a video file "
            "has its own times. Leave it out."
        )
    opened = open_source(source, limits=limits)
    try:
        if backend == "torchcodec":
            return TorchcodecDecoder(opened, limits=limits, threads=threads)
        return PyAVDecoder(opened, limits=limits, threads=threads, skip_damage=skip_damage)
    except BaseException:
        opened.close()
        raise


def _items(given: object, *, what: str) -> list[object]:
    """The members of a list, a range, an array or a tensor of any shape."""
    if isinstance(given, Tensor | np.ndarray):
        if isinstance(given, Tensor) and (given.is_meta or given.layout is not torch.strided):
            raise DtypeError(f"{what} must be a plain tensor, got one without readable numbers.")
        return list(given.reshape(-1).tolist())
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise InputError(f"{what} must be a list of numbers, got {described(given)}.")
    return list(given)
