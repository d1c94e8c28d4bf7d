"""Batches of labelled clips, decoded ahead by processes of their own.

    with LabelledLoader(labelled, views, batch_size=16, train=TrainViewConfig(), seed=0,
                        workers=4) as loader:
        for epoch in range(20):
            for indices, pixels, labels in loader.epoch(epoch):
                ...                    # pixels [B, num_segments, num_views, T, C, S, S]

With `train=None` items come in the order of the list and without chance; with it, in an order and
with an augmentation that are functions of (seed, epoch, index of the item): the same with any
number of workers, and wherever a run is resumed (`first_batch`).

A file that cannot be read is left out of its batch, counted and named in `bad_files`; if more
than `max_bad_share` of the files are bad, and more than one, the loader stops.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.labelled import LabelledSet
from vjepa2.data.sample import BadFile
from vjepa2.data.views import TrainViewConfig, ViewConfig


class LabelledBatch(NamedTuple):
    """Some items of a set.

    Attributes:
        indices: their numbers in `labelled.items`.
        pixels: normalised, float32.
        labels: int64, class number of each head.
    """

    indices: list[int]
    pixels: Float[Tensor, "B segments V T C S S"]
    labels: Int[Tensor, "B heads"]


class LabelledLoader:
    """Iterate over batches of a labelled set, epoch after epoch.

    Args:
        labelled: the set.
        views: clips and views of a file.
        batch_size: items of a batch; the last one of an epoch may hold fewer, and one with a bad
            file does.
        train: augmentation of training, which also shuffles; None to evaluate.
        seed: of the run.
        workers: decoding processes; 0 decodes in this one.
        prefetch: batches that are decoded ahead.
        max_bad_share: share of the files that may be unreadable; one file may be in any case,
            unless this is 0.
        num_epochs: epochs that will be asked for at most; decoding goes ahead from one into the
            next up to there.
        drop_last: leave out an incomplete last batch.
        shard: (rank, number of processes): every process takes its part of each batch.

    Attributes:
        num_batches: of an epoch.
    """

    def __init__(
        self,
        labelled: LabelledSet,
        views: ViewConfig,
        *,
        batch_size: int,
        train: TrainViewConfig | None = None,
        seed: int = 0,
        workers: int = 4,
        prefetch: int = 2,
        max_bad_share: float = 0.05,
        num_epochs: int = 1,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        raise NotImplementedError

    def epoch(self, number: int, *, first_batch: int = 0) -> Iterator[LabelledBatch]:
        """Yield the batches of an epoch (0-based), from `first_batch` on.

        Raises:
            BadFilesError: too many files cannot be read.
            DataWorkerError: a decoding process died.
        """
        raise NotImplementedError

    def __iter__(self) -> Iterator[LabelledBatch]:
        """The batches of epoch 0."""
        return self.epoch(0)

    def __len__(self) -> int:
        """Batches of an epoch."""
        raise NotImplementedError

    @property
    def bad_files(self) -> list[BadFile]:
        """Every file that could not be read so far, with the reason."""
        raise NotImplementedError

    def close(self) -> None:
        """End the decoding processes."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
