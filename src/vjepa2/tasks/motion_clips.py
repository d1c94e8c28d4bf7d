"""Training and test clips of the motion classifier: painted, encoded, read back, cut to size.

Each clip goes the way of a user's file: H.264 in an mp4, `VideoReader`, uniform sampling,
`VJEPA2VideoProcessor`. Clip number i of a seed is always the same clip. A training pool is kept
as uint8 files of 250 clips in the run's folder; making it can be interrupted and goes on later.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from vjepa2.errors import ConfigError
from vjepa2.files import atomic_path
from vjepa2.progress import track
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import ClipSampling, sample_clip
from vjepa2.video.synthetic import CHANGES, MOTION_LABELS, changed_label, make_motion_clip
from vjepa2.video.synthetic_scene import chance, integer, uniform
from vjepa2.video.writer import H264, encode_video

Item = TypeVar("Item")

# A generator of PyTorch on the CPU looks at 32 bits of its seed. Twelve of them choose the set of
# clips and twenty the clip, so different seeds never share one.
CLIPS_PER_SEED = 1 << 20
NUM_SEEDS = 1 << 12
CLIPS_PER_FILE = 250


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
            fps=float(_pick(self.fps, generator)),
            crf=integer(*self.crf, generator),
            preset=_pick(self.presets, generator),
            keyframe_interval=_pick(self.keyframe_intervals, generator),
        )


def _pick(items: Sequence[Item], generator: torch.Generator) -> Item:
    return items[integer(0, len(items) - 1, generator)]


class MotionClips(Dataset[tuple[Tensor, Tensor]]):
    """Clips number 0, 1, ... of one seed; item i is (uint8 frames [T, 3, S, S], label id []).

    Args:
        seed: 0 to 4095; two seeds share no clip.
        count: number of clips, at most 1,048,576.
        crop_size: S, side of the frames, cut as `VJEPA2VideoProcessor(crop_size=S)` does.
        num_frames: T.
        labels: names to draw from; a label's id is its place here.
        variety: of the files.

    Raises:
        ConfigError: seed or count is out of range.
    """

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        crop_size: int,
        num_frames: int,
        labels: tuple[str, ...] = MOTION_LABELS,
        variety: ClipVariety | None = None,
    ) -> None:
        if not (0 <= seed < NUM_SEEDS and 1 <= count <= CLIPS_PER_SEED):
            raise ConfigError(
                f"seed must be 0 to {NUM_SEEDS - 1} and the number of clips 1 to {CLIPS_PER_SEED}, "
                f"got {seed} and {count}."
            )
        self.seed, self.count, self.labels = seed, count, labels
        self.processor = VJEPA2VideoProcessor(
            crop_size={"height": crop_size, "width": crop_size},
            do_rescale=False,
            do_normalize=False,
        )
        self.sampling = ClipSampling(num_frames=num_frames)
        self.variety = variety or ClipVariety()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(f"clip {index} of {self.count}")
        generator = torch.Generator().manual_seed(self.seed * CLIPS_PER_SEED + index)
        label = integer(0, len(self.labels) - 1, generator)
        frames = make_motion_clip(
            self.labels[label],
            num_frames=integer(*self.variety.num_video_frames, generator),
            size=self.variety.size(generator),
            generator=generator,
        )
        data = encode_video(frames, codec=self.variety.codec(generator))
        with VideoReader(data, num_ffmpeg_threads=1) as reader:
            clip = sample_clip(reader, self.sampling)
        pixels: Tensor = self.processor(clip, return_tensors="pt")["pixel_values_videos"]
        return pixels[0], torch.tensor(label)


def normalised(frames: UInt8[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 H W"]:
    """What the default processor makes of frames that are cut to size: float32, normalised."""
    finish = VJEPA2VideoProcessor(do_resize=False, do_center_crop=False)
    mean, std = (
        torch.tensor(values)[:, None, None] / finish.rescale_factor
        for values in (finish.image_mean, finish.image_std)
    )
    return (frames.float() - mean) / std


class ClipPool:
    """Clips in files of a folder, made when they are missing.

    Args:
        folder: of the files; one pool a folder.
        clips: what the files hold; the folder must not hold a pool of other clips.
        workers: processes that make clips; 0 makes them in this one.
        quiet: no progress.
    """

    def __init__(
        self, folder: str | os.PathLike[str], clips: MotionClips, *, workers: int, quiet: bool
    ) -> None:
        starts = range(0, len(clips), CLIPS_PER_FILE)
        paths = [Path(folder) / f"clips-{start:06d}.safetensors" for start in starts]
        todo = [pair for pair in zip(paths, starts, strict=True) if not pair[0].exists()]
        for path, start in track(
            todo, total=len(todo), description=f"files of {CLIPS_PER_FILE} clips", quiet=quiet
        ):
            numbers = range(start, min(start + CLIPS_PER_FILE, len(clips)))
            loader = DataLoader(Subset(clips, numbers), batch_size=None, num_workers=workers)
            frames, labels = zip(*loader, strict=True)
            with atomic_path(path) as temporary:
                save_file({"frames": torch.stack(frames), "labels": torch.stack(labels)}, temporary)
        self._files = [load_file(path) for path in paths]  # memory-mapped
        self.labels = torch.cat([file["labels"] for file in self._files])

    def __len__(self) -> int:
        return len(self.labels)

    def take(
        self, numbers: Int[Tensor, " B"]
    ) -> tuple[UInt8[Tensor, "B T 3 S S"], Int[Tensor, " B"]]:
        """Clips with these numbers, and their label ids."""
        frames = [
            self._files[number // CLIPS_PER_FILE]["frames"][number % CLIPS_PER_FILE]
            for number in numbers.tolist()
        ]
        return torch.stack(frames), self.labels[numbers]


class LabelChanges:
    """Label ids after a clip is reversed, mirrored or transposed.

    Raises:
        ConfigError: a change leads out of `labels`.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.ids: dict[str, Tensor] = {}
        for change in CHANGES:
            changed = [changed_label(label, change=change) for label in labels]
            missing = sorted(set(changed) - set(labels))
            if missing:
                raise ConfigError(
                    f"Clips are also used {change}, which makes the label {missing[0]!r}: add it "
                    f"to labels, got {', '.join(labels)}."
                )
            self.ids[change] = torch.tensor([labels.index(label) for label in changed])

    def with_reversed(
        self, frames: UInt8[Tensor, "B T 3 S S"], label_ids: Int[Tensor, " B"]
    ) -> tuple[UInt8[Tensor, "B2 T 3 S S"], Int[Tensor, " B2"]]:
        """Append every clip played backwards, with the opposite label.

        A clip and its twin hold the same pictures: only their order tells them apart.
        """
        return (
            torch.cat([frames, frames.flip(1)]),
            torch.cat([label_ids, self.ids["reversed"][label_ids]]),
        )

    def randomly_turned(
        self,
        frames: UInt8[Tensor, "B T 3 S S"],
        label_ids: Int[Tensor, " B"],
        *,
        generator: torch.Generator,
    ) -> tuple[UInt8[Tensor, "B T 3 S S"], Int[Tensor, " B"]]:
        """Mirror and transpose each clip by chance, and change its label to fit."""
        mirror, transpose = torch.rand(2, len(label_ids), generator=generator) < 0.5
        frames = torch.where(mirror[:, None, None, None, None], frames.flip(-1), frames)
        label_ids = torch.where(mirror, self.ids["mirrored"][label_ids], label_ids)
        turned = frames.transpose(-1, -2)
        frames = torch.where(transpose[:, None, None, None, None], turned, frames)
        return frames, torch.where(transpose, self.ids["transposed"][label_ids], label_ids)
