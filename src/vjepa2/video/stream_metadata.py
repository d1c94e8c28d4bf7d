"""What is known of a video file as a whole."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, kw_only=True)
class VideoStreamMetadata:
    """Facts of one video; names are those of torchcodec's class of the same name.

    Attributes:
        num_frames: frames that can be asked for, counted, not taken from the header.
        num_frames_from_header: what the file claims; None if it claims nothing.
        average_fps: `num_frames` over the time they fill.
        duration_seconds: from the first frame to the end of the last.
        begin_stream_seconds, end_stream_seconds: the same on the file's own clock.
        width, height: of the frames as returned, in pixels, after rotation.
        rotation: degrees, counter-clockwise, by which stored frames are turned; None for 0.
        codec, pixel_format: FFmpeg's names, for example "h264" and "yuv420p".
        pixel_aspect_ratio: width over height of one pixel; None if not stated.
        bit_rate: bits per second that the file states for the stream; None if it does not.
        stream_index: number of the stream within the file.
        container: FFmpeg's name of the file format; "folder" for a folder of pictures.
    """

    num_frames: int
    num_frames_from_header: int | None
    average_fps: float
    duration_seconds: float
    begin_stream_seconds: float
    end_stream_seconds: float
    width: int
    height: int
    rotation: int | None
    codec: str
    pixel_format: str
    pixel_aspect_ratio: Fraction | None
    bit_rate: int | None
    stream_index: int
    container: str
