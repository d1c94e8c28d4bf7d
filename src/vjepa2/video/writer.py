"""Write frames as H.264 video, to a file or through a codec and back.

The demonstration, the training data and the tests need real video files with the losses of a real
codec. One encoder serves all of them: libx264 inside PyAV. Colours are stored as BT.709 limited
range and say so in the file, so that every player and decoder turns them back alike.
"""

import io
import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    OutputError,
    ShapeError,
    check_choice,
    check_kind,
    check_path,
    checked_integer,
    checked_number,
    described,
)
from vjepa2.files import atomic_path
from vjepa2.video.container import import_av

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")
MAX_CRF = 51
MAX_INTERVAL = 1 << 20
MAX_THREADS = 128  # of x264
BT709 = 1  # ITU-T H.273 code point of the colour primaries, transfer and matrix


@dataclass(frozen=True, kw_only=True)
class H264:
    """How frames are encoded.

    Attributes:
        fps: frames per second, above 0.
        crf: constant rate factor, 0 (lossless but for the colour conversion) to 51 (worst).
        preset: effort of libx264, one of `PRESETS`; slower ones give smaller files.
        keyframe_interval: a keyframe at least every so many frames; seeking is quick near them.
        threads: encoder threads; the bytes depend on it, the frames hardly.

    Raises:
        ConfigError: a value is out of range.
    """

    fps: float = 30.0
    crf: int = 23
    preset: str = "veryfast"
    keyframe_interval: int = 250
    threads: int = 1

    def __post_init__(self) -> None:
        check_choice("H.264 preset", self.preset, PRESETS)
        checked_number("fps", self.fps, above=0, most=1000)
        checked_integer("crf", self.crf, least=0, most=MAX_CRF)
        checked_integer("keyframe_interval", self.keyframe_interval, least=1, most=MAX_INTERVAL)
        checked_integer("threads", self.threads, least=1, most=MAX_THREADS)


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[Tensor],
    *,
    codec: H264 | None = None,
    comment: str | None = None,
) -> Path:
    """Write frames as an H.264 video; the file appears complete or not at all.

    Args:
        path: target; its suffix chooses the container (`.mp4`, `.mov` or `.mkv`).
        frames: uint8 tensor [T, 3, H, W], or any iterable of uint8 [3, H, W] (RGB, 0..255), so
            that a long video never has to be in memory at once. An odd height or width is stored
            with full colour resolution (yuv444p), which some players do not show; even sizes
            are stored as yuv420p, which all do.
        codec: how to encode; default `H264()`.
        comment: a line about the file, kept in its metadata.

    Returns:
        The path written.

    Raises:
        ConfigError: the suffix is not a known container, or an argument is of a wrong kind.
        ShapeError, DtypeError: a frame is not uint8 [3, H, W], or sizes differ.
        OutputError: the file cannot be written, or there are no frames.
    """
    check_path("path", path)
    target = Path(path)
    check_choice("Video suffix", target.suffix.lower(), CONTAINERS)
    metadata = {} if comment is None else {"comment": _checked_comment(comment)}
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        container = CONTAINERS[target.suffix.lower()]
        _encode(file, frames, container=container, codec=codec, metadata=metadata)
    return target


def encode_video(frames: Iterable[Tensor], *, codec: H264 | None = None) -> bytes:
    """Return the bytes of an mp4 file; arguments and errors as in `write_video`."""
    buffer = io.BytesIO()
    _encode(buffer, frames, container="mp4", codec=codec)
    return buffer.getvalue()


def h264_round_trip(
    frames: UInt8[Tensor, "T 3 H W"], *, codec: H264 | None = None
) -> UInt8[Tensor, "T 3 H W"]:
    """Encode frames as an mp4 in memory and decode them again: the losses of a real codec.

    The result has the same shape and number of frames. Deterministic for one FFmpeg build.
    """
    av = import_av()
    data = encode_video(frames, codec=codec)
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def _checked_comment(comment: object) -> str:
    check_kind("comment", comment, str, words="text")
    assert isinstance(comment, str)
    if "\0" in comment or comment != comment.encode("utf-8", "replace").decode("utf-8"):
        raise ConfigError(f"comment holds a character that is no text: {described(comment)}.")
    return comment


