"""How two label maps differ, in words: the mistakes that make a good model score like a bad one."""

from collections.abc import Mapping

from vjepa2.data.label_rows import plain_class

MAX_SHOWN = 5


def map_difference(
    first: Mapping[str, tuple[str, ...]], second: Mapping[str, tuple[str, ...]]
) -> str | None:
    """Return the first difference between two label maps in words, None if they are the same.

    Args:
        first, second: of each head, the names of its classes in the order of their numbers.
    """
    if list(first) != list(second):
        if set(first) == set(second):
            return f"the heads stand in another order, {_listed(first)} against {_listed(second)}"
        return f"the heads are {_listed(first)} against {_listed(second)}"
    for head, names in first.items():
        difference = order_difference(names, second[head])
        if difference is not None:
            return f"head {head!r}: {difference}"
    return None


def order_difference(first: tuple[str, ...], second: tuple[str, ...]) -> str | None:
    """Return the first difference between the classes of two heads, None if they are the same.

    Names that differ only in case, spaces and marks are the same, unless several of one head would
    then be.
    """
    one, other = tuple(map(plain_class, first)), tuple(map(plain_class, second))
    if len(set(one)) < len(one) or len(set(other)) < len(other):
        one, other = first, second
    if one == other:
        return None
    numbers, known = {name: place for place, name in enumerate(other)}, set(one)
    missing = [name for name, key in zip(first, one, strict=True) if key not in numbers]
    more = [name for name, key in zip(second, other, strict=True) if key not in known]
    places = [(place, numbers[key]) for place, key in enumerate(one) if key in numbers]
    shift = _shift(places, 0 if missing or more else len(first))
    if missing or more:
        words = [
            f"{len(names)} classes are only in the {which} ({_listed(names)})"
            for names, which in ((missing, "first"), (more, "second"))
            if names
        ]
        also = f", and all numbers of the others are shifted by {shift}" if shift else ""
        return f"{len(first)} against {len(second)} classes; {' and '.join(words)}{also}"
    if shift:
        return (
            f"the same {len(first)} names with all numbers shifted by {shift}; "
            f"class 0 is {first[0]!r} against {second[0]!r}"
        )
    changed = [place for place, to in places if place != to]
    return (
        f"the same {len(first)} names in another order, {len(changed)} of them with another "
        f"number; class {changed[0]} is {first[changed[0]]!r} against {second[changed[0]]!r}"
    )


def _shift(places: list[tuple[int, int]], circle: int) -> int:
    """By how much all numbers differ, round a circle of so many if above 2; 0 if not alike."""
    shifts = {(to - place) % circle if circle > 2 else to - place for place, to in places}
    if len(shifts) != 1:
        return 0
    shift = shifts.pop()
    return shift - circle if circle > 2 and shift > circle // 2 else shift


def _listed(names: Mapping[str, tuple[str, ...]] | list[str]) -> str:
    shown = [repr(name) for name in list(names)[:MAX_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
