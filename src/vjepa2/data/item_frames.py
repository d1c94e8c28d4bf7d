"""Frames of labelled files: which ones, and how they are read without filling the memory."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.crop import Box
from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.labelled import LabelledItem, segment_seconds
from vjepa2.data.opened import FRAMES_PER_CHUNK, OpenedFile, open_file
from vjepa2.data.sample import FileRef
from vjepa2.data.segments import SegmentConfig, segment_frames
from vjepa2.data.settings import SourceConfig
from vjepa2.errors import DtypeError

MAX_KEPT_OPEN = 4


@dataclass(frozen=True)
class ItemDraws:
    """All chance of one item in one epoch.

    Attributes:
        seed: of the run.
        epoch: 0-based.
        index: of the item in its set.
    """

    seed: int
    epoch: int
    index: int

    def stream(self, purpose: Purpose, segment: int = 0) -> Draws:
        """Numbers for one purpose of one segment."""
        return Draws(self.seed, purpose, step=self.epoch, position=self.index, attempt=segment)


@contextlib.contextmanager
def open_item(item: LabelledItem) -> Iterator[OpenedFile]:
    """Open the file of an item: a video, a still image, a folder of pictures or a uint8 array.

    Raises:
        VideoError: it cannot be read.
    """
    source = SourceConfig(
        path=item.path,
        kind="image" if item.is_image else "auto",
        frame_step=None if item.is_image else 1,
    )
    with open_file(FileRef(item.path), source, num_channels=3) as file:
        yield file


class OpenItems:
    """Keeps the files of the last few stretches open: many lie in the same long recording.

    Opening one reads all of its packets, which takes longer than decoding a clip. Whole files are
    read once an epoch and are closed at once.
    """

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # files do not travel to other processes

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[contextlib.ExitStack, OpenedFile]] = OrderedDict()

    @contextlib.contextmanager
    def open(self, item: LabelledItem) -> Iterator[OpenedFile]:
        """As `open_item`; after an error inside, the file is closed.

        Raises:
            VideoError: it cannot be read.
        """
        if not item.is_segment:
            with open_item(item) as file:
                yield file
            return
        entry = self._files.pop(item.path, None)
        if entry is None:
            while len(self._files) >= MAX_KEPT_OPEN:
                self._files.popitem(last=False)[1][0].close()
            stack = contextlib.ExitStack()
            entry = stack, stack.enter_context(open_item(item))
        with entry[0].pop_all() as stack:
            yield entry[1]
            self._files[item.path] = stack.pop_all(), entry[1]

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1][0].close()


def clip_ids(
    file: OpenedFile, item: LabelledItem, views: SegmentConfig, *, draws: ItemDraws | None = None
) -> Int[np.ndarray, "segments T"]:
    """Return the numbers of the frames of an item's clips: int64 [num_segments, T].

    Args:
        file: the item's, open.
        item: whose stretch is looked at.
        views: how many clips and frames, and where.
        draws: chooses the moments at random; None puts clips in the middle of their segments.

    Raises:
        LabelError: the stretch lies outside the file.
        VideoTooShortError: a clip does not fit and `short_video` is "skip".
    """
    if file.is_image:
        length = 1 if views.images == "frame" else views.num_frames
        return np.zeros((views.num_segments, length), dtype=np.int64)
    clock = file.clock
    start, end = segment_seconds(item, clock) if item.is_segment else (None, None)
    moments = None
    if draws is not None:
        moments = [
            draws.stream(Purpose.MOMENT, number).uniform() for number in range(views.num_segments)
        ]
    return segment_frames(views, clock, start_seconds=start, end_seconds=end, moments=moments)


def clip_seconds(file: OpenedFile, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """When frames appear, on the file's own clock; 0 in a still image."""
    if file.is_image:
        return np.zeros(ids.shape)
    times: NDArray[np.float64] = file.clock.pts_seconds.numpy()[ids]
    return times


def chunks_of(
    ids: NDArray[np.int64],
) -> Iterator[tuple[list[int], NDArray[np.int64], NDArray[np.int64]]]:
    """Split a clip so that each of its distinct frames is read once, in order, a few at a time.

    Yields:
        The numbers of the frames to read, at which places of the clip they are shown, and which
        of them is shown there.
    """
    distinct, which = np.unique(ids, return_inverse=True)
    for start in range(0, len(distinct), FRAMES_PER_CHUNK):
        places = np.flatnonzero((which >= start) & (which < start + FRAMES_PER_CHUNK))
        part = distinct[start : start + FRAMES_PER_CHUNK]
        yield part.tolist(), places, which[places] - start


def take_uint8(
    file: OpenedFile,
    ids: list[int],
    *,
    rows: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
) -> UInt8[Tensor, "T C rows columns"]:
    """Read frames, whole or only some rows and columns of them.

    Raises:
        DtypeError: an array file of other numbers than uint8.
    """
    height, width = file.frame_size
    frames = file.take(
        ids,
        Box(0, 0, height, width),
        np.arange(height) if rows is None else rows,
        np.arange(width) if columns is None else columns,
    )
    if frames.dtype != torch.uint8:
        raise DtypeError(
            f"Labelled clips must be uint8 frames, got {frames.dtype} from an array file. Save it "
            "as uint8, 0 to 255."
        )
    return frames
