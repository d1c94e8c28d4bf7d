"""From the texts of labels to class numbers, by a label map or by a new one."""

from collections import Counter
from collections.abc import Iterable, Mapping

from vjepa2.data.file_table import is_integer
from vjepa2.data.label_rows import plain_class
from vjepa2.errors import LabelError, nearest_hint

MAX_CLASSES = 1_000_000
MAX_SHOWN = 5
LEAST_SHARE = 0.5  # of the numbers from 0 to the largest that occur, where they are class numbers


def new_classes(texts: Iterable[str], *, source: str, head: str) -> tuple[str, ...]:
    """Return the names of classes that labels are numbered by.

    Labels that are all integers are class numbers already where at least half of the numbers from
    0 to the largest occur: their names are all of these numbers, so that a class without a file
    keeps its place. Other integers, such as the years 2019 and 2020, are names of classes like any
    other text: classes are numbered in the order of the integers, of other names alphabetically.

    Args:
        texts: distinct labels.
        source: where they stand, for messages.
        head: whose labels they are, for messages.

    Raises:
        LabelError: numbers that are not whole, below 0, or so large that they are no class numbers.
    """
    labels = sorted(texts)
    if all(is_integer(text) for text in labels):
        numbers = sorted({int(text) for text in labels})
        if min(numbers) < 0 or max(numbers) >= MAX_CLASSES:
            wrong = min(numbers) if min(numbers) < 0 else max(numbers)
            raise LabelError(
                f"{source}: the label {wrong} (head {head!r}) is no class number; allowed are 0 "
                f"to {MAX_CLASSES - 1}, counted from 0. Give class numbers or names."
            )
        is_numbered = len(numbers) >= LEAST_SHARE * (max(numbers) + 1)
        return tuple(
            str(number) for number in (range(max(numbers) + 1) if is_numbered else numbers)
        )
    fractions = [text for text in labels if _is_number(text) and not is_integer(text)]
    if fractions and all(_is_number(text) for text in labels):
        raise LabelError(
            f"{source}: the label {fractions[0]!r} (head {head!r}) is a number but no integer. "
            "Give class numbers as 0, 1, 2, or names of classes; columns of integers in which some "
            "are missing are often saved as 0.0, 1.0."
        )
    return tuple(labels)


def sparse_note(names: tuple[str, ...], *, source: str, head: str) -> str:
    """What is worth knowing about integers that were taken as names; "" of other names."""
    if not all(map(is_integer, names)) or names == tuple(map(str, range(len(names)))):
        return ""
    shown = ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "")
    return (
        f"{source}: the labels {shown} (head {head!r}) are names of {len(names)} classes, not "
        f"class numbers: of 0 to {names[-1]} most do not occur"
    )


def numbers_of(
    counts: Mapping[str, int], names: tuple[str, ...], *, source: str, head: str
) -> dict[str, int]:
    """Return the class number of every label.

    A label is looked up as the name of a class, then, if all labels are integers and the names
    are not, as its number, then without case, spaces and marks.

    Args:
        counts: distinct labels, and how many files have each.
        names: of the classes, in the order of their numbers.
        source: where the labels stand, for messages.
        head: whose labels they are, for messages.

    Raises:
        LabelError: labels that the classes do not hold, all of them counted.
    """
    number_of = {name: number for number, name in enumerate(names)}
    if all(text in number_of for text in counts):
        return {text: number_of[text] for text in counts}
    if all(is_integer(text) for text in counts):
        return _by_number(counts, names, source=source, head=head)
    plain = {plain_class(name): number for number, name in enumerate(names)}
    is_unique = len(plain) == len(names)
    found, unseen = {}, Counter[str]()
    for text, count in counts.items():
        number = number_of.get(text)
        if number is None and is_unique:
            number = plain.get(plain_class(text))
        if number is None:
            unseen[text] = count
        else:
            found[text] = number
    if unseen:
        raise _unseen(unseen, names, source=source, head=head)
    return found


def _by_number(
    counts: Mapping[str, int], names: tuple[str, ...], *, source: str, head: str
) -> dict[str, int]:
    numbers = {text: int(text) for text in counts}
    if sum(is_integer(name) for name in names) not in (0, len(names)) or (
        all(is_integer(name) for name in names)
        and names != tuple(str(number) for number in range(len(names)))
    ):
        # Names such as "10" and "20" are names: a label "1" is none of them.
        place_of = {name: place for place, name in enumerate(names)}
        unseen = Counter(
            {text: count for text, count in counts.items() if str(numbers[text]) not in place_of}
        )
        if unseen:
            raise _unseen(unseen, names, source=source, head=head)
        return {text: place_of[str(number)] for text, number in numbers.items()}
    wrong = {text: number for text, number in numbers.items() if not 0 <= number < len(names)}
    if wrong:
        from_one = min(numbers.values()) >= 1 and max(numbers.values()) == len(names)
        shift = " They seem to count from 1: subtract 1." if from_one else ""
        raise LabelError(
            f"{source}: {len(wrong)} labels are outside the {len(names)} classes of head "
            f"{head!r}, numbered from 0, such as {', '.join(list(wrong)[:MAX_SHOWN])}."
            f"{shift} Give labels of the label map that was saved with the model."
        )
    return numbers


def _unseen(unseen: Counter[str], names: tuple[str, ...], *, source: str, head: str) -> LabelError:
    shown = ", ".join(f"{text!r} ({count} files)" for text, count in unseen.most_common(MAX_SHOWN))
    more = len(unseen) - MAX_SHOWN
    near = nearest_hint(unseen.most_common(1)[0][0], names) if len(names) <= 20 else ""
    return LabelError(
        f"{source}: {len(unseen)} classes with {unseen.total()} files are not among the "
        f"{len(names)} classes of head {head!r}, which training knows: {shown}"
        f"{f' and {more} more' if more > 0 else ''}. Add them to the training files, or leave "
        f"them out. {near}".rstrip()
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
