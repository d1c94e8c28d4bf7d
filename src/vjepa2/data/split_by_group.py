"""Training, validation and test files from one set, no group of which is in two of them."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vjepa2.data.labelled import LabelledSet
from vjepa2.data.splits import equal_files
from vjepa2.errors import ConfigError, DataError, checked_number
from vjepa2.numbered_random import stream_key

Class = tuple[int, int]  # number of the head, number of the class


def split_by_group(
    labelled: LabelledSet, shares: Mapping[str, float], *, seed: int = 0, quiet: bool = False
) -> dict[str, LabelledSet]:
    """Split a set at random, but groups as a whole and every class in its share.

    Items of one group, path or content stay together. The first split, which is to be the training
    one, gets a group of every class, so that no other split has a class that it has not. Which
    group goes where is a function of the seed, the names below the common folder and the labels:
    it stays when the folder is moved.

    Args:
        labelled: all files.
        shares: of the splits, such as {"train": 0.8, "val": 0.2}; their sum is 1.
        seed: another one gives other splits.
        quiet: no progress on stderr.

    Returns:
        The splits in the order of `shares`, each with its items in the order of `labelled`.

    Raises:
        ConfigError: shares that are not above 0 or whose sum is not 1.
        DataError: too few groups, so that a split would be empty.
    """
    names = list(shares)
    parts = [checked_number(f"The share of {n!r}", shares[n], above=0.0, most=1.0) for n in names]
    if not names or not math.isclose(sum(parts), 1.0, abs_tol=1e-6):
        raise ConfigError(
            f"Shares of splits must have the sum 1, got {dict(shares)}, whose sum is "
            f"{sum(parts):g}. For example: {{'train': 0.8, 'val': 0.2}}."
        )
    units = _units(labelled, quiet=quiet)
    chosen = _assigned(units, labelled, parts, seed=seed)
    for number, name in enumerate(names):
        if number not in chosen:
            raise DataError(
                f"{labelled.source or 'The set'} has {len(units)} groups of files, too few for "
                f"{len(names)} splits: {name!r} would be empty. The first split gets one group "
                "of every class first. Add files, or ask for fewer splits."
            )
    split_of = {place: number for unit, number in zip(units, chosen, strict=True) for place in unit}
    return {
        name: LabelledSet(
            tuple(item for place, item in enumerate(labelled.items) if split_of[place] == number),
            labelled.label_map,
            labelled.source,
            labelled.notes,
        )
        for number, name in enumerate(names)
    }


def _units(labelled: LabelledSet, *, quiet: bool) -> list[list[int]]:
    """Places of items that must stay together."""
    parent = list(range(len(labelled.items)))

    def top(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[str, int] = {}
    of_path: dict[str, int] = {}
    for place, item in enumerate(labelled.items):
        for key in {f"group {item.group}" if item.group else "", f"path {item.path}"} - {""}:
            parent[top(place)] = top(first.setdefault(key, place))
        of_path.setdefault(item.path, place)
    paths = list(of_path)
    for same in equal_files(paths, quiet=quiet):
        for other in same[1:]:
            parent[top(of_path[paths[other]])] = top(of_path[paths[same[0]]])
    units: dict[int, list[int]] = {}
    for place in range(len(parent)):
        units.setdefault(top(place), []).append(place)
    return list(units.values())


def _assigned(
    units: list[list[int]], labelled: LabelledSet, shares: list[float], *, seed: int
) -> list[int]:
    """Number of the split of each unit: where its classes are furthest below their share."""
    classes = [
        Counter(
            (head, number) for p in unit for head, number in enumerate(labelled.items[p].labels)
        )
        for unit in units
    ]
    total: Counter[Class] = Counter()
    for counts in classes:
        total.update(counts)
    keys = _random_keys(units, labelled, seed=seed)
    # Rare classes first: later there would be no choice left for them.
    order = sorted(range(len(units)), key=lambda u: (min(total[c] for c in classes[u]), keys[u]))
    have = [Counter[Class]() for _ in shares]
    sizes = [0.0] * len(shares)
    chosen = [0] * len(units)
    for unit in order:
        counts = classes[unit]

        def lack(number: int, counts: Counter[Class] = counts) -> tuple[float, float]:
            share = shares[number]
            by_class = sum(share - have[number][c] / total[c] for c in counts)
            return round(by_class, 9), round(share - sizes[number], 9)

        is_first = any(have[0][c] == 0 for c in counts)
        number = 0 if is_first else max(range(len(shares)), key=lack)
        have[number].update(counts)
        sizes[number] += len(units[unit]) / len(labelled.items)
        chosen[unit] = number
    return chosen


def _random_keys(
    units: list[list[int]], labelled: LabelledSet, *, seed: int
) -> list[tuple[int, str]]:
    """A random number for each unit, and its name for the case that two are equal."""
    paths = [item.path for item in labelled.items]
    root = os.path.commonpath([str(Path(path).parent) for path in paths]) if paths else ""
    keys = []
    for unit in units:
        name = min(labelled.items[p].group or os.path.relpath(paths[p], root) for p in unit)
        digest = hashlib.sha256(os.fsencode(name)).digest()
        number = int.from_bytes(digest[:8], "big") >> 1
        keys.append((int(stream_key(seed=seed, group=number)[0]), name))
    return keys
