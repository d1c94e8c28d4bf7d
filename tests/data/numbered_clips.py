"""Small clips whose frames say which they are: frame i has the grey level 4 i."""

from pathlib import Path

import torch
from torch import Tensor

from vjepa2.video.writer import H264, write_video

NUM_FRAMES = 48
FPS = 12.0


def numbered_frames(count: int = NUM_FRAMES, *, height: int = 48, width: int = 64) -> Tensor:
    """uint8 [count, 3, height, width]: frame i is grey 4 i, but for a dark left edge."""
    levels = (4 * torch.arange(count, dtype=torch.uint8)).view(-1, 1, 1, 1)
    frames = levels.expand(count, 3, height, width).clone()
    frames[..., :2] = 0
    return frames


def write_clip(path: Path, count: int = NUM_FRAMES, **size: int) -> Path:
    """An mp4 of numbered frames at `FPS`."""
    codec = H264(fps=FPS, crf=4, keyframe_interval=12)
    return write_video(path, numbered_frames(count, **size), codec=codec)
