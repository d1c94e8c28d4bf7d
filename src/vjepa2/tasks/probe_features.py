"""Features of labelled videos for probes: encoded anew, or read from a cache on the disk.

    pixels [B, S, V, T, C, H, W] --encoder--> tokens [B, V, M, D],  M = S * levels * N

The tokens of all S segments of a spatial view are joined, for every one of V views
(arXiv:2506.09985, appendix; published evaluation code). Which files are in batch k of epoch e
follows from the seed, whether features are cached or not, so that without augmentation both ways
train the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.draws import Draws, Permutation, Purpose
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_loader import LabelledLoader
from vjepa2.data.sample import BadFile
from vjepa2.data.views import TrainViewConfig, ViewConfig
from vjepa2.errors import BadFilesError
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.progress import track
from vjepa2.tasks.probe_cache import FeatureCache, item_marks
from vjepa2.tasks.probe_checks import check_finite, check_fits


class FrozenEncoder:
    """An encoder that turns views into the tokens that a probe reads.

    Args:
        encoder: in its place; put into evaluation mode here.
        levels: blocks (0-based) whose normed tokens are joined; () for the output of the last one.
        dtype: of matrix products.
        num_clips: clips that are encoded at a time.
    """

    def __init__(
        self, encoder: VJEPA2Encoder, *, levels: Sequence[int], dtype: str, num_clips: int
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.levels = tuple(levels)
        self.dtype = dtype
        self.num_clips = num_clips
        self.device = next(encoder.parameters()).device

    @torch.no_grad()
    def tokens(self, pixels: Float[Tensor, "B S V T C H W"]) -> Float[Tensor, "B V M D"]:
        """Tokens of all segments and levels of every view, float32, on the CPU."""
        batch, segments, views = pixels.shape[:3]
        clips = pixels.transpose(1, 2).flatten(0, 2)
        parts = []
        for part in clips.split(self.num_clips):
            moved = part.to(self.device)
            with torch.autocast(
                self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16"
            ):
                output = self.encoder(moved, output_levels=self.levels)
            found = output.last_hidden_state
            if self.levels:
                found = torch.cat(output.level_hidden_states, dim=1)
            parts.append(found.float().cpu())
        joined: Tensor = torch.cat(parts).unflatten(0, (batch, views, segments)).flatten(2, 3)
        return joined

    def row_shape(self, views: ViewConfig) -> tuple[int, int, int]:
        """(V, M, D) of one file."""
        config = self.encoder.config
        frames = 1 if views.images == "frame" else views.num_frames
        side = torch.empty(
            1, frames, config.in_chans, views.crop_size, views.crop_size, device="meta"
        )
        per_clip = self.encoder.grid(side).num_tokens
        num_tokens = per_clip * views.num_segments * max(1, len(self.levels))
        return views.num_views, num_tokens, config.hidden_size


class FeatureBatch(NamedTuple):
    """Some files.

    Attributes:
        tokens: [B, V, M, D] float32, on the CPU.
        labels: [B] int64.
        items: their numbers in the set.
    """

    tokens: Float[Tensor, "B V M D"]
    labels: Int[Tensor, " B"]
    items: list[int]


class FeatureSource(Protocol):
    """Where a run's features come from."""

    num_batches: int

    def batch(self, epoch: int, place: int) -> FeatureBatch | None:
        """Batch `place` of an epoch; None where none of its files can be read.

        Raises:
            BadFilesError: too many files cannot be read.
        """
        ...

    def new_bad_files(self) -> list[BadFile]:
        """Files that could not be read since the last call."""
        ...

    def close(self) -> None:
        """End decoding processes."""
        ...


