"""Millions of file names in little memory.

A Python string costs some 50 bytes beside its text, and a list of them cannot be shared. Names are
kept as one run of bytes with the place where each begins: 10 million names of 60 characters are
680 MB.
"""

import hashlib
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vjepa2.data.sample import FileRef
from vjepa2.errors import ListError

NO_LABEL = int(np.iinfo(np.int64).min)
MAX_DIGITS = 18  # of a label, what 64 bits hold


def is_integer(text: str) -> bool:
    """True for the digits of a label."""
    digits = text.strip().removeprefix("-")
    return digits.isdecimal() and len(digits) <= MAX_DIGITS


class TextColumn:
    """Texts, one after the other in one run of bytes."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one; file names that are not valid text keep their bytes."""
        self._bytes += os.fsencode(text)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._bytes[start : self._ends[index]]))

    def fingerprint(self) -> str:
        """Hexadecimal digest of all texts in their order."""
        digest = hashlib.sha256(self._bytes)
        digest.update(self._ends.tobytes())
        return digest.hexdigest()


class FileTable:
    """The files of one source.

    Args:
        root: folder at which relative names begin.

    Attributes:
        class_names: where labels were text, the text of each number, sorted.
        missing: files of a short list that do not exist, with their folder.
    """

    def __init__(self, root: str) -> None:
        self.class_names: tuple[str, ...] = ()
        self.missing: tuple[str, ...] = ()
        self._root = root
        self._names = TextColumn()
        self._labels = array("q")
        # Only for shards: which one, and where in it.
        self._shards: list[str] = []
        self._places = array("q")

    def __len__(self) -> int:
        return len(self._names)

    def append(self, name: str, label: int | None = None) -> None:
        """Add a file of its own."""
        self._names.append(name)
        self._labels.append(NO_LABEL if label is None else label)

    def name_classes(self, numbers: Mapping[str, int], path: Path) -> None:
        """Turn provisional numbers of labels that were text into final ones.

        Labels that are all integers keep their value; others count from 0 in sorted order.

        Args:
            numbers: provisional number of each text.
            path: of the list, for messages.

        Raises:
            ListError: some labels are empty.
        """
        if "" in numbers:
            raise ListError(f"{path}: a label is empty. Give every file one, or none.")
        if all(is_integer(text) for text in numbers):
            final = {number: int(text) for text, number in numbers.items()}
        else:
            self.class_names = tuple(sorted(numbers))
            final = {numbers[text]: place for place, text in enumerate(self.class_names)}
        self._labels = array("q", (final[number] for number in self._labels))

    def start_shard(self, path: str) -> None:
        """The members that follow lie in this shard."""
        self._shards.append(path)

    def append_member(self, name: str, label: int | None, *, offset: int, size_bytes: int) -> None:
        """Add a part of the shard that was started last."""
        self.append(name, label)
        self._places.extend((len(self._shards) - 1, offset, size_bytes))

    def __getitem__(self, index: int) -> FileRef:
        name, label = self._names[index], self._labels[index]
        known = None if label == NO_LABEL else label
        if self._shards:
            shard, offset, size_bytes = self._places[3 * index : 3 * index + 3]
            return FileRef(self._shards[shard], known, name, offset, size_bytes)
        return FileRef(os.path.join(self._root, name), known)  # noqa: PTH118  # may be a URL

    def some(self, indices: Sequence[int]) -> Self:
        """A table of some of the files, in the order of `indices`."""
        table = type(self)(self._root)
        table.class_names = self.class_names
        table._shards = list(self._shards)
        for index in indices:
            table._names.append(self._names[index])
            table._labels.append(self._labels[index])
            table._places.extend(self._places[3 * index : 3 * index + 3])
        return table

    def fingerprint(self) -> str:
        """Digest of the names in their order, wherever the folder lies.

        A run that is resumed uses files of the same names only if this has not changed; what
        the files hold is not looked at.
        """
        return self._names.fingerprint()

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """int64 [n]; None unless every file has one."""
        labels = np.array(self._labels, dtype=np.int64)
        return None if len(labels) == 0 or (labels == NO_LABEL).any() else labels
