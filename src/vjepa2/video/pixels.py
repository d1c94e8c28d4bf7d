"""Checks of a clip's pixels before they are resized: color channels and value range."""

import math
from dataclasses import replace

import torch
from jaxtyping import Num
from torch import Tensor

from vjepa2.errors import DtypeError, InputError, ShapeError
from vjepa2.video.inputs import CHANNEL_COUNTS, Clip


def to_rgb(clip: Clip, *, convert: bool) -> Clip:
    """Make sure a clip has three channels.

    Args:
        clip: C = 1 (grey), 3 or 4 (with opacity, in the units 0..255).
        convert: whether grey is repeated and transparent pixels are laid on white (the result is
            then float32, as in the port).

    Raises:
        DtypeError: opacity on the meta device, which holds no values.
        ShapeError: C is not 3 and `convert` is False, or C is none of 1, 3, 4.
    """
    T, C, H, W = clip.shape
    if C == 3:
        return clip
    if C not in CHANNEL_COUNTS or not convert:
        names = {1: " (grey)", 4: " (with opacity)"}
        hint = " Pass do_convert_rgb=True to convert them." if C in names else ""
        swap = " If it is [C, T, H, W], pass video.transpose(0, 1)." if T == 3 else ""
        raise ShapeError(
            f"Expected frames with 3 color channels, got {C}{names.get(C, '')} in a video of "
            f"shape [T, C, H, W] = {[T, C, H, W]}.{hint}{swap}"
        )
    if C == 1:
        return replace(clip, frames=[frame.expand(3, H, W) for frame in clip.frames])
    if clip.device.type == "meta":
        raise DtypeError("A video with opacity must hold its pixels, got one on the meta device.")
    if all(bool((frame[3] >= 255).all()) for frame in clip.frames):
        return replace(clip, frames=[frame[:3] for frame in clip.frames])
    return replace(clip, frames=[_on_white(frame) for frame in clip.frames])


def _on_white(frame: Num[Tensor, "4 H W"]) -> Tensor:
    opacity = frame[3:] / 255.0
    return (1 - opacity) * 255 + opacity * frame[:3]


def check_values(clip: Clip, *, rescale_factor: float) -> None:
    """Refuse NaN, infinity and values that rescaling would turn into nonsense.

    uint8 frames cannot be wrong and are not read, frames on the meta device hold no values. Others
    are read once.

    Args:
        clip: any element type.
        rescale_factor: what pixels will be multiplied by, 0 if they will not. Ranges are
            checked for 1/255 only: another factor says that the caller knows the range.

    Raises:
        DtypeError: NaN or infinity.
        InputError: rescaling was asked for, and the frames are floats within 0..1 (rescaled
            before) or integers outside 0..255.
    """
    if clip.dtype == torch.uint8 or clip.device.type == "meta":
        return
    bounds = [torch.stack(torch.aminmax(frame)) for frame in clip.frames]
    stacked = torch.stack(bounds).to(torch.float64).cpu()
    low, high = float(stacked.amin()), float(stacked.amax())
    if not bool(stacked.isfinite().all()):
        bad = [position for position, pair in enumerate(stacked) if not bool(pair.isfinite().all())]
        raise DtypeError(
            f"The video holds NaN or infinity in {len(bad)} of {len(bounds)} frames (first: frame "
            f"{bad[0]}). Clean the frames, or pass them as uint8."
        )
    if not math.isclose(rescale_factor, 1 / 255):
        return
    if clip.dtype.is_floating_point:
        whole = all(bool((frame == frame.round()).all()) for frame in clip.frames)
        if high <= 1.0 and not whole:  # frames of plain 0 and 1 are very dark ones
            raise InputError(
                f"The video is {clip.dtype} with values from {low:g} to {high:g}: it seems to be "
                "rescaled already, and would be divided by 255 again. Pass do_rescale=False, or "
                "multiply the frames by 255."
            )
    elif low < 0 or high > 255:
        raise InputError(
            f"The video is {clip.dtype} with values from {low:g} to {high:g}, expected 0 to 255. "
            "For another range pass rescale_factor=1 / (largest possible value)."
        )
