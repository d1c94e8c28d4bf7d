"""Reading takes the memory of the frames asked for plus a constant, however long the video is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from video_clips import encode

WIDTH, HEIGHT = 640, 360
FRAME_BYTES = WIDTH * HEIGHT * 3
MIB = 2**20
# Decoder, its reference frames and threads, and what the allocator keeps.
CONSTANT_MIB = 45

CODE = """
import json, sys
from video_fuzz import peak_bytes as peak
from vjepa2.video.reader import VideoReader
VideoReader(sys.argv[1]).metadata  # loads FFmpeg
before = peak()
reader = VideoReader(sys.argv[2], num_ffmpeg_threads=4)
total = len(reader)
at = [k * total // 64 for k in range(64)]
for chunk in reader.iter_frames_at(at, frames_per_chunk=4): assert len(chunk) == 4
streamed = peak()
frames = reader.get_frames_at(at)
print(json.dumps({"total": total, "streamed": streamed - before, "whole": peak() - before}))
"""


def clip(frames: int) -> bytes:
    texture = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, 160, 3), dtype=np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    return encode(
        codec="libx264",
        container="mp4",
        frames=frames,
        width=WIDTH,
        height=HEIGHT,
        codec_options={"g": "50", "preset": "ultrafast"},
        draw=lambda number: np.ascontiguousarray(texture[:, number % 500 : number % 500 + WIDTH]),
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder: Path = tmp_path_factory.mktemp("memory")
    (folder / "tiny.mp4").write_bytes(clip(2))
    (folder / "long.mp4").write_bytes(clip(1200))
    command = [sys.executable, "-c", CODE, str(folder / "tiny.mp4"), str(folder / "long.mp4")]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_frames_in_chunks_take_a_constant(measured: dict[str, int]):
    assert measured["total"] == 1200  # 790 MB if it were decoded into memory
    assert measured["streamed"] < 4 * FRAME_BYTES + CONSTANT_MIB * MIB


def test_frames_at_once_take_their_own_size_plus_a_constant(measured: dict[str, int]):
    assert 64 * FRAME_BYTES * 0.9 < measured["whole"] < 64 * FRAME_BYTES + CONSTANT_MIB * MIB
