"""The files of a demonstration, and how it knows its own again: each carries a mark inside.

A demonstration replaces those of an earlier one, and nothing that someone else put there.
"""

from collections.abc import Iterable
from pathlib import Path

from vjepa2.errors import OutputError
from vjepa2.features.store import read_header

CLIP_NAME = "clip.mp4"
FEATURES_NAME = "features.safetensors"
REPORT_NAME = "report.html"

MARK = "vjepa2 demo"
MARK_SETTING = "made_by"  # of feature files

# The mark of a page is in its head, that of a clip in the table of contents at its end.
SEARCHED_BYTES = 1 << 16


def check_replaceable(folder: Path, names: Iterable[str]) -> None:
    """Make sure that writing `names` into a folder destroys nothing but an earlier demonstration.

    Raises:
        OutputError: one of them is there and bears no mark.
    """
    for path in (folder / name for name in names):
        if _exists(path) and not _is_marked(path):
            raise OutputError(
                f"{path} exists and was not made by a demonstration. Choose another folder "
                "(--out), or move that file away."
            )


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):  # no folder, or none that can be: writing says why
        return False
    return True


def _is_marked(path: Path) -> bool:
    if path.suffix == ".safetensors":
        header = read_header(path)
        return header is not None and header.settings.get(MARK_SETTING) == MARK
    try:
        with path.open("rb") as file:
            begin = file.read(SEARCHED_BYTES)
            file.seek(max(0, path.stat().st_size - SEARCHED_BYTES))
            end = file.read(SEARCHED_BYTES)
    except OSError:
        return False
    return MARK.encode() in begin or MARK.encode() in end
