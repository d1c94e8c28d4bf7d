"""A folder of pictures, one file a frame, read as a video.

Data sets are often stored so (`frame_0001.jpg`, `frame_0002.jpg`, ...). Pictures are decoded one
at a time by the same decoder as videos, so no image library is needed.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import NoVideoStreamError, VideoDecodeError, VideoError, VideoTooLargeError
from vjepa2.video.container import open_video
from vjepa2.video.cursor import FrameCursor
from vjepa2.video.frame_table import FrameTable
from vjepa2.video.jpeg import jpeg_is_cut
from vjepa2.video.limits import ReadLimits
from vjepa2.video.rgb import RGBConverter, empty_pictures
from vjepa2.video.sources import open_source
from vjepa2.video.stream_metadata import VideoStreamMetadata

JPEG_SUFFIXES = (".jpg", ".jpeg")
SUFFIXES = (*JPEG_SUFFIXES, ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".qoi")


class PictureFolder:
    """Frames of a folder by their number.

    Files with one of `SUFFIXES` are frames, in natural order of their names (2 before 10); hidden
    files and other files are left out. The first picture sets the size. Opacity is ignored, as in
    the port: a transparent pixel shows the colour that is stored for it. To lay pictures on white
    or black, do so before, or hand arrays with four channels to the processor (`do_convert_rgb`).

    Args:
        folder: an existing folder.
        fps: frames per second, above 0; frame i is shown at i / fps.
        limits: of pixels and frames.
        skip_damage: leave out pictures that cannot be decoded; each is decoded once to know.

    Raises:
        NoVideoStreamError: no pictures.
        VideoTooLargeError: more than `limits.max_frames` pictures.
    """

    def __init__(self, folder: Path, *, fps: float, limits: ReadLimits, skip_damage: bool) -> None:
        self._folder = folder
        self._fps = fps
        self._limits = limits
        self._paths = sorted(
            (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."),
            key=_natural,
        )
        if len(self._paths) > limits.max_frames:
            raise VideoTooLargeError(
                f"{folder} holds {len(self._paths)} pictures, more than max_frames = "
                f"{limits.max_frames}. Split it, or raise ReadLimits.max_frames."
            )
        if skip_damage:
            self._paths = [path for path in self._paths if self._is_readable(path)]
        if not self._paths:
            raise NoVideoStreamError(
                f"The folder {folder} holds no pictures{' that can be read' * skip_damage} "
                f"({', '.join(SUFFIXES)}). Give a folder of frames, or one video file."
            )
        self._first: _Picture | None = None

    def close(self) -> None:
        """Nothing stays open between calls."""

    @property
    def table(self) -> FrameTable:
        """One frame a picture, evenly spaced."""
        count = len(self._paths)
        ticks = np.arange(count, dtype=np.int64)
        return FrameTable(
            ticks=ticks,
            dts=ticks,
            pts_seconds=ticks / self._fps,
            duration_seconds=np.full(count, 1 / self._fps),
            key_pts=ticks,
            key_dts=ticks,
            by_pts=True,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first picture."""
        if self._first is None:
            self._first = self._read(self._paths[0])
        return self._first.height, self._first.width

    def metadata(self) -> VideoStreamMetadata:
        """Facts of the folder as a video."""
        first = self._read(self._paths[0])
        seconds = len(self._paths) / self._fps
        return VideoStreamMetadata(
            num_frames=len(self._paths),
            num_frames_from_header=None,
            average_fps=self._fps,
            duration_seconds=seconds,
            begin_stream_seconds=0.0,
            end_stream_seconds=seconds,
            width=first.width,
            height=first.height,
            rotation=first.rotation or None,
            codec=first.codec,
            pixel_format=first.pixel_format,
            pixel_aspect_ratio=None,
            bit_rate=None,
            stream_index=0,
            container="folder",
        )

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]:
        """Return pictures as uint8 RGB, in the order of `indices`, which may repeat.

        Raises:
            VideoDecodeError: a picture is damaged or of another size.
        """
        height, width = self.size
        pixels = empty_pictures(len(indices), height=height, width=width)
        places: dict[int, int] = {}
        for place, index in enumerate(indices):
            if index in places:
                pixels[place] = pixels[places[index]]
            else:
                self._read(self._paths[index], target=pixels[place].numpy())
                places[index] = place
        return pixels.permute(0, 3, 1, 2)

    def _is_readable(self, path: Path) -> bool:
        try:
            self._read(path)
        except VideoError:
            return False
        return True

    def _read(self, path: Path, *, target: NDArray[np.uint8] | None = None) -> "_Picture":
        """Decode one picture, into `target` [H, W, 3] if given."""
        source = open_source(path, limits=self._limits)
        try:
            # Pictures are small work: one thread each starts fastest.
            video = open_video(source, limits=self._limits, threads=1, careful=True)
            try:
                cursor = FrameCursor(video)
                frame = cursor.next_frame()
                is_cut = path.suffix.lower() in JPEG_SUFFIXES and jpeg_is_cut(path.read_bytes())
                if frame is None or cursor.is_doubtful or is_cut:
                    raise VideoDecodeError(
                        f"{path} is damaged. Restore it, take it out of the folder, or open the "
                        "folder with on_damage='skip'."
                    )
                converter = RGBConverter(frame)
                if target is not None:
                    self._check_size(path, converter)
                    converter.write(frame, target)
                codec, pixel_format = video.stream.codec_context.name, frame.format.name
            finally:
                video.close()
        finally:
            source.close()
        return _Picture(converter.height, converter.width, converter.rotation, codec, pixel_format)

    def _check_size(self, path: Path, converter: RGBConverter) -> None:
        height, width = self.size
        if (converter.height, converter.width) != (height, width):
            raise VideoDecodeError(
                f"{path} is {converter.width}x{converter.height}, but the first picture, "
                f"{self._paths[0].name}, is {width}x{height}. The frames of a video have one "
                "size: scale them, or move them to a folder of their own."
            )


class _Picture(NamedTuple):
    height: int
    width: int
    rotation: int
    codec: str
    pixel_format: str


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which 'frame2' comes before 'frame10'."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]
