"""Small real video files for the tests, made on the spot, each frame carrying its number.

The number is drawn as a row of black and white blocks (most significant bit on the left) that
survives every codec, so a test can read from the pixels which frame it was given.
"""

import io
import tempfile
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

NUM_BITS = 8
WIDTH, HEIGHT = 128, 96
FPS = 25
Image = NDArray[np.uint8]


def picture(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """RGB [height, width, 3]: blocks with `number` on top, moving colours below."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack(
        [
            (columns * 2 + number * 5) % 256,
            (rows * 2 + number * 3) % 256,
            (columns + rows + number * 7) % 256,
        ],
        axis=-1,
    ).astype(np.uint8)
    block = width // NUM_BITS
    for bit in range(NUM_BITS):
        is_set = number >> (NUM_BITS - 1 - bit) & 1
        image[: height // 3, bit * block : (bit + 1) * block] = 235 if is_set else 20
    return image


def read_number(image: Image) -> int:
    """Return the number drawn in a decoded picture [H, W, 3]."""
    height, width, _ = image.shape
    block = width // NUM_BITS
    middle = height // 6
    number = 0
    for bit in range(NUM_BITS):
        center = bit * block + block // 2
        patch = image[middle - 3 : middle + 3, center - 2 : center + 2]
        number = number * 2 + int(patch.mean() > 128)
    return number


def numbers(data: Any) -> list[int]:
    """Numbers drawn in uint8 frames [T, C, H, W]."""
    return [read_number(image) for image in data.permute(0, 2, 3, 1).numpy()]


def encode(
    *,
    codec: str,
    container: str,
    frames: int | Sequence[int] = 40,
    pix_fmt: str = "yuv420p",
    width: int = WIDTH,
    height: int = HEIGHT,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
    draw: Callable[[int], Image] | None = None,
) -> bytes:
    """Encode numbered frames; `frames` is their count, or the time of each in milliseconds."""
    times = list(frames) if not isinstance(frames, int) else None
    count = frames if isinstance(frames, int) else len(frames)
    # A file on disk: moving the index to the front (faststart) opens it a second time.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        output = av.open(str(path), "w", format=container, options=container_options or {})
        stream = output.add_stream(codec, rate=FPS, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(count):
            image = draw(number) if draw else picture(number, width=width, height=height)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, FPS) if times is None else Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        output.close()
        return path.read_bytes()


def remux(
    data: bytes,
    *,
    container: str,
    change: Callable[[list[av.Packet]], Iterable[av.Packet]] | None = None,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """Copy the packets of a file into another container, changed on the way."""
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(data), "r") as source,
        av.open(buffer, "w", format=container, options=container_options or {}) as output,
    ):
        stream = source.streams.video[0]
        packets = [p for p in source.demux(stream) if p.size]
        copy = output.add_stream_from_template(stream)
        for packet in change(packets) if change else packets:
            packet.stream = copy
            output.mux_one(packet)
    return buffer.getvalue()


def decode_all(data: bytes) -> tuple[NDArray[np.uint8], list[int | None]]:
    """Decode a file from beginning to end: RGB frames [T, H, W, 3], upright, and their pts."""
    images, pts, size = [], [], {}
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            size = size or {"width": frame.width, "height": frame.height}
            image = frame.to_ndarray(format="rgb24", **size)
            images.append(np.rot90(image, round(frame.rotation / 90) % 4))
            pts.append(frame.pts)
    return np.stack(images), pts


def audio_only() -> bytes:
    """Return an mp4 with a tenth of a second of silence and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    """Write and return the path."""
    path.write_bytes(data)
    return path
