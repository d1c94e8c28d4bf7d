"""From the path of a source to the table of its files.

Only names are looked at: whether a file can be read is known when it is its turn. One thing is
tried at once: which files of a list exist, all of a short one, some of a long one. If none does,
the list is wrong, and the run would end at its first step anyway.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from vjepa2.data.file_table import FileTable
from vjepa2.data.lists import Row, read_list
from vjepa2.data.settings import SourceConfig
from vjepa2.data.shards import read_shard
from vjepa2.data.suffixes import LIST_SUFFIXES, SHARD_SUFFIX, file_kind, suffix_of
from vjepa2.errors import DataError, DataNotFoundError, ListError, check_path
from vjepa2.video.sources import is_url

NUM_PROBES = 32
MAX_CHECKED = 10_000  # entries of a list that are all looked for before the start
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 1_000_000


def read_source(source: SourceConfig) -> FileTable:
    """Return the files of a source in a fixed order.

    Raises:
        DataNotFoundError: the path does not exist, or no file that it names does.
        DataError: there are no files in it.
        ListError: a list or a shard is malformed, or the path is of an unknown kind.
        MissingExtraError: a Parquet list without pyarrow.
    """
    check_path("The path of a source", source.path)
    path = Path(source.path)
    if path.is_dir():
        return _from_folder(path, source)
    if suffix_of(source.path) == SHARD_SUFFIX:
        return _from_shards(source, expanded(source.path))
    if not path.exists():
        raise DataNotFoundError(
            f"There is nothing at {source.path}. Check the spelling; the working folder is "
            f"{Path.cwd()}. Allowed: a folder, a list, shards, or one file."
        )
    suffix = suffix_of(path.name)
    is_list = suffix in LIST_SUFFIXES or (suffix == ".npy" and source.kind != "array")
    if is_list:
        return _from_list(path, source)
    if file_kind(path.name) is None:
        raise ListError(
            f"{path} is of an unknown kind ({suffix or 'no suffix'}). Allowed: a folder, a list "
            f"({', '.join(LIST_SUFFIXES)}, .npy), shards (.tar), or one video, image or array."
        )
    table = FileTable(str(path.parent))
    table.append(path.name)
    return table


# ---- folders -------------------------------------------------------------------------------


def _from_folder(folder: Path, source: SourceConfig) -> FileTable:
    """The files of a folder, or the members of its shards."""
    table = FileTable(str(folder))
    others: Counter[str] = Counter()
    shards: list[str] = []
    for name, names in _walk(folder):
        shards += [
            os.path.join(name, item)  # noqa: PTH118
            for item in names
            if suffix_of(item) == SHARD_SUFFIX
        ]
        kept = [item for item in names if _is_wanted(item, source)]
        if not kept:
            others.update(suffix_of(item) or "no suffix" for item in names)
        if source.kind == "picture_folder":
            if kept:
                table.append(name)
            continue
        for item in kept:
            table.append(os.path.join(name, item) if name else item)  # noqa: PTH118
    if shards and len(table):
        raise DataError(
            f"The folder {folder} holds {len(shards)} shards ({shards[0]}) beside {len(table)} "
            f"files of kind {source.kind!r} ({table[0].name}). Give them as two sources, the "
            "shards as a folder or NAME.tar of their own, or move one kind elsewhere."
        )
    if shards:
        return _from_shards(source, [str(folder / shard) for shard in shards])
    if not len(table):
        seen = ", ".join(f"{count} x {suffix}" for suffix, count in others.most_common(5))
        raise DataError(
            f"The folder {folder} and its subfolders hold no file of kind {source.kind!r} "
            f"({f'only {seen}' if seen else 'they are empty'}). Give another folder, or set kind."
        )
    return table


def _is_wanted(name: str, source: SourceConfig) -> bool:
    kind = file_kind(name)
    wanted = "image" if source.kind == "picture_folder" else source.kind
    return kind is not None and wanted in ("auto", kind)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder's name below `folder` and its files, in natural order.

    Links are followed, each folder is entered once, and hidden names are left out.

    Raises:
        DataError: a folder cannot be read, which would leave out its files.
    """
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        facts = os.stat(place)  # noqa: PTH116
        if (facts.st_dev, facts.st_ino) in entered:
            folders.clear()
            continue
        entered.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted((name for name in folders if name[0] != "."), key=natural)
        relative = os.path.relpath(place, folder)
        shown = sorted((name for name in names if name[0] != "."), key=natural)
        yield "" if relative == "." else relative, shown


