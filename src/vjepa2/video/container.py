"""Open a video file with PyAV (FFmpeg), guarded, and say what is wrong when it cannot be opened.

FFmpeg reads far more than video files: playlists that name other files and addresses, patterns,
capture devices. Only the formats listed here are accepted, and nothing but the one open file is
ever read. PyAV is imported when the first video is opened, not before.
"""

import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from vjepa2.errors import (
    MissingExtraError,
    NoVideoStreamError,
    VideoDecodeError,
    VideoOpenError,
    VideoTooLargeError,
)
from vjepa2.video.limits import ReadLimits
from vjepa2.video.sources import OpenedSource

if TYPE_CHECKING:
    import av
    import av.container

# FFmpeg demuxers that read one file and nothing else. Left out on purpose: hls, dash, concat, sdp
# and the like (they open other files and addresses), image2 (file-name patterns), devices.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "flv",
    "asf",
    "ogg",
    "mxf",
    "nut",
    "ivf",
    "obu",
    "h264",
    "hevc",
    "vvc",
    "av1",
    "m4v",
    "mjpeg",
    "dv",
    "yuv4mpegpipe",
    "gif",
    "apng",
    "png_pipe",
    "jpeg_pipe",
    "bmp_pipe",
    "webp_pipe",
    "tiff_pipe",
    "ppm_pipe",
    "pgm_pipe",
    "pbm_pipe",
    "pam_pipe",
    "qoi_pipe",
    "j2k_pipe",
    "jpegxl_pipe",
    # Sound only: opened so that the message can say that there is no video in them.
    "wav",
    "mp3",
    "flac",
    "aac",
)
READ_BUFFER_BYTES = 1 << 16
# Each thread holds a few decoded frames; more of them add memory and hardly any speed.
MAX_AUTO_THREADS = 8


