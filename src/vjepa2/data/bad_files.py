"""Files that cannot be read: counted, reported, and a reason to stop when there are too many.

Files count, not draws: in a small set one broken file is drawn again and again. One is never too
many, unless none is allowed: in a set of a dozen files it would already be more than 5 %.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

from vjepa2.data.file_table import FileTable
from vjepa2.data.sample import Answer, BadFile, Sample
from vjepa2.data.settings import AugmentConfig, DataConfig
from vjepa2.data.suffixes import file_kind
from vjepa2.errors import BadFilesError, ConfigError

NUM_SHOWN = 5
COLOUR_CHANNELS = (1, 3)  # that videos and pictures are read as
MAX_LOOKED_AT = 1000
# One bit a file: 8 MiB that count 6 million names to within 5 %, smaller sets exactly.
NUM_BITS = 1 << 26


class DistinctNames:
    """Counts different names in a fixed amount of memory."""

    def __init__(self) -> None:
        self._bits = bytearray(NUM_BITS // 8)
        self.count = 0

    def add(self, name: str) -> None:
        """Count a name unless it was there before."""
        place = zlib.crc32(name.encode(errors="surrogateescape")) % NUM_BITS
        bit = 1 << (place & 7)
        if not self._bits[place >> 3] & bit:
            self._bits[place >> 3] |= bit
            self.count += 1


class BadFileCounter:
    """Counts what comes back from decoding, of one loader or of several after each other.

    Args:
        config: the limits.
        num_files: in all sources; once all were tried, the share is judged.

    Attributes:
        num_tried, num_bad: tries to read a file, and those that failed.
    """

    def __init__(self, config: DataConfig, num_files: int) -> None:
        self._config = config
        self._num_files = num_files
        self._files: dict[str, BadFile] = {}
        self._changed: set[str] = set()
        self._tried = DistinctNames()
        self.num_tried = 0
        self.num_bad = 0

    def accept(self, answer: Answer) -> Sample:
        """Count the bad files of an answer and return its sample.

        Raises:
            BadFilesError: there is no sample, or too many files were bad.
        """
        self.count(answer.bad_files, good=None if answer.sample is None else answer.sample.path)
        if answer.sample is None:
            source = self._config.sources[answer.bad_files[0].source]
            distinct = len({bad.path for bad in answer.bad_files})
            raise BadFilesError(
                f"{len(answer.bad_files)} tries in a row to read a file of {source.path} failed; "
                f"they were made at {_files(distinct)}. Mend or remove them, or set the source's "
                f"kind if they are of another one than {source.kind!r}. {self._examples()}",
                bad_files=self.all(),
            )
        self.judge()
        return answer.sample

    def count(self, bad_files: Sequence[BadFile], *, good: str | None) -> None:
        """Count tries that failed, and the name of one that did not."""
        for bad in bad_files:
            known = self._files.get(bad.path, replace(bad, count=0))
            self._files[bad.path] = replace(known, count=known.count + 1)
            self._changed.add(bad.path)
            self._tried.add(bad.path)
        if good is not None:
            self._tried.add(good)
        self.num_bad += len(bad_files)
        self.num_tried += len(bad_files) + (good is not None)

    def judge(self) -> None:
        """Refuse to go on with too many bad files.

        Raises:
            BadFilesError: more than `max_bad_share` of the files cannot be read.
        """
        share = self._config.max_bad_share
        judged = (
            share == 0
            or self.num_tried >= self._config.judge_after
            or self._tried.count >= self._num_files
        )
        if judged and too_many(len(self._files), self._tried.count, share):
            raise BadFilesError(
                f"{len(self._files)} of {_files(self._tried.count)} cannot be read "
                f"({self.num_bad} of {self.num_tried} tries failed), more than "
                f"max_bad_share={share:g} allows. Mend or remove them, or raise "
                f"data.max_bad_share. {self._examples()}",
                bad_files=self.all(),
            )

    def all(self) -> list[BadFile]:
        """Every bad file, with how often it was drawn."""
        return list(self._files.values())

    def take_changed(self) -> list[BadFile]:
        """Bad files that are new, or were drawn again, since the last call."""
        changed = [bad for path, bad in self._files.items() if path in self._changed]
        self._changed.clear()
        return changed

    def _examples(self) -> str:
        shown = list(self._files.values())[-NUM_SHOWN:]
        return "Such as: " + "; ".join(f"{bad.path}: {bad.reason}" for bad in shown)


def too_many(num_bad: int, num_files: int, share: float) -> bool:
    """Whether so many bad ones of some files are more than a share allows; see the module."""
    return num_bad > (max(1.0, share * num_files) if share else 0)


def check_missing(tables: Sequence[FileTable], config: DataConfig) -> None:
    """Refuse lists of which too many files do not exist, as far as that was looked at.

    Raises:
        BadFilesError: more than `max_bad_share` of all files do not exist.
    """
    missing = [name for table in tables for name in table.missing]
    total = sum(len(table) for table in tables)
    if too_many(len(missing), total, config.max_bad_share):
        raise BadFilesError(
            f"{len(missing)} of {_files(total)} do not exist, more than "
            f"max_bad_share={config.max_bad_share:g} allows. Mend the list, or raise "
            f"data.max_bad_share. Such as: {'; '.join(missing[:NUM_SHOWN])}"
        )


def check_channels(tables: Sequence[FileTable], config: DataConfig, augment: AugmentConfig) -> None:
    """Refuse sources whose names promise colour only, where frames have other channels.

    Raises:
        ConfigError: no file of a source can have `augment.num_channels` channels.
    """
    if augment.num_channels in COLOUR_CHANNELS:
        return
    for table, source in zip(tables, config.sources, strict=True):
        names = [table[index] for index in range(min(len(table), MAX_LOOKED_AT))]
        kinds = {
            (file_kind(ref.member or ref.path) or "video") if source.kind == "auto" else source.kind
            for ref in names
        }
        if "array" not in kinds:
            raise ConfigError(
                f"The run is set up for {augment.num_channels} channels (the length of "
                f"augment.mean), and {source.path} holds videos or pictures, which have "
                f"{' or '.join(map(str, COLOUR_CHANNELS))}, such as {names[0].name}. Give array "
                "files, or a recipe for colour."
            )


def _files(count: int) -> str:
    return f"{count} distinct file{'s' * (count != 1)}"