def _refuse(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename} cannot be read ({error.strerror or error}), so its files "
        "would be left out. Give permission (chmod u+rx), take it out, or name another folder."
    ) from error


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which 'clip2' comes before 'clip10'."""
    parts = re.split(r"(\d+)", name.lower())
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return key, name  # names that differ in case only have an order too


# ---- lists ---------------------------------------------------------------------------------


def _from_list(path: Path, source: SourceConfig) -> FileTable:
    table = FileTable(str(path.parent))
    try:
        rows = read_list(path, path_column=source.path_column, label_column=source.label_column)
        _fill(table, rows, path)
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataNotFoundError(f"The list {path} cannot be read: {error}.") from error
    if not len(table):
        raise DataError(f"The list {path} is empty. Write one file a line.")
    _probe(table, path)
    return table


def _fill(table: FileTable, rows: Iterator[Row], path: Path) -> None:
    """Add rows; labels that are text become numbers in the order of the sorted texts."""
    texts: dict[str, int] = {}
    kind: type | None = None
    for name, label in rows:
        if not name or "\0" in name:
            raise ListError(f"{path}: entry {len(table) + 1} has no path.")
        if len(table) and kind is not type(label):
            raise ListError(
                f"{path}: the label of {name!r} (entry {len(table) + 1}) is {label!r}, of another "
                "kind than those before it. Give every file an integer, every one text, or none."
            )
        kind = type(label)
        if isinstance(label, str):
            label = texts.setdefault(label, len(texts))
        try:
            table.append(name, label)
        except UnicodeEncodeError as error:
            raise ListError(
                f"{path}: entry {len(table) + 1} holds a character that no file name can hold: "
                f"{name!a}."
            ) from error
    if texts:
        table.name_classes(texts, path)


def _probe(table: FileTable, path: Path) -> None:
    """Note which files of a short list do not exist; raises as `missing_files`."""
    missing = missing_files(len(table), lambda index: table[index].path, path)
    if len(table) <= MAX_CHECKED:
        table.missing = missing


def missing_files(count: int, name_of: Callable[[int], str], path: Path) -> tuple[str, ...]:
    """Files of a short list that do not exist; of a long one, some are tried.

    Args:
        count: entries of the list.
        name_of: the file of an entry.
        path: of the list, for messages.

    Raises:
        DataNotFoundError: none that was tried exists.
    """
    tried = count if count <= MAX_CHECKED else NUM_PROBES
    probes = {name_of(index * count // tried): None for index in range(tried)}
    missing = [probe for probe in probes if not is_url(probe) and not _exists(probe)]
    if len(missing) == len(probes):
        raise DataNotFoundError(
            f"None of {len(probes)} files tried of the {count} in {path} exists, for example "
            f"{missing[0]}. Relative paths begin at the folder of the list, {path.parent}."
        )
    return tuple(missing)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


# ---- shards --------------------------------------------------------------------------------


def _from_shards(source: SourceConfig, shards: list[str]) -> FileTable:
    path = Path(source.path)
    table = FileTable(str(path.parent))
    for shard in shards:
        table.start_shard(shard)
        for member in read_shard(Path(shard), label_key=source.label_column):
            kind = file_kind(member.name)
            if source.kind in ("auto", kind):
                table.append_member(
                    member.name, member.label, offset=member.offset, size_bytes=member.size_bytes
                )
    if not len(table):
        raise DataError(
            f"The {len(shards)} shards of {source.path} hold no file of kind {source.kind!r}."
        )
    return table


def expanded(pattern: str) -> list[str]:
    """`a-{08..10}.tar` as `a-08.tar`, `a-09.tar`, `a-10.tar`; other text as it is."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    if not 1 <= len(numbers) <= MAX_SHARDS:
        raise ListError(
            f"{pattern} names {len(numbers)} shards: {match.group()} must count up, to at most "
            f"{MAX_SHARDS} shards."
        )
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [
        name for number in numbers for name in expanded(f"{before}{number:0{len(first)}d}{after}")
    ]
