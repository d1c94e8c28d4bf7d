"""Mutated files never hang, crash or swell the process: frames or a `VideoError`, each time."""

import json
import subprocess
import sys
from pathlib import Path

from video_clips import encode

NUM_SEEDS = 25
MAX_ADDED_MIB = 400
FUZZ = Path(__file__).parent / "video_fuzz.py"

X264 = {"x264-params": "keyint=8:bframes=2:threads=1"}
VPX = {"g": "8", "cpu-used": "8"}
X265 = {"x265-params": "log-level=none:keyint=8:pools=none", "preset": "ultrafast"}
AV1 = {"g": "8", "preset": "10", "svtav1-params": "lp=1"}
RECIPES = {
    "h264.mp4": {"codec": "libx264", "container": "mp4", "codec_options": X264},
    "fragments.mp4": {
        "codec": "libx264",
        "container": "mp4",
        "codec_options": X264,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "h264.mkv": {"codec": "libx264", "container": "matroska", "codec_options": X264},
    "h264.ts": {"codec": "libx264", "container": "mpegts", "codec_options": X264},
    "h264.avi": {"codec": "libx264", "container": "avi", "codec_options": X264},
    "h265.mp4": {"codec": "libx265", "container": "mp4", "codec_options": X265},
    "vp8.webm": {"codec": "libvpx", "container": "webm", "codec_options": VPX},
    "vp9.webm": {"codec": "libvpx-vp9", "container": "webm", "codec_options": VPX},
    "av1.mp4": {"codec": "libsvtav1", "container": "mp4", "codec_options": AV1},
    "mpeg4.avi": {"codec": "mpeg4", "container": "avi"},
    "mpeg2.mpg": {"codec": "mpeg2video", "container": "mpeg"},
    "gif.gif": {"codec": "gif", "container": "gif", "pix_fmt": "rgb8"},
    "apng.png": {"codec": "apng", "container": "apng", "pix_fmt": "rgb24"},
    "still.jpg": {"codec": "mjpeg", "container": "image2pipe", "pix_fmt": "yuvj420p"},
}


def test_mutated_files_give_frames_or_a_named_error(tmp_path: Path):
    for name, recipe in RECIPES.items():
        frames = 1 if name == "still.jpg" else 16
        (tmp_path / name).write_bytes(encode(frames=frames, **recipe))
    command = [sys.executable, str(FUZZ), str(tmp_path), "0", str(NUM_SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    *cases, last = done.stdout.strip().split("\n")
    assert done.returncode == 0, f"case {cases[-1:]} {last}: {done.stderr[-2000:]}"
    assert done.stderr == ""
    summary = json.loads(last)
    outcomes = summary["outcomes"]
    assert sum(outcomes.values()) == len(cases) == NUM_SEEDS * len(RECIPES)
    # The mutations are neither harmless nor hopeless, or this test would show nothing.
    assert {"ok", "VideoOpenError", "VideoDecodeError"} <= set(outcomes)
    assert outcomes["ok"] >= len(cases) // 10
    assert summary["added_bytes"] < MAX_ADDED_MIB * 2**20
