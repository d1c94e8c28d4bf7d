"""How two label maps differ, in words: the mistakes that make a good model score like a bad one."""

from collections.abc import Mapping

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
    """Return the first difference between the classes of two heads, None if they are the same."""
    if first == second:
        return None
    missing = [name for name in first if name not in set(second)]
    more = [name for name in second if name not in set(first)]
    if missing or more:
        words = [
            f"{len(names)} classes are only in the {place} ({_listed(names)})"
            for names, place in ((missing, "first"), (more, "second"))
            if names
        ]
        return f"{len(first)} against {len(second)} classes; {' and '.join(words)}"
    number = {name: place for place, name in enumerate(second)}
    shifts = {(number[name] - place) % len(first) for place, name in enumerate(first)}
    if len(shifts) == 1:
        shift = shifts.pop()
        shown = shift if shift <= len(first) // 2 else shift - len(first)
        return (
            f"the same {len(first)} names with all numbers shifted by {shown}; "
            f"class 0 is {first[0]!r} against {second[0]!r}"
        )
    changed = [place for place, name in enumerate(first) if second[place] != name]
    place = changed[0]
    return (
        f"the same {len(first)} names in another order, {len(changed)} of them with another "
        f"number; class {place} is {first[place]!r} against {second[place]!r}"
    )


def _listed(names: Mapping[str, tuple[str, ...]] | list[str]) -> str:
    shown = [repr(name) for name in list(names)[:MAX_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
