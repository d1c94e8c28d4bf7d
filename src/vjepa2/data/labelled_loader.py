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

import time
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.bad_files import BadFileCounter
from vjepa2.data.draws import MAX_SEED, Draws, Permutation, Purpose
from vjepa2.data.item_frames import ItemDraws
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_decode import LabelledAnswer, LabelledDecoder, LabelledTask, item_name
from vjepa2.data.rand_augment import check_pillow
from vjepa2.data.sample import BadFile
from vjepa2.data.settings import DataConfig
from vjepa2.data.views import TrainViewConfig, ViewConfig, normalised
from vjepa2.data.workers import DecodingPool
from vjepa2.errors import ConfigError, LabelError, ShapeError, checked_integer


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
        stall_seconds: time that iterating waited for items, without the first batch of each call.

    Raises:
        ConfigError: a number is out of range.
        LabelError: the set is empty.
        MissingExtraError: RandAugment is asked for and Pillow is missing.
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
        self._items = labelled.items
        self._views, self._train = views, train
        self._batch_size = checked_integer("batch_size", batch_size, least=1)
        self._seed = checked_integer("seed", seed, least=0, most=MAX_SEED)
        self._num_epochs = checked_integer("num_epochs", num_epochs, least=1)
        # Checks the other numbers.
        self._config = DataConfig(workers=workers, prefetch=prefetch, max_bad_share=max_bad_share)
        self._rank, self._world = shard
        if not 0 <= self._rank < self._world <= batch_size:
            raise ConfigError(
                f"shard={shard} must be (rank, number of processes) with a rank of 0 to number - 1 "
                f"and at most batch_size={batch_size} processes."
            )
        if not self._items:
            raise LabelError(f"There are no labelled files in {labelled.source or 'the set'}.")
        if train is not None and train.rand_augment is not None:
            check_pillow()
        count = len(self._items)
        self.num_batches = count // batch_size if drop_last else -(-count // batch_size)
        if self.num_batches < 1:
            raise ConfigError(
                f"drop_last leaves nothing of {count} items in batches of {batch_size}. Lower "
                "batch_size."
            )
        self._bad = BadFileCounter(self._config, len({item_name(item) for item in self._items}))
        self._decoder = LabelledDecoder(views=views, train=train)
        self._pool: DecodingPool[LabelledAnswer] | None = None
        self._next = (-1, 0)
        self.stall_seconds = 0.0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.num_batches

    @property
    def bad_files(self) -> list[BadFile]:
        """Every file that could not be read so far; `step` is the epoch, `position` the item."""
        return self._bad.all()

    def new_bad_files(self) -> list[BadFile]:
        """Bad files that are new, or were read again, since the last call."""
        return self._bad.take_changed()

    # ---- iteration -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[LabelledBatch]:
        """The batches of epoch 0."""
        return self.epoch(0)

    def epoch(self, number: int, *, first_batch: int = 0) -> Iterator[LabelledBatch]:
        """Yield the batches of an epoch (0-based), from `first_batch` on.

        Processes go on decoding from one epoch to the next; an epoch out of turn starts new ones.
        A batch of which no file could be read is left out.

        Raises:
            BadFilesError: too many files cannot be read.
            LabelError: a segment lies outside its file.
            ShapeError: clips of one batch have different lengths.
            DataWorkerError: a decoding process died.
            ConfigError: `number` or `first_batch` is out of range.
        """
        checked_integer("first_batch", first_batch, least=0, most=self.num_batches)
        for place in range(first_batch, self.num_batches):
            start = time.perf_counter()
            batch = self.batch(number, place)
            if place > first_batch:
                self.stall_seconds += time.perf_counter() - start
            if batch is not None:
                yield batch
            del batch  # or it would stay in memory beside the next one

    def batch(self, epoch: int, place: int) -> LabelledBatch | None:
        """Batch `place` of an epoch; None where no file of it could be read.

        In turn, batches come from what was decoded ahead; out of turn new processes are started.
        Errors as in `epoch`.
        """
        checked_integer("epoch", epoch, least=0)
        checked_integer("place", place, least=0, most=self.num_batches - 1)
        batch = self._batch(self._pool_at(epoch, place), epoch, place)
        is_last = place + 1 == self.num_batches
        self._next = (epoch + 1, 0) if is_last else (epoch, place + 1)
        if is_last and epoch + 1 >= self._num_epochs:
            self.close()
        return batch

    def _pool_at(self, epoch: int, first_batch: int) -> DecodingPool[LabelledAnswer]:
        if self._pool is not None and self._next == (epoch, first_batch):
            return self._pool
        self.close()
        self._pool = pool = DecodingPool(
            self._decoder,
            self._tasks(epoch, first_batch),
            workers=self._config.workers,
            ahead=self._config.prefetch * -(-self._batch_size // self._world),
        )
        # Ends the processes of a loader that is simply forgotten.
        weakref.finalize(self, pool.stop)
        return pool

    def _batch(
        self, pool: DecodingPool[LabelledAnswer], epoch: int, place: int
    ) -> LabelledBatch | None:
        good: list[int] = []
        clips: list[Tensor] = []
        for index in self._indices(epoch, place):
            answer = pool.next_answer()
            if answer.label_problem:
                raise LabelError(answer.label_problem)
            if answer.bad_file is not None:
                self._bad.count([answer.bad_file], good=None)
            if answer.pixels is not None:
                self._bad.count([], good=item_name(self._items[index]))
                good.append(index)
                clips.append(answer.pixels)
            self._bad.judge()
        if not good:
            return None
        if len({clip.shape for clip in clips}) > 1:
            raise ShapeError(
                "Videos and still images are in one batch, and images='frame' makes clips of one "
                "frame of the latter. Use images='clip', or sets of their own."
            )
        pixels = torch.stack(clips)
        labels = torch.tensor([self._items[index].labels for index in good], dtype=torch.int64)
        return LabelledBatch(
            good, pixels if self._train is not None else normalised(pixels, self._views), labels
        )

    def _tasks(self, epoch: int, first_batch: int) -> Iterator[LabelledTask]:
        for number in range(epoch, max(self._num_epochs, epoch + 1)):
            for place in range(first_batch if number == epoch else 0, self.num_batches):
                for index in self._indices(number, place):
                    item = self._items[index]
                    draws = ItemDraws(self._seed, number, index)
                    yield LabelledTask(item, draws, item_name(item))

    def _indices(self, epoch: int, place: int) -> list[int]:
        """Items of a batch that this process makes."""
        start = place * self._batch_size
        stop = min(start + self._batch_size, len(self._items))
        places = range(start + self._rank, stop, self._world)
        if self._train is None:
            return list(places)
        order = Permutation(len(self._items), Draws(self._seed, Purpose.EPOCH, step=epoch))
        return [order[at] for at in places]

    # ---- end -------------------------------------------------------------------------------

    def close(self) -> None:
        """End the decoding processes."""
        if self._pool is not None:
            self._pool.stop()
            self._pool = None
        self._decoder.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
