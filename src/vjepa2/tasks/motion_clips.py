"""Training and test clips of the motion classifier: painted, encoded, read back, processed.

Each clip goes the way of a user's file: H.264 in an mp4, `VideoReader`, uniform sampling,
`VJEPA2VideoProcessor`. Clip number i of a seed is always the same clip, so a run that resumes at
step s draws what an uninterrupted one would have drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import ClipSampling, sample_clip
from vjepa2.video.synthetic import CHANGES, MOTION_LABELS, changed_label, make_motion_clip
from vjepa2.video.synthetic_scene import chance, integer, uniform
from vjepa2.video.writer import H264, encode_video

Pixels = Float[Tensor, "B T 3 H W"]
LabelIds = Int[Tensor, " B"]

CLIPS_PER_SEED = 1 << 40  # seeds never share a clip

_CHANGED_IDS = {
    change: torch.tensor(
        [MOTION_LABELS.index(changed_label(label, change=change)) for label in MOTION_LABELS]
    )
    for change in CHANGES
}


@dataclass(frozen=True, kw_only=True)
class ClipVariety:
    """How the files differ from which clips are taken; every value is drawn evenly.

    Attributes:
        short_side: least and greatest short side, pixels.
        aspect: least and greatest ratio of the long side to the short one; either may be height.
        num_video_frames: least and greatest number of frames in the file.
        fps: frame rates.
        crf: least and greatest H.264 constant rate factor (higher is worse).
        presets: effort of the encoder.
        keyframe_intervals: frames from one keyframe to the next at most.
    """

    short_side: tuple[int, int] = (72, 112)
    aspect: tuple[float, float] = (1.0, 16 / 9)
    num_video_frames: tuple[int, int] = (12, 24)
    fps: tuple[int, ...] = (10, 15, 24, 25, 30, 50, 60)
    crf: tuple[int, int] = (18, 36)
    presets: tuple[str, ...] = ("ultrafast", "ultrafast", "veryfast")
    keyframe_intervals: tuple[int, ...] = (8, 12, 250)

    def size(self, generator: torch.Generator) -> tuple[int, int]:
        """Draw an even height and width."""
        short = integer(*self.short_side, generator)
        long = int(short * uniform(*self.aspect, generator))
        height, width = (short, long) if chance(0.7, generator) else (long, short)
        return height // 2 * 2, width // 2 * 2

    def codec(self, generator: torch.Generator) -> H264:
        """Draw encoder settings."""
        return H264(
            fps=float(self.fps[integer(0, len(self.fps) - 1, generator)]),
            crf=integer(*self.crf, generator),
            preset=self.presets[integer(0, len(self.presets) - 1, generator)],
            keyframe_interval=self.keyframe_intervals[
                integer(0, len(self.keyframe_intervals) - 1, generator)
            ],
        )


class MotionClips(Dataset[tuple[Tensor, int]]):
    """Clips number 0, 1, ... of one seed; item i is (float32 pixels [T, 3, h, w], label id).

    Args:
        seed: 0 or more; two seeds share no clip.
        count: number of clips.
        processor: turns frames into pixels.
        num_frames: T.
        variety: of the files.
        labels: ids in `MOTION_LABELS` to draw from; default all.
        start: number of the first clip.
    """

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        processor: VJEPA2VideoProcessor,
        num_frames: int,
        variety: ClipVariety | None = None,
        labels: tuple[int, ...] = tuple(range(len(MOTION_LABELS))),
        start: int = 0,
    ) -> None:
        self.seed, self.count, self.start = seed, count, start
        self.processor = processor
        self.sampling = ClipSampling(num_frames=num_frames)
        self.variety = variety or ClipVariety()
        self.labels = labels

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.count:
            raise IndexError(f"clip {index} of {self.count}")
        number = self.seed * CLIPS_PER_SEED + self.start + index
        generator = torch.Generator().manual_seed(number)
        # The first numbers of neighbouring seeds are alike in some generators: pass over them.
        torch.rand(8, generator=generator)
        label = self.labels[integer(0, len(self.labels) - 1, generator)]
        frames = make_motion_clip(
            MOTION_LABELS[label],
            num_frames=integer(*self.variety.num_video_frames, generator),
            size=self.variety.size(generator),
            generator=generator,
        )
        data = encode_video(frames, codec=self.variety.codec(generator))
        with VideoReader(data, num_ffmpeg_threads=1) as reader:
            clip = sample_clip(reader, self.sampling)
        pixels = self.processor(clip, return_tensors="pt")["pixel_values_videos"]
        return pixels[0], label


def reversed_twins(pixels: Pixels, labels: LabelIds) -> tuple[Pixels, LabelIds]:
    """Append every clip played backwards, with the opposite label: [B, ...] to [2B, ...].

    A clip and its twin hold the same pictures, so nothing but their order tells them apart.
    """
    return (
        torch.cat([pixels, pixels.flip(1)]),
        torch.cat([labels, _CHANGED_IDS["reversed"][labels]]),
    )


def random_symmetry(
    pixels: Pixels, labels: LabelIds, *, generator: torch.Generator
) -> tuple[Pixels, LabelIds]:
    """Mirror and transpose each clip (square frames) by chance, and change its label to fit."""
    mirror, transpose = torch.rand(2, len(labels), generator=generator) < 0.5
    pixels = torch.where(mirror[:, None, None, None, None], pixels.flip(-1), pixels)
    labels = torch.where(mirror, _CHANGED_IDS["mirrored"][labels], labels)
    pixels = torch.where(transpose[:, None, None, None, None], pixels.transpose(-1, -2), pixels)
    labels = torch.where(transpose, _CHANGED_IDS["transposed"][labels], labels)
    return pixels, labels


def opposite_ids(labels: LabelIds) -> LabelIds:
    """Label ids of the clips played backwards."""
    return _CHANGED_IDS["reversed"][labels]


def batches(clips: MotionClips, *, size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips in order, `size` at a time; `workers` processes make them ahead of time."""
    loader = torch.utils.data.DataLoader(clips, batch_size=size, num_workers=workers)
    yield from loader
