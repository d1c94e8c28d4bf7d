"""Small recordings of a robot that does what it is told, in every layout that is read."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.video.writer import H264, write_video

SIZE = 32
STATE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def arm_states(count: int = 40, *, seed: int = 0) -> NDArray[np.float64]:
    """[T, 7] of an arm: a smooth random walk in metres and radians, the gripper closing halfway."""
    draws = np.random.default_rng(seed).normal(size=(count + 4, 6))
    smooth = np.stack([draws[shift : shift + count] for shift in range(3)]).mean(axis=0)
    start = np.array([0.5, 0.0, 0.3, 0.1, -0.2, 0.3])
    walk = start + np.cumsum(smooth * np.array([0.02] * 3 + [0.05] * 3), axis=0)
    gripper = (np.arange(count) > count // 2).astype(float)
    return np.concatenate([walk, gripper[:, None]], axis=1)


def arm_frames(states: NDArray[np.float64]) -> Tensor:
    """uint8 [T, 3, 32, 32]: a bright square where x and y are, with soft edges, on a torus."""
    pixels = np.arange(SIZE)

    def covered(centre: NDArray[np.float64]) -> NDArray[np.float64]:
        away = (pixels - centre[:, None] + SIZE / 2) % SIZE - SIZE / 2
        return np.clip(4.5 - np.abs(away), 0, 1)

    rows, columns = covered(16 + 60 * (states[:, 0] - 0.5)), covered(16 + 60 * states[:, 1])
    grey = np.rint(40 + 190 * rows[:, :, None] * columns[:, None, :]).astype(np.uint8)
    return torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1).contiguous()


def numbered_frames(count: int) -> Tensor:
    """uint8 [T, 3, 32, 32], each of one grey that tells its number: 6 i."""
    grey = (6 * torch.arange(count)).to(torch.uint8)
    return grey[:, None, None, None].expand(count, 3, SIZE, SIZE).contiguous()


def numbers_seen(pixels: Tensor) -> list[int]:
    """The numbers of `numbered_frames`."""
    return [round(value / 6) for value in pixels.float().mean(dim=(1, 2, 3)).tolist()]


def save(path: Path, frames: Tensor, *, fps: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, frames, codec=H264(fps=fps, crf=4, preset="ultrafast"))


def write_v21(
    folder: Path, episodes: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> Path:
    """A data set of LeRobot v2.1 at 10 Hz: (states, actions), frames of `numbered_frames`."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    (folder / "meta").mkdir(parents=True)
    camera = "observation.images.front"
    lines = []
    for number, (states, actions) in enumerate(episodes):
        path = folder / f"data/chunk-{number // 2:03d}/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {
            "observation.state": arrow.array(states.tolist(), type=arrow.list_(arrow.float32())),
            "action": arrow.array(actions.tolist(), type=arrow.list_(arrow.float32())),
            "timestamp": arrow.array(np.arange(len(states), dtype=np.float32) / 10),
            "episode_index": arrow.array([number] * len(states)),
        }
        parquet.write_table(arrow.table(columns), path)
        save(
            folder / f"videos/chunk-{number // 2:03d}/{camera}/episode_{number:06d}.mp4",
            numbered_frames(len(states)),
        )
        lines.append({"episode_index": number, "tasks": ["reach"], "length": len(states)})
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    info = {
        "codebase_version": "v2.1",
        "fps": 10,
        "chunks_size": 2,
        "robot_type": "arm",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        ),
        "features": {
            "observation.state": {
                "dtype": "float32",
                "shape": [7],
                "names": {"motors": list(STATE_NAMES)},
            },
            "action": {"dtype": "float32", "shape": [7], "names": None},
            camera: {"dtype": "video", "shape": [SIZE, SIZE, 3]},
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def write_droid(folder: Path, states: NDArray[np.float64], frames: Tensor, *, fps: float) -> Path:
    """One recording of DROID; the video declares `fps`."""
    import h5py

    folder.mkdir(parents=True)
    with h5py.File(folder / "trajectory.h5", "w") as file:
        file["observation/robot_state/cartesian_position"] = states[:, :6]
        file["observation/robot_state/gripper_position"] = states[:, 6]
        file["observation/camera_extrinsics/123_left"] = np.tile(
            [0.1, 0.2, 0.3, 0.0, 0.0, 0.5], (len(states), 1)
        )
        file["action/cartesian_position"] = states[:, :6]
        file["action/gripper_position"] = states[:, 6]
    save(folder / "recordings/MP4/123.mp4", frames, fps=fps)
    (folder / "a.json").write_text("no json")
    (folder / "metadata_1.json").write_text(
        json.dumps({"left_mp4_path": "lab/success/day/recordings/MP4/123.mp4", "uuid": "1"})
    )
    return folder
