"""Drawing masks: random blocks, their union, ids.

Everything random is a function of (seed, step, number of the mask, number of the sample): a sample
has the same places in a batch of 4 and of 400, on any rank, in any worker.
"""

import math
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64

from vjepa2.errors import ConfigError, MaskError, check_kind, checked_integer
from vjepa2.masking.config import MaskConfig
from vjepa2.masking.ids import Masks, PackedMasks
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.shapes import TokenGrid

# Draws of a sample's places before the best of them is repaired.
MAX_DRAWS = 16
# Choosing a number of blocks for a small grid, see `fitted_to`.
LARGE_SIDE, LEAST_PLACES, LEAST_SHARE = 16, 4, 0.5
FITTING_STEPS, FITTING_BATCH = 32, 24


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
    rows, num_tokens = hidden.shape
    num_hidden = np.count_nonzero(hidden, axis=1)
    num_context = min(num_tokens - num_hidden.max(), config.max_context or num_tokens)
    pair = _completed(
        config,
        num_tokens,
        _first_ids(~hidden, np.full(rows, num_context)),
        _first_ids(hidden, np.full(rows, num_hidden.min())),
    )
    return Masks(*(torch.from_numpy(ids).reshape(rows, -1) for ids, _ in pair))


def _pack(config: MaskConfig, hidden: Bool[np.ndarray, "B N"]) -> PackedMasks:
    """Ids of all samples, none cut but by `max_context`."""
    num_tokens = hidden.shape[1]
    num_hidden = np.count_nonzero(hidden, axis=1)
    num_context = np.minimum(num_tokens - num_hidden, config.max_context or num_tokens)
    context, target = _completed(
        config, num_tokens, _first_ids(~hidden, num_context), _first_ids(hidden, num_hidden)
    )
    return PackedMasks(
        torch.from_numpy(context.ids),
        torch.from_numpy(target.ids),
        tuple(context.lengths.tolist()),
        tuple(target.lengths.tolist()),
    )


class _Ids(NamedTuple):
    """As `PackedIds`, in NumPy."""

    ids: Int[np.ndarray, " total"]
    lengths: Int[np.ndarray, " B"]


def _first_ids(member: Bool[np.ndarray, "B N"], lengths: Int[np.ndarray, " B"]) -> _Ids:
    """The first ids of every row, which has at least as many members."""
    found = np.flatnonzero(member)
    rows, num_tokens = member.shape
    if lengths.sum() < found.size:
        counts = np.count_nonzero(member, axis=1)
        skipped = (np.cumsum(counts) - counts) - (np.cumsum(lengths) - lengths)
        found = found[np.arange(lengths.sum()) + np.repeat(skipped, lengths)]
    return _Ids(found - np.repeat(np.arange(rows) * num_tokens, lengths), lengths)


def _completed(
    config: MaskConfig, num_tokens: int, context: _Ids, target: _Ids
) -> tuple[_Ids, _Ids]:
    """Context and targets in their final roles.

    Gives the tokens that neither holds to one of them, where `complement` says so.
    """
    if config.complement == "targets":
        target = _others(context, num_tokens)
    elif config.complement == "context":
        context = _others(target, num_tokens)
    return (target, context) if config.inverted else (context, target)


def _others(given: _Ids, num_tokens: int) -> _Ids:
    """The tokens that are not given, sample by sample."""
    rows = len(given.lengths)
    other = np.ones((rows, num_tokens), dtype=bool)
    other[np.repeat(np.arange(rows), given.lengths), given.ids] = False
    return _first_ids(other, num_tokens - given.lengths)


def fitted_to(config: MaskConfig, grid: TokenGrid) -> MaskConfig:
    """The same masks with as many blocks as a small grid bears.

    On few rows and columns the same blocks easily cover nearly everything. The number of blocks is
    lowered until truncated batches of 24 keep, on average, at least four places as context and
    half as large a share as on 16 x 16.

    Returns:
        `config` itself on grids of 16 x 16 and more.

    Raises:
        MaskError: see `draw_masks`.
    """
    _floors(config, grid)
    if grid.h >= LARGE_SIDE and grid.w >= LARGE_SIDE:
        return config
    if grid.tokens_per_step <= LEAST_PLACES:
        return config.model_copy(update={"num_blocks": 1})
    if config.temporal_scale == (1.0, 1.0) and config.max_temporal_keep == 1:
        grid = grid._replace(t=1)  # all time steps look the same
    large = grid._replace(h=LARGE_SIDE, w=LARGE_SIDE)
    share = max(LEAST_SHARE * _kept_share(config, large), LEAST_PLACES / grid.tokens_per_step)
    fewest, most = 1, config.num_blocks
    tried = most
    while fewest < most:  # more blocks keep less, so halving finds the number
        if _kept_share(config.model_copy(update={"num_blocks": tried}), grid) >= share:
            fewest = tried
        else:
            most = tried - 1
        tried = (fewest + most + 1) // 2
    return config.model_copy(update={"num_blocks": fewest})


def _kept_share(config: MaskConfig, grid: TokenGrid) -> float:
    """Mean share of tokens that truncated batches keep as context, by the blocks alone."""
    plain = config.model_copy(update={"min_context": 0.0, "min_target": 0.0, "max_context": None})
    samples = np.arange(FITTING_BATCH)
    hidden = (
        _draw_hidden(plain, grid, samples, stream_key(seed=0, step=step))
        for step in range(FITTING_STEPS)
    )
    kept = sum(int(np.count_nonzero(~part, axis=1).min()) for part in hidden)
    return kept / (FITTING_STEPS * grid.num_tokens)
