"""Episodes in plain files: `.npz`, or a video with a table beside it.

NAME.npz    observations uint8 [T, H, W, 3] and states [T, K], each also with a leading axis of
            1 (the form of the published example); optional: actions, times
NAME.csv    a header; `time` in seconds, `action...` columns, all other columns are the state;
            optional: `frame`, the number of the row's frame in the video
NAME.mp4    the video; or one per camera: NAME.CAMERA.mp4
"""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vjepa2.data.array_file import UNREADABLE
from vjepa2.data.trajectories import (
    ArrayFrames,
    Episode,
    Episodes,
    FrameSource,
    Numbers,
    VideoFrames,
)
from vjepa2.errors import DataNotFoundError, EpisodeError, checked_number
from vjepa2.video.limits import ReadLimits

OBSERVATIONS, STATES, ACTIONS, TIMES = "observations", "states", "actions", "times"
CAMERA = "camera"
TIME_NAMES = ("time", "time_seconds", "timestamp", "t")
FRAME_NAME = "frame"
ASSUMED_HZ = 4.0  # of files without times: the rate of the published model
MAX_BYTES = ReadLimits.max_output_bytes
MAX_ROWS = 10_000_000


def read_npz(path: str | Path, *, fps: float = ASSUMED_HZ) -> Episodes:
    """The episodes of one `.npz` file, or of all in a folder.

    Args:
        fps: rate of files without times.

    Raises:
        DataNotFoundError: no such files.
        EpisodeError: (on access) a file is damaged or lacks something.
    """
    files = _files(Path(path), ".npz")
    checked_number("fps", fps, above=0)
    return Episodes(
        [file.stem for file in files],
        lambda index: _npz_episode(files[index], fps=fps),
        layout="npz",
        facts={"path": str(path)},
    )


def read_csv(path: str | Path, *, fps: float = ASSUMED_HZ) -> Episodes:
    """The episodes of one `.csv` file with its videos, or of all in a folder.

    Args:
        fps: rate of tables without times.

    Raises:
        DataNotFoundError: no such files.
        EpisodeError: (on access) a table is damaged, or has no video.
    """
    files = _files(Path(path), ".csv")
    checked_number("fps", fps, above=0)
    return Episodes(
        [file.stem for file in files],
        lambda index: _csv_episode(files[index], fps=fps),
        layout="csv",
        facts={"path": str(path)},
    )


def _files(place: Path, suffix: str) -> list[Path]:
    files = [place] if place.is_file() else sorted(place.glob(f"*{suffix}"))
    if not files:
        raise DataNotFoundError(f"{place} holds no {suffix} files.")
    return files


# -- npz --------------------------------------------------------------------------------------


def _npz_episode(path: Path, *, fps: float) -> Episode:
    name = path.stem
    arrays = _arrays(path, name)
    ranks = {OBSERVATIONS: 4, STATES: 2, ACTIONS: 2, TIMES: 1}
    held = {key: _without_lead(arrays[key], rank) for key, rank in ranks.items() if key in arrays}
    states = _numbers(held[STATES], STATES, name)
    times = held.get(TIMES)
    return Episode(
        name=name,
        cameras={CAMERA: ArrayFrames(held[OBSERVATIONS])},
        states=states,
        times_seconds=np.arange(len(states)) / fps
        if times is None
        else _numbers(times, TIMES, name),
        actions=_numbers(held[ACTIONS], ACTIONS, name) if ACTIONS in held else None,
        facts={"times": f"assumed: {fps:g} Hz" if times is None else "as recorded"},
    )


