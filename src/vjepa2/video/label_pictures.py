"""Pictures whose pixels are numbers, not colours: classes, objects, distances.

Data sets of labels come as PNG files of eight or sixteen bits without colour, or with a palette
whose colours are for the eye only and whose entries are the labels (ADE20K, Cityscapes, VOC,
DAVIS; NYU and KITTI for distances).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vjepa2.errors import VideoDecodeError, check_path
from vjepa2.video.container import import_av, open_video
from vjepa2.video.limits import ReadLimits
from vjepa2.video.sources import open_source

# FFmpeg's name of a pixel format to how its bytes are read.
_NUMBERS = {"gray": "u1", "pal8": "u1", "gray16be": ">u2", "gray16le": "<u2"}


def read_label_picture(
    path: str | os.PathLike[str], *, limits: ReadLimits | None = None
) -> Int[Tensor, "H W"]:
    """Read the numbers of a picture.

    Args:
        path: a PNG (or another lossless picture) of eight or sixteen bits without colour, or with a
            palette, whose entries' numbers are returned.
        limits: of pixels and bytes.

    Returns:
        int64, 0 to 65535.

    Raises:
        VideoError: the file cannot be read, see `vjepa2.errors`.
        VideoDecodeError: it is damaged, or has colours instead of numbers.
    """
    check_path("path", path)
    limits = ReadLimits() if limits is None else limits
    source = open_source(Path(path), limits=limits)
    try:
        video = open_video(source, limits=limits, threads=1, careful=True)
        try:
            return _numbers(video.container, Path(path))
        finally:
            video.close()
    finally:
        source.close()


def _numbers(container: Any, path: Path) -> Int[Tensor, "H W"]:
    av = import_av()
    try:
        frame = next(container.decode(video=0))
    except (av.error.FFmpegError, StopIteration) as error:
        raise VideoDecodeError(f"{path} is damaged: {error or 'no picture in it'}.") from error
    kind = frame.format.name
    if kind not in _NUMBERS:
        raise VideoDecodeError(
            f"{path} has pixels of kind {kind!r}, colours or bits instead of numbers. A picture of "
            "labels is a PNG of eight or sixteen bits without colour, or with a palette."
        )
    element = np.dtype(_NUMBERS[kind])
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[: frame.height]
    values = np.ascontiguousarray(rows[:, : frame.width * element.itemsize]).view(element)
    return torch.from_numpy(values.astype(np.int64))
