"""The order in which the predictor reads context and targets."""

from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from vjepa2.errors import MaskError
from vjepa2.models.checks import check_id_tensor, check_packed_ids
from vjepa2.packing import PackedIds, Segments, per_token, segments_of


class JoinedIds(NamedTuple):
    """Ids of context and targets together, in the order in which the blocks read them.

    Packed samples lie one after the other, each with its context first; `order` [N] says which
    token of [all context, all targets] comes where, `place` [N] the other way round.
    """

    ids: Tensor
    num_context: int
    segments: Segments | None = None
    order: Tensor | None = None
    place: Tensor | None = None

    def context_first(self, tokens: Tensor | None) -> Any:
        """Tokens as the blocks read them, put as [all context, all targets]."""
        return _taken(tokens, self.place)

    def as_read(self, tokens: Tensor) -> Tensor:
        """Tokens [all context, all targets] in the order in which the blocks read them."""
        return cast(Tensor, _taken(tokens, self.order))


def _taken(tokens: Tensor | None, order: Tensor | None) -> Any:
    return tokens if tokens is None or order is None else tokens.index_select(1, order)


def join_ids(
    context_ids: Tensor | PackedIds, target_ids: Tensor | PackedIds, context: Tensor
) -> JoinedIds:
    """Check the ids of context and targets and join them.

    Args:
        context_ids, target_ids: [B, K] and [B, M], or both packed.
        context: the context tokens [B, K, D]; [1, sum K, D] for packed ids.

    Raises:
        MaskError: see `VJEPA2Predictor.predict`.
    """
    if isinstance(context_ids, PackedIds) and isinstance(target_ids, PackedIds):
        return _join_packed(context_ids, target_ids, context)
    pair = (("context_ids", context_ids), ("target_ids", target_ids))
    for name, ids in pair:
        if isinstance(ids, PackedIds):
            raise MaskError(f"{name} are packed, the other ids are not. Pack both or none.")
        check_id_tensor(name, ids, batch=context.shape[0], of=context)
    ids = torch.cat([cast(Tensor, ids).to(context.device) for _, ids in pair], dim=1)
    return JoinedIds(ids, cast(Tensor, context_ids).shape[1])


def _join_packed(context_ids: PackedIds, target_ids: PackedIds, context: Tensor) -> JoinedIds:
    if context.shape[0] != 1:
        raise MaskError(
            f"context_ids are packed, context is {list(context.shape)}; tokens of packed ids are "
            "joined, [1, total, D], as encoder(pixels, keep_ids=context_ids) returns them."
        )
    first = check_packed_ids("context_ids", context_ids, batch=None, num_tokens=None, of=context)
    num_samples = len(first.lengths)
    other = check_packed_ids(
        "target_ids", target_ids, batch=num_samples, num_tokens=None, of=context
    )
    before = list(accumulate(other.lengths, initial=0))[:-1]
    upto = list(accumulate(first.lengths))
    place = torch.cat(
        [
            torch.arange(len(ids), device=context.device)
            + per_token(shift, lengths, device=context.device)
            for (ids, lengths), shift in ((first, before), (other, upto))
        ]
    )
    order = torch.empty_like(place)
    order[place] = torch.arange(len(place), device=context.device)
    lengths = tuple(k + m for k, m in zip(first.lengths, other.lengths, strict=True))
    return JoinedIds(
        torch.cat([first.ids, other.ids])[order][None],
        len(first.ids),
        segments_of(lengths, device=context.device),
        order,
        place,
    )