class Reading(NamedTuple):
    """How the files of a set are read.

    Attributes:
        labelled: the set.
        labels: [n], class number of every file.
        views: of a file; one view when training.
        train: augmentation; None for none.
        shuffle: whether the order changes from epoch to epoch.
        seed, workers, prefetch, max_bad_share: see `LabelledLoader`.
    """

    labelled: LabelledSet
    labels: Int[Tensor, " n"]
    views: ViewConfig
    train: TrainViewConfig | None
    shuffle: bool
    seed: int
    workers: int
    prefetch: int
    max_bad_share: float

    def order(self, epoch: int) -> list[int]:
        """Numbers of the files in the order of an epoch."""
        count = len(self.labelled)
        if not self.shuffle:
            return list(range(count))
        # The order of `LabelledLoader`.
        places = Permutation(count, Draws(self.seed, Purpose.EPOCH, step=epoch))
        return [places[place] for place in range(count)]

    def loader(
        self, *, batch_size: int, num_epochs: int, labelled: LabelledSet | None = None
    ) -> LabelledLoader:
        """A loader of these files, or of `labelled` in another order."""
        return LabelledLoader(
            self.labelled if labelled is None else labelled,
            self.views,
            batch_size=batch_size,
            train=self.train,
            seed=self.seed,
            workers=self.workers,
            prefetch=self.prefetch,
            max_bad_share=self.max_bad_share,
            num_epochs=num_epochs,
        )

    def identity(self, version: int) -> dict[str, Any]:
        """What decides the pixels of every file."""
        views = self.views.model_dump(mode="json")
        chance: Mapping[str, Any] | None = None
        if self.train is not None:
            fields = self.train.model_dump(mode="json")
            chance = {**fields, "seed": self.seed, "version": version}
        return {"views": views, "augment": chance, "files": item_marks(self.labelled)}


