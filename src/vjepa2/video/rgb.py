"""Turn a decoded frame into RGB pixels, upright."""

import math
import mmap
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import VideoTooLargeError
from vjepa2.video.container import import_av

if TYPE_CHECKING:
    import av

NUM_CHANNELS = 3
# Smaller results are left to the heap: a process may have only some 65 thousand mappings.
OWN_PAGES_BYTES = 1 << 20


def empty_pictures(count: int, *, height: int, width: int) -> UInt8[Tensor, "T H W 3"]:
    """Return memory for pictures that goes back to the system when it is freed.

    Large tensors come from the heap once the C library has seen one freed, and frames that the
    decoder allocates in between keep the heap from shrinking: 64 frames of 720p read in groups of
    8 took 165 MB so, and take 80 MB in pages of their own (measured with glibc 2.36).

    Raises:
        VideoTooLargeError: the system has no such memory.
    """
    shape = (count, height, width, NUM_CHANNELS)
    size_bytes = math.prod(shape)
    if size_bytes < OWN_PAGES_BYTES:
        return torch.empty(shape, dtype=torch.uint8)
    try:
        if sys.platform == "win32":
            pages = mmap.mmap(-1, size_bytes)
        else:  # private, so that a forked process gets its own copy
            pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise VideoTooLargeError(
            f"There is no memory for {count} frames of {width}x{height} ({size_bytes} bytes): "
            f"{error.strerror}. Ask for fewer frames at a time."
        ) from error
    # The tensor keeps the pages; they are freed with the last tensor that shows them.
    return torch.frombuffer(pages, dtype=torch.uint8).view(shape)


class RGBConverter:
    """Converts frames of one video; all come out in the size of the first.

    Colours are converted as FFmpeg does by default, with the matrix and range that the file states
    (equal to torchcodec bit for bit with 8-bit 4:2:0 H.264). The rotation that cameras store is
    applied, rounded to quarter turns. A size that changes on the way is scaled to the first one,
    as FFmpeg's tools do.

    Attributes:
        height, width: of the upright result, in pixels.
        rotation: degrees, counter-clockwise: 0, 90, 180 or 270.
    """

    def __init__(self, first: "av.VideoFrame") -> None:
        # One reformatter for all frames keeps its tables from frame to frame.
        self._reformatter = import_av().video.reformatter.VideoReformatter()
        self._stored = (first.height, first.width)
        self.rotation = round(first.rotation / 90) % 4 * 90
        turned = self.rotation % 180 == 90
        self.height, self.width = self._stored[::-1] if turned else self._stored

    def write(self, frame: "av.VideoFrame", target: NDArray[np.uint8]) -> None:
        """Convert `frame` straight into `target`, uint8 [H, W, 3]."""
        height, width = self._stored
        picture = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=1
        )
        plane = picture.planes[0]
        # Rows may be padded for alignment.
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        image = rows[:height, : width * NUM_CHANNELS].reshape(height, width, NUM_CHANNELS)
        target[...] = np.rot90(image, self.rotation // 90)
