"""What travels between the training process and its decoding processes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Num
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.crop import Box


class FileRef(NamedTuple):
    """One file of a source: on disk, or inside a tar shard.

    Attributes:
        path: of the file, or of the shard.
        label: class of the file, None where it has none.
        member: name inside the shard, "" for a file of its own.
        offset, size_bytes: where the member lies in the shard.
    """

    path: str
    label: int | None = None
    member: str = ""
    offset: int = 0
    size_bytes: int = 0

    @property
    def name(self) -> str:
        """What to call it in messages: `clip.mp4`, or `shard.tar!clip.mp4`."""
        return f"{self.path}!{self.member}" if self.member else self.path


class ClipTask(NamedTuple):
    """What a decoding process is asked for: sample `position` of update `step`.

    Attributes:
        seed: of the run.
        step, position: which sample; everything random about it follows from these.
        source: number of its source.
        files: the file to read, and those that stand in for it if it is bad.
    """

    seed: int
    step: int
    position: int
    source: int
    files: tuple[FileRef, ...]

    @property
    def name(self) -> str:
        """The file to read, for messages."""
        return self.files[0].name


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read, and why.

    Attributes:
        path: of the file; `shard.tar!member` for a part of a shard.
        reason: one line.
        source: number of its source.
        step, position: the sample that it was drawn for, the first time.
        count: how often it was drawn.
    """

    path: str
    reason: str
    source: int
    step: int
    position: int
    count: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One clip, cut to its crop box, not yet resized.

    Attributes:
        frames: [U, C, h, w] distinct frames, U <= T: uint8, or as an array file has them (int16,
            int32, float32). Of the box, only rows and columns that resizing looks at.
        frame_ids: int64 [T], which of `frames` is shown at each place of the clip.
        pts_seconds: float64 [T], when each frame appears, on the file's own clock.
        box: the part of the original frame that was kept.
        frame_size: height and width of the original frame.
        size: height and width that the box is resized to.
        flip: whether left and right are to be mirrored.
        path: of the file; `shard.tar!member` for a part of a shard.
        label: class of the file, None where it has none.
        source: number of its source.
        step, position: of the sample.
        attempt: 0, or how many bad files it stands in for.
        is_image: True for a still image, whose one frame is repeated.
    """

    frames: Num[Tensor, "U C h w"]
    frame_ids: NDArray[np.int64]
    pts_seconds: NDArray[np.float64]
    box: Box
    frame_size: tuple[int, int]
    size: tuple[int, int]
    flip: bool
    path: str
    label: int | None
    source: int
    step: int
    position: int
    attempt: int
    is_image: bool

    @property
    def num_frames(self) -> int:
        """T of the clip."""
        return len(self.frame_ids)


class Answer(NamedTuple):
    """What comes back: a sample (None if every file was bad), and the files that were bad."""

    sample: Sample | None
    bad_files: tuple[BadFile, ...]
