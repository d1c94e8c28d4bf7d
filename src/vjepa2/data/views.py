"""From a labelled file to the clips and views that a classifier looks at, and trains on.

    item --open_item--> file --segments--> clips uint8 [num_segments, T, C, H, W]
         --views--> pixels float32 [num_segments, num_views, T, C, S, S]

Every function of chance takes an `ItemDraws`: the same item of the same epoch gives the same
pixels whoever computes them. `item_views` and `train_views` work through a file a few frames at a
time, so that memory holds the small result and never whole frames of a clip.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.labelled import LabelledItem
from vjepa2.data.opened import OpenedFile
from vjepa2.data.segments import SegmentConfig
from vjepa2.data.settings import IMAGE_MEAN, IMAGE_STD
from vjepa2.strict_config import StrictConfig
from pydantic import Field
from typing import Literal


class ViewConfig(SegmentConfig):
    """Which clips of a file a classifier sees, and how their frames become its pixels.

    Attributes (besides those of `SegmentConfig`):
        num_views: crops of each clip. One: short side resized to 256/224 of the crop, crop from
            the middle. Several: short side resized to the crop, crops spread along the long side.
        crop_size: S, height and width of the pixels.
        resize: "published" is bilinear without antialiasing, as the published evaluations do;
            "antialiased" is that of the published processor, and of `vjepa2 classify`.
        images: a still image becomes a "clip" of T equal frames, or one "frame" (for encoders
            with an image tokenizer).
        mean, std: of the normalisation, one number for each colour.
    """

    num_views: int = Field(1, ge=1, le=64)
    crop_size: int = Field(256, ge=1, le=8192)
    resize: Literal["published", "antialiased"] = "published"
    images: Literal["clip", "frame"] = "clip"
    mean: tuple[float, float, float] = IMAGE_MEAN
    std: tuple[float, float, float] = IMAGE_STD


class TrainViewConfig(StrictConfig):
    """Chance in the pixels of training. The defaults are those of the published probes.

    Attributes:
        rand_augment: policy such as "rand-m7-n4-mstd0.5-inc1" (needs Pillow), None for none.
        scale: least and greatest share of the frame that a random box covers.
        ratio: least and greatest width over height of the box, drawn log-uniformly.
        flip: probability of mirroring: 0 where left and right are part of the label; published
            for EK100 is 0.5.
        erase: probability that a box of a clip, the same in all frames, is filled with noise.
    """

    rand_augment: str | None = "rand-m7-n4-mstd0.5-inc1"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = Field(0.0, ge=0, le=1)
    erase: float = Field(0.25, ge=0, le=1)


class ItemDraws(NamedTuple):
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
        return Draws(
            self.seed, purpose, step=self.epoch, position=self.index, attempt=segment
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemClips:
    """The clips of an item at full size.

    Attributes:
        frames: uint8 [num_segments, T, C, H, W].
        frame_ids: int64 [num_segments, T], numbers of the frames in the file.
        pts_seconds: float64 [num_segments, T], when each appears, on the file's own clock.
        is_image: True for one still image.
    """

    frames: UInt8[Tensor, "segments T C H W"]
    frame_ids: Int[np.ndarray, "segments T"]
    pts_seconds: Float[np.ndarray, "segments T"]
    is_image: bool


@contextlib.contextmanager
def open_item(item: LabelledItem) -> Iterator[OpenedFile]:
    """Open the file of an item.

    Raises:
        VideoError: it cannot be read.
    """
    raise NotImplementedError


def clip_ids(
    file: OpenedFile, item: LabelledItem, views: ViewConfig, *, draws: ItemDraws | None = None
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
    raise NotImplementedError


def read_clips(
    item: LabelledItem, views: ViewConfig, *, draws: ItemDraws | None = None
) -> ItemClips:
    """Read the clips of an item at full size. Training and evaluation use less memory.

    Args:
        item: what to read.
        views: how many clips and frames, and where.
        draws: chooses the moments where `views.moment` is "random"; unused otherwise.

    Raises:
        VideoError: the file cannot be read.
        LabelError: the stretch lies outside the file.
        VideoTooLargeError: the frames would not fit (8 GiB).
    """
    raise NotImplementedError


def spatial_views(
    frames: UInt8[Tensor, "segments T C H W"], views: ViewConfig
) -> Float[Tensor, "segments V T C S S"]:
    """Make the views that are evaluated from the frames of clips, without chance.

    Returns:
        Normalised pixels, V = `views.num_views`, S = `views.crop_size`.
    """
    raise NotImplementedError


def item_views(
    item: LabelledItem, views: ViewConfig, *, draws: ItemDraws | None = None
) -> UInt8[Tensor, "segments V T C S S"]:
    """Return what `spatial_views(read_clips(...))` gives before normalisation, in less memory."""
    raise NotImplementedError


def normalised(
    pixels: UInt8[Tensor, "*shape C S S"], views: ViewConfig
) -> Float[Tensor, "*shape C S S"]:
    """(pixels / 255 - mean) / std."""
    raise NotImplementedError


def train_views(
    item: LabelledItem, views: ViewConfig, train: TrainViewConfig, *, draws: ItemDraws
) -> Float[Tensor, "segments 1 T C S S"]:
    """Return the one view of each clip that is trained on, with the published augmentation.

    Moments are random. The clip of each segment has an augmentation of its own, which all of its
    frames share. The result follows from `draws`, whoever computes it.

    Raises:
        MissingExtraError: RandAugment is asked for and Pillow is missing.
        VideoError, LabelError: as in `read_clips`.
    """
    raise NotImplementedError