def _arrays(path: Path, name: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(item.file_size for item in packed.infolist())
        if size > MAX_BYTES:
            raise EpisodeError(
                f"Episode {name!r}: {path.name} unpacks to {size} bytes, more than {MAX_BYTES}. "
                "Store long recordings as video with a table."
            )
        with np.load(path, allow_pickle=False) as file:
            for key in (OBSERVATIONS, STATES):
                if key not in file.files:
                    raise EpisodeError(
                        f"Episode {name!r}: {path.name} has no {key!r}; it has "
                        f"{sorted(file.files)}."
                    )
            return {
                key: file[key]
                for key in (OBSERVATIONS, STATES, ACTIONS, TIMES)
                if key in file.files
            }
    except UNREADABLE as error:
        if isinstance(error, EpisodeError):
            raise
        raise EpisodeError(f"Episode {name!r}: {path.name} cannot be read: {error}.") from error


def _without_lead(array: NDArray[Any], rank: int) -> NDArray[Any]:
    return array[0] if array.ndim == rank + 1 and len(array) == 1 else array


def _numbers(array: NDArray[Any], what: str, name: str) -> Numbers:
    if array.dtype.kind not in "fiu":
        raise EpisodeError(f"Episode {name!r}: {what} must be numbers, got {array.dtype}.")
    return array.astype(np.float64)


# -- csv --------------------------------------------------------------------------------------


def _csv_episode(path: Path, *, fps: float) -> Episode:
    name = path.stem
    header, values = _table(path, name)
    time = next((key for key in TIME_NAMES if key in header), None)
    actions = [key for key in header if key.lower().startswith("action")]
    kept = [key for key in header if key not in (time, FRAME_NAME, *actions)]
    if not kept:
        raise EpisodeError(f"Episode {name!r}: {path.name} has no column of a state: {header}.")
    columns = {key: values[:, index] for index, key in enumerate(header)}
    count = len(values)
    return Episode(
        name=name,
        cameras=_videos(path, name, columns.get(FRAME_NAME), count),
        states=np.stack([columns[key] for key in kept], axis=1),
        times_seconds=np.arange(count) / fps if time is None else columns[time],
        actions=np.stack([columns[key] for key in actions], axis=1) if actions else None,
        facts={
            "times": f"assumed: {fps:g} Hz" if time is None else "as recorded",
            "frames_are_logged_rows": FRAME_NAME not in header,
            "state_names": kept,
            "action_names": actions,
        },
    )


def _table(path: Path, name: str) -> tuple[list[str], Numbers]:
    rows: list[Sequence[float]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [cell.strip() for cell in next(reader, [])]
            for line in reader:
                if line and len(rows) < MAX_ROWS:
                    rows.append(_cells(line, header, f"{path.name}, line {reader.line_num}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EpisodeError(f"Episode {name!r}: {path.name} cannot be read: {error}.") from error
    if len(set(header)) != len(header) or not all(header):
        raise EpisodeError(
            f"Episode {name!r}: the first line of {path.name} must name every column once; got "
            f"{header}."
        )
    return header, np.array(rows, dtype=np.float64).reshape(len(rows), len(header))


def _cells(line: Sequence[str], header: Sequence[str], place: str) -> list[float]:
    if len(line) != len(header):
        raise EpisodeError(f"{place}: {len(line)} cells, the header has {len(header)}.")
    try:
        return [float(cell) if cell.strip() else float("nan") for cell in line]
    except ValueError as error:
        raise EpisodeError(f"{place}: {error}. All columns must be numbers.") from error


def _videos(path: Path, name: str, numbers: Numbers | None, count: int) -> dict[str, FrameSource]:
    found = {CAMERA: path.with_suffix(".mp4")} if path.with_suffix(".mp4").is_file() else {}
    for video in sorted(path.parent.iterdir()):
        middle = video.name.removeprefix(f"{path.stem}.").removesuffix(".mp4")
        if video.suffix == ".mp4" and video.name == f"{path.stem}.{middle}.mp4":
            found[middle] = video
    if not found:
        raise EpisodeError(
            f"Episode {name!r} has no video: expected {path.stem}.mp4, or {path.stem}.CAMERA.mp4 "
            f"for each camera, beside {path.name}."
        )
    if numbers is None:
        return {key: VideoFrames.in_order(video, count=count) for key, video in found.items()}
    if not np.isfinite(numbers).all() or (numbers < 0).any() or (numbers % 1 != 0).any():
        raise EpisodeError(f"Episode {name!r}: column {FRAME_NAME!r} must hold whole numbers.")
    at = numbers.astype(np.int64)
    return {key: VideoFrames(video, numbers=at) for key, video in found.items()}
