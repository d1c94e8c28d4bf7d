"""Where the features of many videos go: one file for all of them, or a folder with a file each.

Both know which videos are done already, so that work that was interrupted goes on where it
stopped: a video is done if its file has not changed since (size and time) and its rows were made
with the same settings.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from vjepa2._version import __version__
from vjepa2.errors import ConfigError, OutputError, check_choice, check_path
from vjepa2.features.rows import ClipFeatures
from vjepa2.features.store import (
    FORMAT_VERSION,
    FORMATS,
    Header,
    read_header,
    read_rows,
    write_rows,
)
from vjepa2.files import write_json

MANIFEST_NAME = "manifest.json"
DEFAULT_FORMAT = "safetensors"

# One file for all is written anew each time; so often at most, and never for more than a twentieth
# of the time.
SECONDS_BETWEEN_WRITES = 60.0
WRITING_SHARE = 0.05

MAX_NAME_CHARACTERS = 60


def source_stamp(source: str) -> str:
    """Size and time of change of a file; "" for what is no file (a URL)."""
    try:
        facts = os.stat(source)  # noqa: PTH116  # a URL must not be turned into a path
    except (OSError, ValueError):
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where features go.

    Attributes:
        path: the file or folder.
        suffix: of the feature files, one of `FORMATS`.
        is_folder: a file per video inside the folder `path`; else one file for all.
    """

    path: Path
    suffix: str
    is_folder: bool


def read_target(out: str | os.PathLike[str], *, file_format: str | None = None) -> Target:
    """Tell a file from a folder.

    Args:
        out: a path that ends in .safetensors, .npy or .parquet is one file for all videos; an
            existing folder, a name that ends in `/` and a name without a suffix are folders.
        file_format: "safetensors" (default), "npy" or "parquet" of the files in a folder.

    Raises:
        ConfigError: no path, another suffix, or `file_format` disagrees with the suffix.
    """
    text = os.fsdecode(out) if isinstance(out, bytes) else out
    check_path("out", text)
    text = os.fspath(text)
    path = Path(text)
    formats = [suffix.removeprefix(".") for suffix in FORMATS]
    if file_format is not None:
        check_choice("Format", file_format, formats)
    suffix = path.suffix.lower()
    if path.is_dir() or text.endswith(("/", os.sep)) or not suffix:
        return Target(path=path, suffix=f".{file_format or DEFAULT_FORMAT}", is_folder=True)
    if suffix not in FORMATS:
        raise ConfigError(
            f"Cannot tell what {text} shall be. For one file end the name in {', '.join(FORMATS)}; "
            f"for a folder write {text}/"
        )
    if file_format not in (None, suffix.removeprefix(".")):
        raise ConfigError(f"{text} is no {file_format} file. Give one of the two, not both.")
    return Target(path=path, suffix=suffix, is_folder=False)


class FeatureSink(Protocol):
    """Takes the rows of one video after the other."""

    def holds(self, source: str, stamp: str) -> bool:
        """Whether the video is done with these settings."""
        ...

    def put(self, source: str, rows: list[ClipFeatures]) -> None:
        """Take the rows of a finished video."""
        ...

    def finish(self, failures: Sequence[Mapping[str, str]]) -> None:
        """Write what is not written yet."""
        ...


def open_sink(
    target: Target, sources: Sequence[str], *, settings: dict[str, Any], overwrite: bool
) -> FeatureSink:
    """Open a target for the videos `sources`.

    Args:
        target: where to.
        sources: all videos of this run.
        settings: of the features, JSON values.
        overwrite: take nothing over from an earlier run.

    Raises:
        OutputError: `target` is a foreign file, or holds features of videos not in `sources`, and
            `overwrite` is False.
        ConfigError: tokens of several videos in one file.
    """
    if target.is_folder:
        return _Folder(target, settings=settings, overwrite=overwrite)
    if settings["pool"] == "tokens" and len(sources) > 1:
        raise ConfigError(
            f"All tokens of {len(sources)} videos in one file would have to be in memory at once. "
            f"Give a folder: {target.path.with_suffix('')}/"
        )
    return _OneFile(target, sources, settings=settings, overwrite=overwrite)


def _is_done(header: Header | None, source: str, stamp: str, settings: Mapping[str, Any]) -> bool:
    if header is None or header.settings != settings:
        return False
    stamps = [row["stamp"] for row in header.rows if row["source"] == source]
    return bool(stamps) and set(stamps) == {stamp}


