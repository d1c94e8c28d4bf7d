"""Features of a video file: one vector per clip, and which stretch of the video it describes.

Run: python examples/01_embed_a_video.py [FILE]
"""

import sys
import tempfile
from pathlib import Path

import torch

import vjepa2
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import write_video


def main(file: str | None = None) -> float:
    with tempfile.TemporaryDirectory() as folder:
        if file is None:
            file = str(Path(folder) / "left.mp4")
            frames = make_motion_clip(
                "object moves left",
                num_frames=48,
                size=(144, 192),
                generator=torch.Generator().manual_seed(0),
            )
            write_video(file, frames)
        first, second = vjepa2.embed(file, num_clips=2)

    for row in (first, second):
        print(row)
    similarity = torch.cosine_similarity(first.embedding, second.embedding, dim=0).item()
    print(f"cosine similarity of the two halves: {similarity:.3f}")
    return similarity


if __name__ == "__main__":
    main(*sys.argv[1:])
