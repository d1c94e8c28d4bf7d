"""Whether splits can be trusted: no video in two of them, no class measured that is never learned.

Files are compared by their content (SHA-256 of all bytes), so that copies under other names are
found. A video that was encoded anew, cut or resized has other bytes and is not found: give the
items of one recording the same `group` for that.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from vjepa2.data.check_segments import check_segments
from vjepa2.data.class_counts import class_warnings
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.manifest import natural
from vjepa2.errors import DataNotFoundError, LeakError
from vjepa2.progress import track
from vjepa2.weights.file_record import sha256_of

MAX_SHOWN = 5
_EDGE_BYTES = 4096
_BLOCK = 1024  # files that wait for a thread at a time
_NUM_THREADS = 4  # hashing lets other threads run
_REMEMBERED = 1 << 18


# ---- contents ------------------------------------------------------------------------------


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Of a folder of pictures, that of the contents of its files in natural order of their names. The
    bytes are read once as long as size and time of change of the file stay as they are.

    Raises:
        DataNotFoundError: it cannot be read.
    """
    place = Path(path)
    try:
        if not place.is_dir():
            facts = place.stat()
            return _hash_of(str(place), facts.st_size, facts.st_mtime_ns)
        digest = hashlib.sha256()
        for file in _files_in(place):
            digest.update(bytes.fromhex(content_hash(file)))
        return digest.hexdigest()
    except OSError as error:
        if isinstance(error, DataNotFoundError):
            raise
        raise DataNotFoundError(f"{place} cannot be read: {error}.") from error


@lru_cache(maxsize=_REMEMBERED)
def _hash_of(path: str, size: int, mtime_ns: int) -> str:
    """Size and time are not used, but another one asks anew."""
    return sha256_of(Path(path), quiet=True)


def _files_in(folder: Path) -> list[Path]:
    files = [file for file in folder.iterdir() if file.is_file() and file.name[0] != "."]
    return sorted(files, key=lambda file: natural(file.name))


def content_hashes(
    paths: Iterable[str], *, quiet: bool = False, description: str = "Comparing files"
) -> dict[str, str]:
    """Return the content hash of every different path, showing progress.

    Files that cannot be read are left out: what decodes them counts and names them.
    """
    distinct = list(dict.fromkeys(paths))
    hashes = _in_threads(_hash_or_none, distinct, quiet=quiet, description=description)
    return {path: value for path, value in zip(distinct, hashes, strict=True) if value is not None}


def _hash_or_none(path: str) -> str | None:
    try:
        return content_hash(path)
    except DataNotFoundError:
        return None


