"""Recordings of a robot as a run reads them: at one rate, with states and actions, in two parts."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from vjepa2.data.draws import Draws, Permutation, Purpose
from vjepa2.data.robot_layouts import read_episodes
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import RobotStatistics, Spread
from vjepa2.data.sample import BadFile
from vjepa2.data.trajectories import Episode, Episodes, resample
from vjepa2.errors import BadFilesError, ConfigError, DataError, InputError, VideoError
from vjepa2.progress import track
from vjepa2.tasks.world_model_config import RobotDataConfig, WorldModelTraining

MAX_NAMED = 3  # unusable episodes that an error names


@dataclass(frozen=True, eq=False)
class Recording:
    """One episode at the rate of the model.

    Attributes:
        episode: its frames are read when asked for.
        states: [T, K] in metres and radians.
        actions: [T - 1, A].
        held_out: whether it is measured on and not learned from.
        phase: states that were left out before its first.
    """

    episode: Episode
    states: Float32[Tensor, "T K"]
    actions: Float32[Tensor, "T1 A"]
    held_out: bool
    phase: int = 0

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True, eq=False)
class Recordings:
    """Of one run.

    Attributes:
        items: usable ones, in the order of the data set.
        cameras: that are looked through; None: the only one there is.
        bad: the others, and why.
        mark: of the numbers and of what is held out.
    """

    items: tuple[Recording, ...]
    cameras: tuple[str | None, ...]
    bad: tuple[BadFile, ...]
    mark: str

    def statistics(self) -> RobotStatistics:
        """Of what is learned from."""
        learned = [item for item in self.items if not item.held_out]
        return RobotStatistics(
            states=Spread.of(torch.cat([item.states for item in learned])),
            actions=Spread.of(torch.cat([item.actions for item in learned])),
        )


def read_recordings(config: WorldModelTraining, *, quiet: bool = False) -> Recordings:
    """Read numbers of all episodes; frames stay where they are.

    Args:
        config: complete.
        quiet: no progress on stderr.

    Raises:
        DataNotFoundError, ListError: there is no data set.
        BadFilesError: too many episodes cannot be used; some are named with their reasons.
        ConfigError: no episode is long enough, or there is only one.
    """
    data, spec = config.data, config.robot
    assert data.path is not None and spec is not None  # `check_complete` was called
    episodes = read_episodes(data.path, layout=data.layout, fps=spec.control_rate_hz)
    cameras: tuple[str | None, ...] = data.cameras or (spec.camera,)
    held_out = _held_out(len(episodes), share=data.val_share, seed=config.seed)
    items: list[Recording] = []
    bad: list[BadFile] = []
    numbered = track(
        enumerate(_loaded(episodes)), total=len(episodes), description="Read", quiet=quiet
    )
    for number, loaded in numbered:
        try:
            if isinstance(loaded, DataError):
                raise loaded
            items += _cut(loaded, spec, data, cameras, held_out=number in held_out)
        except (DataError, InputError, ConfigError, VideoError) as error:
            bad.append(BadFile(episodes.names[number], _one_line(error), 0, 0, number))
    if len(bad) > data.max_bad_share * len(episodes):
        named = "; ".join(f"{item.path}: {item.reason}" for item in bad[:MAX_NAMED])
        raise BadFilesError(
            f"{len(bad)} of {len(episodes)} episodes of {data.path} cannot be used "
            f"(data.max_bad_share={data.max_bad_share:g}). {named} Look at them with: "
            "vjepa2 world-model check-data",
            bad_files=bad,
        )
    _check_enough(items, data)
    return Recordings(tuple(items), cameras, tuple(bad), _mark(items))


def _loaded(episodes: Episodes) -> Iterator[Episode | DataError]:
    for number in range(len(episodes)):
        try:
            yield episodes[number]
        except DataError as error:
            yield error


def _cut(
    episode: Episode,
    spec: RobotSpec,
    data: RobotDataConfig,
    cameras: Sequence[str | None],
    *,
    held_out: bool,
) -> list[Recording]:
    """An episode at the model's rate, once per phase; phases that are too short are left out."""
    for camera in cameras:
        episode.camera(camera)
    recorded = spec.recorded_actions if spec.actions_from == "recorded" else None
    if recorded is not None and data.phases > 1:
        raise ConfigError(
            "data.phases needs actions that are differences of states: set robot.actions_from to "
            "'states', or data.phases=1."
        )
    found = []
    for phase in range(min(data.phases, len(episode))):
        later = episode.take(range(phase, len(episode))) if phase else episode
        even = resample(later, data.fps, recorded_actions=recorded)
        if phase and len(even) < data.num_frames:
            continue
        states = spec.states(even.states)
        actions = spec.episode_actions(even)
        found.append(Recording(even, states, actions, held_out, phase))
    return found


def _held_out(count: int, *, share: float, seed: int) -> set[int]:
    """Numbers of the episodes that are not learned from: at least one, at most all but one."""
    if count == 0:
        return set()
    chosen = min(max(1, round(share * count)), max(count - 1, 0))
    order = Permutation(count, Draws(seed, Purpose.ITEM))
    return {order[place] for place in range(chosen)}


def _check_enough(items: Sequence[Recording], data: RobotDataConfig) -> None:
    for name, held_out in (("to learn from", False), ("to measure on", True)):
        part = [len(item) for item in items if item.held_out == held_out]
        if not part:
            raise ConfigError(
                f"There is no episode {name}: {data.path} needs two usable ones at least."
            )
        if max(part) < data.num_frames:
            raise ConfigError(
                f"The longest episode {name} has {max(part)} steps at data.fps={data.fps:g}, a "
                f"sample has data.num_frames={data.num_frames}. Set data.num_frames to "
                f"{max(2, *part)} or less, or record longer episodes."
            )


def _mark(items: Sequence[Recording]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.episode.name} {item.phase} {item.held_out} ".encode())
        for part in (item.states, item.actions):
            digest.update(np.ascontiguousarray(part.numpy()).tobytes())
    return digest.hexdigest()[:16]


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
