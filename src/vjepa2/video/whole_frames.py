"""Whole pictures as pixels: nothing is cropped, any aspect ratio stays about as it is.

Pixel-wise tasks need a feature for every part of the picture. Both sides are brought to whole
patches: the short side is given, the other one follows from the aspect ratio, and each is rounded
to a multiple of the patch.
"""

from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.errors import ConfigError, check_kind, checked_integer
from vjepa2.video.processor import VJEPA2VideoProcessor

MAX_SIDE = 1 << 14


def whole_size(height: int, width: int, *, short_side: int, multiple: int) -> tuple[int, int]:
    """Height and width of whole patches for a picture.

    Args:
        height, width: of the picture, pixels.
        short_side: about how long its shorter side becomes, pixels.
        multiple: side of a patch.

    Returns:
        Multiples of `multiple`, at least one.

    Raises:
        ConfigError: a number is out of range, or the longer side would be above 16384.
    """
    checked_integer("short_side", short_side, least=1, most=MAX_SIDE)
    checked_integer("multiple", multiple, least=1, most=MAX_SIDE)
    scale = short_side / min(height, width)
    sides = tuple(max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    if max(sides) > MAX_SIDE:
        raise ConfigError(
            f"A picture of {height} x {width} pixels at short_side={short_side} would become "
            f"{sides[0]} x {sides[1]}; at most {MAX_SIDE} are allowed. Choose a smaller short_side."
        )
    return sides[0], sides[1]


def whole_frame_pixels(
    frame: UInt8[Tensor, "3 H W"],
    *,
    processor: VJEPA2VideoProcessor,
    short_side: int,
    multiple: int,
) -> Float[Tensor, "1 3 h w"]:
    """Pixels of a whole picture: resized to whole patches and normalised as the processor does.

    Args:
        frame: RGB, 0..255.
        processor: of the model; its size and crop are not used.
        short_side, multiple: see `whole_size`.

    Raises:
        ConfigError, ShapeError, DtypeError: see `whole_size` and the processor.
    """
    check_kind("processor", processor, VJEPA2VideoProcessor, words="a VJEPA2VideoProcessor")
    height, width = whole_size(
        frame.shape[-2], frame.shape[-1], short_side=short_side, multiple=multiple
    )
    pixels: Tensor = processor(
        frame,
        return_tensors="pt",
        size={"height": height, "width": width},
        do_center_crop=False,
        input_data_format="channels_first",
    )["pixel_values_videos"]
    return pixels[0]
