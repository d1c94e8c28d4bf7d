"""Multi-block masks over the token grid, and how far a visible token is from the hidden ones.

A mask is a union of equally large blocks, each at a random place (arXiv:2506.09985, section 2.1;
the published code's generator). What no block covers is the context that the encoder sees, what
they cover is the target that the predictor has to tell. All clips of a step share one block size;
their places differ.

Everything random is a function of (seed, step, number of the mask, number of the sample): a sample
has the same places in a batch of 4 and of 400, on any rank, in any worker.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from pydantic import Field, model_validator
from torch import Tensor

from vjepa2.errors import ConfigError, MaskError, check_kind, checked_integer
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.shapes import TokenGrid
from vjepa2.strict_config import StrictConfig

# Draws of a sample's places before the best of them is repaired.
MAX_DRAWS = 16
# Choosing a number of blocks: how much of the context share of the large grid a small one keeps.
LARGE_SIDE = 16
FITTING_STEPS, FITTING_BATCH, FITTING_SHARE = 32, 24, 0.5


class MaskConfig(StrictConfig):
    """One way of masking; a run uses several on every clip.

    Attributes:
        num_blocks: blocks per sample; they may overlap.
        spatial_scale: share of a time step's tokens that a block covers, drawn in this range.
        temporal_scale: share of the time steps that a block covers, drawn in this range.
        aspect_ratio: height over width of a block, drawn evenly in this range.
        max_temporal_keep: time steps after this share of them are all hidden.
        max_context: context tokens per sample at most, the first ones; None: no limit.
        complement: after truncation, "targets" makes every token outside the context a target,
            "context" every token outside the targets context; "none" leaves cut tokens unused.
        min_context: share of all tokens that a sample's context has at least; one token in any
            case. Samples below are drawn anew, and repaired if that does not help.
        min_target: the same of the targets.
        inverted: in the end, what the blocks cover is the context and the rest the target. The
            other options are worded as if it were off.
    """

    num_blocks: int = Field(default=8, ge=1)
    spatial_scale: tuple[float, float] = (0.15, 0.15)
    temporal_scale: tuple[float, float] = (1.0, 1.0)
    aspect_ratio: tuple[float, float] = (0.75, 1.5)
    max_temporal_keep: float = Field(default=1.0, gt=0, le=1)
    max_context: int | None = Field(default=None, ge=1)
    complement: Literal["none", "targets", "context"] = "none"
    min_context: float = Field(default=0.0, ge=0, lt=1)
    min_target: float = Field(default=0.0, ge=0, lt=1)
    inverted: bool = False

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> Self:
        for name in ("spatial_scale", "temporal_scale", "aspect_ratio"):
            low, high = getattr(self, name)
            most = math.inf if name == "aspect_ratio" else 1.0
            if not 0 < low <= high <= most:
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high <= {most:g}")
        if self.min_context + self.min_target > 1:
            raise ValueError("min_context and min_target together are more than all tokens")
        return self


def published_masks() -> tuple[MaskConfig, ...]:
    """Short and long range; every clip is trained with both (arXiv:2506.09985, appendix)."""
    return (
        MaskConfig(num_blocks=8, spatial_scale=(0.15, 0.15)),
        MaskConfig(num_blocks=2, spatial_scale=(0.7, 0.7)),
    )


def image_masks() -> tuple[MaskConfig, ...]:
    """The mask of still images in V-JEPA 2.1 (arXiv:2603.14482)."""
    return (MaskConfig(num_blocks=10, spatial_scale=(0.15, 0.15)),)


class PackedIds(NamedTuple):
    """Ids of several samples joined without padding.

    `ids` [sum n] holds the ids of sample 0, then those of sample 1, ..., each inside its own clip;
    `lengths` how many each sample has.
    """

    ids: Int[Tensor, " total"]
    lengths: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Masks:
    """Context and targets of a batch, cut to the fewest of its samples (published truncation).

    Tokens that were cut are neither. Ids ascend within a row.
    """

    context_ids: Int[Tensor, "B K"]
    target_ids: Int[Tensor, "B M"]

    def rows(self, start: int, stop: int) -> "Masks":
        """Those of samples `start` to before `stop`."""
        return Masks(self.context_ids[start:stop], self.target_ids[start:stop])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Masks":
        """The same on another device."""
        context, target = (
            ids.to(device, non_blocking=non_blocking) for ids in (self.context_ids, self.target_ids)
        )
        return Masks(context, target)


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """Context and targets of a batch, every sample with all of its own.

    Ids are joined sample after sample, see `PackedIds`, and ascend within a sample.
    """

    context_ids: Int[Tensor, " total_context"]
    target_ids: Int[Tensor, " total_target"]
    context_lengths: tuple[int, ...]
    target_lengths: tuple[int, ...]

    @property
    def context(self) -> PackedIds:
        """What the encoder takes as `keep_ids` and the predictor as `context_ids`."""
        return PackedIds(self.context_ids, self.context_lengths)

    @property
    def target(self) -> PackedIds:
        """What the predictor takes as `target_ids`."""
        return PackedIds(self.target_ids, self.target_lengths)

    def rows(self, start: int, stop: int) -> "PackedMasks":
        """Those of samples `start` to before `stop`."""
        context, target = (
            _packed_rows(packed, start, stop) for packed in (self.context, self.target)
        )
        return PackedMasks(context.ids, target.ids, context.lengths, target.lengths)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "PackedMasks":
        """The same on another device."""
        context, target = (
            ids.to(device, non_blocking=non_blocking) for ids in (self.context_ids, self.target_ids)
        )
        return PackedMasks(context, target, self.context_lengths, self.target_lengths)


def _packed_rows(packed: PackedIds, start: int, stop: int) -> PackedIds:
    first, length = sum(packed.lengths[:start]), sum(packed.lengths[start:stop])
    return PackedIds(packed.ids[first : first + length], packed.lengths[start:stop])


@overload
def draw_masks(
    config: MaskConfig, grid: TokenGrid, *, batch: int, seed: int, step: int, number: int = ...,
    first_sample: int = ..., packed: Literal[False] = ..., group: None = ...,
) -> Masks: ...  # fmt: skip
@overload
def draw_masks(
    config: MaskConfig, grid: TokenGrid, *, batch: int, seed: int, step: int, number: int = ...,
    first_sample: int = ..., packed: Literal[True], group: None = ...,
) -> PackedMasks: ...  # fmt: skip
@overload
def draw_masks(
    config: MaskConfig, grid: TokenGrid, *, batch: int, seed: int, step: int, number: int = ...,
    first_sample: int = ..., packed: Literal[False] = ..., group: int,
) -> list[Masks]: ...  # fmt: skip
def draw_masks(
    config: MaskConfig,
    grid: TokenGrid,
    *,
    batch: int,
    seed: int,
    step: int,
    number: int = 0,
    first_sample: int = 0,
    packed: bool = False,
    group: int | None = None,
) -> Masks | PackedMasks | list[Masks]:
    """Draw the masks of one training step.

    Args:
        batch: number of samples.
        seed, step: of the run. One block size is drawn per (seed, step, number).
        number: which of the run's mask configurations this is, so that two equal ones differ.
        first_sample: number of the first sample in the global batch.
        packed: keep every token of every sample instead of cutting all to the fewest.
        group: cut within every `group` samples instead of the whole batch; a list of masks, one
            per group, each with its own K and M.

    Returns:
        Ids on the CPU. Without `packed`, later time steps are cut first, as published.

    Raises:
        MaskError: the grid has no room for context and target, or `max_context` or
            `max_temporal_keep` leave less than `min_context`.
        ConfigError: an argument is no such number, or `packed` and `group` are given together.
    """
    check_kind("config", config, MaskConfig, words="a MaskConfig")
    check_kind("grid", grid, TokenGrid, words="a TokenGrid, encoder.grid(pixels)")
    batch = checked_integer("batch", batch, least=1)
    samples = checked_integer("first_sample", first_sample, least=0) + np.arange(batch)
    if group is not None:
        group = checked_integer("group", group, least=1)
        if packed or batch % group:
            reason = "packed masks are not cut" if packed else f"{batch} samples do not divide"
            raise ConfigError(f"group={group}: {reason}. Leave it out, or choose a divisor.")
    hidden = _draw_hidden(config, grid, samples, stream_key(seed=seed, step=step, number=number))
    if packed:
        return _pack(config, hidden)
    drawn = [_truncate(config, part) for part in np.split(hidden, batch // (group or batch))]
    return drawn[0] if group is None else drawn


def _draw_hidden(
    config: MaskConfig,
    grid: TokenGrid,
    samples: Int[np.ndarray, " B"],
    key: UInt64[np.ndarray, "1"],
) -> Bool[np.ndarray, "B N"]:
    """What the blocks cover. Redraws only samples that are short of context or target."""
    least_context, least_target = _floors(config, grid)
    block = _block_size(config, grid, uniform(stream(key, np.arange(3))))
    keys = stream(key, 3 + samples)
    cover = _cover(config, grid, block, keys, draw=0)
    short = _shortage(cover, least_context, least_target)
    for draw in range(1, MAX_DRAWS):
        pending = np.flatnonzero(short)
        if not pending.size:
            return cover > 0
        other = _cover(config, grid, block, keys[pending], draw=draw)
        other_short = _shortage(other, least_context, least_target)
        better = other_short < short[pending]
        cover[pending[better]] = other[better]
        short[pending[better]] = other_short[better]
    hidden: Bool[np.ndarray, "B N"] = cover > 0
    pending = np.flatnonzero(short)
    if pending.size:
        hidden[pending] = _repaired(
            cover[pending], grid, keys[pending], least_context, least_target
        )
    return hidden


def _floors(config: MaskConfig, grid: TokenGrid) -> tuple[int, int]:
    """Fewest context and target tokens of a sample."""
    num_tokens = grid.num_tokens if min(grid) > 0 else 0
    context = max(1, math.ceil(config.min_context * num_tokens))
    target = max(1, math.ceil(config.min_target * num_tokens))
    room = min(num_tokens - target, _kept_steps(config, grid) * grid.tokens_per_step)
    if context > room:
        raise MaskError(
            f"A grid of {grid.t}x{grid.h}x{grid.w} tokens leaves room for {max(0, room)} context "
            f"tokens beside {target} targets and max_temporal_keep={config.max_temporal_keep}, "
            f"{context} are needed. Use more frames or pixels, or a lower min_context."
        )
    if config.max_context is not None and context > config.max_context:
        raise MaskError(
            f"max_context={config.max_context} is less than the {context} tokens that "
            f"min_context={config.min_context} asks for. Change one of them."
        )
    return context, target


def _kept_steps(config: MaskConfig, grid: TokenGrid) -> int:
    return max(1, int(grid.t * config.max_temporal_keep))


def _block_size(config: MaskConfig, grid: TokenGrid, shares: Float[np.ndarray, "3"]) -> TokenGrid:
    """Steps, rows and columns of the step's blocks; the published code's formulas."""
    ranges = (config.temporal_scale, config.spatial_scale, config.aspect_ratio)
    temporal, spatial, aspect = (
        low + float(u) * (high - low) for (low, high), u in zip(ranges, shares, strict=True)
    )
    area = int(grid.tokens_per_step * spatial)
    h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    # The published code makes blocks of no token on tiny grids; at least one keeps its sense.
    t = int(grid.t * temporal)
    return TokenGrid(max(1, t), *(max(1, min(n, side)) for n, side in ((h, grid.h), (w, grid.w))))


def _cover(
    config: MaskConfig,
    grid: TokenGrid,
    block: TokenGrid,
    keys: UInt64[np.ndarray, " B"],
    *,
    draw: int,
) -> Float[np.ndarray, "B N"]:
    """How many blocks cover each token; infinity where `max_temporal_keep` hides it."""
    per_draw = config.num_blocks * 3
    numbers = draw * per_draw + np.arange(per_draw)
    shares = uniform(stream(keys[:, None], numbers)).reshape(-1, 3, config.num_blocks)
    inside = []
    for axis, (side, size) in enumerate(zip(grid, block, strict=True)):
        start = (shares[:, axis] * (side - size + 1)).astype(np.int64)[..., None]
        place = np.arange(side)
        inside.append(((place >= start) & (place < start + size)).astype(np.float32))
    time, row, column = inside  # [B, blocks, side]
    if block.t == grid.t:  # all time steps look the same: one plane, repeated
        plane = row.transpose(0, 2, 1) @ column
        cover = np.repeat(plane[:, None], grid.t, axis=1)
    else:
        planes = row[..., None] * column[:, :, None]
        cover = time.transpose(0, 2, 1) @ planes.reshape(*planes.shape[:2], -1)
    cover = cover.reshape(len(keys), grid.t, grid.tokens_per_step)
    cover[:, _kept_steps(config, grid) :] = math.inf
    return cover.reshape(len(keys), grid.num_tokens)


def _shortage(
    cover: Float[np.ndarray, "B N"], least_context: int, least_target: int
) -> Int[np.ndarray, " B"]:
    """How many tokens of context or target a sample lacks."""
    num_hidden = np.count_nonzero(cover, axis=1)
    num_visible = cover.shape[1] - num_hidden
    lacking: Int[np.ndarray, " B"] = np.maximum(
        least_context - num_visible, least_target - num_hidden
    )
    return lacking.clip(min=0)


def _repaired(
    cover: Float[np.ndarray, "B N"],
    grid: TokenGrid,
    keys: UInt64[np.ndarray, " B"],
    least_context: int,
    least_target: int,
) -> Bool[np.ndarray, "B N"]:
    """Hide exactly as many tokens as allowed: those covered most often stay hidden.

    Among equals the order is random by place, so that whole columns of time stay together.
    """
    place = uniform(stream(keys[:, None], -1 - np.arange(grid.tokens_per_step)))
    order = np.argsort(cover + np.tile(place, grid.t), axis=1, kind="stable")
    num_hidden = np.count_nonzero(cover, axis=1)
    num_hidden = np.clip(num_hidden, least_target, grid.num_tokens - least_context)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(grid.num_tokens)[None], axis=1)
    repaired: Bool[np.ndarray, "B N"] = rank >= grid.num_tokens - num_hidden[:, None]
    return repaired


def _truncate(config: MaskConfig, hidden: Bool[np.ndarray, "B N"]) -> Masks:
    """Ids of one group, cut to the fewest of its samples."""
    num_hidden = np.count_nonzero(hidden, axis=1)
    least_context = int(hidden.shape[1] - num_hidden.max())
    if config.max_context is not None:
        least_context = min(least_context, config.max_context)
    rows = len(hidden)
    context = _first_ids(~hidden, np.full(rows, least_context))
    target = _first_ids(hidden, np.full(rows, num_hidden.min()))
    context, target = _completed(config, hidden.shape, context, target)
    pair = [_tensor(ids % hidden.shape[1]).reshape(rows, -1) for ids in (context, target)]
    return Masks(*(reversed(pair) if config.inverted else pair))


def _pack(config: MaskConfig, hidden: Bool[np.ndarray, "B N"]) -> PackedMasks:
    """Ids of all samples, none cut but by `max_context`."""
    rows, num_tokens = hidden.shape
    most = np.full(rows, config.max_context or num_tokens)
    context, target = _first_ids(~hidden, most), _first_ids(hidden, np.full(rows, num_tokens))
    pair = _completed(config, hidden.shape, context, target)
    (context, target) = reversed(pair) if config.inverted else pair
    lengths = (np.bincount(ids // num_tokens, minlength=rows).tolist() for ids in (context, target))
    return PackedMasks(
        _tensor(context % num_tokens), _tensor(target % num_tokens), *map(tuple, lengths)
    )


def _first_ids(
    member: Bool[np.ndarray, "B N"], most: Int[np.ndarray, " B"]
) -> Int[np.ndarray, " total"]:
    """The first `most` ids of every row, as `row * N + id`, ascending."""
    found = np.flatnonzero(member)
    row = found // member.shape[1]
    counts = np.bincount(row, minlength=len(member))
    rank = np.arange(found.size) - (np.cumsum(counts) - counts)[row]
    first: Int[np.ndarray, " total"] = found[rank < most[row]]
    return first


def _completed(
    config: MaskConfig,
    shape: tuple[int, ...],
    context: Int[np.ndarray, " c"],
    target: Int[np.ndarray, " t"],
) -> tuple[Int[np.ndarray, " c2"], Int[np.ndarray, " t2"]]:
    """Give the tokens that neither list holds to one of them, where `complement` says so."""
    if config.complement == "none":
        return context, target
    other = np.ones(math.prod(shape), dtype=bool)
    if config.complement == "targets":
        other[context] = False
        return context, np.flatnonzero(other)
    other[target] = False
    return np.flatnonzero(other), target


def _tensor(ids: Int[np.ndarray, " n"]) -> Int[Tensor, " n"]:
    return torch.from_numpy(ids.astype(np.int64, copy=False))


def fitted_to(config: MaskConfig, grid: TokenGrid) -> MaskConfig:
    """The same masks with as many blocks as a small grid bears.

    On few rows and columns blocks round up and leave little. The number of blocks is lowered until
    a batch of 24 keeps half as large a share as context, after truncation, as on 16 x 16.

    Returns:
        `config` itself on grids of 16 x 16 and more.

    Raises:
        MaskError: see `draw_masks`.
    """
    _floors(config, grid)
    if grid.h >= LARGE_SIDE and grid.w >= LARGE_SIDE:
        return config
    plain = config.model_copy(update={"max_context": None, "min_context": 0.0, "min_target": 0.0})
    large = TokenGrid(grid.t, LARGE_SIDE, LARGE_SIDE)
    wanted = FITTING_SHARE * _context_share(plain, large)
    for num_blocks in range(config.num_blocks, 1, -1):
        fewer = plain.model_copy(update={"num_blocks": num_blocks})
        if _context_share(fewer, grid) >= wanted:
            return config.model_copy(update={"num_blocks": num_blocks})
    return config.model_copy(update={"num_blocks": 1})


def _context_share(config: MaskConfig, grid: TokenGrid) -> float:
    """Mean share of tokens that a truncated batch keeps as context."""
    samples = np.arange(FITTING_BATCH)
    kept = 0
    for step in range(FITTING_STEPS):
        key = stream_key(seed=0, step=step)
        block = _block_size(config, grid, uniform(stream(key, np.arange(3))))
        cover = _cover(config, grid, block, stream(key, 3 + samples), draw=0)
        kept += int((cover == 0).sum(axis=1).min())
    return kept / (FITTING_STEPS * grid.num_tokens)


def context_distances(
    context_ids: Int[Tensor, "B K"],
    target_ids: Int[Tensor, "B M"],
    grid: TokenGrid,
    *,
    unit: float = 1.0,
) -> Float[Tensor, "B K"]:
    """Square root of the distance from every context token to the nearest target token.

    The context loss of V-JEPA 2.1 weights a token by the inverse of this (arXiv:2603.14482,
    section 3): visible tokens beside hidden ones count most.

    Args:
        context_ids: int64 ids of the visible tokens.
        target_ids: int64 ids of the hidden tokens, at least one.
        grid: the token grid both lie on.
        unit: distances are counted in this many tokens; `grid.h // 16` in the published option
            that makes large grids comparable to that of 256 pixels.

    Returns:
        float32, Euclidean in (time step, row, column), divided by `unit`, square-rooted; 1 for a
        neighbour.
    """
    context, target = (_coordinates(ids, grid) for ids in (context_ids, target_ids))
    # Differences, not the expanded square: neighbours are at distance 1 exactly.
    nearest = torch.cdist(context, target, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
    return (nearest / unit).sqrt()


def _coordinates(ids: Int[Tensor, "B N"], grid: TokenGrid) -> Float[Tensor, "B N 3"]:
    within = ids % grid.tokens_per_step
    axes = (ids // grid.tokens_per_step, within // grid.w, within % grid.w)
    return torch.stack(axes, dim=-1).float()
