"""What a mask is: the ids of context and target tokens, cut to one length or packed."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vjepa2.packing import PackedIds


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
