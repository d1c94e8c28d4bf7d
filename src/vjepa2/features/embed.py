"""Videos in, features out: `embed("clip.mp4")[0].embedding`.

The chain is reader, sampling, processor, encoder and nothing else; the predictor does not run.
The contract of the pooled vector is written at `ClipFeatures.embedding`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from vjepa2.errors import check_choice
from vjepa2.features.clips import PixelClip, clips_of, read_sampling, source_name
from vjepa2.features.loading import LoadedModel, ModelLike, check_finite, load
from vjepa2.features.rows import ClipFeatures
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.shapes import TokenGrid
from vjepa2.video.inputs import split_videos
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.sampling import ClipSampling

Pool = Literal["mean", "tokens"]
POOLS = ("mean", "tokens")


def embed(
    videos: object,
    *,
    model: ModelLike | None = None,
    processor: VJEPA2VideoProcessor | None = None,
    num_frames: int | None = None,
    sampling: str | ClipSampling = "uniform",
    num_clips: int = 1,
    pool: Pool = "mean",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> list[ClipFeatures]:
    """Turn videos into features.

    Args:
        videos: one video or a list of them: paths, URLs, bytes, open readers, `Frames`, arrays,
            tensors or lists of frames (see `vjepa2.video.inputs`).
        model: hub name, folder, or a loaded `VJEPA2Model` or `VJEPA2ForVideoClassification`;
            default: `motion-tiny`, the small model shipped inside the package.
        processor: makes the pixels; default: the one saved with the model.
        num_frames: T, frames of a clip; default: the model's `config.frames_per_clip`.
        sampling: which frames: "uniform" (spread over the clip's stretch of the video),
            "consecutive", "fps=4", "stride=2", or a `ClipSampling`.
        num_clips: clips per video. The video is cut into as many stretches of equally many
            frames, and each becomes one row.
        pool: "mean" for the pooled vector alone, "tokens" to keep all tokens as well.
        device: where the model runs; default: the best there is. Not for a loaded model.
        dtype: element type in which it runs, such as "bfloat16"; default: that of the file. Not
            for a loaded model.

    Returns:
        One row per clip, videos in the order given, clips in the order of time.

    Raises:
        VideoError: a video cannot be read. `embed_files` goes on after a bad file instead.
        WeightsError: the model cannot be loaded.
        ConfigError: an option is wrong.
        InputError: `videos` are no videos.
    """
    embedder = make_embedder(
        model,
        processor=processor,
        num_frames=num_frames,
        sampling=sampling,
        num_clips=num_clips,
        pool=pool,
        device=device,
        dtype=dtype,
    )
    with embedder.model.inference():
        return [row for video in split_videos(videos) for row in embedder.rows(video)]


def make_embedder(
    model: ModelLike | None = None,
    *,
    processor: VJEPA2VideoProcessor | None = None,
    num_frames: int | None = None,
    sampling: str | ClipSampling = "uniform",
    num_clips: int = 1,
    pool: str = "mean",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> "Embedder":
    """Load a model once for many videos; arguments and errors as in `embed`."""
    check_choice("pool", pool, POOLS)
    ready = load(model, kind=VJEPA2Model, processor=processor, device=device, dtype=dtype)
    frames = clip_frames(ready, num_frames=num_frames, sampling=sampling)
    return Embedder(model=ready, sampling=frames, num_clips=num_clips, pool=pool)


def clip_frames(
    model: LoadedModel, *, num_frames: int | None, sampling: str | ClipSampling
) -> ClipSampling:
    """How clips for a model are sampled; T defaults to the model's `frames_per_clip`."""
    if isinstance(sampling, str) and num_frames is None:
        num_frames = model.base.config.frames_per_clip
    return read_sampling(sampling, num_frames=num_frames)


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """A loaded model with fixed settings.

    Attributes:
        model: network and processor.
        sampling: frames of a clip.
        num_clips: clips of a video.
        pool: "mean" or "tokens".
    """

    model: LoadedModel
    sampling: ClipSampling
    num_clips: int = 1
    pool: str = "mean"

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the features are, ready for JSON."""
        return {
            "model": self.model.name,
            "weights": self.model.weights_id(),
            "dtype": str(self.model.base.dtype).removeprefix("torch."),
            "processor": self.model.processor.to_dict(),
            "sampling": asdict(self.sampling),
            "num_clips": self.num_clips,
            "pool": self.pool,
        }

    def clips(self, video: object) -> Iterator[PixelClip]:
        """The clips of one video, on the model's device. See `clips_of` for errors."""
        return clips_of(
            video,
            processor=self.model.processor,
            sampling=self.sampling,
            num_clips=self.num_clips,
            device=self.model.device,
        )

    def rows(self, video: object, *, stamp: str = "") -> Iterator[ClipFeatures]:
        """Features of one video, clip by clip; call it inside `model.inference()`."""
        for clip in self.clips(video):
            yield self.row(clip, source=source_name(video), stamp=stamp)

    def row(self, clip: PixelClip, *, source: str, stamp: str = "") -> ClipFeatures:
        """Features of one clip; call it inside `model.inference()`."""
        tokens = self.model.base.get_vision_features(clip.pixels)[0]
        grid = self.model.base.encoder.grid(clip.pixels)
        # Summed in float32 whatever the network's type: half precision loses digits over 8192
        # tokens.
        embedding = tokens.mean(dim=0, dtype=torch.float32)
        check_finite(embedding, self.model)
        pts_seconds, t_start, t_end = _times(
            clip, grid, frames_per_step=self.model.base.config.tubelet_size
        )
        return ClipFeatures(
            source=source,
            embedding=embedding.cpu(),
            tokens=tokens.cpu() if self.pool == "tokens" else None,
            grid=grid,
            pts_seconds=pts_seconds,
            t_start=t_start,
            t_end=t_end,
            sees_until=t_end,
            model=self.model.name,
            stamp=stamp,
        )


def _times(
    clip: PixelClip, grid: TokenGrid, *, frames_per_step: int
) -> tuple[tuple[float, ...] | None, float | None, float | None]:
    """Times of the steps, begin and end, of the frames that reach the network."""
    if clip.pts_seconds is None or clip.end_seconds is None:
        return None, None, None
    # A rest of frames that fills no step is not seen.
    seen = slice(0, frames_per_step * grid.t)
    pts_seconds, end_seconds = clip.pts_seconds[seen], clip.end_seconds[seen]
    return (
        tuple(pts_seconds[::frames_per_step].tolist()),
        float(pts_seconds.min()),
        float(end_seconds.max()),
    )
