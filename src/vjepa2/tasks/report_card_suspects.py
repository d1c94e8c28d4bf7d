"""What is wrong with the data? Corrections are tried, and the one that makes the model right wins.

A model that learned from sound recordings predicts them best as they are. If it predicts better
after x and y were exchanged, they are exchanged in the data. This needs a model of good data: one
that learned from the sabotaged set finds it in order, for to that model it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.episode_checks import Cause
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.report_card_data import (
    PictureChange,
    Recordings,
    Transitions,
    encoded_again,
)
from vjepa2.tasks.report_card_rollout import distance, step_errors
from vjepa2.tasks.report_card_vision import moments
from vjepa2.tasks.world_folder import LoadedWorld

LAGS = (-3, -2, -1, 1, 2, 3)
STRETCHES = (0.25, 0.5, 2.0, 4.0)
LEAST_TRANSITIONS = 12
EPISODES_COMPARED = 8
PER_EPISODE = 12


@dataclass(frozen=True)
class Suspect:
    """One correction of the data, and how well the model predicts after it.

    Attributes:
        name: of the correction.
        cause: what is wrong where it helps.
        advice: what to change then.
        error: mean error one step ahead, over that of predicting no change.
        before: the same without the correction, on the same transitions.
        certainty: mean improvement over its standard error.
    """

    name: str
    cause: Cause
    advice: str
    error: float
    before: float
    certainty: float

    @property
    def gain(self) -> float:
        """Share of the error that the correction takes away."""
        return 1 - self.error / max(self.before, 1e-12)


def suspects(loaded: LoadedWorld, data: Recordings, config: ReportCardConfig) -> list[Suspect]:
    """All corrections that were tried, the best one first."""
    steps = data.transitions(config.suspects)
    if len(steps) < LEAST_TRANSITIONS:
        return []
    plain = _relative(loaded, steps)
    found = []
    for name, cause, advice, corrected in _of_numbers(data, steps):
        found.append(_suspect(name, cause, advice, _relative(loaded, corrected), plain))
    of_both = (*_of_time(data, config), *_of_pictures(loaded, data, config))
    for name, cause, advice, corrected, original in of_both:
        if len(corrected) >= LEAST_TRANSITIONS:
            before = _relative(loaded, original)
            after = _relative(loaded, corrected)
            found.append(_suspect(name, cause, advice, after, before))
    other = _other_video(loaded, data)
    found += [] if other is None else [other]
    return sorted(found, key=lambda suspect: -suspect.gain)


def _relative(loaded: LoadedWorld, steps: Transitions) -> Float[Tensor, " B"]:
    """Errors over the mean error of predicting no change: comparable between corrections."""
    still = distance(steps.before, steps.after).mean().clamp(min=1e-12)
    return (step_errors(loaded.world, steps) / still).double().cpu()


def _suspect(name: str, cause: Cause, advice: str, after: Tensor, before: Tensor) -> Suspect:
    better = before - after
    noise = better.std() / max(len(better), 1) ** 0.5
    return Suspect(
        name,
        cause,
        advice,
        after.mean().item(),
        before.mean().item(),
        float(better.mean() / noise.clamp(min=1e-12)),
    )


# -- numbers ----------------------------------------------------------------------------------


def _of_numbers(
    data: Recordings, steps: Transitions
) -> Iterator[tuple[str, Cause, str, Transitions]]:
    names, lengths = data.spec.state_names, data.lengths
    recorded = data.spec.actions_from == "recorded"
    whose = "states and actions" if not recorded else "actions"
    for at, one in enumerate(lengths):
        for two in lengths[at + 1 :]:
            advice = f"Exchange the columns of {names[one]} and {names[two]}."
            name = f"{names[one]} and {names[two]} exchanged"
            both = [_columns(values, one, two) for values in (steps.states, steps.actions)]
            exchanged = replace(steps, states=both[0], actions=both[1])
            yield name, "swapped axes", advice, exchanged
            if recorded:
                yield (
                    f"{name} in actions",
                    "swapped axes",
                    f"Correct action_columns, or take actions_from='states'. {advice}",
                    replace(steps, actions=_columns(steps.actions, one, two)),
                )
    for one in lengths:
        flip = torch.ones(data.spec.state_size)
        flip[one] = -1
        advice = f"Reverse the sign of {names[one]} in {whose}."
        name = f"{names[one]} reversed"
        yield (
            name,
            "swapped axes",
            advice,
            replace(steps, states=steps.states * flip.to(steps.states), actions=_flip(steps, one)),
        )
        yield (
            f"{name} in actions",
            "swapped axes",
            advice,
            replace(steps, actions=_flip(steps, one)),
        )
    if data.spec.kind == "arm_pose":
        for factor in (1000.0, 100.0, 0.01, 0.001):
            yield (
                f"positions times {factor:g}",
                "units",
                "Correct position_unit.",
                _scaled(steps, factor, (0, 1, 2)),
            )
        for factor in (torch.pi / 180, 180 / torch.pi):
            yield (
                f"angles times {factor:.3g}",
                "units",
                "Correct angle_unit.",
                _scaled(steps, factor, (3, 4, 5)),
            )
    if data.spec.state_size - 1 in data.moving and names[-1] == "gripper":
        states = steps.states.clone()
        states[:, -1] = 1 - states[:, -1]
        yield (
            "gripper reversed",
            "gripper",
            "Exchange gripper_open and gripper_closed.",
            replace(steps, states=states, actions=_flip(steps, data.spec.state_size - 1)),
        )


def _columns(values: Tensor, one: int, two: int) -> Tensor:
    order = list(range(values.shape[1]))
    order[one], order[two] = two, one
    return values[:, order]


def _flip(steps: Transitions, number: int) -> Tensor:
    sign = torch.ones_like(steps.actions[0])
    sign[number] = -1
    return steps.actions * sign


def _scaled(steps: Transitions, factor: float, numbers: tuple[int, ...]) -> Transitions:
    scale = torch.ones_like(steps.actions[0])
    scale[list(numbers)] = factor
    return replace(steps, states=steps.states * scale, actions=steps.actions * scale)


# -- time -------------------------------------------------------------------------------------


def _of_time(
    data: Recordings, config: ReportCardConfig
) -> Iterator[tuple[str, Cause, str, Transitions, Transitions]]:
    """Corrected transitions, and those with the same frames as they are recorded."""
    tried = [(lag, 1.0) for lag in LAGS] + [(0, stretch) for stretch in STRETCHES]
    for lag, stretch in tried:
        corrected, original = [], []
        for owner, item in enumerate(data.items):
            together = moments(len(item), lag=lag, stretch=stretch)
            if len(together) < 2:
                continue
            frames = [frame for frame, _ in together]
            logged = [at for _, at in together]
            states = item.states[logged]
            if stretch == 1.0:
                actions = item.actions[logged[:-1]]
                plain = item.actions[frames[:-1]]
            else:
                actions = data.spec.actions(states.double()).to(states)
                plain = data.spec.actions(item.states[frames].double()).to(states)
            latents = item.latents[frames]
            owners = torch.full((len(actions),), owner)
            places = torch.tensor(frames[:-1])
            corrected.append(
                Transitions(latents[:-1], latents[1:], states[:-1], actions, owners, places)
            )
            before = item.states[frames[:-1]]
            original.append(Transitions(latents[:-1], latents[1:], before, plain, owners, places))
        if not corrected:
            continue
        both = [_joined(parts, config.suspects) for parts in (corrected, original)]
        if lag:
            when = "late" if lag > 0 else "early"
            yield (
                f"frames {abs(lag)} moments {when}",
                "camera lag",
                f"Shift the frames by {abs(lag)} moments against the log.",
                both[0],
                both[1],
            )
        else:
            yield (
                f"frames {stretch:g} times as fast as the log",
                "rate",
                "Give each row of the log its own frame: by time stamps, or in a column 'frame'.",
                both[0],
                both[1],
            )


def _joined(parts: list[Transitions], most: int) -> Transitions:
    whole = Transitions(
        torch.cat([part.before for part in parts]),
        torch.cat([part.after for part in parts]),
        torch.cat([part.states for part in parts]),
        torch.cat([part.actions for part in parts]),
        torch.cat([part.owners for part in parts]),
        torch.cat([part.places for part in parts]),
    )
    if len(whole) <= most:
        return whole
    return whole.rows(torch.linspace(0, len(whole) - 1, most).round().long())


# -- pictures ---------------------------------------------------------------------------------


def _of_pictures(
    loaded: LoadedWorld, data: Recordings, config: ReportCardConfig
) -> Iterator[tuple[str, Cause, str, Transitions, Transitions]]:
    changes: tuple[tuple[str, Cause, str, PictureChange], ...] = (
        (
            "pictures mirrored",
            "mirrored images",
            "Mirror the pictures back: left and right are exchanged.",
            lambda frames: frames.flip(3),
        ),
        (
            "pictures upside down",
            "mirrored images",
            "Turn the pictures by 180 degrees.",
            lambda frames: frames.flip(2, 3),
        ),
        (
            "red and blue exchanged",
            "colours",
            "Read the pictures as RGB: these are BGR.",
            lambda frames: frames.flip(1),
        ),
    )
    for name, cause, advice, change in changes:
        corrected, original = encoded_again(loaded, data, change, most=config.suspects)
        yield name, cause, advice, corrected, original


# -- episodes ---------------------------------------------------------------------------------


def _other_video(loaded: LoadedWorld, data: Recordings) -> Suspect | None:
    """Does the video of an episode go better with the log of another one?"""
    items = data.items[:EPISODES_COMPARED]
    if len(items) < 2:
        return None
    rows = []
    for video in items:
        row = []
        for log in items:
            count = min(len(video), len(log)) - 1
            chosen = torch.linspace(0, count - 1, min(count, PER_EPISODE)).round().long()
            steps = Transitions(
                video.latents[:count],
                video.latents[1 : count + 1],
                log.states[:count],
                log.actions[:count],
                torch.zeros(count, dtype=torch.long),
                torch.arange(count),
            ).rows(chosen)
            row.append(_relative(loaded, steps).mean())
        rows.append(torch.stack(row))
    table = torch.stack(rows)
    own = table.diagonal()
    best, partner = table.min(dim=1)
    moved = torch.nonzero(partner != torch.arange(len(items))).flatten().tolist()
    if len(moved) < 2:  # one alone has nothing to exchange its video with
        return None
    gain = own - best
    pairs = ", ".join(
        f"{items[at].episode.name} shows {items[int(partner[at])].episode.name}" for at in moved[:4]
    )
    return Suspect(
        f"videos of other episodes ({pairs})",
        "other video",
        "Match videos and logs again.",
        best.mean().item(),
        own.mean().item(),
        float(gain.mean() / (gain.std() / len(gain) ** 0.5).clamp(min=1e-12)),
    )