class EncodedFeatures:
    """Encodes the files anew, epoch after epoch.

    Args:
        reading: of the files.
        encoder: of the run.
        batch_size: files of a batch.
        num_epochs: of the run.
    """

    def __init__(
        self, reading: Reading, encoder: FrozenEncoder, *, batch_size: int, num_epochs: int
    ) -> None:
        self._reading, self._encoder = reading, encoder
        self._batch_size, self._num_epochs = batch_size, num_epochs
        self.num_batches = -(-len(reading.labelled) // batch_size)
        self._loader: LabelledLoader | None = None
        self._order: list[int] | None = None
        self._order_epoch = -1
        self._found: list[BadFile] = []

    def batch(self, epoch: int, place: int) -> FeatureBatch | None:
        """See `FeatureSource`."""
        reading = self._reading
        reordered = reading.shuffle and reading.train is None
        if self._loader is None or (reordered and self._order_epoch != epoch):
            self.close()
            labelled = reading.labelled
            self._order = reading.order(epoch) if reordered else None
            if self._order is not None:
                items = tuple(labelled.items[number] for number in self._order)
                labelled = LabelledSet(items, labelled.label_map, labelled.source)
            self._order_epoch = epoch
            self._loader = reading.loader(
                batch_size=self._batch_size,
                num_epochs=1 if reordered else self._num_epochs,
                labelled=labelled,
            )
        own_epoch = 0 if reordered else epoch
        # Asked for anew each time: what a batch holds depends on its number alone.
        found = self._loader.batch(own_epoch, place)
        if found is None:
            return None
        items_found = found.indices
        if self._order is not None:
            items_found = [self._order[number] for number in items_found]
        tokens = self._encoder.tokens(found.pixels)
        check_finite(tokens, reading.labelled, items_found)
        return FeatureBatch(tokens, reading.labels[items_found], items_found)

    def new_bad_files(self) -> list[BadFile]:
        """See `FeatureSource`."""
        found = self._found + ([] if self._loader is None else self._loader.new_bad_files())
        self._found = []
        return found

    def close(self) -> None:
        """See `FeatureSource`."""
        if self._loader is not None:
            self._found += self._loader.new_bad_files()
            self._loader.close()
            self._loader = None


class CachedFeatures:
    """Reads features from the disk.

    Args:
        reading: of the files.
        caches: complete ones, one per version; epochs take turns.
        batch_size: files of a batch.
        bad_files: those that could not be read when the caches were filled.
    """

    def __init__(
        self,
        reading: Reading,
        caches: Sequence[FeatureCache],
        *,
        batch_size: int,
        bad_files: Sequence[BadFile] = (),
    ) -> None:
        self._reading, self._caches = reading, list(caches)
        self._batch_size = batch_size
        self.num_batches = -(-len(reading.labelled) // batch_size)
        self._found = list(bad_files)
        self._order: tuple[int, list[int]] = (-1, [])

    def batch(self, epoch: int, place: int) -> FeatureBatch | None:
        """See `FeatureSource`."""
        if self._order[0] != epoch:
            self._order = (epoch, self._reading.order(epoch))
        cache = self._caches[epoch % len(self._caches)]
        start = place * self._batch_size
        items = cache.readable(self._order[1][start : start + self._batch_size])
        if not items:
            return None
        return FeatureBatch(cache.rows(items), self._reading.labels[items], items)

    def new_bad_files(self) -> list[BadFile]:
        """See `FeatureSource`."""
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """See `FeatureSource`."""


def open_cache(
    folder: Path,
    reading: Reading,
    encoder: FrozenEncoder,
    *,
    version: int,
    batch_size: int,
    dtype: str,
    weights: str,
) -> FeatureCache:
    """The cache for one version of a set's files, full, half full or new.

    Args:
        folder: of this set and version.
        reading, encoder: what the features are of.
        version: number of the augmented version; 0 without augmentation.
        batch_size: files that are encoded at a time.
        dtype: on the disk.
        weights: mark of the encoder's weights.

    Raises:
        ConfigError: it holds other features.
        CheckpointFormatError: it is damaged.
    """
    identity = {
        "encoder": {"weights": weights, "levels": list(encoder.levels), "dtype": encoder.dtype},
        **reading.identity(version),
    }
    return FeatureCache(
        folder,
        identity,
        row_shape=encoder.row_shape(reading.views),
        num_items=len(reading.labelled),
        batch_size=batch_size,
        dtype=dtype,
    )


def fill_cache(
    cache: FeatureCache,
    reading: Reading,
    encoder: FrozenEncoder,
    *,
    version: int = 0,
    quiet: bool = False,
    description: str = "Encode",
) -> list[BadFile]:
    """Encode what a cache lacks; a killed one goes on after its last shard.

    Returns:
        the files that could not be read.

    Raises:
        BadFilesError: too many, or all of them.
        InputError: features are NaN or infinite, or too large for the cache's type; the file is
            named.
        OutputError: the disk is full.
    """
    if cache.is_complete:
        return []
    layout = cache.layout
    order = reading.order(version) if reading.train is not None else range(layout.num_items)
    place_of = {item: place // layout.batch_size for place, item in enumerate(order)}
    files_of = [
        [
            order[n]
            for n in range(b * layout.batch_size, min((b + 1) * layout.batch_size, len(order)))
        ]
        for b in range(layout.num_batches)
    ]
    first = cache.num_ready * layout.per_shard
    loader = reading.loader(batch_size=layout.batch_size, num_epochs=version + 1)
    tokens: list[Tensor] = []
    items: list[int] = []

    def finish(until: int) -> None:
        """Write every shard whose batches all lie before `until`."""
        while cache.num_ready < layout.num_shards:
            batches = layout.batches(cache.num_ready)
            if batches.stop > until:
                return
            wanted = {item for number in batches for item in files_of[number]}
            bad = sorted(wanted - set(items))
            cache.write(cache.num_ready, tokens, list(items), bad)
            tokens.clear()
            items.clear()

    with loader:
        batches = track(
            loader.epoch(version, first_batch=first),
            total=layout.num_batches - first,
            description=description,
            quiet=quiet,
        )
        for batch in batches:
            finish(place_of[batch.indices[0]])
            found = encoder.tokens(batch.pixels)
            check_finite(found, reading.labelled, batch.indices)
            kept = found.to(cache.dtype)
            check_fits(found, kept, reading.labelled, batch.indices)
            tokens.append(kept)
            items.extend(batch.indices)
        finish(layout.num_batches)
        bad_files = loader.bad_files
    if not cache.readable(range(layout.num_items)):
        raise BadFilesError(f"No file of {reading.labelled.source} can be read.")
    return bad_files
