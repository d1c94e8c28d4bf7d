"""Content hashes and facts of the files of a list, kept so that a resumed evaluation is quick."""

import json
from collections.abc import Iterable
from pathlib import Path

from vjepa2.data.labelled import LabelledItem
from vjepa2.data.splits import content_hash
from vjepa2.errors import VJEPAError
from vjepa2.files import atomic_path
from vjepa2.progress import track
from vjepa2.tasks.evaluation_folder import FILES_NAME, whole_lines
from vjepa2.video.reader import VideoReader

KEEP_EVERY = 256


class FileFacts:
    """What is known of files without looking at their frames.

    Args:
        folder: of the evaluation, where hashes are kept.
        quiet: no progress.

    Attributes:
        hashes: of each path its content hash; files that cannot be read are left out.
        facts: of each path: "size of the picture", "frames per second", "length", "suffix", as
            text; empty for what is no video.
        durations: of each path, seconds.
    """

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.hashes: dict[str, str] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.durations: dict[str, float] = {}
        self._path = folder / FILES_NAME
        self._quiet = quiet
        self._kept = {
            str(row.get("path")): row for row in whole_lines(self._path) if "stamp" in row
        }

    def read(self, items: Iterable[LabelledItem], *, facts: bool, what: str = "Files") -> None:
        """Find out about the files of some items, each once.

        Args:
            items: whose files.
            facts: open videos for their facts too.
            what: named in the progress.
        """
        paths = list(dict.fromkeys(item.path for item in items))
        changed = 0
        for path in track(paths, total=len(paths), description=what, quiet=self._quiet):
            changed += self._read_one(path, facts=facts)
            if changed >= KEEP_EVERY:
                self._keep()
                changed = 0
        if changed:
            self._keep()

    def _read_one(self, path: str, *, facts: bool) -> int:
        """1 if something new was found out."""
        stamp = _stamp(Path(path))
        row = self._kept.get(path, {})
        is_new = row.get("stamp") != stamp or (facts and "facts" not in row)
        if is_new:
            try:
                row = {"path": path, "stamp": stamp, "hash": content_hash(path)}
            except (VJEPAError, OSError):
                return 0  # the answers say why it cannot be read
            if facts:
                row |= _video_facts(path)
            self._kept[path] = row
        self.hashes[path] = str(row["hash"])
        self.facts[path] = {
            str(name): str(value) for name, value in dict(row.get("facts") or {}).items()
        }
        if row.get("duration") is not None:
            self.durations[path] = float(str(row["duration"]))
        return int(is_new)

    def _keep(self) -> None:
        with atomic_path(self._path) as temporary:
            temporary.write_text(
                "".join(json.dumps(row) + "\n" for row in self._kept.values()), encoding="utf-8"
            )


def _stamp(path: Path) -> list[int]:
    """Size and time of the last change; of a folder, those of its files together."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        facts = [file.stat() for file in files]
    except OSError:
        return []
    return [sum(fact.st_size for fact in facts), max((f.st_mtime_ns for f in facts), default=0)]


def _video_facts(path: str) -> dict[str, object]:
    try:
        with VideoReader(path, num_ffmpeg_threads=1) as reader:
            facts = reader.metadata
            return {
                "duration": facts.end_stream_seconds,
                "facts": {
                    "size of the picture": f"{facts.width} x {facts.height}",
                    "frames per second": f"{facts.average_fps:.3g}",
                    "length": f"{facts.duration_seconds:.1f} s",
                    "suffix": Path(path).suffix.lower(),
                },
            }
    except VJEPAError:
        return {"facts": {}}
