"""Sizes: how large a frame is resized, and which part of it the centre crop keeps.

    crop 256 -> short side int(256 * 256 / 224) = 292 -> a 1080 x 1920 frame becomes 292 x 519
             -> rows 18..274, columns 131..387

Source: transformers 5.23 `VJEPA2VideoProcessor`; V-JEPA 2 `make_transforms` for the rounding
called "meta".
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vjepa2.errors import ConfigError, ShapeError, checked_integer, described
from vjepa2.video.resize import BILINEAR, AxisWindow, ResizeMode, axis_window

CropRounding = Literal["port", "meta"]

MAX_RESIZED_PIXELS = 1 << 26
"""Largest resized frame (67 megapixels): only absurdly long and thin frames reach it."""

_SIZE_FORMS = (("shortest_edge",), ("height", "width"), ("min_height", "min_width"))


def crop_dict(crop_size: object) -> dict[str, int]:
    """Read a crop size: `n`, `(height, width)` or `{"height": h, "width": w}`.

    Raises:
        ConfigError: another form, or a number that is not a positive integer.
    """
    if isinstance(crop_size, Mapping) and set(crop_size) == {"height", "width"}:
        pair: tuple[object, ...] = (crop_size["height"], crop_size["width"])
    elif isinstance(crop_size, Sequence) and len(crop_size) == 2:
        pair = tuple(crop_size)
    else:
        pair = (crop_size, crop_size)
    if not all(_is_positive(value) for value in pair):
        raise ConfigError(
            f"crop_size={described(crop_size)} is not a size in pixels; allowed: n, (height, "
            'width), {"height": h, "width": w} with integers above 0.'
        )
    height, width = (checked_integer("crop_size", value) for value in pair)
    if height * width > MAX_RESIZED_PIXELS:
        raise ConfigError(
            f"crop_size={described(crop_size)} is more than {MAX_RESIZED_PIXELS} pixels a frame."
        )
    return {"height": height, "width": width}


def size_dict(size: object) -> dict[str, int]:
    """Read a frame size before the crop.

    Allowed: `{"shortest_edge": n}` and `{"min_height": h, "min_width": w}` (both keep the aspect
    ratio), `{"height": h, "width": w}`, `(h, w)`, and `n`, which means n x n as in the port.

    Raises:
        ConfigError: another form, or a number that is not a positive integer.
    """
    if isinstance(size, Mapping):
        for names in _SIZE_FORMS:
            if set(size) == set(names) and all(_is_positive(size[name]) for name in names):
                return {name: checked_integer("size", size[name]) for name in names}
    elif _is_positive(size) or (isinstance(size, Sequence) and len(size) == 2):
        pair = crop_dict(size)
        return {"height": pair["height"], "width": pair["width"]}
    raise ConfigError(
        f'size={described(size)} is not a frame size; allowed: {{"shortest_edge": n}}, '
        '{"height": h, "width": w}, {"min_height": h, "min_width": w}, (h, w), n (a square), '
        "with integers above 0."
    )


def _is_positive(value: object) -> bool:
    is_whole = isinstance(value, int | numbers.Integral) and not isinstance(value, bool)
    return is_whole and checked_integer("size", value) > 0


def default_size(crop: Mapping[str, int]) -> dict[str, int]:
    """Size of the resized frame that belongs to a crop.

    A square crop gives the reference's `{"shortest_edge": 256/224 of it}`. For another crop the
    frame must cover 256/224 of both sides, so nothing is padded, whatever its aspect ratio (the
    reference looks at the height only).
    """
    height, width = resize_edge(crop["height"]), resize_edge(crop["width"])
    if height == width:
        return {"shortest_edge": height}
    return {"min_height": height, "min_width": width}


def resized_size(size: Mapping[str, int], *, height: int, width: int) -> tuple[int, int]:
    """Height and width that a frame of height x width is resized to.

    Raises:
        ShapeError: the result would be enormous: a very long and thin frame, or a huge size.
    """
    if "height" in size:
        rows, columns = size["height"], size["width"]
    else:
        edge = size.get("shortest_edge", 0)
        rows, columns = fit_size(
            height,
            width,
            min_height=size.get("min_height", edge),
            min_width=size.get("min_width", edge),
        )
    if rows * columns > MAX_RESIZED_PIXELS:
        raise ShapeError(
            f"Frames of {height} x {width} would become {rows} x {columns} pixels before the "
            f"crop, more than {MAX_RESIZED_PIXELS}. Check the axis order and the size, or crop "
            "first."
        )
    return rows, columns


def resize_edge(crop: int) -> int:
    """Short side of the resized frame for a crop: 256/224 of it, truncated (256 -> 292)."""
    return int(crop * 256 / 224)


def fit_size(height: int, width: int, *, min_height: int, min_width: int) -> tuple[int, int]:
    """Size with the frame's aspect ratio that just covers min_height x min_width.

    The covering side is hit exactly, the other one is truncated to whole pixels. With
    `min_height == min_width` this sets the short side, as the reference does.
    """
    if min_height * width >= min_width * height:
        return min_height, int(min_height * width / height)
    return int(min_width * height / width), min_width


class AxisCrop(NamedTuple):
    """Centre crop along one axis: pixels [start, stop) land at `offset` of a result of `size`."""

    start: int
    stop: int
    offset: int
    size: int

    @property
    def kept(self) -> slice:
        """Pixels of the axis that the crop keeps."""
        return slice(self.start, self.stop)

    @property
    def target(self) -> slice:
        """Where the kept pixels lie in the result; the rest of it is padding."""
        return slice(self.offset, self.offset + self.stop - self.start)


def center_crop(length: int, crop: int, *, rounding: CropRounding) -> AxisCrop:
    """Plan the centre crop of an axis of `length` pixels to `crop` pixels.

    A shorter axis is padded with zeros (black), the odd pixel going after it. An odd margin puts
    the crop half a pixel off: `"port"` truncates, `"meta"` rounds half to even like the original
    code, which is one pixel further on every 16:9 video.
    """
    if length <= crop:
        return AxisCrop(0, length, (crop - length) // 2, crop)
    margin = (length - crop) / 2.0
    start = round(margin) if rounding == "meta" else int(margin)
    return AxisCrop(start, start + crop, 0, crop)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What happens to every frame of a video: resize to height x width, then crop.

    Attributes:
        height, width: size after the resize, in pixels (the frame's own where none is wanted).
        rows, columns: the crop.
        resample: number of the filter (`vjepa2.video.resize`).
        mode: `"exact"`, or `"fast"` to resize only what the crop keeps.
    """

    height: int
    width: int
    rows: AxisCrop
    columns: AxisCrop
    resample: int
    mode: ResizeMode

    @property
    def padded(self) -> bool:
        """True if part of the result is not covered by the frame."""
        return any(axis.stop - axis.start < axis.size for axis in (self.rows, self.columns))

    def vertical_first(self, H: int) -> bool:
        """Whether frames of H rows are resized along their columns first (fast mode).

        Only where that shrinks them. Not with the cubic filter: it overshoots, uint8 clips what
        lies between the two passes, and the results differ by up to 20 levels on white noise.
        """
        return self.mode == "fast" and self.resample == BILINEAR and self.height < H

    def windows(self, H: int, W: int) -> tuple[AxisWindow, AxisWindow]:
        """Rows and columns that the smooth filters must compute for frames of H x W."""
        rows = self._window(H, self.height, self.rows)
        return rows, self._window(W, self.width, self.columns)

    def _window(self, num_in: int, num_out: int, crop: AxisCrop) -> AxisWindow:
        return axis_window(
            num_in,
            num_out,
            start=crop.start,
            stop=crop.stop,
            resample=self.resample,
            mode=self.mode,
        )
