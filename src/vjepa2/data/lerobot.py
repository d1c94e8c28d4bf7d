"""Data sets of LeRobot, layouts v2.x and v3.0, read without its package.

    meta/info.json                      rate, features, templates of the file names
    v2.x  meta/episodes.jsonl           one line an episode: number, length, tasks
          data/chunk-000/episode_000000.parquet
          videos/chunk-000/CAMERA/episode_000000.mp4
    v3.0  meta/episodes/chunk-000/file-000.parquet   also where each episode lies in shared files
          data/chunk-000/file-000.parquet
          videos/CAMERA/chunk-000/file-000.mp4

A frame of v2.x is number i of its own video; of v3.0 the one shown at the start of the episode in
the shared video plus its time stamp.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.data.layout_files import read_json
from vjepa2.data.parquet_columns import numbers_of, read_columns
from vjepa2.data.trajectories import Episode, Episodes, FrameSource, VideoFrames
from vjepa2.errors import DataNotFoundError, EpisodeError, ListError, nearest_hint

INFO = "meta/info.json"
STATE, ACTION, TIME = "observation.state", "action", "timestamp"
CAMERA_PREFIX = "observation.images."
# Only numbers padded with zeros, and names: a template of a stranger cannot ask for more.
PLACE = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")


@dataclass(frozen=True)
class _Entry:
    """An episode as the data set's list has it."""

    number: int
    length: int
    task: str
    places: Mapping[str, Any]


@dataclass(frozen=True)
class LeRobotFiles:
    """The description of a data set: `meta/info.json`, checked.

    Attributes:
        root: folder of the data set.
        version: 2 or 3.
        fps: nominal states per second.
        cameras: features that are videos.
        features: all of them.
    """

    root: Path
    version: int
    fps: float
    cameras: tuple[str, ...]
    features: Mapping[str, Any]
    info: Mapping[str, Any]

    @classmethod
    def read(cls, root: Path) -> "LeRobotFiles":
        """Read and check the description.

        Raises:
            DataNotFoundError: no such folder or description.
            ListError: another version, or values that make no sense.
        """
        path = root / INFO
        if not path.is_file():
            raise DataNotFoundError(f"{root} is no data set of LeRobot: {INFO} is missing.")
        info = read_json(path)
        features = info.get("features") if isinstance(info, dict) else None
        if not isinstance(features, dict):
            raise ListError(f"{path} must be an object with 'features'.")
        version = re.fullmatch(r"v([23])\.\d+(\.\d+)?", str(info.get("codebase_version")))
        if version is None:
            raise ListError(
                f"{path}: codebase_version {info.get('codebase_version')!r} is not known. Read are "
                "v2.0, v2.1 and v3.0; convert older sets with LeRobot's own script."
            )
        fps = info.get("fps")
        if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < 1e5:
            raise ListError(f"{path}: fps must be a number above 0, got {fps!r}.")
        for name in ("data_path", "video_path"):
            if not isinstance(info.get(name) or "", str):
                raise ListError(f"{path}: {name} must be text.")
        kinds = {
            name: feature.get("dtype") if isinstance(feature, dict) else None
            for name, feature in features.items()
        }
        return cls(
            root=root,
            version=int(version.group(1)),
            fps=float(fps),
            cameras=tuple(name for name, kind in kinds.items() if kind == "video"),
            features=features,
            info=info,
        )

    def file(self, template: str, **values: Any) -> Path:
        """A file's path from its template in the description.

        Raises:
            ListError: the template is missing, names something unknown, or leaves the folder.
        """
        text = self.info.get(template)
        if not text:
            raise ListError(f"{self.root / INFO} has no {template}.")

        def filled(match: re.Match[str]) -> str:
            value = values.get(match.group(1))
            if value is None:
                raise ListError(
                    f"{template} {text!r} names {match.group(1)!r}, which is not known."
                )
            digits = int(match.group(2) or 0)
            return f"{value:0{digits}d}" if isinstance(value, int) else str(value)

        name = Path(PLACE.sub(filled, text))
        if name.is_absolute() or ".." in name.parts or "{" in str(name):
            raise ListError(f"{template} {text!r} is no place inside the data set.")
        return self.root / name

    def names_of(self, feature: str) -> list[str]:
        """Names of the numbers of a feature, where the description has them."""
        names = self.features.get(feature, {}).get("names")
        if isinstance(names, dict):
            names = next(iter(names.values()), None)
        return [str(name) for name in names] if isinstance(names, list) else []


