"""One open file of a source: what is asked of it, whichever kind it is."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Num
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.array_file import ArrayFile, read_array
from vjepa2.data.crop import Box
from vjepa2.data.moments import Clock
from vjepa2.data.sample import FileRef
from vjepa2.data.settings import SourceConfig
from vjepa2.data.shards import Section
from vjepa2.data.suffixes import file_kind
from vjepa2.errors import ShapeError
from vjepa2.video.reader import VideoReader

FRAMES_PER_CHUNK = 8
# Shares of red, green and blue in one grey channel (ITU-R BT.601), in 256ths.
_GREY_SHARES = np.array([77, 150, 29], dtype=np.uint16)


class OpenedFile(Protocol):
    """A file whose frames can be taken.

    Attributes:
        is_image: True for one still image.
        clock: when its frames are shown.
        frame_size: height and width of a frame.
    """

    is_image: bool

    @property
    def clock(self) -> Clock:
        """When the frames are shown."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        ...

    def take(
        self, ids: list[int], box: Box, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> Num[Tensor, "U C h w"]:
        """Return rows and columns (counted inside `box`) of the frames `ids`, which rise."""
        ...


@contextlib.contextmanager
def open_file(ref: FileRef, source: SourceConfig, *, num_channels: int) -> Iterator[OpenedFile]:
    """Open a video, still image, picture folder or array, on disk or inside a shard.

    Raises:
        VideoError, InputError: it cannot be read, or has another number of channels.
    """
    name = ref.member or ref.path
    kind = source.kind if source.kind != "auto" else file_kind(name) or "video"
    fps = source.frames_per_second
    if kind == "array":
        yield ArrayFile(read_array(ref, num_channels=num_channels), frames_per_second=fps)
        return
    with contextlib.ExitStack() as stack:
        file: str | io.RawIOBase = ref.path
        if ref.member:
            file = stack.enter_context(Section(ref.path, ref.offset, ref.size_bytes, ref.member))
        is_folder = not ref.member and Path(ref.path).is_dir()
        reader = stack.enter_context(
            VideoReader(file, num_ffmpeg_threads=1, frames_per_second=fps if is_folder else None)
        )
        yield _VideoFile(reader, is_image=kind == "image", num_channels=num_channels, name=name)


class _VideoFile:
    """A video, a still image or a picture folder."""

    def __init__(
        self, reader: VideoReader, *, is_image: bool, num_channels: int, name: str
    ) -> None:
        if num_channels not in (1, 3):
            raise ShapeError(
                f"{name} is a colour video; the run is set up for {num_channels} channels (the "
                "length of augment.mean). Give array files, or three channels."
            )
        self.is_image = is_image
        self._reader = reader
        self._to_grey = num_channels == 1

    @property
    def clock(self) -> Clock:
        """When the frames are shown."""
        facts = self._reader.metadata
        return Clock(
            pts_seconds=self._reader.pts_seconds,
            end_seconds=facts.end_stream_seconds,
            average_fps=facts.average_fps,
        )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        facts = self._reader.metadata
        return facts.height, facts.width

    def take(
        self, ids: list[int], box: Box, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> Num[Tensor, "U C h w"]:
        """Decode frames a few at a time, so that whole ones never fill the memory."""
        num_channels = 1 if self._to_grey else 3
        pixels = np.empty((len(ids), len(rows), len(columns), num_channels), dtype=np.uint8)
        done = 0
        for chunk in self._reader.iter_frames_at(ids, frames_per_chunk=FRAMES_PER_CHUNK):
            whole = chunk.data.permute(0, 2, 3, 1).numpy()
            target = pixels[done : done + len(whole)]
            part = pick(whole, box, rows, columns)
            target[...] = _grey(part) if self._to_grey else part
            done += len(whole)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def pick(
    frames: NDArray[np.generic], box: Box, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.generic]:
    """Rows and columns of a box of frames [T, H, W, C], without a copy where none is left out."""
    top, left, height, width = box
    part = frames[:, top : top + height, left : left + width]
    part = part[:, _without_gaps(rows)]
    return part[:, :, _without_gaps(columns)]


def _without_gaps(rising: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Numbers that follow each other as a slice, which is no copy; any others as they are."""
    first, last = int(rising[0]), int(rising[-1])
    return slice(first, last + 1) if last - first + 1 == len(rising) else rising


def _grey(colours: NDArray[np.generic]) -> NDArray[np.uint8]:
    """[..., 3] to [..., 1], rounded."""
    weighted = (colours.astype(np.uint16) * _GREY_SHARES).sum(axis=-1, keepdims=True)
    grey: NDArray[np.uint8] = ((weighted + 128) >> 8).astype(np.uint8)
    return grey