def _encode(
    target: IO[bytes],
    frames: Iterable[Tensor],
    *,
    container: str,
    codec: H264 | None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Encode `frames` into the open binary file `target`."""
    av = import_av()
    codec = H264() if codec is None else codec
    check_kind("codec", codec, H264, words="an H264")
    check_kind("frames", frames, Iterable, words="a tensor or a list of tensors", error=DtypeError)
    if isinstance(frames, Tensor) and frames.dim() != 4:
        raise ShapeError(f"frames must be [T, 3, H, W], got {list(frames.shape)}.")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise OutputError("There are no frames to write: hand over at least one.")
    _check_frame(first, number=0, like=first)
    try:
        with av.open(target, "w", format=container) as output:
            output.metadata.update(metadata or {})
            pixel_format = _pixel_format(first)
            stream = _add_stream(output, first, codec=codec)
            # One converter for all frames: a fresh one per frame costs more than the encoding.
            converter = av.video.reformatter.VideoReformatter()
            for number, frame in enumerate(itertools.chain([first], iterator)):
                _check_frame(frame, number=number, like=first)
                picture = _to_picture(frame, converter, pixel_format=pixel_format)
                output.mux(stream.encode(picture))
            output.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise OutputError(f"Cannot encode the video: {error}.") from error


def _add_stream(output: "OutputContainer", first: Tensor, *, codec: H264) -> "VideoStream":
    from av.video.reformatter import ColorRange

    rate = Fraction(codec.fps).limit_denominator(65535)
    stream = output.add_stream(
        "libx264",
        rate=rate,
        options={
            "crf": str(codec.crf),
            "preset": codec.preset,
            "g": str(codec.keyframe_interval),
            "threads": str(codec.threads),
            # With its macroblock tree x264 reads memory it never wrote, when pictures are small:
            # one clip in thirteen came out with other bytes each time.
            "x264-params": "mbtree=0",
        },
    )
    stream.height, stream.width = first.shape[1], first.shape[2]
    stream.pix_fmt = _pixel_format(first)
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
    return stream


def _pixel_format(frame: Tensor) -> str:
    """yuv420p halves both axes, which odd sizes do not allow."""
    return "yuv444p" if frame.shape[1] % 2 or frame.shape[2] % 2 else "yuv420p"


def _to_picture(frame: Tensor, converter: "VideoReformatter", *, pixel_format: str) -> "VideoFrame":
    from av import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    pixels = frame.permute(1, 2, 0).contiguous().cpu().numpy()
    return converter.reformat(
        VideoFrame.from_ndarray(pixels, format="rgb24"),
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )


def _check_frame(frame: object, *, number: int, like: Tensor) -> None:
    if not isinstance(frame, Tensor) or frame.is_meta or frame.layout is not torch.strided:
        raise DtypeError(
            f"Frames must be plain tensors uint8 [3, H, W], frame {number} is {described(frame)}. "
            "Use torch.from_numpy(array) for an array."
        )
    if frame.dtype != torch.uint8:
        raise DtypeError(
            f"Frames must be uint8 (0..255), frame {number} is {frame.dtype}. "
            "Scale to 0..255 and call .to(torch.uint8)."
        )
    if frame.dim() != 3 or frame.shape[0] != 3 or 0 in frame.shape:
        raise ShapeError(
            f"Each frame must be [3, H, W] (RGB, channels first), frame {number} is "
            f"{list(frame.shape)}. Permute frames of [H, W, 3] with .permute(2, 0, 1)."
        )
    if frame.shape != like.shape:
        raise ShapeError(
            f"All frames must have one size: frame 0 is {list(like.shape)}, "
            f"frame {number} is {list(frame.shape)}."
        )
