"""Features of labelled files on the disk: written once, read by row, refused where they do not fit.

FOLDER/index.json              what the features are of: model, views, augmentation, type, files
FOLDER/shard-000000.safetensors
    tokens [rows, V, M, D]     of whole batches, in the order in which they were encoded
    items [rows]               their numbers in the labelled set
    bad [files]                numbers of files that could not be read

A shard appears complete or not at all, so that a killed run goes on with the next one. Rows are
read from the mapped file; memory holds a batch.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.labelled import LabelledItem, LabelledSet
from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.files import atomic_path, write_json
from vjepa2.runtime import resolve_dtype

INDEX_NAME = "index.json"
FORMAT = 1
SHARD_BYTES = 64 << 20
PIECE_BYTES = 2**20  # of a file in memory at once
GIB = 1 << 30
SPARE_SHARE = 0.05  # of the free disk that stays free


class Layout(NamedTuple):
    """How rows are put into shards.

    Attributes:
        num_items: files of the set.
        batch_size: files that were encoded at a time.
        per_shard: batches of a shard.
    """

    num_items: int
    batch_size: int
    per_shard: int

    @property
    def num_batches(self) -> int:
        """Of the set."""
        return math.ceil(self.num_items / self.batch_size)

    @property
    def num_shards(self) -> int:
        """Of the set."""
        return math.ceil(self.num_batches / self.per_shard)

    def batches(self, shard: int) -> range:
        """Numbers of the batches in a shard."""
        first = shard * self.per_shard
        return range(first, min(first + self.per_shard, self.num_batches))


class FeatureCache:
    """The features of one labelled set on the disk.

    Args:
        folder: made if needed.
        identity: JSON values of everything that decides the features.
        row_shape: (V, M, D) of a file's features.
        num_items: files of the set.
        batch_size: files that are encoded at a time.
        dtype: on the disk.

    Raises:
        ConfigError: the folder holds other features; the first difference is named.
        CheckpointFormatError: its index is damaged.
        OutputError: it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        row_shape: tuple[int, int, int],
        num_items: int,
        batch_size: int,
        dtype: str,
    ) -> None:
        self.folder = folder
        self.row_shape = row_shape
        self.dtype = resolve_dtype(dtype)
        row_bytes = math.prod(row_shape) * self.dtype.itemsize
        per_shard = max(1, SHARD_BYTES // max(1, row_bytes * batch_size))
        wanted = json.loads(json.dumps({"format": FORMAT, "dtype": dtype, **identity}))
        stored = _read_index(folder)
        if stored is None:
            self.layout = Layout(num_items, batch_size, per_shard)
            write_json(folder / INDEX_NAME, {"identity": wanted, "layout": self.layout._asdict()})
        else:
            self._check_same(stored["identity"], wanted)
            self.layout = Layout(**stored["layout"])
        self._files: dict[int, Any] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self.bad: set[int] = set()
        self.num_ready = 0
        while self.num_ready < self.layout.num_shards and self._path(self.num_ready).exists():
            self._note(self.num_ready)
            self.num_ready += 1

    @property
    def is_complete(self) -> bool:
        """Whether every file of the set was encoded, or found to be unreadable."""
        return self.num_ready == self.layout.num_shards

    def bytes_to_write(self) -> int:
        """Bytes that are still missing."""
        first = self.num_ready * self.layout.per_shard * self.layout.batch_size
        missing = max(0, self.layout.num_items - first)
        return missing * math.prod(self.row_shape) * self.dtype.itemsize

    def write(
        self,
        shard: int,
        tokens: Sequence[Float[Tensor, "B V M D"]],
        items: list[int],
        bad: list[int],
    ) -> None:
        """Write the next shard.

        Raises:
            OutputError: the disk is full.
        """
        assert shard == self.num_ready
        shape = (0, *self.row_shape)
        rows = torch.cat(list(tokens)) if tokens else torch.empty(shape)
        tensors = {
            "tokens": rows.to(self.dtype).contiguous(),
            "items": torch.tensor(items, dtype=torch.int64),
            "bad": torch.tensor(bad, dtype=torch.int64),
        }
        with atomic_path(self._path(shard)) as temporary:
            safetensors.torch.save_file(tensors, temporary)
        self._note(shard)
        self.num_ready += 1

    def readable(self, items: Sequence[int]) -> list[int]:
        """Those of some files that have features."""
        return [item for item in items if item in self._places]

    def rows(self, items: Sequence[int]) -> Float[Tensor, "B V M D"]:
        """Features of some files, float32, in the order asked for."""
        out = torch.empty((len(items), *self.row_shape), dtype=torch.float32)
        for number, item in enumerate(items):
            shard, row = self._places[item]
            out[number] = self._open(shard).get_slice("tokens")[row : row + 1][0]
        return out

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.safetensors"

    def _open(self, shard: int) -> Any:
        if shard not in self._files:
            try:
                # Mapped: only what is asked for is read.
                opened: Any = safetensors.safe_open(self._path(shard), framework="pt")
                self._files[shard] = opened.__enter__()
            except (safetensors.SafetensorError, OSError) as error:
                raise CheckpointFormatError(
                    f"{self._path(shard)} cannot be read: {error}. Remove it and all later shards "
                    "of its folder; they are encoded again."
                ) from error
        return self._files[shard]

    def _note(self, shard: int) -> None:
        file = self._open(shard)
        shape = tuple(file.get_slice("tokens").get_shape())
        if shape[1:] != self.row_shape:
            raise CheckpointFormatError(
                f"{self._path(shard)} holds rows of {list(shape[1:])}, its index says "
                f"{list(self.row_shape)}. Remove the folder; it is made again."
            )
        for row, item in enumerate(file.get_tensor("items").tolist()):
            self._places[item] = (shard, row)
        self.bad.update(file.get_tensor("bad").tolist())

    def _check_same(self, stored: Any, wanted: Any) -> None:
        difference = first_difference(stored, wanted)
        if difference:
            raise ConfigError(
                f"The features in {self.folder} are not those of this run. {difference} (there, "
                "here). Give the run a cache of its own (cache.folder), or remove that folder."
            )


def first_difference(stored: Any, wanted: Any, place: str = "") -> str:
    """Where two nested JSON values differ first: `views.num_frames: 16 and 8`; "" nowhere."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in sorted({*stored, *wanted}):
            found = first_difference(
                stored.get(name), wanted.get(name), f"{place}.{name}" if place else str(name)
            )
            if found:
                return found
        return ""
    if isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        pairs = enumerate(zip(stored, wanted, strict=True))
        return next(
            (found for n, (a, b) in pairs if (found := first_difference(a, b, f"{place}.{n}"))), ""
        )
    if stored == wanted:
        return ""
    if isinstance(stored, list) and isinstance(wanted, list):
        return f"{place}: {len(stored)} and {len(wanted)}"
    return f"{place}: {stored!r} and {wanted!r}"


def check_disk(caches: Sequence[FeatureCache], *, max_bytes: int) -> int:
    """Refuse to write more than allowed, or than fits.

    Args:
        caches: to be filled, on one disk.
        max_bytes: most that may be written.

    Returns:
        bytes that will be written.

    Raises:
        ConfigError: with the numbers, and what makes them smaller.
    """
    needed = sum(cache.bytes_to_write() for cache in caches)
    if not needed:
        return 0
    folder = caches[0].folder
    free = int(shutil.disk_usage(folder).free * (1 - SPARE_SHARE))
    rows = sum(cache.layout.num_items for cache in caches)
    numbers = (
        f"The features of {rows} files ({needed / rows / 2**20:.1f} MiB each) need "
        f"{needed / GIB:.2f} GiB"
    )
    advice = (
        "Set cache.dtype=float16 for half of it, fewer views.num_segments or views.num_views, or "
        "cache.use=false to encode anew every epoch."
    )
    if needed > max_bytes:
        raise ConfigError(
            f"{numbers}, more than cache.max_gb={max_bytes / GIB:g} GiB. Allow more, or: {advice}"
        )
    if needed > free:
        raise ConfigError(
            f"{numbers}; the disk of {folder} has {free / GIB:.2f} GiB to spare. {advice}"
        )
    return needed


def _read_index(folder: Path) -> dict[str, Any] | None:
    path = folder / INDEX_NAME
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        layout = {name: int(values["layout"][name]) for name in Layout._fields}
        if min(layout["batch_size"], layout["per_shard"], layout["num_items"]) < 1:
            raise ValueError("a size below 1")
        return {"identity": values["identity"], "layout": layout}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointFormatError(
            f"{path} is damaged ({error}). Remove the folder; its features are made again."
        ) from error


def item_marks(labelled: LabelledSet) -> list[str]:
    """A line for every file of a set: its name, a mark of its content, and the stretch of it.

    The mark is of all bytes: a change in the middle of a file is a change. A set may be moved;
    labels are no part of it.
    """
    marks: dict[str, str] = {}
    lines = []
    for item in labelled.items:
        if item.path not in marks:
            marks[item.path] = file_mark(Path(item.path))
        edges = (item.start_seconds, item.end_seconds, item.start_frame, item.end_frame)
        stretch = "" if not item.is_segment else f" {edges}"
        lines.append(f"{Path(item.path).name} {marks[item.path]}{stretch}{_kind(item)}")
    return lines


def _kind(item: LabelledItem) -> str:
    return " image" if item.is_image else ""


def file_mark(path: Path) -> str:
    """Sixteen hexadecimal digits of all bytes of a file, or of the files of a folder."""
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            digest.update(f"{file.stat().st_size} ".encode())
            with file.open("rb") as opened:
                while piece := opened.read(PIECE_BYTES):
                    digest.update(piece)
    except OSError:
        return "unreadable"  # decoding counts and names it
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.is_file())
    else:
        yield path
