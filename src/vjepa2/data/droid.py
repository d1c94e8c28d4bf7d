"""Recordings of DROID: a folder each, numbers in HDF5 and one mp4 per camera.

    metadata_*.json                                     left_mp4_path: .../recordings/MP4/123.mp4
    trajectory.h5
        observation/robot_state/cartesian_position      [L, 6] metres, extrinsic xyz in radians
        observation/robot_state/gripper_position        [L] 0 open .. 1 closed
        observation/camera_extrinsics/123_left          [L, 6]
    recordings/MP4/123.mp4                              row i of the numbers belongs to frame i

The videos say 60 frames a second, the numbers were logged 15 times a second: one of the two clocks
must be chosen. Here it is the one of the log; `published_indices` is what V-JEPA 2-AC was trained
with, which takes the video at its word.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vjepa2.data.trajectories import Episode, Episodes, FrameSource, Indices, Numbers, VideoFrames
from vjepa2.errors import (
    ConfigError,
    DataNotFoundError,
    EpisodeError,
    MissingExtraError,
    checked_integer,
    checked_number,
)

TRAJECTORY = "trajectory.h5"
RECORDINGS = "recordings/MP4"
LOG_HZ = 15.0
POSE = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
TARGETS = ("action/cartesian_position", "action/gripper_position")
CLOCK = "observation/timestamp/control/step_start"  # milliseconds
VIDEO_KEY = re.compile(r"(\w+)_mp4_path")
MAX_NUMBERS = 50_000_000  # of one array
MAX_METADATA_BYTES = 1 << 24
DROID_SPEC = {"kind": "arm_pose", "gripper_column": 6, "recorded_actions": "targets"}


def import_h5py() -> Any:
    """h5py.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            "h5py", extra="droid", needed_for="Reading DROID's trajectory.h5"
        ) from error
    return h5py


def read_droid(path: str | Path, *, log_hz: float = LOG_HZ) -> Episodes:
    """The recordings below a folder, or those of a list with one folder per line.

    Args:
        path: a recording, a folder of them at any depth, or a list: the first word of each line.
        log_hz: rate of the numbers, for recordings that hold no times of their own.

    Raises:
        DataNotFoundError: no recordings there.
        MissingExtraError: h5py is not installed.
        EpisodeError: (on access) a recording is damaged.
    """
    import_h5py()
    checked_number("log_hz", log_hz, above=0)
    place = Path(path)
    if place.is_file() and place.name != TRAJECTORY:
        lines = place.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        folders = [Path(line.split()[0]) for line in lines if line.strip()]
        folders = [place.parent / folder for folder in folders]
    elif place.is_file():
        folders = [place.parent]
    else:
        folders = sorted(file.parent for file in place.rglob(TRAJECTORY))
    if not folders:
        raise DataNotFoundError(f"{path} holds no recording of DROID: no {TRAJECTORY} below it.")
    return Episodes(
        [str(folder) for folder in folders],
        lambda index: _episode(folders[index], log_hz=log_hz),
        layout="droid",
        facts={
            "path": str(path),
            "nominal_fps": log_hz,
            "state_names": ["x", "y", "z", "turn x", "turn y", "turn z", "gripper"],
        },
    )


def published_indices(
    length: int, *, video_fps: float, fps: float, num_frames: int, end: int | None = None
) -> Indices:
    """Rows that the published training takes: every ceil(video_fps / fps)-th.

    With 60 frames a second in the file and fps = 4 that is every 15th row, which is one second of
    a log of 15 Hz, not a quarter.

    Args:
        length: rows of the recording.
        video_fps: what its video declares.
        fps: moments per second that were meant.
        num_frames: moments.
        end: row after the last stretch, num_frames * step <= end < length; None: the last there is.

    Raises:
        EpisodeError: the recording is too short; of exactly that length counts as too short too.
        ConfigError: `end` is out of range.
    """
    checked_number("video_fps", video_fps, above=0)
    checked_number("fps", fps, above=0)
    step = math.ceil(video_fps / fps)
    needed = checked_integer("num_frames", num_frames, least=1) * step
    if length <= needed:
        raise EpisodeError(
            f"{num_frames} moments {step} rows apart need more than {needed} rows; there are "
            f"{length}."
        )
    end = length - 1 if end is None else end
    if not needed <= end < length:
        raise ConfigError(f"end must be {needed} to {length - 1}, got {end}.")
    return np.arange(end - needed, end, step, dtype=np.int64)


