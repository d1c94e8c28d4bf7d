"""Configuration of a set of clips and of how a clip becomes the pixels of a training sample."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.errors import ConfigError
from vjepa2.strict_config import StrictConfig
from vjepa2.video.sampling import MAX_CLIP_FRAMES, MIN_FPS

Kind = Literal["auto", "video", "image", "picture_folder", "array"]
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class SourceConfig(StrictConfig):
    """One folder, list or set of shards, and how clips are taken from its files.

    Attributes:
        path: a folder (searched with its subfolders); a list `.csv`, `.tsv`, `.jsonl`, `.parquet`,
            `.txt`, `.npy`, or published `path label` lines; WebDataset shards `.tar`, also as
            `name-{000..099}.tar`; or one video, image or array file. Relative paths in a list
            begin at the folder of the list.
        weight: how often this source is drawn, relative to the others. None for all sources:
            every file is equally likely.
        fps: clip frames per second, by the times that are stored in the file.
        frame_step: from one clip frame to the next, counted in frames of the file.
        duration_seconds: time that a clip covers; its frames are spread evenly.
            Exactly one of the three; none for kind "image".
        num_frames: frames per clip of this source; None takes that of the run.
        kind: "auto" goes by each file's name. "video", "image" (one still frame, repeated),
            "array" (`.npy`, `.npz`, `.safetensors` of [T, C, H, W], [T, H, W, C] or [T, H, W])
            and "picture_folder" (every folder that holds pictures is one video) take only such
            files from a folder, and read every file of a list so.
        frames_per_second: rate of picture folders and arrays, which have no clock.
        path_column, label_column: names of the columns in a list. A list without the label
            column has no labels, unless another name than "label" is asked for.
        rule: "time", or "published": the frames of the original data loader, whose rate is
            rounded and whose step is not whole (needs `fps`).
    """

    path: str = Field(min_length=1)
    weight: float | None = Field(None, gt=0)
    fps: float | None = Field(None, ge=MIN_FPS)
    frame_step: int | None = Field(None, ge=1)
    duration_seconds: float | None = Field(None, gt=0)
    num_frames: int | None = Field(None, ge=1, le=MAX_CLIP_FRAMES)
    kind: Kind = "auto"
    frames_per_second: float = Field(25.0, ge=MIN_FPS)
    path_column: str = Field("path", min_length=1)
    label_column: str = Field("label", min_length=1)
    rule: Literal["time", "published"] = "time"

    @model_validator(mode="after")
    def _has_one_rate(self) -> Self:
        rates = {
            "fps": self.fps,
            "frame_step": self.frame_step,
            "duration_seconds": self.duration_seconds,
        }
        given = [f"{name}={value:g}" for name, value in rates.items() if value is not None]
        if self.kind == "image":
            if given:
                raise ConfigError(
                    f"{' and '.join(given)} has no effect on still images (kind='image'). "
                    "Leave it out"
                )
        elif len(given) != 1:
            raise ConfigError(
                f"exactly one of fps, frame_step and duration_seconds says how frames are taken "
                f"from {self.path!r}, got {' and '.join(given) or 'none'}. fps=4 is the published "
                "choice"
            )
        if self.rule == "published" and (self.fps is None or self.fps != int(self.fps)):
            raise ConfigError(
                f"rule='published' counts in whole frames per second: set fps to an integer, got "
                f"fps={self.fps}"
            )
        return self


class DataConfig(StrictConfig):
    """Where clips come from, in which order, and how they are decoded.

    Attributes:
        sources: folders, lists and shards.
        order: "weighted": every sample draws a source by its weight and a file in it, with
            replacement, as published. "epochs": a new permutation of all files again and again.
            "listed": all files in their order, for evaluation.
        moment: "random", or "middle" of the file, for evaluation.
        short_video: of a file shorter than the clip, "repeat_last" repeats its last frame, "loop"
            starts again at its beginning, "skip" counts it among the bad files.
        workers: decoding processes of each training process; 0 decodes in the training process.
        prefetch: updates that are decoded ahead; memory holds that many batches of uint8 frames.
        max_bad_share: share of different files that may be unreadable before the run stops; one
            file may be in any case, unless this is 0.
        judge_after: tries to read a file before `max_bad_share` counts; it counts earlier once
            every file was tried.
    """

    sources: tuple[SourceConfig, ...] = ()
    order: Literal["weighted", "epochs", "listed"] = "weighted"
    moment: Literal["random", "middle"] = "random"
    short_video: Literal["repeat_last", "loop", "skip"] = "repeat_last"
    workers: int = Field(4, ge=0, le=1024)
    prefetch: int = Field(2, ge=1, le=1024)
    max_bad_share: float = Field(0.05, ge=0, le=1)
    judge_after: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _weights_agree(self) -> Self:
        weights = [source.weight for source in self.sources]
        given = [weight for weight in weights if weight is not None]
        if given and len(given) < len(weights):
            raise ConfigError(
                f"a weight is given for {len(given)} of {len(weights)} sources: give one for "
                "each, or for none (then every file is equally likely)"
            )
        if given and self.order != "weighted":
            raise ConfigError(
                f"weights have no effect with order={self.order!r}, in which every file comes "
                "equally often. Leave them out, or set order='weighted'"
            )
        return self


class AugmentConfig(StrictConfig):
    """From frames to pixels: crop, flip, normalisation. The defaults are the published ones.

    Attributes:
        crop: "random" (a random box, resized), "center" (the largest box in the middle that has
            the shape of the result) or "whole" (everything, squeezed into that shape).
        scale: least and greatest share of the frame that a random box covers.
        ratio: least and greatest width over height of a random box, drawn log-uniformly.
        flip: probability of mirroring left and right.
        mean, std: one number per channel, after division by `pixel_max`; their count is the
            number of channels that files must have (colour videos also serve as one channel).
        pixel_max: the value that stands for 1: 255 for videos and images.
    """

    crop: Literal["random", "center", "whole"] = "random"
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.75, 1.35)
    flip: float = Field(0.5, ge=0, le=1)
    mean: tuple[float, ...] = Field(IMAGE_MEAN, min_length=1)
    std: tuple[float, ...] = Field(IMAGE_STD, min_length=1)
    pixel_max: float = Field(255.0, gt=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ConfigError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}: give one for each "
                "channel"
            )
        if min(self.std) <= 0 or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ConfigError(f"std must be above 0 in every channel, got {self.std}")
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise ConfigError(f"{name} must be two rising numbers above 0, got {(low, high)}")
        if self.scale[1] > 1:
            raise ConfigError(f"scale is a share of the frame, at most 1, got {self.scale}")
        if self.crop != "random" and self.flip:
            raise ConfigError(
                f"crop={self.crop!r} is for evaluation, without chance: set flip to 0 as well, or "
                "use evaluation()"
            )
        return self

    @property
    def num_channels(self) -> int:
        """C of the frames."""
        return len(self.mean)

    def evaluation(self) -> Self:
        """The same normalisation with a crop from the middle and no chance."""
        return type(self)(**{**self.model_dump(), "crop": "center", "flip": 0.0})
