"""Whether the segments of a set lie inside their videos, before anything is computed."""

from vjepa2.data.item_frames import open_item
from vjepa2.data.labelled import LabelledItem, LabelledSet, segment_seconds
from vjepa2.errors import LabelError, VJEPAError
from vjepa2.progress import track

MAX_SHOWN = 3


def check_segments(labelled: LabelledSet, *, quiet: bool = False) -> tuple[str, ...]:
    """Look up every segment on the clock of its file; no frame is decoded.

    Each file with segments is opened once. Sets without segments cost nothing.

    Args:
        labelled: the items.
        quiet: no progress on stderr.

    Returns:
        A warning with the number of files that could not be opened; they are counted as bad when
        they are to be decoded.

    Raises:
        LabelError: segments outside their files, all of them counted.
    """
    by_path: dict[str, list[LabelledItem]] = {}
    for item in labelled.items:
        if item.is_segment:
            by_path.setdefault(item.path, []).append(item)
    outside: list[str] = []
    bad: list[str] = []
    paths = track(by_path, total=len(by_path), description="Looking up segments", quiet=quiet)
    for path in paths if by_path else ():
        try:
            with open_item(by_path[path][0]) as file:
                clock = file.clock
        except (VJEPAError, OSError) as error:
            bad.append(f"{path}: {error}")
            continue
        for item in by_path[path]:
            try:
                segment_seconds(item, clock)
            except LabelError as error:
                outside.append(str(error))
    if outside:
        more = f" And {len(outside) - MAX_SHOWN} more." if len(outside) > MAX_SHOWN else ""
        raise LabelError(
            f"{len(outside)} segments of {labelled.source or 'the set'} lie outside their files. "
            f"{' '.join(outside[:MAX_SHOWN])}{more}"
        )
    if not bad:
        return ()
    shown = "; ".join(bad[:MAX_SHOWN])
    return (f"{len(bad)} of {len(by_path)} files with segments cannot be opened, such as {shown}",)