class _OneFile:
    """All rows in one file, in the order of the videos."""

    def __init__(
        self, target: Target, sources: Sequence[str], *, settings: dict[str, Any], overwrite: bool
    ) -> None:
        self._path = target.path
        self._sources = sources
        self._settings = settings
        self._rows: dict[str, list[ClipFeatures]] = {}
        self._last_write = time.monotonic()
        self._pause = SECONDS_BETWEEN_WRITES
        self._is_written = True
        if self._path.exists() and not overwrite:
            self._take_over()

    def _take_over(self) -> None:
        header = read_header(self._path)
        if header is None:
            raise OutputError(
                f"{self._path} exists and is damaged or no feature file. Choose another name, or "
                "overwrite it (--overwrite)."
            )
        others = sorted({row["source"] for row in header.rows} - set(self._sources))
        if others:
            raise OutputError(
                f"{self._path} holds features of {len(others)} other videos (first: {others[0]}). "
                "Name those too, choose another file, or overwrite it (--overwrite)."
            )
        for row in read_rows(self._path)[0]:
            if _is_done(header, row.source, row.stamp, self._settings):
                self._rows.setdefault(row.source, []).append(row)

    def holds(self, source: str, stamp: str) -> bool:
        return source in self._rows and {row.stamp for row in self._rows[source]} == {stamp}

    def put(self, source: str, rows: list[ClipFeatures]) -> None:
        self._rows[source] = rows
        self._is_written = False
        if time.monotonic() - self._last_write > self._pause:
            self._write()

    def _write(self) -> None:
        start = time.monotonic()
        rows = [row for source in self._sources for row in self._rows.get(source, [])]
        write_rows(self._path, rows, settings=self._settings)
        self._is_written = True
        self._last_write = time.monotonic()
        self._pause = max(SECONDS_BETWEEN_WRITES, (self._last_write - start) / WRITING_SHARE)

    def finish(self, failures: Sequence[Mapping[str, str]]) -> None:
        for failure in failures:  # rows of an earlier state of the video
            self._is_written &= self._rows.pop(failure["source"], None) is None
        if not self._is_written and self._rows:
            self._write()


class _Folder:
    """A file per video, and `manifest.json` that lists them."""

    def __init__(self, target: Target, *, settings: dict[str, Any], overwrite: bool) -> None:
        self._folder = target.path
        self._suffix = target.suffix
        self._settings = settings
        self._overwrite = overwrite
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._entries: dict[str, dict[str, Any]] = {}

    def holds(self, source: str, stamp: str) -> bool:
        path = self._folder / self._name(source)
        header = None if self._overwrite else read_header(path)
        if header is None or not _is_done(header, source, stamp, self._settings):
            return False
        self._list(source, header.rows)
        return True

    def put(self, source: str, rows: list[ClipFeatures]) -> None:
        path = self._folder / self._name(source)
        write_rows(path, rows, settings=self._settings)
        self._list(source, [{"t_start": row.t_start, "t_end": row.t_end} for row in rows])

    def finish(self, failures: Sequence[Mapping[str, str]]) -> None:
        path = self._folder / MANIFEST_NAME
        entries = self._earlier(path) | self._entries
        for failure in failures:
            entries.pop(failure["source"], None)
        write_json(
            path,
            {
                "version": FORMAT_VERSION,
                "vjepa2": __version__,
                "settings": self._settings,
                "videos": [{"source": source} | entry for source, entry in entries.items()],
                "failed": list(failures),
            },
        )

    def _list(self, source: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self._entries[source] = {
            "file": self._name(source),
            "clips": [{name: row[name] for name in ("t_start", "t_end")} for row in rows],
        }

    def _earlier(self, path: Path) -> dict[str, dict[str, Any]]:
        """Entries of an earlier manifest whose files are still there, made with these settings."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(values, dict) or values.get("settings") != self._settings:
            return {}
        return {
            entry["source"]: {"file": entry["file"], "clips": entry["clips"]}
            for entry in values["videos"]
            if (self._folder / entry["file"]).is_file()
        }

    def _name(self, source: str) -> str:
        """File name of a video: its own name; where that belongs to another video, with a digest.

        The digest is of the whole path, so the same video always finds its own file again.
        """
        if source not in self._names:
            plain = f"{plain_name(source)}{self._suffix}"
            if plain.casefold() in self._taken or self._is_foreign(self._folder / plain, source):
                digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:8]
                plain = f"{plain_name(source)}-{digest}{self._suffix}"
            self._names[source] = plain
            self._taken.add(plain.casefold())
        return self._names[source]

    def _is_foreign(self, path: Path, source: str) -> bool:
        """Whether a file must not be written to: another video's, or none of ours at all."""
        if not path.exists():
            return False
        header = read_header(path)
        if header is None:
            return not self._overwrite
        return {row["source"] for row in header.rows} != {source}


def plain_name(source: str) -> str:
    """A file name, without suffix, for the features of a video: letters, digits, `-`, `_`, space.

    Bytes that are no text and signs that file systems refuse become `_`.
    """
    path = urlsplit(source).path if "://" in source else source
    stem = re.sub(r"[^\w. -]", "_", Path(path).stem)[:MAX_NAME_CHARACTERS].strip(". ")
    return stem or "video"
