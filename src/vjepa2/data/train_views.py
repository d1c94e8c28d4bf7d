"""The views of a labelled file that a classifier is trained on, with the published augmentation."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.augment import to_pixels
from vjepa2.data.crop import axis_taps, random_box
from vjepa2.data.draws import Purpose
from vjepa2.data.erasing import erase
from vjepa2.data.item_frames import (
    ItemDraws,
    chunks_of,
    clip_ids,
    clip_seconds,
    open_item,
    take_uint8,
)
from vjepa2.data.labelled import LabelledItem
from vjepa2.data.opened import OpenedFile, pick
from vjepa2.data.rand_augment import apply_operations
from vjepa2.data.sample import Sample
from vjepa2.data.views import TrainViewConfig, ViewConfig


def train_views(
    item: LabelledItem, views: ViewConfig, train: TrainViewConfig, *, draws: ItemDraws
) -> Float[Tensor, "segments 1 T C S S"]:
    """Return the one view of each clip that is trained on, with the published augmentation.

    Moments are random. The clip of each segment has an augmentation of its own, which all of its
    frames share: RandAugment on whole frames, a random box resized bilinearly without
    antialiasing, mirroring, erasing. The result follows from `draws`, whoever computes it.

    Raises:
        MissingExtraError: RandAugment is asked for and Pillow is missing.
        VideoError, LabelError, DtypeError: as in `read_clips`.
    """
    with open_item(item) as file:
        return file_train_views(file, item, views, train, draws=draws)


def file_train_views(
    file: OpenedFile,
    item: LabelledItem,
    views: ViewConfig,
    train: TrainViewConfig,
    *,
    draws: ItemDraws,
) -> Float[Tensor, "segments 1 T C S S"]:
    """The same for a file that is open already; errors likewise."""
    clips = [
        train_clip(file, clip, views, train, draws=draws, segment=number)
        for number, clip in enumerate(clip_ids(file, item, views, draws=draws))
    ]
    return torch.stack(clips)[:, None]


def train_clip(
    file: OpenedFile,
    ids: NDArray[np.int64],
    views: ViewConfig,
    train: TrainViewConfig,
    *,
    draws: ItemDraws,
    segment: int = 0,
) -> Float[Tensor, "T C S S"]:
    """The same for a clip of frames of an open file that were chosen already; errors likewise."""
    sample = _cut_clip(file, ids, views, train, draws=draws, segment=segment)
    pixels = to_pixels([sample], train.pixel_config(views))[0]
    erase(pixels, probability=train.erase, draws=draws.stream(Purpose.ERASING, segment))
    return pixels


def _cut_clip(
    file: OpenedFile,
    ids: NDArray[np.int64],
    views: ViewConfig,
    train: TrainViewConfig,
    *,
    draws: ItemDraws,
    segment: int,
) -> Sample:
    """A clip after RandAugment, cut to its box; of the box, what resizing looks at."""
    height, width = file.frame_size
    box = random_box(
        height,
        width,
        scale=train.scale,
        ratio=train.ratio,
        draws=draws.stream(Purpose.CROP, segment),
    )
    rows = axis_taps(box.height, views.crop_size).kept
    columns = axis_taps(box.width, views.crop_size).kept
    operations = train.operations(draws.stream(Purpose.RAND_AUGMENT, segment))
    distinct, places = np.unique(ids, return_inverse=True)
    frames = torch.empty((len(distinct), 3, len(rows), len(columns)), dtype=torch.uint8)
    for part, at, which in chunks_of(distinct):
        whole = take_uint8(file, part).permute(0, 2, 3, 1).numpy()
        cut = pick(apply_operations(whole, operations), box, rows, columns)
        frames[at] = torch.from_numpy(np.ascontiguousarray(cut[which])).permute(0, 3, 1, 2)
    return Sample(
        frames=frames,
        frame_ids=places.reshape(-1),
        pts_seconds=clip_seconds(file, ids),
        box=box,
        frame_size=(height, width),
        size=(views.crop_size, views.crop_size),
        flip=draws.stream(Purpose.FLIP, segment).uniform() < train.flip,
        path="",
        label=None,
        source=0,
        step=draws.epoch,
        position=draws.index,
        attempt=segment,
        is_image=file.is_image,
    )
