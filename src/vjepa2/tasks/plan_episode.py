"""Recorded episodes in the layout of the published example, `franka_example_traj.npz`.

observations  uint8    [1, T, H, W, 3]  RGB
states        float    [1, T, 7]        x, y, z in metres, extrinsic xyz angles, gripper
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.data.array_file import UNREADABLE
from vjepa2.errors import DataError, DataNotFoundError, check_path
from vjepa2.poses import POSE_STATE_SIZE

MAX_BYTES = 2**30
NAMES = ("observations", "states")
LAYOUT = (
    "Expected are observations, uint8 [1, T, H, W, 3], and states, floats [1, T, 7], T of 2 or more"
)


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """Frames and states of one episode.

    Attributes:
        frames: RGB, uint8 [T, H, W, 3].
        states: float64 [T, 7].
    """

    frames: UInt8[Tensor, "T H W 3"]
    states: Float[Tensor, "T 7"]

    def reversed(self) -> "RecordedEpisode":
        """Played backwards."""
        return RecordedEpisode(frames=self.frames.flip(0), states=self.states.flip(0))


def read_recorded_episode(path: str | os.PathLike[str]) -> RecordedEpisode:
    """Read an episode; nothing in the file is run, and no more than 1 GiB is unpacked.

    Raises:
        DataNotFoundError: no such file.
        DataError: damaged, too large, or another layout.
    """
    check_path("The episode", path)
    place = Path(path)
    if not place.is_file():
        raise DataNotFoundError(f"{place} is no file. Give an .npz of one episode. {LAYOUT}.")
    try:
        with zipfile.ZipFile(place) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_BYTES:
            raise DataError(f"{place} unpacks to {size:,} bytes; at most {MAX_BYTES:,} are read.")
        with np.load(place, allow_pickle=False) as stored:
            missing = [name for name in NAMES if name not in stored.files]
            if missing:
                raise DataError(f"{place} has no {' and no '.join(missing)}. {LAYOUT}.")
            frames, states = (stored[name] for name in NAMES)
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place} is no readable .npz: {error}. {LAYOUT}.") from error
    return _checked(place, frames, states)


def _checked(place: Path, frames: Any, states: Any) -> RecordedEpisode:
    right = (
        frames.dtype == np.uint8
        and frames.ndim == 5
        and frames.shape[0] == 1
        and frames.shape[1] >= 2
        and frames.shape[4] == 3
        and 0 not in frames.shape
        and states.dtype.kind == "f"
        and states.shape == (1, frames.shape[1], POSE_STATE_SIZE)
    )
    if not right:
        raise DataError(
            f"{place} holds observations {frames.dtype} {list(frames.shape)} and states "
            f"{states.dtype} {list(states.shape)}. {LAYOUT}."
        )
    if not np.isfinite(states).all():
        raise DataError(f"The states in {place} hold NaN or infinity.")
    return RecordedEpisode(
        frames=torch.from_numpy(frames[0].copy()),
        states=torch.from_numpy(states[0].astype(np.float64)),
    )
