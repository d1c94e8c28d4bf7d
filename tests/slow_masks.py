"""The rule of the mask generator, one token at a time, in plain Python."""

import math
from typing import NamedTuple

from vjepa2.masking import MaskConfig
from vjepa2.shapes import TokenGrid

ALL_BITS = 2**64 - 1
DRAWS = 16


def bits(key: int, number: int) -> int:
    """Number `number` of the stream of `key` (SplitMix64)."""
    z = (key + (number + 1) * 0x9E3779B97F4A7C15) & ALL_BITS
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & ALL_BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & ALL_BITS
    return z ^ (z >> 31)


def even(key: int, number: int) -> float:
    return (bits(key, number) >> 11) / 2**53


def block_of(
    config: MaskConfig, grid: TokenGrid, aspect: float, *, spatial: float, temporal: float
) -> TokenGrid:
    """Size of a block."""
    area = int(grid.h * grid.w * spatial)
    h = round(math.sqrt(area * aspect))
    w = round(math.sqrt(area / aspect))
    return TokenGrid(max(1, int(grid.t * temporal)), max(1, min(h, grid.h)), max(1, min(w, grid.w)))


def step_key(seed: int, step: int, number: int) -> int:
    return bits(bits(bits(0, seed), step), number)


def step_block(config: MaskConfig, grid: TokenGrid, key: int) -> TokenGrid:
    temporal, spatial, aspect = (
        low + even(key, place) * (high - low)
        for place, (low, high) in enumerate(
            (config.temporal_scale, config.spatial_scale, config.aspect_ratio)
        )
    )
    return block_of(config, grid, aspect, spatial=spatial, temporal=temporal)


def covers(
    config: MaskConfig, grid: TokenGrid, block: TokenGrid, key: int, draw: int
) -> list[float]:
    """How many blocks cover each token."""
    count = config.num_blocks
    cover = [0.0] * grid.num_tokens
    for number in range(count):
        first = draw * 3 * count + number
        start = [
            int(even(key, first + axis * count) * (side - size + 1))
            for axis, (side, size) in enumerate(zip(grid, block, strict=True))
        ]
        for t in range(start[0], start[0] + block.t):
            for row in range(start[1], start[1] + block.h):
                for column in range(start[2], start[2] + block.w):
                    cover[(t * grid.h + row) * grid.w + column] += 1
    kept = max(1, int(grid.t * config.max_temporal_keep))
    for token in range(kept * grid.h * grid.w, grid.num_tokens):
        cover[token] = math.inf
    return cover


def hidden_tokens(
    config: MaskConfig, grid: TokenGrid, *, seed: int, step: int, number: int, sample: int
) -> list[bool]:
    """Which tokens the blocks of one sample cover, after drawing anew and repairing."""
    num_tokens = grid.num_tokens
    need_visible = max(1, math.ceil(config.min_context * num_tokens))
    need_hidden = max(1, math.ceil(config.min_target * num_tokens))
    key = step_key(seed, step, number)
    block = step_block(config, grid, key)
    own = bits(key, 3 + sample)
    best, best_lack = [0.0], num_tokens + 1
    for draw in range(DRAWS):
        cover = covers(config, grid, block, own, draw)
        num_hidden = sum(c > 0 for c in cover)
        lack = max(need_visible - (num_tokens - num_hidden), need_hidden - num_hidden, 0)
        if lack < best_lack:
            best, best_lack = cover, lack
        if lack == 0:
            return [c > 0 for c in cover]
    plane = grid.h * grid.w
    order = sorted(
        range(num_tokens), key=lambda token: (best[token] + even(own, -1 - token % plane), token)
    )
    num_hidden = sum(c > 0 for c in best)
    num_hidden = min(max(num_hidden, need_hidden), num_tokens - need_visible)
    hidden = set(order[num_tokens - num_hidden :])
    return [token in hidden for token in range(num_tokens)]


class Drawn(NamedTuple):
    """Ids per sample."""

    context: list[list[int]]
    target: list[list[int]]


def slow_masks(
    config: MaskConfig,
    grid: TokenGrid,
    *,
    samples: range,
    seed: int,
    step: int,
    number: int = 0,
    cut: bool = True,
) -> Drawn:
    """Ids of all samples, cut to the fewest or not."""
    context, target = [], []
    for sample in samples:
        hidden = hidden_tokens(config, grid, seed=seed, step=step, number=number, sample=sample)
        context.append([token for token, is_hidden in enumerate(hidden) if not is_hidden])
        target.append([token for token, is_hidden in enumerate(hidden) if is_hidden])
    most = config.max_context or grid.num_tokens
    if cut:
        most = min(most, *(len(ids) for ids in context))
        fewest = min(len(ids) for ids in target)
        target = [ids[:fewest] for ids in target]
    context = [ids[:most] for ids in context]
    every = range(grid.num_tokens)
    if config.complement == "targets":
        target = [[token for token in every if token not in ids] for ids in context]
    elif config.complement == "context":
        context = [[token for token in every if token not in ids] for ids in target]
    return Drawn(target, context) if config.inverted else Drawn(context, target)