def _in_threads(
    function: Callable[[str], str | None], paths: Sequence[str], *, quiet: bool, description: str
) -> Iterator[str | None]:
    """Results in the order of the paths."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        blocks = (paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK))
        results = (result for block in blocks for result in pool.map(function, block))
        yield from track(results, total=len(paths), description=description, quiet=quiet)


def equal_files(
    paths: Sequence[str], *, sides: Sequence[int] | None = None, quiet: bool = False
) -> list[list[int]]:
    """Return the places of files with the same content, each group in rising order.

    Sizes are compared first, then the first and last bytes, and whole files only where those
    agree: most files of most sets are never read through. Empty and unreadable files are left out.

    Args:
        paths: the files.
        sides: a number for each file; only groups with files of two sides are looked for.
        quiet: no progress on stderr.
    """
    side_of = list(range(len(paths))) if sides is None else list(sides)
    groups = _alike([_size(path) for path in paths], [list(range(len(paths)))], side_of)
    stages: tuple[tuple[str, Callable[[str], str | None]], ...] = (
        ("Comparing beginnings of files", _edges),
        ("Comparing files", _hash_or_none),
    )
    for description, function in stages:
        places = [place for group in groups for place in group]
        if not places:
            return []
        marks: list[Hashable] = [None] * len(paths)
        results = _in_threads(
            function, [paths[place] for place in places], quiet=quiet, description=description
        )
        for place, mark in zip(places, results, strict=True):
            marks[place] = mark
        groups = _alike(marks, groups, side_of)
    return groups


def _alike(
    marks: Sequence[Hashable], groups: list[list[int]], side_of: list[int]
) -> list[list[int]]:
    """Split groups by the marks of their members; keep parts that lie on two sides."""
    parts: dict[tuple[int, Hashable], list[int]] = {}
    for number, group in enumerate(groups):
        for place in group:
            if marks[place] is not None:
                parts.setdefault((number, marks[place]), []).append(place)
    return [part for part in parts.values() if len({side_of[place] for place in part}) > 1]


def _size(path: str) -> int | None:
    """Bytes of a file or of all files in a folder; None for nothing and what cannot be read."""
    place = Path(path)
    try:
        if place.is_dir():
            return sum(file.stat().st_size for file in _files_in(place)) or None
        return place.stat().st_size or None
    except OSError:
        return None


def _edges(path: str) -> str | None:
    """Hash of the first and last bytes; of a folder nothing that tells it from another."""
    place = Path(path)
    try:
        if place.is_dir():
            return ""
        with place.open("rb") as file:
            digest = hashlib.sha256(file.read(_EDGE_BYTES))
            file.seek(max(0, place.stat().st_size - _EDGE_BYTES))
            digest.update(file.read(_EDGE_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


# ---- checks --------------------------------------------------------------------------------


def check_splits(
    sets: Mapping[str, LabelledSet], *, segments: bool = True, quiet: bool = False
) -> tuple[str, ...]:
    """Refuse splits that share a video, whose classes cannot be learned, or segments outside.

    Args:
        sets: by name; "train" is the one that is learned from.
        segments: open each file with segments once to see that they lie inside it.
        quiet: no progress on stderr.

    Returns:
        Warnings in words with numbers: classes with few files, classes that are never measured, a
        class that is most of a split, files that could not be read.

    Raises:
        LabelError: the splits number their classes differently, "train" has one class only, or
            another split has a class that "train" has not; a segment lies outside its file.
        LeakError: a path, a group or a content is in two splits; `pairs` holds all of them.
    """
    warnings = class_warnings(sets)
    _check_groups(sets)
    for labelled in sets.values() if segments else ():
        warnings += check_segments(labelled, quiet=quiet)
    names = list(sets)
    files = {name: list(dict.fromkeys(item.path for item in sets[name].items)) for name in names}
    paths = [path for name in names for path in files[name]]
    sides = [number for number, name in enumerate(names) for _ in files[name]]
    unreadable = [path for path in paths if not Path(path).exists()]
    if unreadable:
        warnings.append(
            f"{len(unreadable)} of {len(paths)} files do not exist and were not compared, such as "
            f"{unreadable[0]}"
        )
    if len(names) < 2:
        return tuple(warnings)
    pairs = []
    for group in equal_files(paths, sides=sides, quiet=quiet):
        first = group[0]
        pairs += [(first, other) for other in group[1:] if sides[other] != sides[first]]
    if pairs:
        shown = "; ".join(
            f"{paths[first]} ({names[sides[first]]}) = {paths[other]} ({names[sides[other]]})"
            for first, other in pairs[:MAX_SHOWN]
        )
        raise LeakError(
            f"{len(pairs)} files have the same content as a file of another split: {shown}"
            f"{_more(len(pairs))}. What is measured on them was trained on. Take them out of one "
            "split.",
            pairs=[(paths[first], paths[other]) for first, other in pairs],
        )
    return tuple(warnings)


def _check_groups(sets: Mapping[str, LabelledSet]) -> None:
    """Raise LeakError for a group or path that is in two splits."""
    first: dict[str, tuple[str, str]] = {}
    shared: dict[str, tuple[str, str, str, str]] = {}
    for name, labelled in sets.items():
        for item in labelled.items:
            for key in {item.group_name, item.path}:
                split, path = first.setdefault(key, (name, item.path))
                if split != name:
                    shared.setdefault(key, (split, path, name, item.path))
    if not shared:
        return
    shown = "; ".join(
        f"{key} ({one} and {other})" for key, (one, _, other, _) in list(shared.items())[:MAX_SHOWN]
    )
    raise LeakError(
        f"{len(shared)} groups or files are in two splits: {shown}{_more(len(shared))}. Stretches "
        "of one recording are too alike to measure on. Split by group, as "
        "vjepa2.data.split_by_group does.",
        pairs=[(path, other) for _, path, _, other in shared.values()],
    )


def check_not_trained_on(
    labelled: LabelledSet, trained_hashes: Collection[str], *, quiet: bool = False
) -> None:
    """Refuse to measure on files that were trained on, whatever they are called.

    Args:
        labelled: what is to be measured on.
        trained_hashes: content hashes of the training files, as kept with a trained model.
        quiet: no progress on stderr.

    Raises:
        LeakError: files that were trained on; `pairs` holds (path, hash).
    """
    known = set(trained_hashes)
    hashes = content_hashes((item.path for item in labelled.items), quiet=quiet)
    seen = [(path, value) for path, value in hashes.items() if value in known]
    if seen:
        shown = ", ".join(path for path, _ in seen[:MAX_SHOWN])
        raise LeakError(
            f"{len(seen)} of {len(hashes)} files were trained on, such as {shown}. The result "
            "would say how well they are remembered. Measure on files that were not.",
            pairs=seen,
        )


def _more(count: int) -> str:
    return f" and {count - MAX_SHOWN} more" if count > MAX_SHOWN else ""
