"""Samples of different lengths joined on one axis, without padding.

Linear layers see one long row of tokens [1, total, D]; only attention, stochastic depth and
positions need to know where one sample ends and the next begins.
"""

from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class PackedIds(NamedTuple):
    """Ids of several samples: those of sample 0, then those of sample 1, ...

    `ids` [total] are each inside its own clip, `lengths` say how many each sample has.
    """

    ids: Int[Tensor, " total"]
    lengths: tuple[int, ...]

    def in_joined_clips(self, num_tokens: int) -> Int[Tensor, " total"]:
        """The ids if the clips of `num_tokens` tokens each lay one after the other."""
        starts = [number * num_tokens for number in range(len(self.lengths))]
        return self.ids + per_token(starts, self.lengths, device=self.ids.device)


class Segments(NamedTuple):
    """Where samples lie among joined tokens.

    `lengths` of the samples; `offsets` int32 [B + 1] on the tokens' device: sample i holds the
    tokens from `offsets[i]` to before `offsets[i + 1]`; `longest` the largest length.
    """

    lengths: tuple[int, ...]
    offsets: Int[Tensor, " bounds"]
    longest: int


def segments_of(lengths: tuple[int, ...], *, device: torch.device) -> Segments:
    """Describe samples of these lengths; made once per forward."""
    bounds = list(accumulate(lengths, initial=0))
    offsets = torch.tensor(bounds, dtype=torch.int32, device=device)
    return Segments(lengths, offsets, max(lengths))


def per_token(
    values: list[int], lengths: tuple[int, ...], *, device: torch.device
) -> Int[Tensor, " total"]:
    """Every sample's number, once per token of the sample."""
    numbers: Tensor
    numbers, repeats = torch.tensor([values, list(lengths)], device=device)
    return numbers.repeat_interleave(repeats, output_size=sum(lengths))
