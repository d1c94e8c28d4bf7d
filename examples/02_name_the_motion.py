"""Label a video with the small classifier that is shipped inside the package.

Run: python examples/02_name_the_motion.py [FILE]
"""

import sys
import tempfile
from pathlib import Path

import torch

import vjepa2
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import write_video

TRUTH = "camera pans right"


def main(file: str | None = None) -> float:
    with tempfile.TemporaryDirectory() as folder:
        if file is None:
            file = str(Path(folder) / "pan.mp4")
            generator = torch.Generator().manual_seed(1)
            frames = make_motion_clip(TRUTH, num_frames=32, size=(144, 192), generator=generator)
            write_video(file, frames)
        scores = vjepa2.classify(file, top_k=5)

    for score in scores:
        print(f"{score.probability:6.1%}  {score.label}")
    return next((score.probability for score in scores if score.label == TRUTH), 0.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
