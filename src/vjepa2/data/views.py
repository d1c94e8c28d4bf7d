"""From a labelled file to the clips and views that a classifier is evaluated on.

    item --open_item--> file --segments--> clips uint8 [num_segments, T, C, H, W]
         --view_crops--> uint8 --normalised--> float32 [num_segments, num_views, T, C, S, S]

`item_views` works through a file a few frames at a time, so that memory holds the small result
and never whole frames of a clip. Views to train on: `train_views`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field, model_validator
from torch import Tensor

from vjepa2.data.auto_augment import policy_of
from vjepa2.data.draws import Draws
from vjepa2.data.item_frames import (
    ItemDraws,
    chunks_of,
    clip_ids,
    clip_seconds,
    open_item,
    take_uint8,
)
from vjepa2.data.labelled import LabelledItem
from vjepa2.data.opened import FRAMES_PER_CHUNK, OpenedFile
from vjepa2.data.rand_augment import Operation
from vjepa2.data.segments import SegmentConfig
from vjepa2.data.settings import IMAGE_MEAN, IMAGE_STD, AugmentConfig
from vjepa2.data.view_crops import Resize, ViewCrops, empty_views, view_crops
from vjepa2.errors import ConfigError, VideoTooLargeError
from vjepa2.strict_config import StrictConfig
from vjepa2.video.limits import ReadLimits
from vjepa2.video.transforms import apply_color_scale, color_scale


class ViewConfig(SegmentConfig):
    """Which clips of a file a classifier sees, and how their frames become its pixels.

    Attributes (besides those of `SegmentConfig`):
        num_views: crops of each clip. One: short side resized to 256/224 of the crop, crop from
            the middle. Several: short side resized to the crop, crops spread along the long side.
        crop_size: S, height and width of the pixels.
        resize: "published" is bilinear without antialiasing, as the published evaluations do;
            "antialiased" is that of the published processor, and of `vjepa2 classify`.
        mean, std: of the normalisation, one number for each colour.
    """

    num_views: int = Field(1, ge=1, le=64)
    crop_size: int = Field(256, ge=1, le=8192)
    resize: Resize = "published"
    mean: tuple[float, float, float] = IMAGE_MEAN
    std: tuple[float, float, float] = IMAGE_STD

    @model_validator(mode="after")
    def _can_normalise(self) -> Self:
        if min(self.std) <= 0:
            raise ConfigError(f"std must be above 0 for each colour, got {self.std}")
        return self

    def crops(self, *, height: int, width: int) -> ViewCrops:
        """Plan the views of frames of height x width; raises ShapeError for absurd ones."""
        return view_crops(
            height=height,
            width=width,
            crop_size=self.crop_size,
            num_views=self.num_views,
            resize=self.resize,
        )


class TrainViewConfig(StrictConfig):
    """Chance in the pixels of training. The defaults are those of the published probes.

    Attributes:
        rand_augment: policy such as "rand-m7-n4-mstd0.5-inc1", or that of the published ImageNet
            probes, "autoaugment-imagenet" (both need Pillow); None for none.
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

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise ConfigError(f"{name} must be two rising numbers above 0, got {(low, high)}")
        if self.rand_augment is not None:
            policy_of(self.rand_augment)
        return self

    def operations(self, draws: Draws) -> tuple[Operation, ...]:
        """Draw what the policy does to one clip."""
        if self.rand_augment is None:
            return ()
        return policy_of(self.rand_augment).draw(draws)

    def pixel_config(self, views: ViewConfig) -> AugmentConfig:
        """The same for `augment.to_pixels`."""
        return AugmentConfig(
            scale=self.scale, ratio=self.ratio, flip=self.flip, mean=views.mean, std=views.std
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


def read_clips(
    item: LabelledItem, views: ViewConfig, *, draws: ItemDraws | None = None
) -> ItemClips:
    """Read the clips of an item at full size. `item_views` and `train_views` use less memory.

    Args:
        item: what to read.
        views: how many clips and frames, and where.
        draws: chooses the moments where `views.moment` is "random"; unused otherwise.

    Raises:
        VideoError: the file cannot be read.
        LabelError: the stretch lies outside the file.
        VideoTooLargeError: the frames are more than 8 GiB.
        DtypeError: an array file of other numbers than uint8.
    """
    with open_item(item) as file:
        ids = clip_ids(file, item, views, draws=draws if views.moment == "random" else None)
        height, width = file.frame_size
        size_bytes = ids.size * 3 * height * width
        if size_bytes > ReadLimits.max_output_bytes:
            raise VideoTooLargeError(
                f"{item.path}: {ids.shape[0]} clips of {ids.shape[1]} frames of {width}x{height} "
                f"are {size_bytes} bytes, more than {ReadLimits.max_output_bytes}. Lower "
                "num_segments or num_frames, or use item_views, which resizes while it reads."
            )
        frames = torch.empty((*ids.shape, 3, height, width), dtype=torch.uint8)
        for number, clip in enumerate(ids):
            for part, places, which in chunks_of(clip):
                frames[number, places] = take_uint8(file, part)[which]
        pts_seconds = clip_seconds(file, ids)
        is_image = file.is_image
    return ItemClips(frames=frames, frame_ids=ids, pts_seconds=pts_seconds, is_image=is_image)


def spatial_views(
    frames: UInt8[Tensor, "segments T C H W"], views: ViewConfig
) -> Float[Tensor, "segments V T C S S"]:
    """Make the views that are evaluated from the frames of clips, without chance.

    Returns:
        Normalised pixels, V = `views.num_views`, S = `views.crop_size`.

    Raises:
        ShapeError: the resized frame would be enormous: a very long and thin frame.
    """
    segments, T, _, height, width = frames.shape
    crops = views.crops(height=height, width=width)
    pixels = empty_views(segments, views.num_views, T, views.crop_size)
    for number in range(segments):
        for start in range(0, T, FRAMES_PER_CHUNK):
            places = slice(start, start + FRAMES_PER_CHUNK)
            pixels[number, :, places] = crops.from_whole(frames[number, places])
    return normalised(pixels, views)


def item_views(
    item: LabelledItem, views: ViewConfig, *, draws: ItemDraws | None = None
) -> UInt8[Tensor, "segments V T C S S"]:
    """Return the pixels of `spatial_views(read_clips(...))` before they are normalised.

    A few frames are in memory at a time, and of those, with "published" resizing, only the rows
    and columns that a result looks at.

    Raises:
        VideoError, LabelError, DtypeError: as in `read_clips`.
        ShapeError: as in `spatial_views`.
    """
    with open_item(item) as file:
        return file_views(file, item, views, draws=draws)


def file_views(
    file: OpenedFile, item: LabelledItem, views: ViewConfig, *, draws: ItemDraws | None = None
) -> UInt8[Tensor, "segments V T C S S"]:
    """The same for a file that is open already; errors likewise."""
    ids = clip_ids(file, item, views, draws=draws if views.moment == "random" else None)
    height, width = file.frame_size
    crops = views.crops(height=height, width=width)
    pixels = empty_views(len(ids), views.num_views, ids.shape[1], views.crop_size)
    for number, clip in enumerate(ids):
        for part, places, which in chunks_of(clip):
            if views.resize == "published":
                rows, columns = (taps.kept for taps in crops.taps)
                made = crops.from_kept(take_uint8(file, part, rows=rows, columns=columns))
            else:
                made = crops.from_whole(take_uint8(file, part))
            pixels[number, :, places] = made[:, which]
    return pixels


def normalised(
    pixels: UInt8[Tensor, "*shape C S S"], views: ViewConfig
) -> Float[Tensor, "*shape C S S"]:
    """Return (pixels / 255 - mean) / std, float32."""
    result = torch.empty(pixels.shape, dtype=torch.float32)
    scale = color_scale(rescale_factor=1 / 255, mean=views.mean, std=views.std)
    apply_color_scale(pixels.flatten(0, -4), scale, out=result.flatten(0, -4))
    return result
