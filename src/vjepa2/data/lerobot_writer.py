"""Write episodes as a data set of LeRobot v3.0: Parquet, mp4 and JSON, read by both packages.

    with LeRobotWriter("reach", fps=5, state_names=..., action_names=..., cameras=["front"]) as out:
        out.add(states=..., actions=..., frames={"front": ...}, task="reach the cube")

Each episode gets a data file and a video of its own. The description is written last, when the
block ends: a set that was interrupted has none, and is refused by readers.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.lerobot import ACTION, CAMERA_PREFIX, INFO, STATE
from vjepa2.data.parquet_columns import import_pyarrow
from vjepa2.errors import ConfigError, EpisodeError, check_path, checked_number
from vjepa2.files import atomic_path, write_json
from vjepa2.video.writer import H264, write_video

VERSION = "v3.0"
CHUNK_SIZE = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
MAX_STATISTIC_FRAMES = 8  # of an episode, for the statistics of colours
NUMBERED = ("timestamp", "frame_index", "episode_index", "index", "task_index")


class _Moments:
    """Count, extremes, mean and variance of rows that come in parts."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._least: Any = np.inf
        self._most: Any = -np.inf

    def add(self, rows: NDArray[np.float64]) -> None:
        self.count += len(rows)
        self._sum = self._sum + rows.sum(axis=0)
        self._squares = self._squares + np.square(rows).sum(axis=0)
        self._least = np.minimum(self._least, rows.min(axis=0))
        self._most = np.maximum(self._most, rows.max(axis=0))

    def values(self, shape: Sequence[int] = (-1,)) -> dict[str, Any]:
        mean = self._sum / self.count
        std = np.sqrt(np.maximum(self._squares / self.count - np.square(mean), 0.0))
        named = {"min": self._least, "max": self._most, "mean": mean, "std": std}
        shaped = {name: np.reshape(value, shape).tolist() for name, value in named.items()}
        return shaped | {"count": [self.count]}


