"""Whether an anticipation was made before the event, and as long before it as is told."""

import math
from collections.abc import Mapping, Sequence

from vjepa2.errors import ConfigError, checked_number
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.scored import ScoredItem

ROUNDING_SECONDS = 1e-6
# Contexts end at a frame, so they are early by up to the time of one.
FRAME_SECONDS = 0.2
MANY = 0.5
SOME = 0.05


def time_findings(
    items: Sequence[ScoredItem],
    *,
    anticipation_seconds: float,
    durations: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Look at what each anticipation had seen.

    Args:
        items: with the end of their context and the times of their event.
        anticipation_seconds: how long before its start the event is said to be foretold.
        durations: seconds of each path, where they are known.

    Raises:
        ConfigError: the anticipation time is no finite number from 0.
    """
    ahead = checked_number("anticipation_seconds", anticipation_seconds)
    if ahead < 0:
        raise ConfigError(f"anticipation_seconds must be 0 or more, got {ahead:g}.")
    found = []
    missing = [item for item in items if not _is_timed(item)]
    if missing:
        found.append(
            Finding.of(
                "times_missing",
                "error",
                f"For {len(missing)} of {len(items)} anticipations it is not recorded where their "
                "context ended or their event began, so nobody can tell whether they were made "
                "before it. Record both.",
                [item.name for item in missing],
            )
        )
    known = [item for item in items if _is_timed(item)]
    if not known:
        return found
    found += _outside(known, durations or {})
    found += _anchors(known, ahead)
    found += _leaks(known, ahead)
    found += _distances(known, ahead)
    found += _unseen(known)
    found += _running(known)
    return found


def _is_timed(item: ScoredItem) -> bool:
    return item.context_end_seconds is not None and item.event_start_seconds is not None


def _gap(item: ScoredItem) -> float:
    """Seconds between the end of the context and the start of the event."""
    assert item.context_end_seconds is not None and item.event_start_seconds is not None
    return item.event_start_seconds - item.context_end_seconds


def _length(item: ScoredItem) -> float:
    """Seconds of the event, 0 where its end is not known."""
    if item.event_end_seconds is None or item.event_start_seconds is None:
        return 0.0
    return item.event_end_seconds - item.event_start_seconds


def _seen(item: ScoredItem) -> str:
    return (
        f"{item.name}: saw until {item.context_end_seconds:.3f} s, event from "
        f"{item.event_start_seconds:.3f} s"
    )


def _leaks(items: list[ScoredItem], ahead: float) -> list[Finding]:
    found = []
    after = [item for item in items if _gap(item) < -ROUNDING_SECONDS]
    if after:
        worst = -min(map(_gap, after))
        found.append(
            Finding.of(
                "context_after_event",
                "error",
                f"{len(after)} of {len(items)} contexts go on after their event has begun, by up "
                f"to {worst:.2f} s: the model saw what it should foretell. Contexts have to end "
                f"{ahead:g} s before the event's start.",
                list(map(_seen, after)),
            )
        )
    late = [item for item in items if -ROUNDING_SECONDS <= _gap(item) < ahead - ROUNDING_SECONDS]
    if late:
        nearest = min(map(_gap, late))
        found.append(
            Finding.of(
                "context_too_late",
                "error",
                f"{len(late)} of {len(items)} contexts end less than the {ahead:g} s before their "
                f"event that are told, down to {nearest:.3f} s. A frame counts until the next one "
                "is shown. Shorten the contexts, or tell the shorter time.",
                list(map(_seen, late)),
            )
        )
    return found


def _fits_stop(item: ScoredItem, ahead: float) -> bool:
    """Whether the context is as long before the event's end as it should be before its start."""
    from_stop = _gap(item) + _length(item)
    return (
        _length(item) > FRAME_SECONDS
        and _gap(item) < ahead - ROUNDING_SECONDS
        and abs(from_stop - ahead) <= FRAME_SECONDS
    )


def _anchors(items: list[ScoredItem], ahead: float) -> list[Finding]:
    told = [item for item in items if item.anchor == "published"]
    fitting = [item for item in items if _fits_stop(item, ahead)]
    stops = [item for item in items if item.anchor == "published" or _fits_stop(item, ahead)]
    if not stops or (not told and len(fitting) < SOME * len(items)):
        return []
    if len(stops) >= MANY * len(items):
        return [
            Finding.of(
                "anchored_at_stop",
                "error",
                f"{len(stops)} of {len(items)} contexts were counted back {ahead:g} s from the END "
                "of their event, as the published EPIC-KITCHENS-100 evaluation does, not from its "
                "start: events longer than that were seen, not foretold. Anchor at the start.",
                list(map(_seen, stops)),
            )
        ]
    return [
        Finding.of(
            "mixed_anchors",
            "error",
            f"{len(stops)} of {len(items)} contexts were counted back from the end of their event, "
            "the others from its start: one number for both means nothing. Anchor all at the "
            "start.",
            list(map(_seen, stops)),
        )
    ]


def _distances(items: list[ScoredItem], ahead: float) -> list[Finding]:
    """Contexts that all end too early: another clock or rate, or another anticipation time."""
    gaps = sorted(map(_gap, items))
    middle = gaps[len(gaps) // 2]
    far = [item for item in items if _gap(item) > ahead + FRAME_SECONDS]
    if len(far) < MANY * len(items):
        return []
    return [
        Finding.of(
            "other_anticipation_time",
            "error",
            f"{len(far)} of {len(items)} contexts end earlier than the {ahead:g} s before their "
            f"event that are told, half of them by {middle:.2f} s or more before it: wrong anchor, "
            "frames counted at another rate, or another anticipation time. Recall at one distance "
            "is not comparable with recall at another.",
            list(map(_seen, far)),
        )
    ]


def _unseen(items: list[ScoredItem]) -> list[Finding]:
    before = [item for item in items if (item.context_end_seconds or 0.0) <= 0]
    if not before:
        return []
    return [
        Finding.of(
            "context_before_video",
            "warning",
            f"{len(before)} of {len(items)} contexts end at or before the first frame: the model "
            "answered without having seen anything. Leave these events out, and say so.",
            list(map(_seen, before)),
        )
    ]


def _outside(items: list[ScoredItem], durations: Mapping[str, float]) -> list[Finding]:
    bad = []
    for item in items:
        start, end = item.event_start_seconds, item.event_end_seconds
        duration = durations.get(item.item.path)
        times = [time for time in (start, end, item.context_end_seconds) if time is not None]
        wrong = not all(map(math.isfinite, times)) or (
            start is not None and end is not None and end <= start
        )
        if duration is not None and start is not None:
            wrong = wrong or start > duration + FRAME_SECONDS
        if wrong:
            bad.append(item)
    if not bad:
        return []
    return [
        Finding.of(
            "event_outside_video",
            "error",
            f"{len(bad)} of {len(items)} events begin after the end of their video, or end before "
            "they begin. Frames or milliseconds taken for seconds do that. Give seconds of the "
            "video's own clock.",
            list(map(_seen, bad)),
        )
    ]


def _running(items: list[ScoredItem]) -> list[Finding]:
    """Events of the same labels that another row says are going on when the context ends."""
    by_file: dict[tuple[str, tuple[int, ...]], list[ScoredItem]] = {}
    for item in items:
        by_file.setdefault((item.item.path, item.labels), []).append(item)
    running = [
        item
        for item in items
        if any(
            other is not item
            and other.event_start_seconds is not None
            and other.event_end_seconds is not None
            and other.event_start_seconds < (item.context_end_seconds or 0.0)
            and other.event_end_seconds >= (item.event_start_seconds or 0.0)
            for other in by_file[(item.item.path, item.labels)]
        )
    ]
    if not running:
        return []
    return [
        Finding.of(
            "event_already_running",
            "warning",
            f"{len(running)} of {len(items)} events have the labels of another event of their "
            "video that is going on in the context and lasts until they begin. To name what goes "
            "on is enough to be right. Merge such events, or report them apart.",
            list(map(_seen, running)),
        )
    ]
