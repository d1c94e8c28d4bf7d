"""Recordings as a world model sees them: latents, states and actions at the model's rate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.trajectories import SAME_RATE, Episode, Episodes, resample
from vjepa2.errors import ConfigError, DataError, EpisodeError, InputError, MissingExtraError
from vjepa2.progress import track
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.world_folder import LoadedWorld

LEAST_STRETCH = 8  # frames of a recording that are encoded again
STILL = 1e-5  # spread of a number that does not move

PictureChange = Callable[[UInt8[Tensor, "T 3 H W"]], UInt8[Tensor, "T 3 H W"]]


@dataclass(frozen=True, eq=False)
class Recording:
    """A stretch of one episode.

    Attributes:
        episode: at the model's rate.
        latents: [T, N, D] of its frames, on the device of the model.
        states: [T, K].
        actions: [T - 1, A].
    """

    episode: Episode
    latents: Float[Tensor, "T N D"]
    states: Float[Tensor, "T K"]
    actions: Float[Tensor, "T1 A"]

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True, eq=False)
class Recordings:
    """What a report card is made from.

    Attributes:
        items: at least one, of three moments or more.
        spec: what their numbers mean.
        cameras: whose frames; None: the first one.
        skipped: names of episodes that could not be used.
    """

    items: tuple[Recording, ...]
    spec: RobotSpec
    cameras: tuple[str | None, ...]
    skipped: tuple[str, ...]

    def transitions(self, most: int | None = None) -> "Transitions":
        """All steps from one moment to the next, or about `most` of them, evenly spread."""
        found = Transitions.of(self.items)
        if most is None or len(found) <= most:
            return found
        return found.rows(torch.linspace(0, len(found) - 1, most).round().long())

    @property
    def actions(self) -> Float[Tensor, "M A"]:
        """Of all items, one after the other."""
        return torch.cat([item.actions for item in self.items])

    @property
    def moving(self) -> tuple[int, ...]:
        """Numbers of an action that are not always the same."""
        actions = self.actions.double()
        if len(actions) < 2:
            return ()
        spread = actions.std(dim=0)
        return tuple(number for number, size in enumerate(spread.tolist()) if size > STILL)

    @property
    def ways(self) -> tuple[int, ...]:
        """Numbers that move the hand or the base, or all joints: what landscapes are over."""
        kind, moving = self.spec.kind, self.moving
        last = {"arm_pose": 3, "mobile_base": 3, "joints": len(self.spec.joint_columns)}[kind]
        return tuple(number for number in moving if number < last)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of `ways`, those that are measured: positions, or joints."""
        last = {"arm_pose": 3, "mobile_base": 2}.get(self.spec.kind)
        return tuple(number for number in self.ways if last is None or number < last)


@dataclass(frozen=True, eq=False)
class Transitions:
    """Steps from one moment to the next.

    Attributes:
        before, after: [B, N, D] latents.
        states: [B, K] before.
        actions: [B, A].
        owners: int64 [B], number of the recording.
        places: int64 [B], moment in it.
    """

    before: Float[Tensor, "B N D"]
    after: Float[Tensor, "B N D"]
    states: Float[Tensor, "B K"]
    actions: Float[Tensor, "B A"]
    owners: Tensor
    places: Tensor

    @classmethod
    def of(cls, items: Sequence[Recording]) -> "Transitions":
        """Of all recordings."""
        return cls(
            torch.cat([item.latents[:-1] for item in items]),
            torch.cat([item.latents[1:] for item in items]),
            torch.cat([item.states[:-1] for item in items]),
            torch.cat([item.actions for item in items]),
            torch.cat([torch.full((len(item) - 1,), at) for at, item in enumerate(items)]),
            torch.cat([torch.arange(len(item) - 1) for item in items]),
        )

    def __len__(self) -> int:
        return len(self.actions)

    def rows(self, chosen: Tensor) -> "Transitions":
        """Some of them."""
        return Transitions(
            self.before[chosen],
            self.after[chosen],
            self.states[chosen],
            self.actions[chosen],
            self.owners[chosen],
            self.places[chosen],
        )