class LeRobotWriter:
    """Adds episodes to a new data set.

    Args:
        path: a folder that does not hold a data set yet.
        fps: states and frames per second, above 0.
        state_names, action_names: of their numbers.
        cameras: names, without LeRobot's prefix.
        robot_type: in a word.
        codec: of the videos; its rate is set to `fps`.

    Raises:
        ConfigError: there is a data set already, or a value makes no sense.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float,
        state_names: Sequence[str],
        action_names: Sequence[str],
        cameras: Sequence[str],
        robot_type: str = "robot",
        codec: H264 | None = None,
    ) -> None:
        import_pyarrow()
        check_path("The folder of the data set", path)
        self.path = Path(path)
        self.fps = checked_number("fps", fps, above=0, most=1000)
        if (self.path / INFO).exists():
            raise ConfigError(f"{self.path} holds a data set already. Choose another folder.")
        self._sizes = {STATE: tuple(state_names), ACTION: tuple(action_names)}
        if not all(self._sizes.values()) or any("/" in name or not name for name in cameras):
            raise ConfigError("States and actions need names, and cameras names without '/'.")
        self._cameras = tuple(cameras)
        self._robot_type = robot_type
        given = H264(crf=18) if codec is None else codec
        self._codec = H264(
            fps=self.fps,
            crf=given.crf,
            preset=given.preset,
            keyframe_interval=given.keyframe_interval,
            threads=given.threads,
        )
        self._episodes: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._moments: dict[str, _Moments] = {}
        self._frame_sizes: dict[str, tuple[int, int]] = {}
        self._total = 0

    def add(
        self,
        *,
        states: NDArray[np.floating[Any]] | Tensor,
        actions: NDArray[np.floating[Any]] | Tensor,
        frames: Mapping[str, Tensor],
        task: str = "",
    ) -> int:
        """Write one episode.

        Args:
            states: [T, K].
            actions: [T, A], the one after each state; [T - 1, A] is filled up with a row of 0.
            frames: by camera, uint8 [T, 3, H, W].
            task: in words.

        Returns:
            The number of the episode.

        Raises:
            EpisodeError: lengths or sizes do not fit, or numbers are not finite.
            OutputError: the files cannot be written.
        """
        values = {STATE: _rows(states), ACTION: _rows(actions)}
        count = len(values[STATE])
        if len(values[ACTION]) == count - 1:
            values[ACTION] = np.pad(values[ACTION], ((0, 1), (0, 0)))
        self._check(values, frames, count)
        number = len(self._episodes)
        place = {"chunk_index": number // CHUNK_SIZE, "file_index": number % CHUNK_SIZE}
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [task],
            "length": count,
            "dataset_from_index": self._total,
            "dataset_to_index": self._total + count,
            "data/chunk_index": place["chunk_index"],
            "data/file_index": place["file_index"],
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for camera in self._cameras:
            key, pixels = CAMERA_PREFIX + camera, frames[camera]
            write_video(
                self.path / VIDEO_PATH.format(video_key=key, **place), pixels, codec=self._codec
            )
            row |= {
                f"videos/{key}/chunk_index": place["chunk_index"],
                f"videos/{key}/file_index": place["file_index"],
                f"videos/{key}/from_timestamp": 0.0,
                f"videos/{key}/to_timestamp": count / self.fps,
            }
            self._count_colours(key, pixels)
        self._write_rows(values, place, number=number, task=task)
        self._episodes.append(row)
        self._total += count
        return number

    def finish(self) -> Path:
        """Write the lists and the description; the set is complete afterwards.

        Raises:
            ConfigError: no episode was added.
        """
        if not self._episodes:
            raise ConfigError(f"No episode was added to {self.path}: there is nothing to describe.")
        arrow, parquet = import_pyarrow()
        meta = self.path / "meta"
        with atomic_path(meta / "episodes" / "chunk-000" / "file-000.parquet") as path:
            parquet.write_table(arrow.Table.from_pylist(self._episodes), path)
        with atomic_path(meta / "tasks.parquet") as path:
            parquet.write_table(self._task_table(), path)
        write_json(
            meta / "stats.json",
            {
                name: moments.values((3, 1, 1) if name in self._frame_sizes else (-1,))
                for name, moments in self._moments.items()
            },
        )
        write_json(self.path / INFO, self._description())
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()

    # -- inside -------------------------------------------------------------------------------

    def _check(
        self, values: Mapping[str, NDArray[np.float64]], frames: Mapping[str, Tensor], count: int
    ) -> None:
        number = len(self._episodes)
        for key, rows in values.items():
            width = len(self._sizes[key])
            if rows.shape != (count, width) or count == 0:
                raise EpisodeError(
                    f"Episode {number}: {key} must be [T={count}, {width}], T above 0, got "
                    f"{list(rows.shape)}."
                )
            if not np.isfinite(rows).all():
                raise EpisodeError(f"Episode {number}: {key} holds NaN or infinite numbers.")
        if set(frames) != set(self._cameras):
            raise EpisodeError(
                f"Episode {number}: the cameras are {sorted(self._cameras)}, got {sorted(frames)}."
            )
        for camera, pixels in frames.items():
            if pixels.ndim != 4 or pixels.shape[:2] != (count, 3) or pixels.dtype != torch.uint8:
                raise EpisodeError(
                    f"Episode {number}: frames of {camera!r} must be uint8 [T={count}, 3, H, W], "
                    f"got {pixels.dtype} {list(pixels.shape)}."
                )
            size = (int(pixels.shape[2]), int(pixels.shape[3]))
            if self._frame_sizes.setdefault(CAMERA_PREFIX + camera, size) != size:
                raise EpisodeError(f"Episode {number}: frames of {camera!r} changed their size.")

    def _count_colours(self, key: str, pixels: Tensor) -> None:
        step = max(1, len(pixels) // MAX_STATISTIC_FRAMES)
        chosen = pixels[::step].permute(0, 2, 3, 1).reshape(-1, 3)
        self._moments.setdefault(key, _Moments()).add(chosen.double().numpy() / 255.0)

    def _write_rows(
        self,
        values: Mapping[str, NDArray[np.float64]],
        place: Mapping[str, int],
        *,
        number: int,
        task: str,
    ) -> None:
        arrow, parquet = import_pyarrow()
        count = len(values[STATE])
        at = np.arange(count)
        numbered: dict[str, NDArray[Any]] = {
            "timestamp": (at / self.fps).astype(np.float32),
            "frame_index": at,
            "episode_index": np.full(count, number),
            "index": self._total + at,
            "task_index": np.full(count, self._tasks.setdefault(task, len(self._tasks))),
        }
        columns: dict[str, Any] = {}
        for key, rows in values.items():
            flat = arrow.array(rows.astype(np.float32).reshape(-1))
            columns[key] = arrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
            self._moments.setdefault(key, _Moments()).add(rows)
        for key, column in numbered.items():
            columns[key] = arrow.array(column)
            self._moments.setdefault(key, _Moments()).add(column[:, None].astype(np.float64))
        with atomic_path(self.path / DATA_PATH.format(**place)) as path:
            parquet.write_table(arrow.table(columns), path)

    def _task_table(self) -> Any:
        """Tasks as the index of a pandas table, which is how LeRobot looks them up."""
        arrow, _ = import_pyarrow()
        table = arrow.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        kinds = (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        pandas = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {
                    "name": name,
                    "field_name": name,
                    "pandas_type": kind,
                    "numpy_type": numpy_kind,
                    "metadata": None,
                }
                for name, kind, numpy_kind in kinds
            ],
            "pandas_version": "2.0.0",
        }
        return table.replace_schema_metadata({"pandas": json.dumps(pandas)})

    def _description(self) -> dict[str, Any]:
        features: dict[str, Any] = {
            key: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
            for key, names in self._sizes.items()
        }
        for key, (height, width) in self._frame_sizes.items():
            features[key] = {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.fps": self.fps,
                    "video.height": height,
                    "video.width": width,
                    "video.channels": 3,
                    "video.codec": "h264",
                    "video.pix_fmt": "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p",
                    "video.is_depth_map": False,
                    "has_audio": False,
                },
            }
        for key in NUMBERED:
            kind = "float32" if key == "timestamp" else "int64"
            features[key] = {"dtype": kind, "shape": [1], "names": None}
        whole = self.fps == int(self.fps)
        return {
            "codebase_version": VERSION,
            "robot_type": self._robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._total,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_SIZE,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": int(self.fps) if whole else self.fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": features,
        }


def _rows(values: NDArray[np.floating[Any]] | Tensor) -> NDArray[np.float64]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.astype(np.float64)
