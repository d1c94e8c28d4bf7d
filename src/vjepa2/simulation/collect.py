"""Recordings of the simulated arm at scripted work, as a data set of LeRobot v3.

collect("arm_data", episodes=200, steps=30, seed=0, task="mixture", size=128)

FOLDER/meta ... data ... videos     read by `data.robot_layouts.read_episodes`
FOLDER/robot.json                   what the numbers mean, `data.robot_spec.RobotSpec`
FOLDER/collection.json              the arguments, by which an interrupted collection goes on
"""

import dataclasses
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray

from vjepa2.data.lerobot import INFO
from vjepa2.data.lerobot_writer import LeRobotWriter
from vjepa2.data.parquet_columns import import_pyarrow
from vjepa2.errors import ConfigError, OutputError, check_choice, check_path, checked_integer
from vjepa2.files import atomic_path, write_json
from vjepa2.progress import track
from vjepa2.simulation.robot import CONTROL_HZ, SimulatedArm, random_start, robot_spec
from vjepa2.simulation.scene import CAMERA, LARGEST_PICTURE
from vjepa2.simulation.scripts import TASKS, Task, script

ROBOT_NAME, SETTINGS_NAME = "robot.json", "collection.json"
EPISODES_NAME = ".episodes"
STATE_NAMES = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")
ROBOT_TYPE = "vjepa2_simulated_arm"
MOST_EPISODES, MOST_STEPS = 10**6, 10**4
_DAMAGED = (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """One episode.

    Attributes:
        states: float64 [T, 7] before the first action and after each.
        actions: float64 [T - 1, 7] as they were told to the robot.
        frames: uint8 [T, H, W, 3], RGB.
        cube: float64 [T, 3], where the cube was; not part of the data set.
        words: what was done.
    """

    states: Float64[np.ndarray, "T 7"]
    actions: Float64[np.ndarray, "T1 7"]
    frames: UInt8[np.ndarray, "T H W 3"]
    cube: Float64[np.ndarray, "T 3"]
    words: str

    def save(self, path: Path) -> None:
        """Write it without loss, atomically."""
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            OutputError: it is damaged.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                held: dict[str, Any] = {name: file[name] for name in file.files}
                return cls(**held | {"words": str(held["words"])})
        except _DAMAGED as error:
            raise OutputError(
                f"{path} is damaged: {error}. Delete it; the episode is recorded again."
            ) from error


def record(robot: SimulatedArm, *, steps: int, seed: int, episode: int, task: Task) -> Recording:
    """Record one episode; it depends on the arguments only, not on what the robot did before.

    Args:
        robot: any.
        steps: actions.
        seed, episode: decide the start and what is done.
        task: of `scripts.TASKS`.

    Raises:
        ConfigError: a number or the task makes no sense.
        RobotError: there are no graphics.
    """
    robot.place(random_start(seed, episode))
    words, actions = script(task, robot, seed=seed, episode=episode)
    poses, cubes, told = [robot.pose()], [robot.cube()], []
    frames = [robot.arm.render(robot.size)]
    for _ in range(steps):
        action = next(actions)
        robot.act(torch.from_numpy(action))
        told.append(action)
        poses.append(robot.pose())
        cubes.append(robot.cube())
        frames.append(robot.arm.render(robot.size))
    return Recording(
        states=np.stack(poses),
        actions=np.stack(told),
        frames=np.stack(frames),
        cube=np.stack(cubes),
        words=words,
    )


def collect(
    folder: str | os.PathLike[str],
    *,
    episodes: int,
    steps: int = 30,
    seed: int = 0,
    task: Task = "mixture",
    size: int = 128,
    quiet: bool = False,
) -> Path:
    """Record episodes as a data set of LeRobot v3, 4 states and frames per second.

    A folder where the same collection was interrupted goes on; one where it is complete is left
    as it is. Every number and pixel is a function of the arguments but `episodes`: a larger
    collection begins with the smaller one.

    Args:
        folder: is made when missing.
        episodes: how many.
        steps: actions of each; it has one state and frame more.
        seed: of all random numbers.
        task: "wander", "turn" (with orientation), "reach", "push", "pick", or "mixture" of all but
            "turn".
        size: height and width of the pictures.
        quiet: no progress on stderr.

    Returns:
        The folder.

    Raises:
        ConfigError: a value makes no sense, or the folder holds another collection.
        MissingExtraError: MuJoCo or pyarrow is not installed.
        OutputError: the files cannot be written.
        RobotError: there are no graphics.
    """
    import_pyarrow()
    check_path("The folder of the collection", folder)
    settings = {
        "episodes": checked_integer("episodes", episodes, least=1, most=MOST_EPISODES),
        "steps": checked_integer("steps", steps, least=1, most=MOST_STEPS),
        "seed": checked_integer("seed", seed, least=0),
        "size": checked_integer("size", size, least=8, most=LARGEST_PICTURE),
        "task": task,
    }
    check_choice("Task", task, TASKS)
    root = Path(folder)
    if _begun(root, settings):
        return root
    robot = SimulatedArm(size=size)
    parts = root / EPISODES_NAME
    try:
        numbers = track(range(episodes), total=episodes, description="recorded", quiet=quiet)
        for number in numbers:
            if not _part(parts, number).exists():
                recording = record(robot, steps=steps, seed=seed, episode=number, task=task)
                recording.save(_part(parts, number))
    finally:
        robot.close()
    _write(root, parts, episodes=episodes, quiet=quiet)
    shutil.rmtree(parts, ignore_errors=True)
    return root


def _begun(root: Path, settings: dict[str, Any]) -> bool:
    """Note the settings, or compare them with the noted ones; whether all is done already."""
    note, info = root / SETTINGS_NAME, root / INFO
    if note.exists():
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"Cannot read {note}: {error}. Choose another folder.") from error
        if there != settings:
            raise ConfigError(
                f"{root} holds another collection: {there}; asked for was {settings}. Choose "
                "another folder."
            )
        return info.exists()
    if info.exists():
        raise ConfigError(f"{root} holds a data set already. Choose another folder.")
    write_json(root / ROBOT_NAME, robot_spec().model_dump())
    write_json(note, settings)
    return False


def _part(parts: Path, number: int) -> Path:
    return parts / f"episode-{number:06d}.npz"


def _write(root: Path, parts: Path, *, episodes: int, quiet: bool) -> None:
    with LeRobotWriter(
        root,
        fps=CONTROL_HZ,
        state_names=STATE_NAMES,
        action_names=[f"change of {name}" for name in STATE_NAMES],
        cameras=[CAMERA],
        robot_type=ROBOT_TYPE,
    ) as writer:
        for recording in track(
            _recordings(parts, episodes), total=episodes, description="written", quiet=quiet
        ):
            pixels: NDArray[np.uint8] = recording.frames
            writer.add(
                states=recording.states,
                actions=recording.actions,
                frames={CAMERA: torch.from_numpy(pixels).permute(0, 3, 1, 2)},
                task=recording.words,
            )


def _recordings(parts: Path, episodes: int) -> Iterator[Recording]:
    for number in range(episodes):
        yield Recording.load(_part(parts, number))
