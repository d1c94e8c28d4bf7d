"""Decode with torchcodec instead of PyAV (an extra: `pip install 'vjepa2[torchcodec]'`).

On CPU both are FFmpeg and equally fast; torchcodec is for those who have it set up, for example
with an FFmpeg of their own. Numbers and times of frames come from the same table as with PyAV, and
every frame that torchcodec returns is checked against it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import MissingExtraError, VideoDecodeError
from vjepa2.video.frame_table import FrameTable
from vjepa2.video.limits import ReadLimits
from vjepa2.video.pyav_decoder import PyAVDecoder
from vjepa2.video.rgb import NUM_CHANNELS
from vjepa2.video.sources import OpenedSource
from vjepa2.video.stream_metadata import VideoStreamMetadata

SAME_TIME_SECONDS = 1e-6


def import_video_decoder() -> Any:
    """Return torchcodec's class `VideoDecoder`.

    Raises:
        MissingExtraError: torchcodec is not installed, or does not fit this PyTorch or FFmpeg.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    # A build for another PyTorch, for CUDA, or without FFmpeg fails with any of the three.
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise MissingExtraError(
            "torchcodec", extra="torchcodec", needed_for="backend='torchcodec'", reason=reason
        ) from error
    return VideoDecoder


class TorchcodecDecoder:
    """Frames of one file by their number; see `PyAVDecoder`, which has the same methods.

    Raises:
        MissingExtraError: torchcodec cannot be imported.
        VideoOpenError, NoVideoStreamError, VideoTooLargeError: the file cannot be opened.
    """

    def __init__(self, source: OpenedSource, *, limits: ReadLimits, threads: int) -> None:
        self._class = import_video_decoder()
        self._source = source
        self._threads = threads
        self._facts = PyAVDecoder(source, limits=limits, threads=threads, skip_damage=False)
        self._decoder: Any = None

    def close(self) -> None:
        """Free the decoders and the file."""
        self._decoder = None
        self._facts.close()

    @property
    def table(self) -> FrameTable:
        """Number and times of the frames."""
        return self._facts.table

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the returned frames, after rotation."""
        return self._facts.size

    def metadata(self) -> VideoStreamMetadata:
        """Facts of the video."""
        return self._facts.metadata()

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]:
        """Return frames as uint8 RGB, in the order of `indices`, which may repeat.

        Raises:
            VideoDecodeError: a frame is damaged, or torchcodec sees other frames than the table.
        """
        height, width = self.size
        if not indices:
            return torch.empty((0, NUM_CHANNELS, height, width), dtype=torch.uint8)
        if self._decoder is None:
            self._decoder = self._open()
        try:
            batch = self._decoder.get_frames_at(indices=list(indices))
        except (RuntimeError, ValueError, IndexError) as error:
            raise self._error(f"cannot decode the frames: {error}") from error
        expected = self.table.pts_seconds[np.array(indices)]
        got = batch.pts_seconds.numpy()
        wrong = np.flatnonzero(np.abs(got - expected) > SAME_TIME_SECONDS)
        if len(wrong):
            first = wrong[0]
            raise self._error(
                f"gives frame {indices[first]} the time {got[first]:.6f} s, the file says "
                f"{expected[first]:.6f} s"
            )
        pixels: Tensor = batch.data
        if pixels.shape != (len(indices), NUM_CHANNELS, height, width):
            raise self._error(
                f"returned {list(pixels.shape)}, expected "
                f"{[len(indices), NUM_CHANNELS, height, width]}"
            )
        return pixels

    def _open(self) -> Any:
        num_frames = len(self.table)
        self._source.file.seek(0)
        try:
            decoder = self._class(self._source.file, num_ffmpeg_threads=self._threads)
        except (RuntimeError, ValueError, OSError) as error:
            raise self._error(f"cannot open the file: {error}") from error
        if decoder.metadata.num_frames != num_frames:
            raise self._error(f"finds {decoder.metadata.num_frames} frames instead of {num_frames}")
        return decoder

    def _error(self, what: str) -> VideoDecodeError:
        return VideoDecodeError(
            f"{self._source.name}: torchcodec {what.strip()}. Use backend='pyav' for this file."
        )
