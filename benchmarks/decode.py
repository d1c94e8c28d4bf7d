"""64 frames spread over ten minutes of 720p H.264, beside decoding everything.

    python -m benchmarks.decode

The file is made first (about 20 s): 20 s of moving texture with noise, encoded by x264 with
B-frames and a keyframe every 5 s, its packets repeated 30 times. Both sides open the file anew each
time, with FFmpeg's default number of threads:

* ours: `VideoReader` + `sample_clip(num_frames=64)`: counts frames, jumps over keyframes, returns
  64 RGB frames;
* reference: PyAV decodes every frame, without converting any to RGB.

Memory is the peak of a fresh process beyond its imports, for the same 64 frames decoded and
preprocessed to 256 x 256 float32 pixels (the decode and preprocess part of `vjepa2 embed`).
"""

import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import interleaved, parser, save

WIDTH, HEIGHT, FPS = 1280, 720, 30
PART_SECONDS, PARTS, KEYFRAME_SECONDS = 20, 30, 5
NUM_FRAMES = 64


def make_video(path: Path) -> None:
    """Write the test file."""
    import av

    rng = np.random.default_rng(0)
    texture = rng.integers(16, 235, (HEIGHT // 8, 320), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(0, 12, (8, HEIGHT, WIDTH), dtype=np.uint8)
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w") as output:
        options = {"preset": "veryfast", "bf": "3", "g": str(FPS * KEYFRAME_SECONDS)}
        stream = output.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, dtype=np.uint8)
        for number in range(PART_SECONDS * FPS):
            shift = 2 * number
            planes[:HEIGHT] = texture[:, shift : shift + WIDTH] + noise[number % len(noise)]
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(str(path), "w") as output:
        copy = None
        for repeat in range(PARTS):
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                copy = copy or output.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.size:
                        offset = int(repeat * PART_SECONDS / packet.time_base)
                        packet.pts += offset
                        packet.dts += offset
                        packet.stream = copy
                        output.mux_one(packet)
    part.unlink()


def spread_frames(path: Path) -> None:
    """Our side."""
    from vjepa2.video.reader import VideoReader
    from vjepa2.video.sampling import ClipSampling, sample_clip

    with VideoReader(path) as reader:
        frames = sample_clip(reader, ClipSampling(num_frames=NUM_FRAMES))
    assert tuple(frames.data.shape) == (NUM_FRAMES, 3, HEIGHT, WIDTH)


def every_frame(path: Path) -> None:
    """The reference: decode, convert nothing."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        count = sum(1 for _ in container.decode(stream))
    assert count == PARTS * PART_SECONDS * FPS


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    line = next(
        text for text in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in text
    )
    return int(line.split()[1]) * 1024


def child(path: Path) -> None:
    """Print the peak of decoding and preprocessing beyond the imports, in bytes."""
    import av.video.reformatter  # noqa: F401  # loads FFmpeg

    from vjepa2.video.processor import VJEPA2VideoProcessor
    from vjepa2.video.reader import VideoReader
    from vjepa2.video.sampling import ClipSampling, clip_indices
    from vjepa2.video.streams import ReaderFrames

    processor = VJEPA2VideoProcessor()
    before = peak_bytes()
    with VideoReader(path) as reader:
        indices = clip_indices(reader, ClipSampling(num_frames=NUM_FRAMES))
        batch = processor(ReaderFrames(reader=reader, indices=indices), return_tensors="pt")
    assert tuple(batch["pixel_values_videos"].shape) == (1, NUM_FRAMES, 3, 256, 256)
    print(json.dumps(peak_bytes() - before))


def measured_peak(path: Path, *, repeats: int) -> dict[str, Any]:
    """Peaks of several fresh processes."""
    peaks = []
    for _ in range(repeats):
        command = [sys.executable, "-m", "benchmarks.decode", "--child", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        "peak_mb_beyond_import": round(max(peaks) / 1e6, 1),
        "runs_mb": [round(peak / 1e6, 1) for peak in peaks],
        "of_which_result_mb": round(NUM_FRAMES * 3 * 256 * 256 * 4 / 1e6, 1),
        "all_64_frames_as_rgb_would_be_mb": round(NUM_FRAMES * 3 * WIDTH * HEIGHT / 1e6, 1),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--child", type=Path, help="used by the benchmark itself")
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    if options.child:
        child(options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ten_minutes.mp4"
        make_video(path)
        size_mb = round(path.stat().st_size / 1e6, 1)
        times = interleaved(
            lambda: spread_frames(path), lambda: every_frame(path), repeats=options.repeats
        )
        memory = measured_peak(path, repeats=options.repeats)
    share = times["ours_median_seconds"] / times["reference_median_seconds"]
    results = {
        "file": {
            "seconds": PARTS * PART_SECONDS,
            "frames": PARTS * PART_SECONDS * FPS,
            "size": f"{WIDTH}x{HEIGHT}",
            "codec": "h264, 3 B-frames",
            "keyframe_every_seconds": KEYFRAME_SECONDS,
            "megabytes": size_mb,
        },
        "reference": "PyAV decodes every frame, converts none",
        "time": {**times, "share_of_decoding_everything": round(share, 3)},
        "memory": memory,
    }
    print(json.dumps(results, indent=2))
    save("decode", results)


if __name__ == "__main__":
    main()
