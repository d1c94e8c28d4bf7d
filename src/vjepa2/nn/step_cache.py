"""Keys and values of the steps that a frame-causal network has already read.

No token of a step is changed by a later one, so what a block computed for it can be kept: the next
step then costs only its own tokens. Exact, not an approximation.
"""

import torch
from jaxtyping import Float
from torch import Tensor


class LayerCache:
    """Keys and values of one block.

    Without gradients they lie in one array that is filled step by step; with gradients every step
    makes a new one, for a backward pass needs the old.

    Args:
        room: tokens that the array has room for; more than that makes it grow.
    """

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(
        self, key: Float[Tensor, "S N G Dh"], value: Float[Tensor, "S N G Dh"], *, keep: bool
    ) -> tuple[Float[Tensor, "S N2 G Dh"], Float[Tensor, "S N2 G Dh"]]:
        """Return keys and values of all steps so far and of the next one.

        Args:
            keep: whether further steps follow. The last one of a rollout need not be kept, which
                for a rollout of one step means that nothing is.
        """
        if not keep or torch.is_grad_enabled():
            return self._joined(key, value, keep=keep)
        end = self._length + key.shape[1]
        if self._keys is None or self._values is None or end > self._keys.shape[1]:
            self._grow(key, end)
        assert self._keys is not None and self._values is not None
        self._keys[:, self._length : end] = key
        self._values[:, self._length : end] = value
        self._length = end
        return self._keys[:, :end], self._values[:, :end]

    def _joined(self, key: Tensor, value: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
        if self._keys is not None and self._values is not None:
            key = torch.cat([self._keys[:, : self._length], key], dim=1)
            value = torch.cat([self._values[:, : self._length], value], dim=1)
        if keep:
            self._keys, self._values, self._length = key, value, key.shape[1]
        return key, value

    def _grow(self, like: Tensor, end: int) -> None:
        """Make room for all that was announced, or for what has come."""
        shape = (like.shape[0], max(self._room, end), *like.shape[2:])
        keys, values = like.new_empty(shape), like.new_empty(shape)
        if self._keys is not None and self._values is not None:
            keys[:, : self._length] = self._keys[:, : self._length]
            values[:, : self._length] = self._values[:, : self._length]
        self._keys, self._values = keys, values

    def for_candidates(self, num_candidates: int, *, room: int) -> "LayerCache":
        """A cache that goes on from this one (of a single past), `num_candidates` ways at once.

        Args:
            num_candidates: S.
            room: tokens that will be kept of each.
        """
        branch = LayerCache(self._length + room)
        if self._keys is None or self._values is None:
            return branch
        keys, values = (
            kept[:, : self._length].expand(num_candidates, -1, -1, -1)
            for kept in (self._keys, self._values)
        )
        if torch.is_grad_enabled():
            branch._keys, branch._values = keys, values
        else:
            shape = (num_candidates, self._length + room, *keys.shape[2:])
            branch._keys, branch._values = keys.new_empty(shape), values.new_empty(shape)
            branch._keys[:, : self._length] = keys
            branch._values[:, : self._length] = values
        branch._length = self._length
        return branch