def _episode(folder: Path, *, log_hz: float) -> Episode:
    h5py = import_h5py()
    path, name = folder / TRAJECTORY, str(folder)
    if not path.is_file():
        raise EpisodeError(f"Episode {name!r}: {TRAJECTORY} is missing. Leave the recording out.")
    try:
        with h5py.File(path, "r") as file:
            pose, gripper = _array(file, POSE, name), _array(file, GRIPPER, name)
            targets = [_array(file, key, name) for key in TARGETS if key in file]
            clock = _array(file, CLOCK, name) if CLOCK in file else None
            cameras = _cameras(folder)
            views = {
                camera: _array(file, f"observation/camera_extrinsics/{video.stem}_left", name)
                for camera, video in cameras.items()
                if f"observation/camera_extrinsics/{video.stem}_left" in file
            }
    except (OSError, KeyError, RuntimeError) as error:
        raise EpisodeError(
            f"Episode {name!r}: {TRAJECTORY} cannot be read: {error}. Fetch it again."
        ) from error
    if pose.ndim != 2 or pose.shape[1] != 6 or gripper.reshape(len(gripper), -1).shape[1:] != (1,):
        raise EpisodeError(
            f"Episode {name!r}: {POSE} must be [L, 6] and {GRIPPER} [L], got {list(pose.shape)} "
            f"and {list(gripper.shape)}."
        )
    if len(pose) != len(gripper):
        raise EpisodeError(
            f"Episode {name!r}: {len(pose)} poses, but {len(gripper)} gripper positions."
        )
    count = len(pose)
    frames: dict[str, FrameSource] = {
        camera: VideoFrames.in_order(video, count=count) for camera, video in cameras.items()
    }
    times, source = _times(clock, count, log_hz)
    facts: dict[str, Any] = {
        "times": source,
        "frames_are_logged_rows": True,
        "camera_poses": {camera: view[0].tolist() for camera, view in views.items() if len(view)},
    }
    return Episode(
        name=name,
        cameras=frames,
        states=np.concatenate([pose, gripper.reshape(-1, 1)], axis=1),
        times_seconds=times,
        actions=_actions(targets, count),
        facts=facts,
    )


def _array(file: Any, key: str, name: str) -> Numbers:
    """One array of the file itself; links to other files are not followed."""
    h5py = import_h5py()
    if isinstance(file.get(key, getlink=True), h5py.ExternalLink) or key not in file:
        raise EpisodeError(f"Episode {name!r}: {TRAJECTORY} has no {key}.")
    found = file[key]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise EpisodeError(f"Episode {name!r}: {key} is no array in the file.")
    if found.size is None or found.size > MAX_NUMBERS or found.dtype.kind not in "fiu":
        raise EpisodeError(
            f"Episode {name!r}: {key} must be at most {MAX_NUMBERS} numbers, got "
            f"{list(found.shape or ())} of {found.dtype}."
        )
    values: NDArray[np.float64] = np.asarray(found[()], dtype=np.float64)
    return values


def _times(clock: Numbers | None, count: int, log_hz: float) -> tuple[Numbers, str]:
    if clock is not None and clock.shape == (count,) and (np.diff(clock) > 0).all():
        return (clock - clock[0]) / 1000.0, "as recorded"
    return np.arange(count) / log_hz, f"assumed: {log_hz:g} Hz"


def _actions(targets: list[Numbers], count: int) -> Numbers | None:
    if len(targets) != len(TARGETS):
        return None
    pose, gripper = targets[0], targets[1].reshape(len(targets[1]), -1)
    if pose.shape != (count, 6) or gripper.shape != (count, 1):
        return None
    return np.concatenate([pose, gripper], axis=1)


def _cameras(folder: Path) -> Mapping[str, Path]:
    """Videos by the name of their camera: from the first metadata file that can be read, else by
    the number in the file's name."""
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size > MAX_METADATA_BYTES:
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if not isinstance(values, dict):
            continue
        found = {}
        for key, value in sorted(values.items()):
            match = VIDEO_KEY.fullmatch(key)
            if match is not None and isinstance(value, str):
                name = value.replace("\\", "/").rpartition(f"{RECORDINGS}/")[2]
                found[match.group(1)] = folder / RECORDINGS / Path(name).name
        if found:
            return found
    return {video.stem: video for video in sorted((folder / RECORDINGS).glob("*.mp4"))}