def read_lerobot(
    path: str | Path, *, state_key: str = STATE, action_key: str | None = ACTION
) -> Episodes:
    """The episodes of a data set in a folder.

    Args:
        state_key, action_key: features that are the states and actions; an action that is not
            there is left out.

    Raises:
        DataNotFoundError, ListError: no such data set, or its lists are damaged.
        MissingExtraError: pyarrow is not installed.
        EpisodeError, ListError, DataNotFoundError: (on access) one episode is damaged.
    """
    files = LeRobotFiles.read(Path(path))
    if state_key not in files.features:
        raise ListError(
            f"{files.root} has no feature {state_key!r}. {nearest_hint(state_key, files.features)} "
            "Set state_key."
        )
    entries = _entries_of_lines(files) if files.version == 2 else _entries_of_tables(files)
    action = action_key if action_key in files.features else None

    def load(index: int) -> Episode:
        return _episode(files, entries[index], state_key=state_key, action_key=action)

    return Episodes(
        [f"episode_{entry.number:06d}" for entry in entries],
        load,
        layout=f"lerobot {files.info['codebase_version']}",
        facts={
            "path": str(files.root),
            "nominal_fps": files.fps,
            "robot_type": files.info.get("robot_type"),
            "state_names": files.names_of(state_key),
            "action_names": files.names_of(action) if action else [],
        },
    )


def _entries_of_lines(files: LeRobotFiles) -> list[_Entry]:
    path = files.root / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise DataNotFoundError(f"{path} is missing: the list of episodes of layout v2.")
    entries = []
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                entries.append(_entry(row))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ListError(f"{path}, line {number}: no episode: {error!r}.") from error
    return entries


def _entries_of_tables(files: LeRobotFiles) -> list[_Entry]:
    folder = files.root / "meta" / "episodes"
    tables = sorted(folder.glob("*/*.parquet"))
    if not tables:
        raise DataNotFoundError(f"{folder} holds no Parquet files: the list of episodes of v3.")
    entries = []
    for path in tables:
        table = read_columns(path)
        kept = [name for name in table.column_names if not name.startswith("stats/")]
        try:
            entries += [_entry(row) for row in table.select(kept).to_pylist()]
        except (TypeError, KeyError, ValueError) as error:
            raise ListError(f"{path}: no list of episodes: {error!r}.") from error
    return sorted(entries, key=lambda entry: entry.number)


def _entry(row: Mapping[str, Any]) -> _Entry:
    tasks = row.get("tasks") or []
    tasks = [tasks] if isinstance(tasks, str) else tasks
    return _Entry(
        number=int(row["episode_index"]),
        length=int(row["length"]),
        task="; ".join(str(task) for task in tasks),
        places=row,
    )


def _episode(
    files: LeRobotFiles, entry: _Entry, *, state_key: str, action_key: str | None
) -> Episode:
    name = f"episode_{entry.number:06d}"
    columns = [state_key, TIME, *([action_key] if action_key else [])]
    if files.version == 2:
        numbers = {"episode_chunk": _chunk(files, entry), "episode_index": entry.number}
        table = read_columns(files.file("data_path", **numbers), columns)
    else:
        numbers = {
            "chunk_index": _place(entry, "data/chunk_index", name),
            "file_index": _place(entry, "data/file_index", name),
        }
        path = files.file("data_path", **numbers)
        table = read_columns(path, columns, equal=("episode_index", entry.number))
    if len(table) != entry.length:
        raise EpisodeError(
            f"Episode {name!r} has {len(table)} rows; the list of episodes says {entry.length}. "
            "The data set is not complete: fetch it again, or leave the episode out."
        )
    times = numbers_of(table, TIME, episode=name)[:, 0]
    cameras: dict[str, FrameSource] = {}
    for camera in files.cameras:
        cameras[camera.removeprefix(CAMERA_PREFIX)] = _frames(files, entry, camera, times)
    return Episode(
        name=name,
        cameras=cameras,
        states=numbers_of(table, state_key, episode=name),
        times_seconds=times,
        actions=numbers_of(table, action_key, episode=name) if action_key else None,
        task=entry.task,
        facts={"nominal_fps": files.fps, "frames_are_logged_rows": files.version == 2},
    )


def _frames(files: LeRobotFiles, entry: _Entry, camera: str, times: Any) -> VideoFrames:
    if files.version == 2:
        path = files.file(
            "video_path",
            episode_chunk=_chunk(files, entry),
            episode_index=entry.number,
            video_key=camera,
        )
        return VideoFrames.in_order(path, count=len(times))
    name = f"episode_{entry.number:06d}"
    path = files.file(
        "video_path",
        video_key=camera,
        chunk_index=_place(entry, f"videos/{camera}/chunk_index", name),
        file_index=_place(entry, f"videos/{camera}/file_index", name),
    )
    start = entry.places.get(f"videos/{camera}/from_timestamp")
    if not isinstance(start, int | float):
        raise EpisodeError(f"Episode {name!r}: its place in the video of {camera!r} is not listed.")
    return VideoFrames(path, seconds=times + float(start))


def _chunk(files: LeRobotFiles, entry: _Entry) -> int:
    size = files.info.get("chunks_size", 1000)
    return entry.number // size if isinstance(size, int) and size > 0 else 0


def _place(entry: _Entry, name: str, episode: str) -> int:
    value = entry.places.get(name)
    if not isinstance(value, int):
        raise EpisodeError(f"Episode {episode!r}: the list of episodes has no {name}.")
    return value
