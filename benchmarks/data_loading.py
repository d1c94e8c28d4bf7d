"""Clips a second from mp4 files, and the share of a training step that waits for them.

    python -m benchmarks.data_loading

Files are made first: 8 s of 30 frames a second, 320 x 240, moving texture, x264 with B-frames.
Clips of 16 frames at 4 a second are drawn and cropped as in pretraining.

* `clips_per_second`: nothing but taking batches, with 0, 1 and 2 decoding processes;
  `cpu_seconds_per_clip` without any, which hardly depends on what else the machine does.
* `stall_share`: a fake step sleeps, as a CPU does that waits for a GPU, 1.5 times as long as one
  process needs to decode a batch. Without processes the share is 1 / 2.5; one should hide it all.
* `to_pixels`: the pass from uint8 to pixels beside the four published operations one by one.

Only waiting after the first batch counts; starting the processes is given apart.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import interleaved, parser, save
from vjepa2.data.augment import to_pixels
from vjepa2.data.loader import ClipLoader
from vjepa2.data.sample import Sample
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.video.writer import H264, write_video

NUM_FILES, SECONDS, FPS, WIDTH, HEIGHT = 4, 8, 30, 320, 240
BATCH_SIZE, NUM_FRAMES, CROP_SIZE = 4, 16, 256
AUGMENT = AugmentConfig()


def make_videos(folder: Path) -> None:
    """Write the files."""
    rng = np.random.default_rng(0)
    codec = H264(fps=FPS, keyframe_interval=60)
    for number in range(NUM_FILES):
        texture = torch.from_numpy(rng.integers(0, 256, (3, 60, 400), dtype=np.uint8))
        texture = texture.repeat_interleave(4, 1).repeat_interleave(4, 2)

        def frames(picture: Tensor = texture) -> Iterator[Tensor]:
            for at in range(SECONDS * FPS):
                yield picture[:, :HEIGHT, 2 * at : 2 * at + WIDTH].contiguous()

        write_video(folder / f"{number}.mp4", frames(), codec=codec)


def make_loader(folder: Path, *, workers: int, num_steps: int) -> ClipLoader:
    """Batches as in pretraining."""
    sources = (SourceConfig(path=str(folder), fps=4),)
    return ClipLoader(
        DataConfig(sources=sources, workers=workers, prefetch=2),
        AUGMENT,
        seed=0,
        batch_size=BATCH_SIZE,
        num_frames=NUM_FRAMES,
        crop_size=CROP_SIZE,
        num_steps=num_steps,
    )


def clips_per_second(folder: Path, *, workers: int, num_steps: int) -> dict[str, float]:
    """Take batches and do nothing with them, once all that was decoded ahead is used up."""
    with make_loader(folder, workers=workers, num_steps=num_steps + 3) as loader:
        batches = iter(loader)
        for _ in range(3):
            next(batches)
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in batches:
            pass
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        found = {
            "clips_per_second": round(num_steps * BATCH_SIZE / seconds, 2),
            "seconds_to_first_batch": round(loader.start_seconds, 2),
        }
        if not workers:
            found["cpu_seconds_per_clip"] = round(cpu_seconds / (num_steps * BATCH_SIZE), 4)
        return found


def stall(folder: Path, *, workers: int, step_seconds: float, num_steps: int) -> dict[str, float]:
    """Sleep a step after each batch."""
    with make_loader(folder, workers=workers, num_steps=num_steps) as loader:
        start = 0.0
        for step, _ in loader:
            start = start or time.perf_counter()
            time.sleep(step_seconds)
            if step == num_steps - 1:
                break
        total = time.perf_counter() - start
        return {
            "workers": workers,
            "step_seconds": round(step_seconds, 3),
            "stall_share": round(loader.stall_seconds / total, 4),
        }


def one_by_one(sample: Sample) -> Tensor:
    """The four published operations on the crop, in float32."""
    mean = torch.tensor(AUGMENT.mean).view(3, 1, 1) * 255
    std = torch.tensor(AUGMENT.std).view(3, 1, 1) * 255
    pixels = sample.frames.float()
    pixels = torch.nn.functional.interpolate(pixels, size=sample.size, mode="bilinear")
    if sample.flip:
        pixels = pixels.flip(-1)
    return (pixels - mean) / std


def pixel_times(folder: Path, *, repeats: int) -> dict[str, Any]:
    """One batch on this CPU."""
    with make_loader(folder, workers=0, num_steps=1) as loader:
        ((_, samples),) = list(loader)
    return interleaved(
        lambda: to_pixels(samples, AUGMENT),
        lambda: torch.stack([one_by_one(sample) for sample in samples]),
        repeats=repeats,
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=15)
    arguments.add_argument("--repeats", type=int, default=9)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder)
        speed = {
            f"workers_{workers}": clips_per_second(folder, workers=workers, num_steps=options.steps)
            for workers in (0, 1, 2)
        }
        batch_seconds = BATCH_SIZE / speed["workers_1"]["clips_per_second"]
        stalls = [
            stall(folder, workers=workers, step_seconds=1.5 * batch_seconds, num_steps=12)
            for workers in (0, 1, 2)
        ]
        pixels = pixel_times(folder, repeats=options.repeats)
    results = {
        "files": f"{NUM_FILES} x {SECONDS} s, {FPS} frames/s, {WIDTH}x{HEIGHT}, h264",
        "batch": f"{BATCH_SIZE} clips of {NUM_FRAMES} frames at 4/s, crops to {CROP_SIZE}",
        "speed": speed,
        "stall": stalls,
        "to_pixels": {"reference": "float, interpolate, flip, normalise", **pixels},
    }
    print(json.dumps(results, indent=2))
    save("data_loading", results)


if __name__ == "__main__":
    main()
