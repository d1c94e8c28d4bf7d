"""Whether the evaluated videos were trained on, and whether they are what the list says."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vjepa2.data.labelled import LabelledItem, LabelledSet
from vjepa2.data.labelled_decode import item_name
from vjepa2.tasks.fooling import Finding

Stretch = tuple[float | None, float | None, int | None, int | None]


@dataclass(frozen=True)
class HashedSet:
    """A labelled set and what its files hold.

    Attributes:
        labelled: the set.
        hashes: of each path the content hash (`data.splits.content_hash`); unreadable files are
            left out.
    """

    labelled: LabelledSet
    hashes: Mapping[str, str]

    def content(self, item: LabelledItem) -> str:
        """What identifies the file of an item: its hash, else its path."""
        return self.hashes.get(item.path, item.path)


def training_findings(
    evaluated: HashedSet,
    *,
    trained_hashes: Collection[str] = (),
    training: HashedSet | None = None,
    selected_on: Collection[str] = (),
) -> list[Finding]:
    """Look for evaluated videos that the model already knows.

    Args:
        evaluated: what the model is to be measured on.
        trained_hashes: of the files it was trained on, as kept beside it.
        training: the training list, where it is at hand: groups and stretches are compared too.
        selected_on: hashes of files by which the head or the checkpoint was chosen.
    """
    known = set(trained_hashes)
    if training is not None:
        known |= {training.content(item) for item in training.labelled.items}
    items = evaluated.labelled.items
    seen = [item for item in items if evaluated.content(item) in known]
    found = []
    if seen and len(seen) == len(items):
        found.append(
            Finding.of(
                "evaluated_on_training_set",
                "error",
                f"All {len(items)} evaluated items are files that the model was trained on. The "
                "number says how well it remembers them. Evaluate on videos it has never seen.",
                [item_name(item) for item in seen],
            )
        )
    elif seen:
        found.append(
            Finding.of(
                "trained_on",
                "error",
                f"{len(seen)} of {len(items)} evaluated items are files that the model was trained "
                "on (the same bytes, under this or another name). Take them out of one of the two "
                "lists.",
                [item_name(item) for item in seen],
            )
        )
    if training is not None:
        found += _overlaps(evaluated, training)
        found += _groups(evaluated, training, already={item.path for item in seen})
    chosen = [item for item in items if evaluated.content(item) in set(selected_on)]
    if chosen:
        found.append(
            Finding.of(
                "selected_on_these_videos",
                "warning",
                f"{len(chosen)} of {len(items)} evaluated items are files by which the head or "
                "checkpoint was chosen among several. The best of many is better on the videos "
                "that chose it than on others. Report the number of a third set.",
                [item_name(item) for item in chosen],
            )
        )
    return found


def _overlaps(evaluated: HashedSet, training: HashedSet) -> list[Finding]:
    """Stretches of a file that share time with a stretch of the same file in training."""
    trained = defaultdict(list)
    for item in training.labelled.items:
        if item.is_segment:
            trained[training.content(item)].append(item)
    overlapping = [
        item
        for item in evaluated.labelled.items
        if item.is_segment
        and any(_overlap(item, other) for other in trained.get(evaluated.content(item), ()))
    ]
    if not overlapping:
        return []
    return [
        Finding.of(
            "overlaps_training_segment",
            "error",
            f"{len(overlapping)} evaluated stretches overlap in time with stretches of the same "
            "video that were trained on. Split by video, not by stretch.",
            [item_name(item) for item in overlapping],
        )
    ]


def _overlap(first: LabelledItem, second: LabelledItem) -> bool:
    for unit in ("seconds", "frame"):
        ends = [
            getattr(one, f"{edge}_{unit}") for one in (first, second) for edge in ("start", "end")
        ]
        if any(end is not None for end in ends[:2]) and any(end is not None for end in ends[2:]):
            begin, end, other_begin, other_end = ends
            return bool(
                (begin or 0) < (float("inf") if other_end is None else other_end)
                and (other_begin or 0) < (float("inf") if end is None else end)
            )
    return False


def _groups(evaluated: HashedSet, training: HashedSet, *, already: set[str]) -> list[Finding]:
    """Groups that were named in both lists, beyond files that are the same."""
    trained = {item.group for item in training.labelled.items if item.group}
    shared = [
        item
        for item in evaluated.labelled.items
        if item.group in trained and item.path not in already
    ]
    if not shared:
        return []
    names = sorted({item.group for item in shared})
    return [
        Finding.of(
            "same_group",
            "error",
            f"{len(shared)} evaluated items belong to {len(names)} groups that were trained on "
            f"({', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''}). Videos of "
            "one group share what the label should not depend on: person, place, camera. Keep "
            "each group in one split.",
            [item_name(item) for item in shared],
        )
    ]


def list_findings(evaluated: HashedSet) -> list[Finding]:
    """Look for items that are in the list several times."""
    items = evaluated.labelled.items
    by_row: dict[tuple[str, Stretch, tuple[int, ...]], list[LabelledItem]] = defaultdict(list)
    by_stretch: dict[tuple[str, Stretch], list[LabelledItem]] = defaultdict(list)
    by_content: dict[str, dict[str, None]] = defaultdict(dict)
    for item in items:
        content, stretch = evaluated.content(item), _stretch(item)
        by_row[(item.path, stretch, item.labels)].append(item)
        by_stretch[(content, stretch)].append(item)
        by_content[content][item.path] = None
    found = []
    twice = [rows[0] for rows in by_row.values() if len(rows) > 1]
    if twice:
        more = sum(len(rows) - 1 for rows in by_row.values())
        found.append(
            Finding.of(
                "duplicate_rows",
                "warning",
                f"{len(twice)} rows are in the list more than once, {more} rows too many. They "
                "count several times in every share. Remove the repetitions.",
                [item_name(item) for item in twice],
            )
        )
    copies = [list(paths) for paths in by_content.values() if len(paths) > 1]
    if copies:
        more = sum(len(paths) - 1 for paths in copies)
        found.append(
            Finding.of(
                "same_content",
                "warning",
                f"{len(copies)} videos are in the list under several names, {more} files too many. "
                "They count several times in every share; the intervals draw them together. "
                "Remove the copies.",
                [" = ".join(paths) for paths in copies],
            )
        )
    at_odds = [rows for rows in by_stretch.values() if len({row.labels for row in rows}) > 1]
    if at_odds:
        lost = sum(
            len(rows) - Counter(row.labels for row in rows).most_common(1)[0][1] for rows in at_odds
        )
        found.append(
            Finding.of(
                "contradicting_labels",
                "error",
                f"{len(at_odds)} stretches of video have different labels in different rows, so no "
                f"model can be right in more than {len(items) - lost} of {len(items)} rows. Decide "
                "on one label each.",
                [f"{item_name(rows[0])} has {_labels(rows)}" for rows in at_odds],
            )
        )
    return found


def _stretch(item: LabelledItem) -> Stretch:
    return item.start_seconds, item.end_seconds, item.start_frame, item.end_frame


def _labels(rows: list[LabelledItem]) -> str:
    """Class numbers of some rows: `3 and 5`."""
    kinds = sorted({row.labels for row in rows})
    return " and ".join(", ".join(map(str, labels)) for labels in kinds)