class _NamelessFile:
    """Hides the name of a file: FFmpeg would guess the format from it, patterns included."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def import_av() -> Any:
    """Return the module `av`.

    Raises:
        MissingExtraError: PyAV is not installed or cannot be loaded.
    """
    try:
        import av
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            "av", needed_for="Reading and writing video files", reason=str(error)
        ) from error
    return av


@dataclass
class OpenVideo:
    """An open container and the stream to decode.

    Attributes:
        source: the file behind it.
        container, stream: PyAV's objects.
        width, height: of a stored frame in pixels, before rotation.
    """

    source: OpenedSource
    container: "av.container.InputContainer"
    stream: "av.VideoStream"
    width: int = field(init=False)
    height: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = self.stream.codec_context.width
        self.height = self.stream.codec_context.height

    def close(self) -> None:
        """Free the decoder; the file stays open."""
        self.container.close()


def open_video(
    source: OpenedSource, *, limits: ReadLimits, threads: int = 0, careful: bool = False
) -> OpenVideo:
    """Open the best video stream of a file.

    Args:
        source: the file; reading starts at its beginning.
        limits: `max_pixels` is enforced before any frame is decoded.
        threads: decoder threads, 0 for one per processor, at most `MAX_AUTO_THREADS`.
        careful: no threads. Slower, but an error concerns exactly the packet that caused it
            (frame threads lose good frames near a bad one, slice threads do not report damage).

    Raises:
        VideoOpenError, NoVideoStreamError, VideoTooLargeError: see `vjepa2.errors`.
    """
    container = _open_container(source, {"max_pixels": str(limits.max_pixels)})
    try:
        stream = _best_video_stream(container, source)
        _check_size(stream, source, limits=limits)
        stream.thread_type = "NONE" if careful else "AUTO"
        stream.codec_context.thread_count = threads or min(os.cpu_count() or 1, MAX_AUTO_THREADS)
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
    except (VideoOpenError, NoVideoStreamError, VideoTooLargeError):
        container.close()
        raise
    return OpenVideo(source=source, container=container, stream=stream)


def _open_container(source: OpenedSource, probe_options: dict[str, str]) -> Any:
    """Open the file; `probe_options` go to the decoders that look at its first packets."""
    av = import_av()
    try:
        source.file.seek(0)
        return av.open(
            _NamelessFile(source.file),
            mode="r",
            # Nothing else may be opened.
            container_options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": ""},
            options=probe_options,
            buffer_size=READ_BUFFER_BYTES,
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoOpenError(_explain_open(source, error)) from error


def _best_video_stream(container: Any, source: OpenedSource) -> Any:
    streams = [s for s in container.streams.video if not _is_cover_picture(s)]
    best = container.streams.best("video")
    stream = best if best in streams else next(iter(streams), None)
    if stream is None:
        covers = [s for s in container.streams.video if _is_cover_picture(s)]
        kinds = sorted(
            {"cover picture" if s in covers else s.type for s in container.streams} or {"nothing"}
        )
        raise NoVideoStreamError(
            f"{source.name} ({container.format.name}) holds no video, only: {', '.join(kinds)}. "
            "Give a file with a video track."
        )
    if stream.codec_context is None:
        raise VideoOpenError(
            f"{source.name}: its video codec is not known to this FFmpeg. Convert the file, for "
            "example with: ffmpeg -i FILE -c:v libx264 out.mp4"
        )
    return stream


def _is_cover_picture(stream: Any) -> bool:
    """True for the picture of an album, which sound files carry as a video stream."""
    disposition = stream.disposition
    return bool(disposition & type(disposition).attached_pic)


def _check_size(stream: Any, source: OpenedSource, *, limits: ReadLimits) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width <= 0 or height <= 0:
        width, height = _declared_size(source)
    if width * height > limits.max_pixels:
        raise VideoTooLargeError(
            f"{source.name} has frames of {width}x{height} = {width * height} pixels, more than "
            f"max_pixels = {limits.max_pixels}. If that is right, raise ReadLimits.max_pixels."
        )
    if width <= 0 or height <= 0:
        raise VideoOpenError(
            f"{source.name} opens, but no picture size can be found in it: it is cut off before "
            "the first complete frame, damaged, or larger than FFmpeg allows (about 16000x16000). "
            "Download or export it again."
        )


def _declared_size(source: OpenedSource) -> tuple[int, int]:
    """Width and height that a file claims whose pictures were refused or cannot be read."""
    source.file.seek(0)
    head = source.file.read(24)
    if head.startswith(b"\x89PNG"):  # FFmpeg would decode all of it to tell; RFC 2083, 4.1.1
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    with _open_container(source, {"skip_frame": "all"}) as container:
        streams = container.streams.video
        if not streams or streams[0].codec_context is None:
            return 0, 0
        return streams[0].codec_context.width, streams[0].codec_context.height


def _explain_open(source: OpenedSource, error: Exception) -> str:
    av = import_av()
    source.file.seek(0)
    head = source.file.read(32)
    what = f"{source.name} ({source.size_bytes} bytes)"
    reason = getattr(error, "strerror", None) or error
    if isinstance(error, av.error.ArgumentError):
        return (
            f"{what} is not one of the accepted video formats (mp4, mov, mkv, webm, avi, ts, gif, "
            "png, jpeg and others). Playlists and scripts that name other files are refused; "
            "give the video file itself."
        )
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"moov"):
        return (
            f"{what} is an mp4/mov file without a complete index: the end is missing (a cut "
            f"download, or a recording that was not closed), or it is damaged ({reason}). "
            "Download or export it again."
        )
    return (
        f"{what} is not a video that can be read ({reason}). It begins with {head[:12]!r}. "
        "Check that it is the right file and complete."
    )


def decode_error(source: OpenedSource, text: str) -> VideoDecodeError:
    """Return the error of a damaged video, with the advice that goes with it."""
    return VideoDecodeError(
        f"{source.name}: {text} Download or export it again, or open it with "
        "on_damage='skip' to use what can be decoded."
    )
