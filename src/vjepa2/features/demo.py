"""The whole chain once, with every step timed, and a page that shows what came out.

    file --reader--> frames --processor--> pixels --encoder--> tokens --head--> labels
                                                                 `-----PCA----> pictures

Without a video of your own a clip is painted, written as H.264 and read back like any other file.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import InputError, check_path, checked_integer
from vjepa2.features.classify import LabelScore, top_labels
from vjepa2.features.clips import PixelClip
from vjepa2.features.demo_files import (
    CLIP_NAME,
    FEATURES_NAME,
    MARK,
    MARK_SETTING,
    REPORT_NAME,
    check_replaceable,
)
from vjepa2.features.embed import Embedder, clip_frames
from vjepa2.features.loading import LoadedModel, ModelLike, load
from vjepa2.features.pictures import ColourMaps, colour_maps, shown_frames
from vjepa2.features.rows import ClipFeatures
from vjepa2.features.store import write_rows
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.encoder import attention_of
from vjepa2.video.reader import VideoReader
from vjepa2.video.stream_metadata import VideoStreamMetadata
from vjepa2.video.synthetic import MOTION_LABELS, make_motion_clip
from vjepa2.video.writer import H264, write_video

CLIP_SIZE = (256, 256)
CLIP_FRAMES = 48
CLIP_FPS = 24.0
TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Step:
    """One timed step.

    Attributes:
        name: what was done.
        seconds: how long it took, the first time in this process.
        detail: how much it was.
    """

    name: str
    seconds: float
    detail: str


class Stopwatch:
    """Collects steps; waits for the device, which works in the background, before it reads."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.device = torch.device("cpu")

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time the block; what it appends to the list becomes the detail."""
        detail: list[str] = []
        start = time.perf_counter()
        yield detail
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.add(name, time.perf_counter() - start, *detail)

    def add(self, name: str, seconds: float, *detail: str) -> None:
        """Add a step that was timed elsewhere."""
        self.steps.append(Step(name=name, seconds=seconds, detail=", ".join(detail)))


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoResult:
    """Everything the demonstration found.

    Attributes:
        video: the file that was read.
        made_label: what was painted into it; None for a video of the caller's own.
        metadata: of the file.
        model: that was used.
        frames: uint8 [T, 3, h, w], the frames as the encoder sees them, before normalising.
        row: features of the clip, with tokens.
        colours: of the tokens.
        labels: the best first; empty for a model without a head.
        steps: with their times.
        features_file: where the features are.
    """

    video: Path
    made_label: str | None
    metadata: VideoStreamMetadata
    model: LoadedModel
    frames: UInt8[Tensor, "T 3 h w"]
    row: ClipFeatures
    colours: ColourMaps
    labels: list[LabelScore]
    steps: list[Step]
    features_file: Path

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        assert self.row.tokens is not None
        return {
            "video": str(self.video),
            "painted": self.made_label,
            "model": self.model.name,
            "embedding_shape": list(self.row.embedding.shape),
            "tokens_shape": list(self.row.tokens.shape),
            "grid": list(self.row.grid),
            "t_start": self.row.t_start,
            "t_end": self.row.t_end,
            "labels": [asdict(score) for score in self.labels],
            "steps": [asdict(step) for step in self.steps],
            "features": str(self.features_file),
        }

    def __str__(self) -> str:
        grid, width = self.row.grid, self.row.embedding.shape[0]
        painted = f", painted: {self.made_label}" if self.made_label else ""
        lines = [
            f"Video     {self.video}{painted}",
            f"Model     {self.model.name}",
            (
                f"Features  {grid.num_tokens} tokens of {width} numbers "
                f"({grid.t} steps x {grid.h} rows x {grid.w} columns), and their mean"
            ),
            f"          in {self.features_file}",
        ]
        lines += ["", "Labels" if self.labels else "No labels: the model has no trained head."]
        lines += [f"  {score}" for score in self.labels]
        lines += ["", "Times"]
        lines += [
            f"  {1000 * step.seconds:8.1f} ms  {step.name}"
            + (f" ({step.detail})" if step.detail else "")
            for step in self.steps
        ]
        return "\n".join(lines)


def run_demo(
    out: str | os.PathLike[str],
    *,
    video: str | os.PathLike[str] | None = None,
    seed: int = 1,
    model: ModelLike | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> DemoResult:
    """Make a clip or take one, and go through the whole chain.

    Args:
        out: folder for the clip and the features.
        video: a file of your own; None paints one.
        seed: chooses the motion that is painted, its objects and its course.
        model, device, dtype: as in `vjepa2.embed`; a model without a head gives no labels.

    Raises:
        VideoError: the video cannot be read.
        WeightsError: the model cannot be loaded.
        OutputError: the folder cannot be written, or holds files of these names (and
            `report.html`) that no demonstration made.
        ConfigError, InputError: an option is wrong.
    """
    check_path("out", out)
    if video is not None:
        check_path("video", video, error=InputError)
    watch = Stopwatch()
    folder = Path(out)
    painted = (CLIP_NAME,) if video is None else ()
    check_replaceable(folder, (*painted, FEATURES_NAME, REPORT_NAME))
    if video is None:
        path, made_label = _paint(folder / CLIP_NAME, seed, watch)
    else:
        path, made_label = Path(video), None
    with watch.step("Load the model") as detail:
        ready = load(model, kind=VJEPA2ForVideoClassification, device=device, dtype=dtype)
        watch.device = ready.device
        detail += [f"{ready.network.num_parameters() / 1e6:.2f} million parameters"]
    sampling = clip_frames(ready, num_frames=None, sampling="uniform")
    embedder = Embedder(model=ready, sampling=sampling, pool="tokens")
    metadata, clip = _read(path, embedder, watch)
    with ready.inference():
        with watch.step("Encoder") as detail:
            row = embedder.row(clip, source=str(path))
            detail += [f"{row.grid.num_tokens} tokens of {row.embedding.shape[0]} numbers"]
        labels = _labels(ready, row, watch)
    with watch.step("Colours of the tokens (PCA)"):
        assert row.tokens is not None
        colours = colour_maps(row.tokens, row.grid)
    features_file = folder / FEATURES_NAME
    write_rows(features_file, [row], settings=embedder.settings() | {MARK_SETTING: MARK})
    return DemoResult(
        video=path,
        made_label=made_label,
        metadata=metadata,
        model=ready,
        frames=shown_frames(clip.pixels, ready.processor),
        row=row,
        colours=colours,
        labels=labels,
        steps=watch.steps,
        features_file=features_file,
    )


def _paint(path: Path, seed: int, watch: Stopwatch) -> tuple[Path, str]:
    height, width = CLIP_SIZE
    with watch.step("Paint a clip, write it as H.264") as detail:
        made = make_demo_clip(path, seed=seed)
        detail += [f"{CLIP_FRAMES} frames", f"{width} x {height} pixels"]
    return made


def make_demo_clip(path: Path, *, seed: int) -> tuple[Path, str]:
    """Paint a clip whose motion the seed chooses, and write it; returns the file and the label.

    Raises:
        ConfigError: the seed is no integer of 0 to 2^63 - 1.
    """
    seed = checked_integer("seed", seed, least=0, most=(1 << 63) - 1)
    generator = torch.Generator().manual_seed(seed)
    number = int(torch.randint(len(MOTION_LABELS), (), generator=generator))
    label = MOTION_LABELS[number]
    frames = make_motion_clip(label, num_frames=CLIP_FRAMES, size=CLIP_SIZE, generator=generator)
    return write_video(path, frames, codec=H264(fps=CLIP_FPS), comment=MARK), label


def _read(
    path: Path, embedder: Embedder, watch: Stopwatch
) -> tuple[VideoStreamMetadata, PixelClip]:
    """Decode and process, which alternate; their times are told apart."""
    with VideoReader(path) as reader:
        metadata = reader.metadata
    start = time.perf_counter()
    [clip] = embedder.clips(path)
    seconds = time.perf_counter() - start
    _, num_frames, _, height, width = clip.pixels.shape
    watch.add(
        "Read the video",
        clip.read_seconds,
        f"{num_frames} of {metadata.num_frames} frames",
        f"{metadata.width} x {metadata.height} pixels",
    )
    watch.add(
        "Resize, crop, normalise", seconds - clip.read_seconds, f"to {width} x {height} pixels"
    )
    return metadata, clip


def _labels(model: LoadedModel, row: ClipFeatures, watch: Stopwatch) -> list[LabelScore]:
    network = model.network
    if not model.names_labels or not isinstance(network, VJEPA2ForVideoClassification):
        return []
    assert row.tokens is not None
    with watch.step("Classification head") as detail:
        # The tokens are there already: the head alone, instead of the whole network again.
        tokens = row.tokens[None].to(model.device)
        logits = network.classifier(network.pooler(tokens, attention_of(network.config)))
        detail += [f"{network.config.num_labels} labels"]
    return top_labels(logits, model, top_k=TOP_K)
