"""Counting what one clip of an update needs; `training.forecast` puts it together.

What autograd keeps follows `nn.block.Block` (D width, h hidden width, G heads):

    per token and block     inputs of both norms 2 D, their outputs 2 D, queries, keys and values
                            3 D, attended values D, the wide activation before and after 2 h
    also                    4 + G numbers: mean and deviation of both norms, one sum per head
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from vjepa2.errors import ConfigError, check_choice
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.shapes import TokenGrid

Dtype = Literal["float32", "bfloat16"]
Mask = tuple[int | float, int | float]

# A fused kernel computes the scores again in its backward pass: five products instead of four.
ATTENTION_BACKWARD = {"sdpa": 2.5, "eager": 2.0}


@dataclass(frozen=True)
class Stack:
    """Blocks of one width."""

    width: int
    hidden: int
    heads: int
    depth: int

    def flops(self, num_tokens: int) -> tuple[float, float]:
        """Of linear layers and of attention, forward, for one sample."""
        linear = 2 * num_tokens * (4 * self.width**2 + 2 * self.width * self.hidden)
        return float(self.depth * linear), float(self.depth * 4 * num_tokens**2 * self.width)

    def last_product(self, num_tokens: int) -> float:
        """Part of `flops` that the last matrices of the blocks take."""
        return 2.0 * self.depth * num_tokens * self.width * self.hidden

    def kept_bytes(self, sizes: "Sizes", *, frozen: bool) -> int:
        """What one block keeps of one token."""
        inputs = 2 * sizes.norm_input + (1 if frozen else 2) * sizes.compute
        attention = 4 * sizes.compute
        wide = (1 if frozen else 2) * sizes.compute * self.hidden
        return (inputs + attention) * self.width + wide + 4 * (4 + self.heads)


@dataclass(frozen=True)
class Sizes:
    """Bytes of a number: in products, and as a norm keeps its input."""

    compute: int
    norm_input: int


def mask_counts(mask: Mask, grid: TokenGrid) -> tuple[int, int]:
    """Visible and hidden tokens of a clip; floats are shares.

    Raises:
        ConfigError: more than there are, or fewer than none.
    """
    counts = [value if isinstance(value, int) else round(value * grid.num_tokens) for value in mask]
    if min(counts) < 0 or max(counts) > grid.num_tokens:
        raise ConfigError(
            f"A mask of {mask} (visible, hidden) does not fit a clip of {grid.num_tokens} tokens."
        )
    return counts[0], counts[1]


def stacks_of(network: VJEPA2Config) -> tuple[Stack, Stack]:
    """Blocks of encoder and predictor."""
    width, narrow = network.hidden_size, network.pred_hidden_size
    return (
        Stack(
            width,
            int(width * network.mlp_ratio),
            network.num_attention_heads,
            network.num_hidden_layers,
        ),
        Stack(
            narrow,
            int(narrow * network.pred_mlp_ratio),
            network.pred_num_attention_heads,
            network.pred_num_hidden_layers,
        ),
    )


def block_parameters(stack: Stack) -> int:
    """Numbers in one block, with biases."""
    return 4 * stack.width**2 + 2 * stack.width * stack.hidden + 9 * stack.width + stack.hidden


def count_parameters(
    network: VJEPA2Config,
    *,
    rank: int,
    targets: Sequence[str],
    teacher_network: VJEPA2Config | None = None,
) -> dict[str, int]:
    """By part, see `Forecast`; made of the networks without memory."""
    encoder, predictor = _numbers_in(network)
    stack, _ = stacks_of(network)
    adapters = stack.depth * sum(_adapter(stack, rank, name) for name in targets) if rank else 0
    average = encoder + adapters
    return {
        "encoder": encoder + adapters,
        "predictor": predictor,
        "trainable": predictor + (adapters if rank else encoder),
        "average": average,
        "teacher": average if teacher_network is None else _numbers_in(teacher_network)[0],
    }


def _numbers_in(network: VJEPA2Config) -> tuple[int, int]:
    """Parameters of encoder and predictor."""
    with torch.device("meta"):
        model = VJEPA2Model(network)
    encoder, predictor = (
        sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.predictor)
    )
    return encoder, predictor


def _adapter(stack: Stack, rank: int, target: str) -> int:
    """Numbers of one adapter: two thin matrices."""
    check_choice("adapter_targets", target, ("query", "key", "value", "proj", "fc1", "fc2"))
    other = stack.hidden if target in ("fc1", "fc2") else stack.width
    return rank * (stack.width + other)


def widths_of(network: VJEPA2Config) -> tuple[int, int]:
    """Widths of what the predictor reads and of what it tells."""
    levels = max(1, len(network.predictor_levels))
    return levels * network.hidden_size, levels * (network.pred_output_size or network.hidden_size)


def count_flops(
    network: VJEPA2Config,
    grid: TokenGrid,
    counts: Sequence[tuple[int, int]],
    *,
    patch: int,
    recompute: bool,
    rank: int,
    targets: Sequence[str],
    teacher_network: VJEPA2Config | None = None,
) -> dict[str, float]:
    """Of one clip, by part."""
    encoder, predictor = stacks_of(network)
    read, told = widths_of(network)
    width, narrow = encoder.width, predictor.width
    attention_backward = ATTENTION_BACKWARD[network._attn_implementation or "sdpa"]
    has_levels, tells_context = read > width, network.model_type == "vjepa2_1"
    total = dict.fromkeys(("teacher", "student", "predictor", "backward", "recompute"), 0.0)
    teacher, _ = stacks_of(teacher_network or network)
    total["teacher"] = 2.0 * grid.num_tokens * patch * teacher.width
    total["teacher"] += sum(teacher.flops(grid.num_tokens))
    per_token = 2 * encoder.depth * sum(_adapter(encoder, rank, name) for name in targets)
    for visible, hidden in counts:
        embedding = 2.0 * visible * patch * width
        linear, attention = encoder.flops(visible)
        added = float(visible * per_token) if rank else 0.0
        total["student"] += embedding + linear + attention + added
        total["backward"] += attention_backward * attention
        total["backward"] += linear + 2 * added if rank else embedding + 2 * linear
        between = 2.0 * visible * (read * width + width * narrow if has_levels else read * narrow)
        ends = 2.0 * narrow * told * (hidden + (visible if tells_context else 0))
        inner, mixing = predictor.flops(visible + hidden)
        total["predictor"] += between + inner + mixing + ends
        total["backward"] += 2 * (between + inner + ends) + attention_backward * mixing
        if recompute:  # up to what a block keeps: not its last product
            total["recompute"] += linear + attention + added + inner + mixing
            total["recompute"] -= encoder.last_product(visible)
            total["recompute"] -= predictor.last_product(visible + hidden)
    total["total"] = sum(total.values())
    return total


def sizes_of(dtype: Dtype, kind: str) -> Sizes:
    """For a type of products on "cpu" or "cuda"."""
    if dtype == "float32":
        return Sizes(4, 4)
    return Sizes(2, 4 if kind == "cuda" else 2)  # autocast on a GPU norms in float32


def activation_bytes(
    network: VJEPA2Config,
    grid: TokenGrid,
    counts: Sequence[tuple[int, int]],
    sizes: Sizes,
    *,
    patch: int,
    frozen: bool,
    recompute: bool,
) -> tuple[float, float]:
    """Bytes of one clip: kept for the backward pass, and needed for a moment within it."""
    encoder, predictor = stacks_of(network)
    read, told = widths_of(network)
    is_eager = network._attn_implementation == "eager"
    kept, needed = 0.0, 0.0
    for visible, hidden in counts:
        for stack, num_tokens, is_frozen in (
            (encoder, visible, frozen),
            (predictor, visible + hidden, False),
        ):
            block = stack.kept_bytes(sizes, frozen=is_frozen) * num_tokens
            if is_eager:
                block += 4 * stack.heads * num_tokens**2
            inside = inside_block(stack, num_tokens, sizes)
            if recompute:
                kept += stack.depth * num_tokens * stack.width * sizes.compute
                inside += block
            else:
                kept += stack.depth * block
            needed = max(needed, inside)
            kept += num_tokens * (stack.width * sizes.norm_input + 8)  # of the final norm
            kept += 2 * num_tokens * (stack.width // stack.heads) * sizes.compute  # rotary tables
        if not frozen:
            kept += visible * patch * sizes.compute
        between = read + (2 * encoder.width if read > encoder.width else 0)
        kept += visible * between * sizes.compute  # what the predictor reads
        ends = hidden + (visible if network.model_type == "vjepa2_1" else 0)
        kept += ends * (predictor.width * sizes.compute + 4 * told)  # ahead of its end; errors
    return kept, needed


def inside_block(stack: Stack, num_tokens: int, sizes: Sizes) -> float:
    """Bytes that one clip needs for a moment within a block, beside what is kept."""
    return float(num_tokens * sizes.compute * (2 * stack.hidden + 3 * stack.width))


def teaching_bytes(teacher: VJEPA2Config, grid: TokenGrid, sizes: Sizes, *, told: int) -> float:
    """Bytes of one clip while the teacher reads it: its tokens, one block, and the targets.

    Args:
        teacher: whose encoder runs, without gradient.
        grid: of the whole clip.
        sizes: of numbers.
        told: width of the targets, all levels side by side.
    """
    stack, _ = stacks_of(teacher)
    num_tokens = grid.num_tokens
    in_blocks = num_tokens * stack.width * sizes.norm_input + inside_block(stack, num_tokens, sizes)
    # Levels wait until all are there; in the end they are joined, and then normed in float32.
    levels = num_tokens * told * sizes.norm_input
    at_end = levels + 2 * num_tokens * told * 4
    return max(in_blocks + (levels if told > stack.width else 0), at_end)


def input_bytes(
    network: VJEPA2Config, num_frames: int, crop_size: tuple[int, int], *, own: int, micro: int
) -> int:
    """Pixels of a micro-batch in float32 and cut into patches, and the whole batch in uint8.

    What is cut out of a frame is taken to have four times the pixels that it is resized to.
    """
    frame = network.in_chans * math.prod(crop_size)
    return num_frames * frame * (2 * 4 * micro + 4 * own)
