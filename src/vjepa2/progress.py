"""Progress of long work: a bar on a terminal, one plain line now and then otherwise."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def track(
    items: Iterable[Item],
    *,
    total: int,
    description: str,
    quiet: bool = False,
    stream: TextIO | None = None,
) -> Iterator[Item]:
    """Yield `items`, showing how many of `total` are done on `stream` (default: stderr).

    On a terminal a bar is drawn; elsewhere (a log file, CI) a line is written every
    `SECONDS_BETWEEN_LINES` seconds and after the last item. `quiet` shows nothing.
    """
    out = sys.stderr if stream is None else stream
    if quiet:
        yield from items
    elif out.isatty():
        yield from _bar(items, total=total, description=description, out=out)
    else:
        yield from _lines(items, total=total, description=description, out=out)


def _bar(items: Iterable[Item], *, total: int, description: str, out: TextIO) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, total=total, description=description, console=Console(file=out))


def _lines(items: Iterable[Item], *, total: int, description: str, out: TextIO) -> Iterator[Item]:
    start = last_line = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            out.write(f"{description}: {done}/{total}, {now - start:.0f} s\n")
            out.flush()
