"""Which file a sample of the global batch is made from: a function of (seed, step, position)."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

from vjepa2.data.draws import Draws, Permutation, Purpose
from vjepa2.errors import DataError

OrderName = Literal["weighted", "epochs", "listed"]


class Choice(NamedTuple):
    """One file: number of its source, and its number in that source."""

    source: int
    item: int


class Order:
    """The order in which the files of several sources are used.

    Args:
        sizes: number of files of each source, all above 0.
        weights: of the sources, or None for all files alike.
        order: see `DataConfig.order`.
        seed: of the run.
        batch_size: samples of one update over all processes.
        skip: samples of the run that came before beyond `step * batch_size`: not 0 after updates
            of another batch size.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        weights: Sequence[float] | None,
        order: OrderName,
        seed: int,
        batch_size: int,
        skip: int = 0,
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise DataError("There is nothing to choose from: a source has no files.")
        self._sizes = tuple(sizes)
        self._ends = list(accumulate(sizes))
        self._weight_ends = list(accumulate(weights if weights is not None else sizes))
        self._order = order
        self._seed = seed
        self._batch_size, self._skip = batch_size, skip
        self._permutation = lru_cache(maxsize=2)(self._new_permutation)

    def __call__(self, step: int, position: int) -> Choice:
        """Return the file of sample `position` of update `step`; both count from 0."""
        if self._order == "weighted":
            draws = Draws(self._seed, Purpose.ITEM, step=step, position=position)
            at = draws.uniform() * self._weight_ends[-1]
            source = min(bisect_right(self._weight_ends, at), len(self._sizes) - 1)
            return Choice(source, draws.below(self._sizes[source]))
        epoch, place = divmod(self._skip + step * self._batch_size + position, self._ends[-1])
        if self._order == "epochs":
            place = self._permutation(epoch)[place]
        source = bisect_right(self._ends, place)
        return Choice(source, place - self._ends[source] + self._sizes[source])

    def replacements(self, step: int, position: int, *, source: int, count: int) -> list[int]:
        """Return the files of the same source that stand in, one after the other, for bad ones."""
        draws = Draws(self._seed, Purpose.REPLACEMENT, step=step, position=position)
        return [draws.below(self._sizes[source]) for _ in range(count)]

    def _new_permutation(self, epoch: int) -> Permutation:
        return Permutation(self._ends[-1], Draws(self._seed, Purpose.EPOCH, step=epoch))
