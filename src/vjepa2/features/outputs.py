"""Where the features of many videos go: one file for all of them, or a folder with a file each.

Both know which videos are done already, so that work that was interrupted goes on where it
stopped: a video is done if its file has not changed since (size and time) and its rows were made
with the same settings. What something else wrote is never replaced unless that is asked for.

Sources are the names of `clips.source_identity`: the same for one video in whatever way it was
named, and different for two videos named alike in two folders.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from vjepa2._version import __version__
from vjepa2.errors import ConfigError, InputError, OutputError, check_choice, check_path
from vjepa2.features.clips import source_identity
from vjepa2.features.header import FORMAT_VERSION, Header, read_object
from vjepa2.features.rows import ClipFeatures
from vjepa2.features.store import FORMATS, can_replace, read_header, read_rows, write_rows
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
        sources: identities of all videos of this run.
        settings: of the features, JSON values.
        overwrite: take nothing over from an earlier run.

    Raises:
        OutputError: unless `overwrite`: `target` is a foreign or damaged file, or would replace
            one, or holds features of videos not in `sources`, or tokens that would be lost.
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
    stamps = [row["stamp"] for row in header.rows if source_identity(row["source"]) == source]
    return bool(stamps) and set(stamps) == {stamp}


def _check_keeps_tokens(path: Path, header: Header, settings: Mapping[str, Any]) -> None:
    """Refuse to replace tokens by pooled vectors: making them again takes the whole work."""
    if header.settings.get("pool") == "tokens" and settings["pool"] != "tokens":
        raise OutputError(
            f"{path} holds all tokens, which would be lost: pool is now {settings['pool']!r}. "
            "The pooled vectors are in it already. Choose another place, or overwrite it "
            "(--overwrite)."
        )


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
        if not overwrite:
            self._take_over()

    def _take_over(self) -> None:
        if not can_replace(self._path):
            name = self._path if os.path.lexists(self._path) else f"{self._path}.json"
            raise _is_in_the_way(name, "feature file")
        header = read_header(self._path)
        if header is None:
            return
        found = {source_identity(row["source"]) for row in header.rows}
        others = sorted(found - set(self._sources))
        if others:
            raise OutputError(
                f"{self._path} holds features of {len(others)} other videos (first: {others[0]}). "
                "Name those too, choose another file, or overwrite it (--overwrite)."
            )
        _check_keeps_tokens(self._path, header, self._settings)
        try:
            rows, _ = read_rows(self._path)
        except InputError as error:
            raise _is_in_the_way(self._path, "feature file") from error
        for row in rows:
            source = source_identity(row.source)
            if _is_done(header, source, row.stamp, self._settings):
                self._rows.setdefault(source, []).append(replace(row, source=source))

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
        manifest = read_manifest(self._folder / MANIFEST_NAME)
        if manifest is None and not overwrite:
            raise _is_in_the_way(self._folder / MANIFEST_NAME, "list of features")
        self._manifest = manifest or {}

    def holds(self, source: str, stamp: str) -> bool:
        path = self._folder / self._name(source)
        header = None if self._overwrite else read_header(path)
        if header is None:
            return False
        if _is_done(header, source, stamp, self._settings):
            self._list(source, header.rows)
            return True
        _check_keeps_tokens(path, header, self._settings)
        return False

    def put(self, source: str, rows: list[ClipFeatures]) -> None:
        path = self._folder / self._name(source)
        write_rows(path, rows, settings=self._settings)
        self._list(source, [{"t_start": row.t_start, "t_end": row.t_end} for row in rows])

    def finish(self, failures: Sequence[Mapping[str, str]]) -> None:
        entries = self._earlier() | self._entries
        for failure in failures:
            entries.pop(failure["source"], None)
        write_json(
            self._folder / MANIFEST_NAME,
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

    def _earlier(self) -> dict[str, dict[str, Any]]:
        """Entries of the earlier manifest whose files are still there, made with these settings."""
        if self._manifest.get("settings") != self._settings:
            return {}
        return {
            source_identity(entry["source"]): {"file": entry["file"], "clips": entry["clips"]}
            for entry in self._manifest["videos"]
            if os.path.isfile(self._folder / entry["file"])  # noqa: PTH113  # False for any text
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
        if not can_replace(path):
            return not self._overwrite
        header = read_header(path)
        if header is None:
            return False
        return {source_identity(row["source"]) for row in header.rows} != {source}


def read_manifest(path: Path) -> dict[str, Any] | None:
    """What the list of a folder says; {} where there is none, None for a damaged or foreign one."""
    if not os.path.lexists(path):
        return {}
    try:
        values = read_object(path.read_bytes())
    except OSError:
        return None
    if values is None or values.get("version") != FORMAT_VERSION or "vjepa2" not in values:
        return None
    videos = values.get("videos")
    if not isinstance(values.get("settings"), dict) or not isinstance(videos, list):
        return None
    return values if all(_is_entry(entry) for entry in videos) else None


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    source, file, clips = (entry.get(name) for name in ("source", "file", "clips"))
    return isinstance(source, str) and isinstance(file, str) and isinstance(clips, list)


def _is_in_the_way(path: Path | str, kind: str) -> OutputError:
    return OutputError(
        f"{path} exists and is damaged or no {kind} of this package. Choose another name, or "
        "overwrite it (--overwrite)."
    )


def plain_name(source: str) -> str:
    """A file name, without suffix, for the features of a video: letters, digits, `-`, `_`, space.

    Bytes that are no text and signs that file systems refuse become `_`.
    """
    path = source
    with contextlib.suppress(ValueError):  # no address at all: reading it says why
        path = urlsplit(source).path if "://" in source else source
    stem = re.sub(r"[^\w. -]", "_", Path(path).stem)[:MAX_NAME_CHARACTERS].strip(". ")
    return stem or "video"