def read_recordings(
    loaded: LoadedWorld,
    episodes: Episodes,
    spec: RobotSpec,
    config: ReportCardConfig,
    *,
    quiet: bool = True,
) -> Recordings:
    """Encode a stretch of some episodes; those that are damaged are left out.

    Raises:
        ConfigError: the robot is not the one of the model, or there is no such camera.
        EpisodeError: no episode can be used.
    """
    world = loaded.world
    if (spec.action_size, spec.state_size) != (world.action_size, world.state_size):
        raise ConfigError(
            f"The model has actions of {world.action_size} and states of {world.state_size} "
            f"numbers; the specification describes {spec.action_size}: "
            f"{', '.join(spec.state_names)}. Give that of the robot the model was trained for."
        )
    items: list[Recording] = []
    skipped: list[str] = []
    cameras = cameras_of(loaded, spec)
    numbers = spread(len(episodes), config.episodes)
    for number in track(numbers, total=len(numbers), description="recordings", quiet=quiet):
        try:
            episode = at_rate(episodes[number], loaded.fps, spec)
            episode = _stretch(episode, config.moments)
            states = spec.states(episode.states)
            actions = spec.episode_actions(episode)
            latents = encode(loaded, episode, cameras) if len(episode) > 2 else None
        except (ConfigError, MissingExtraError):
            raise
        except (DataError, InputError):
            skipped.append(episodes.names[number])
            continue
        if latents is None:
            skipped.append(episodes.names[number])
            continue
        states, actions = states.to(latents), actions[: len(states) - 1].to(latents)
        items.append(Recording(episode, latents, states, actions))
    if not items:
        raise EpisodeError(
            f"None of {len(numbers)} episodes can be used: each needs three moments, frames and "
            "finite numbers. Run vjepa2 world-model check-data to see why."
        )
    return Recordings(tuple(items), spec, cameras, tuple(skipped))


def cameras_of(loaded: LoadedWorld, spec: RobotSpec) -> tuple[str | None, ...]:
    """Those of the model; where it sees one, that of the specification counts, if it names one."""
    if len(loaded.cameras) == 1 and spec.camera is not None:
        return (spec.camera,)
    return loaded.cameras


def at_rate(episode: Episode, fps: float | None, spec: RobotSpec) -> Episode:
    """An episode at the rate of the model; as recorded where that is the same or lower.

    Recordings that are slower than the model are used as they are: the checks tell.
    """
    rate = episode.rate_hz
    if fps is None or len(episode) < 2 or rate <= fps * (1 + SAME_RATE):
        return episode
    return resample(episode, fps, recorded_actions=spec.recorded_actions)


def encode(
    loaded: LoadedWorld,
    episode: Episode,
    cameras: Sequence[str | None],
    *,
    indices: Sequence[int] | None = None,
    change: PictureChange | None = None,
) -> Float[Tensor, "T N D"]:
    """Latents of frames that follow each other, by default of all.

    Args:
        cameras: names, as in `Recordings`.
        change: of the pictures of every camera, before they are encoded.
    """
    shown = {camera: episode.frames(camera, indices) for camera in cameras}
    if change is not None:
        shown = {camera: change(frames).contiguous() for camera, frames in shown.items()}
    if len(shown) == 1:
        return loaded.encode(next(iter(shown.values())))
    return loaded.encode({str(camera): frames for camera, frames in shown.items()})


def encoded_again(
    loaded: LoadedWorld, data: "Recordings", change: PictureChange, *, most: int
) -> "tuple[Transitions, Transitions]":
    """Transitions of changed pictures, and the same of the pictures as they are.

    Args:
        most: about so many frames are encoded, of stretches of the first recordings.
    """
    number = max(1, min(len(data.items), most // LEAST_STRETCH))
    length = max(2, most // number)
    changed, plain = [], []
    for item in [data.items[at] for at in spread(len(data.items), number)]:
        count = min(length, len(item))
        latents = encode(loaded, item.episode, data.cameras, indices=range(count), change=change)
        cut = Recording(
            item.episode, item.latents[:count], item.states[:count], item.actions[: count - 1]
        )
        plain.append(cut)
        changed.append(replace(cut, latents=latents))
    return Transitions.of(changed), Transitions.of(plain)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 .. count - 1, evenly spread."""
    if count <= most:
        return list(range(count))
    return sorted({round(at) for at in torch.linspace(0, count - 1, most).tolist()})


def _stretch(episode: Episode, most: int) -> Episode:
    """The middle of an episode, with its recorded actions."""
    if len(episode) <= most:
        return episode
    first = (len(episode) - most) // 2
    cut = episode.take(range(first, first + most))
    if episode.actions is None:
        return cut
    return replace(cut, actions=episode.actions[first : first + most])
