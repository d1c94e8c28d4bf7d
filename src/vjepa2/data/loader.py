"""Batches of clips for training, decoded ahead by processes of their own.

    with ClipLoader(config, augment, seed=0, batch_size=24, num_frames=16, crop_size=256,
                    positions=range(24), first_step=0, num_steps=1000) as loader:
        for step, samples in loader:                      # samples: list[Sample], one a position
            pixels = to_pixels(samples, augment, device=device, dtype=torch.bfloat16)
            ...                                           # [B, T, C, crop_size, crop_size]
            for bad in loader.new_bad_files(): ...        # BadFile(path, reason, source, step, ...)

Sample `position` of update `step` is a function of (seed, step, position): of which file, which
moment, which crop, whether mirrored. It is the same whatever the number of workers or processes,
and wherever a run is resumed. `positions` says which samples of the global batch this process
makes; the training process alone holds the table of files.

A file that cannot be read is replaced by the next draw from the same source, and counted. If more
than `max_bad_share` of the files are bad, and more than one, the run stops.

With workers > 0 processes are started with "spawn": a script that makes a loader needs
`if __name__ == "__main__":` around what it does.
"""

import time
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from vjepa2.data.bad_files import BadFileCounter, check_missing
from vjepa2.data.decode import ClipDecoder
from vjepa2.data.draws import MAX_SEED
from vjepa2.data.file_table import FileTable
from vjepa2.data.manifest import read_source
from vjepa2.data.order import Order
from vjepa2.data.sample import Answer, BadFile, ClipTask, Sample
from vjepa2.data.settings import AugmentConfig, DataConfig
from vjepa2.data.workers import DecodingPool
from vjepa2.errors import ConfigError, DataError, checked_integer

MAX_ATTEMPTS = 16


class ClipLoader:
    """Iterate over (step, samples) in order, from `first_step` on, once.

    Args:
        config: sources, order, workers.
        augment: crop and flip.
        seed: of the run.
        batch_size: samples of one update over all processes.
        num_frames: T of a clip, for sources that do not say otherwise.
        crop_size: height and width that crops are resized to; one number for a square.
        positions: samples of the global batch that this process makes, 0 .. batch_size-1; None for
            all of them.
        first_step: number of the first update, 0-based.
        num_steps: how many updates.
        samples_before: samples of the run before `first_step`; None: `first_step * batch_size`.
            Only the orders "epochs" and "listed" ask: after updates of another batch size they
            go on with the next file.
        tables: the files of each source, where they were read before (`loader.tables`).
        counter: of bad files, that goes on counting; None for one of this loader.

    Attributes:
        tables: the files of each source.
        stall_seconds: time that iterating waited for samples, without the first update.
        start_seconds: time until the first update was there: starting workers, first decoding.

    Raises:
        ConfigError: a number is out of range, or there are no sources.
        DataError: a subclass says what is wrong with a source.
        BadFilesError: too many files of a list do not exist.
    """

    def __init__(
        self,
        config: DataConfig,
        augment: AugmentConfig,
        *,
        seed: int,
        batch_size: int,
        num_frames: int,
        crop_size: int | tuple[int, int],
        positions: Sequence[int] | None = None,
        first_step: int = 0,
        num_steps: int,
        samples_before: int | None = None,
        tables: Sequence[FileTable] | None = None,
        counter: BadFileCounter | None = None,
    ) -> None:
        if not config.sources:
            raise ConfigError(
                "There is no data: data.sources is empty. Name a folder, a list or shards."
            )
        self._seed = checked_integer("seed", seed, least=0, most=MAX_SEED)
        batch_size = checked_integer("batch_size", batch_size, least=1)
        self._positions = tuple(range(batch_size) if positions is None else positions)
        if not self._positions or not all(0 <= place < batch_size for place in self._positions):
            raise ConfigError(
                f"positions must be numbers in 0 .. {batch_size - 1}, got {self._positions[:8]}."
            )
        first_step = checked_integer("first_step", first_step, least=0)
        self._steps = range(first_step, first_step + checked_integer("num_steps", num_steps))
        size = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        self._decoder = ClipDecoder(
            config=config, augment=augment, num_frames=num_frames, size=size
        )
        self._config = config
        self.tables = (
            [read_source(source) for source in config.sources] if tables is None else (list(tables))
        )
        check_missing(self.tables, config)
        weights = [source.weight for source in config.sources if source.weight is not None]
        self._order = Order(
            [len(table) for table in self.tables],
            weights=weights or None,
            order=config.order,
            seed=seed,
            batch_size=batch_size,
            skip=0 if samples_before is None else samples_before - first_step * batch_size,
        )
        if counter is None:
            counter = BadFileCounter(config, sum(len(table) for table in self.tables))
        self._bad = counter
        self._pool: DecodingPool[Answer] | None = None
        self._is_used = False
        self.stall_seconds = 0.0
        self.start_seconds = 0.0

    # ---- what was bad ----------------------------------------------------------------------

    @property
    def bad_files(self) -> list[BadFile]:
        """Every file that could not be read so far, with how often it was drawn."""
        return self._bad.all()

    @property
    def num_files_tried(self) -> int:
        """Files that were opened, good and bad; each time counts."""
        return self._bad.num_tried

    def new_bad_files(self) -> list[BadFile]:
        """Bad files that are new, or were drawn again, since the last call."""
        return self._bad.take_changed()

    # ---- iteration -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[int, list[Sample]]]:
        """Yield (step, samples in the order of `positions`).

        Raises:
            BadFilesError: too many files cannot be read.
            DataWorkerError: a decoding process died.
            DataError: it was iterated over before.
        """
        if self._is_used:
            raise DataError(
                "A ClipLoader is iterated over once. Make another with the first_step that you "
                "want; tables=loader.tables saves reading the lists again."
            )
        self._is_used = True
        start = time.perf_counter()
        self._pool = pool = DecodingPool(
            self._decoder,
            self._tasks(),
            workers=self._config.workers,
            ahead=self._config.prefetch * len(self._positions),
        )
        # Ends the processes of a loader that is simply forgotten.
        weakref.finalize(self, pool.stop)
        try:
            for step in self._steps:
                samples = [self._bad.accept(pool.next_answer()) for _ in self._positions]
                waited = time.perf_counter() - start
                if step == self._steps[0]:
                    self.start_seconds += waited
                else:
                    self.stall_seconds += waited
                yield step, samples
                del samples  # or these would stay in memory beside the next ones
                start = time.perf_counter()
        finally:
            self.close()

    def _tasks(self) -> Iterator[ClipTask]:
        for step in self._steps:
            for position in self._positions:
                source, item = self._order(step, position)
                others = self._order.replacements(
                    step, position, source=source, count=MAX_ATTEMPTS - 1
                )
                table = self.tables[source]
                files = tuple(table[index] for index in (item, *others))
                yield ClipTask(self._seed, step, position, source, files)

    def close(self) -> None:
        """End the decoding processes."""
        if self._pool is not None:
            self._pool.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
