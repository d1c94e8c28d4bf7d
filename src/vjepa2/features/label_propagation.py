"""Masks of the first frame carried through a video by the likeness of features; nothing is trained.

    features of frame t ----similarity----> features of the first frame and of the last n frames,
                                            near the same place
    labels of frame t  <---softmax of the k most alike---  labels that were found there

As Jabri et al. (NeurIPS 2020), DINO and V-JEPA 2.1 do (arXiv:2603.14482, dense protocols: 15
frames, a circle of 12 tokens, the 5 most alike, temperature 0.2, short side 480 px). What a frame
says is kept as shares, not as hard labels, so that doubt is carried along.

Memory: the features of `context_frames` + 1 frames, and similarities of a few rows of tokens at a
time; the length of the video does not matter.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from vjepa2.errors import DtypeError, LabelError, ShapeError
from vjepa2.features.loading import LoadedModel, ModelLike, check_finite, load
from vjepa2.models.still_images import image_maps
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.strict_config import StrictConfig
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sources import VideoSource
from vjepa2.video.whole_frames import whole_frame_pixels

# Similarities that are in memory at once.
MAX_SIMILARITIES = 1 << 24
FRAMES_AT_A_TIME = 8
MAX_OBJECTS = 254


class PropagationConfig(StrictConfig):
    """How labels travel. The defaults are the best of V-JEPA 2.1's sweeps.

    Attributes:
        context_frames: n, frames before the present one that are looked at, besides the first
            (published: one of 4, 7, 10, 15).
        radius: how far away, in tokens, a place may be looked at (12, 24, 36); None: anywhere.
        neighbourhood: "circle" or "square" of that radius.
        top_k: how many of the most alike places give their label (3, 5, 10).
        temperature: of the softmax over these (0.01, 0.1, 0.2, 0.7); features have length 1.
        stretch: stretch the shares of every object to 0..1 in each frame before the largest wins,
            as the published evaluation of DINO does. It helps small objects, and finds one where
            hardly anything is left of it.
    """

    context_frames: int = Field(15, ge=0, le=1 << 12)
    radius: int | None = Field(12, ge=0, le=1 << 12)
    neighbourhood: Literal["circle", "square"] = "circle"
    top_k: int = Field(5, ge=1, le=1 << 12)
    temperature: float = Field(0.2, gt=0, le=1e3)
    stretch: bool = False


# -- on maps of features ----------------------------------------------------------------------


def propagate_labels(
    features: Iterable[Float[Tensor, "D h w"]],
    first: Float[Tensor, "L h w"],
    *,
    config: PropagationConfig | None = None,
) -> Iterator[Float[Tensor, "L h w"]]:
    """Carry the labels of the first frame to all frames.

    Args:
        features: one map per frame, in order, all of one size; an iterator is read once, frame by
            frame.
        first: share of each label at every token of the first frame, adding up to 1.
        config: default `PropagationConfig()`.

    Yields:
        Shares of the labels, float32, frame by frame; first `first` itself.

    Raises:
        ShapeError: maps differ in size.
        DtypeError: a map is no floating point tensor, or holds NaN or infinity.
        LabelError: `first` is not made of shares.
    """
    config = PropagationConfig() if config is None else config
    _check_shares(first)
    known: deque[_Known] = deque(maxlen=config.context_frames)
    anchor: _Known | None = None
    for number, map_ in enumerate(features):
        unit = _unit_features(map_, number=number, like=anchor.features if anchor else None)
        if anchor is None:
            if unit.shape[1:] != first.shape[1:]:
                raise ShapeError(
                    f"The labels of the first frame are {list(first.shape[1:])}, its features "
                    f"{list(unit.shape[1:])} tokens. Bring the labels to the tokens' size first."
                )
            anchor = _Known(unit, first.to(unit))
            yield anchor.labels
            continue
        labels = _labels_from([anchor, *known], unit, config)
        known.append(_Known(unit, labels))
        yield labels


@dataclass(frozen=True)
class _Known:
    """A frame whose labels are known: features of length 1, and shares."""

    features: Float[Tensor, "D h w"]
    labels: Float[Tensor, "L h w"]


def _labels_from(
    known: list[_Known], present: Float[Tensor, "D h w"], config: PropagationConfig
) -> Float[Tensor, "L h w"]:
    """Labels of a frame, a few rows of tokens at a time."""
    _, h, w = present.shape
    reach = max(h, w) if config.radius is None else config.radius
    rows_at_a_time = max(1, MAX_SIMILARITIES // (w * len(known) * w * min(h, 2 * reach + 1)))
    parts = []
    for start in range(0, h, rows_at_a_time):
        stop = min(start + rows_at_a_time, h)
        # Only these rows of the known frames are near enough.
        near = slice(max(0, start - reach), min(h, stop + reach))
        sources = torch.cat([frame.features[:, near].flatten(1) for frame in known], dim=1)
        labels = torch.cat([frame.labels[:, near].flatten(1) for frame in known], dim=1)
        alike = present[:, start:stop].flatten(1).T @ sources
        if config.radius is not None:
            allowed = _near(range(start, stop), range(*near.indices(h)), w, config).to(alike.device)
            alike.masked_fill_(~allowed.repeat(1, len(known)), -torch.inf)
        best = alike.topk(min(config.top_k, alike.shape[1]), dim=1)
        weights = (best.values / config.temperature).softmax(dim=1)
        parts.append(torch.einsum("qk,Lqk->Lq", weights, labels[:, best.indices]))
    return torch.cat(parts, dim=1).reshape(-1, h, w)


def _near(
    rows: range, others: range, width: int, config: PropagationConfig
) -> Bool[Tensor, "queries sources"]:
    """Which tokens of `others` are within reach of which tokens of `rows`."""
    assert config.radius is not None
    down = torch.tensor(rows)[:, None] - torch.tensor(others)
    across = torch.arange(width)[:, None] - torch.arange(width)
    if config.neighbourhood == "circle":
        square = down.square()[:, None, :, None] + across.square()[None, :, None, :]
        inside = square <= config.radius**2
    else:
        inside = (down.abs() <= config.radius)[:, None, :, None] & (across.abs() <= config.radius)[
            None, :, None, :
        ]
    return inside.flatten(2).flatten(0, 1)


def _unit_features(map_: Tensor, *, number: int, like: Tensor | None) -> Float[Tensor, "D h w"]:
    if not isinstance(map_, Tensor) or not map_.is_floating_point():
        raise DtypeError(f"The features of frame {number} must be floating point [D, h, w].")
    if map_.dim() != 3 or (like is not None and map_.shape != like.shape):
        wanted = "[D, h, w]" if like is None else f"{list(like.shape)} as those of the first frame"
        raise ShapeError(f"The features of frame {number} are {list(map_.shape)}, not {wanted}.")
    if not bool(map_.isfinite().all()):
        raise DtypeError(f"The features of frame {number} hold NaN or infinity.")
    unit: Tensor = F.normalize(map_.float(), dim=0)
    return unit


def _check_shares(first: Tensor) -> None:
    if not isinstance(first, Tensor) or first.dim() != 3 or not first.is_floating_point():
        raise LabelError("The first frame's labels must be floating point shares [L, h, w].")
    total = first.sum(dim=0)
    if not bool((first >= 0).all() & ((total - 1).abs() < 1e-3).all()):
        raise LabelError("The first frame's labels must be shares from 0 that add up to 1.")


# -- on a video -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SegmentedFrame:
    """One frame and what lies where in it.

    Attributes:
        mask: number of the object at every pixel, 0 for none; the frame's own size.
        pts_seconds: when the frame appears.
    """

    mask: UInt8[Tensor, "H W"]
    pts_seconds: float


def segment_video(
    video: VideoSource,
    first_mask: Int[Tensor, "H W"],
    *,
    model: ModelLike | None = None,
    processor: VJEPA2VideoProcessor | None = None,
    short_side: int = 480,
    num_frames: int | None = None,
    config: PropagationConfig | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Iterator[SegmentedFrame]:
    """Carry the mask of the first frame through a video, frame by frame.

    Args:
        video: path, URL, bytes or open file.
        first_mask: whole numbers [H, W] of the first frame's size: 0 for nothing, 1 to 254 for
            objects.
        model: name, folder or loaded network; default: `motion-tiny`.
        processor: normalises the pixels; default: the one saved with the model.
        short_side: the frames' shorter side as the encoder sees them, rounded to whole patches.
        num_frames: equal frames that each frame is shown as; default: the image tokenizer for
            V-JEPA 2.1, one tubelet for V-JEPA 2.
        config: how labels travel; default `PropagationConfig()`, the published one.
        device, dtype: where and in which element type the encoder runs; not for a loaded network.

    Yields:
        Every frame of the video in order, the first with the mask as it was given.

    Raises:
        LabelError: `first_mask` has no object, or numbers out of range.
        ShapeError: it is not of the frames' size.
        VideoError: the video cannot be read.
        WeightsError, ConfigError: see `vjepa2.features.loading.load`.
    """
    mask = _checked_mask(first_mask)
    ready = load(model, kind=VJEPA2Model, processor=processor, device=device, dtype=dtype)
    if num_frames is None and ready.base.config.model_type != "vjepa2_1":
        num_frames = ready.base.config.tubelet_size
    objects = [int(number) for number in mask.unique() if number]
    with VideoReader(video) as reader:
        times = reader.pts_seconds.tolist()
        size = tuple(reader.get_frame_at(0).data.shape[1:])
        if tuple(mask.shape) != size:
            raise ShapeError(
                f"first_mask is {list(mask.shape)}, the frames are {list(size)} (height, width). "
                "Give a mask of the first frame, pixel by pixel."
            )
        maps = _maps(reader, ready, short_side=short_side, num_frames=num_frames)
        first_map = next(maps)
        shares = _shares_at_tokens(mask, objects, grid=(first_map.shape[1], first_map.shape[2]))
        labels = propagate_labels(_joined(first_map, maps), shares, config=config)
        stretch = config is not None and config.stretch
        for number, found in enumerate(labels):
            shown = mask if number == 0 else _at_pixels(found, objects, size, stretch=stretch)
            yield SegmentedFrame(shown.cpu(), times[number])


def _maps(
    reader: VideoReader, model: LoadedModel, *, short_side: int, num_frames: int | None
) -> Iterator[Float[Tensor, "D h w"]]:
    """Features of every frame."""
    encoder, patch = model.base.encoder, model.base.config.patch_size
    for frames in reader.iter_frames_at(range(len(reader)), frames_per_chunk=FRAMES_AT_A_TIME):
        for frame in frames.data:
            pixels = whole_frame_pixels(
                frame, processor=model.processor, short_side=short_side, multiple=patch
            )
            # One frame at a time, and no block around the `yield`: the caller's mode stays.
            with model.inference():
                features = image_maps(encoder, pixels.to(model.device), num_frames=num_frames)[0]
            check_finite(features, model)
            yield features


def _joined(first: Tensor, others: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from others


def _checked_mask(mask: Tensor) -> UInt8[Tensor, "H W"]:
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
        raise LabelError("first_mask must be a tensor [H, W] of whole numbers, 0 for no object.")
    if mask.dim() != 2:
        raise ShapeError(f"first_mask must be [H, W], got {list(mask.shape)}.")
    least, most = int(mask.min()), int(mask.max())
    if least < 0 or most > MAX_OBJECTS:
        raise LabelError(
            f"first_mask holds numbers from {least} to {most}; allowed are 0 (no object) to "
            f"{MAX_OBJECTS}. In label pictures 255 marks pixels without a label: set them to 0."
        )
    if most == 0:
        raise LabelError("first_mask has no object: every pixel is 0.")
    return mask.to(torch.uint8).cpu()


def _shares_at_tokens(
    mask: UInt8[Tensor, "H W"], objects: list[int], *, grid: tuple[int, int]
) -> Float[Tensor, "L h w"]:
    """How much of every token's area nothing and each object have."""
    layers = torch.stack([mask == number for number in (0, *objects)]).float()
    return F.adaptive_avg_pool2d(layers, grid)


def _at_pixels(
    shares: Float[Tensor, "L h w"], objects: list[int], size: tuple[int, ...], *, stretch: bool
) -> UInt8[Tensor, "H W"]:
    """The object with the largest share at every pixel."""
    smooth = F.interpolate(shares[None], size, mode="bilinear", align_corners=False)[0]
    if stretch:
        flat = smooth.flatten(1)
        least, most = flat.amin(dim=1)[:, None, None], flat.amax(dim=1)[:, None, None]
        smooth = (smooth - least) / (most - least).clamp(min=1e-12)
    numbers = torch.tensor([0, *objects], dtype=torch.uint8, device=shares.device)
    return numbers[smooth.argmax(dim=0)]
