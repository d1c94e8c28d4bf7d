"""Turn a decoded frame into RGB pixels, upright."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vjepa2.video.container import import_av

if TYPE_CHECKING:
    import av

NUM_CHANNELS = 3


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
