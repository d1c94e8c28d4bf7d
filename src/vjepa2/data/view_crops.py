"""The views of a clip that evaluation looks at: which size, which crops, and their uint8 pixels.

    one view       240 x 320 -> 292 x 389 (short side int(256 * 256 / 224)) -> the middle 256 x 256
    three views    240 x 320 -> 256 x 341 (short side = crop) -> columns from 0, 42 and 84 on

Source: V-JEPA 2, `evals/video_classification_frozen/utils.py` (`EvalVideoTransform` for several
views, `VideoTransform` for one).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.data.crop import Box
from vjepa2.data.fixed_resize import FixedTaps, fixed_resize, fixed_taps
from vjepa2.data.opened import pick
from vjepa2.video.geometry import center_crop, resize_edge, resized_size
from vjepa2.video.resize import BILINEAR, resize_frames, whole_axis

Resize = Literal["published", "antialiased"]


@dataclass(frozen=True, kw_only=True)
class ViewCrops:
    """What happens to every frame of one size.

    Attributes:
        frame_size: height and width of the frames.
        resized: height and width after the resize.
        corners: (top, left) of each view in the resized frame.
        size: S, height and width of a view.
        resize: how; see `views.ViewConfig`.
    """

    frame_size: tuple[int, int]
    resized: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    size: int
    resize: Resize

    @property
    def taps(self) -> tuple[FixedTaps, FixedTaps]:
        """Rows and columns that "published" resizing looks at for any view."""
        tops, lefts = ([corner[axis] for corner in self.corners] for axis in (0, 1))
        ends = (max(tops) + self.size, max(lefts) + self.size)
        return (
            fixed_taps(
                self.frame_size[0], self.resized[0], start=min(tops), stop=ends[0], is_row=True
            ),
            fixed_taps(
                self.frame_size[1], self.resized[1], start=min(lefts), stop=ends[1], is_row=False
            ),
        )

    def from_whole(self, frames: UInt8[Tensor, "T C H W"]) -> UInt8[Tensor, "V T C S S"]:
        """Make the views of whole frames."""
        if self.resize == "antialiased":
            whole_rows, whole_columns = (
                whole_axis(num_in, num_out)
                for num_in, num_out in zip(self.frame_size, self.resized, strict=True)
            )
            if self.frame_size != self.resized:
                frames = resize_frames(
                    frames, rows=whole_rows, columns=whole_columns, resample=BILINEAR
                )
            return self._cut(frames, origin=(0, 0))
        rows, columns = (taps.kept for taps in self.taps)
        whole = Box(0, 0, *self.frame_size)
        kept = pick(frames.permute(0, 2, 3, 1).numpy(), whole, rows, columns)
        return self.from_kept(torch.from_numpy(kept).permute(0, 3, 1, 2))

    def from_kept(self, frames: UInt8[Tensor, "T C rows columns"]) -> UInt8[Tensor, "V T C S S"]:
        """Make the views of frames of which only the rows and columns of `taps` are given."""
        rows, columns = self.taps
        resized = fixed_resize(frames.permute(0, 2, 3, 1).numpy(), rows, columns)
        origin = min(top for top, _ in self.corners), min(left for _, left in self.corners)
        return self._cut(torch.from_numpy(resized).permute(0, 3, 1, 2), origin=origin)

    def _cut(self, frames: Tensor, *, origin: tuple[int, int]) -> Tensor:
        """Cut the views from resized frames whose first row and column are `origin`."""
        places = [(top - origin[0], left - origin[1]) for top, left in self.corners]
        return torch.stack(
            [frames[:, :, top : top + self.size, left : left + self.size] for top, left in places]
        )


def view_crops(
    *, height: int, width: int, crop_size: int, num_views: int, resize: Resize
) -> ViewCrops:
    """Plan the views of frames of height x width.

    Raises:
        ShapeError: the resized frame would be enormous: a very long and thin frame.
    """
    edge = resize_edge(crop_size) if num_views == 1 else crop_size
    resized = resized_size({"shortest_edge": edge}, height=height, width=width)
    if num_views == 1:
        # Compatibility: the processor cuts halves off, the original rounds them to even.
        rounding: Literal["meta", "port"] = "meta" if resize == "published" else "port"
        top, left = (center_crop(n, crop_size, rounding=rounding).start for n in resized)
        corners = [(top, left)]
    else:
        step = (max(resized) - crop_size) // (num_views - 1)
        starts = [number * step for number in range(num_views)]
        is_tall = resized[0] > resized[1]
        corners = [(start, 0) if is_tall else (0, start) for start in starts]
    return ViewCrops(
        frame_size=(height, width),
        resized=resized,
        corners=tuple(corners),
        size=crop_size,
        resize=resize,
    )


def empty_views(num_segments: int, num_views: int, num_frames: int, size: int) -> Tensor:
    """uint8 [num_segments, num_views, num_frames, 3, size, size], to be filled."""
    return torch.from_numpy(
        np.empty((num_segments, num_views, num_frames, 3, size, size), dtype=np.uint8)
    )
