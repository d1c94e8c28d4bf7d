"""`read_episodes`: recordings of a robot in any layout that is known."""

import os
from pathlib import Path
from typing import Literal, get_args

from vjepa2.data.droid import TRAJECTORY, read_droid
from vjepa2.data.episode_files import read_csv, read_npz
from vjepa2.data.lerobot import ACTION, INFO, STATE, read_lerobot
from vjepa2.data.trajectories import Episodes
from vjepa2.errors import DataNotFoundError, ListError, check_choice, check_path

RobotLayout = Literal["auto", "lerobot", "droid", "npz", "csv"]


def read_episodes(
    path: str | os.PathLike[str],
    *,
    layout: RobotLayout = "auto",
    state_key: str = STATE,
    action_key: str | None = ACTION,
    fps: float | None = None,
) -> Episodes:
    """The episodes of a data set; each is read when it is asked for.

    Args:
        path: a folder of LeRobot (v2.x, v3.0), a folder or list of DROID recordings, a `.npz` or
            `.csv` file, or a folder of these.
        layout: "auto" finds out.
        state_key, action_key: features of LeRobot that are states and actions.
        fps: rate of .npz and .csv that hold no times; None takes 4. DROID's own is 15.

    Raises:
        DataNotFoundError: nothing is there.
        ListError: what is there is in no known layout, or its lists are damaged.
        MissingExtraError: a package for this layout is not installed.
        ConfigError: the layout does not exist.
    """
    check_path("The data set", path)
    check_choice("layout", layout, get_args(RobotLayout))
    place = Path(path)
    found = detect_layout(place) if layout == "auto" else layout
    if found == "lerobot":
        return read_lerobot(place, state_key=state_key, action_key=action_key)
    rate = {} if fps is None else {"fps": fps}
    if found == "droid":
        return read_droid(place)  # whose log has a rate of its own
    return read_npz(place, **rate) if found == "npz" else read_csv(place, **rate)


def detect_layout(place: Path) -> RobotLayout:
    """How a data set lies on the disk, from the names of its files.

    Raises:
        DataNotFoundError: nothing is there.
        ListError: none of the known layouts.
    """
    if not place.exists():
        raise DataNotFoundError(f"{place} does not exist. Give the folder of the recordings.")
    if place.is_file():
        suffixes: dict[str, RobotLayout] = {".npz": "npz", ".csv": "csv", ".h5": "droid"}
        return suffixes.get(place.suffix.lower(), "droid")
    if (place / INFO).is_file():
        return "lerobot"
    if next(place.glob("*.npz"), None) is not None:
        return "npz"
    if next(place.glob("*.csv"), None) is not None:
        return "csv"
    if next(place.rglob(TRAJECTORY), None) is not None:
        return "droid"
    raise ListError(
        f"{place} is in no known layout of robots' data. Known are LeRobot ({INFO}), DROID "
        f"({TRAJECTORY} with recordings/MP4), and files .npz or .csv with .mp4 in the folder."
    )
