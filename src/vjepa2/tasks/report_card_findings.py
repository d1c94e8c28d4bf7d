"""From measures to words: what is wrong with the data, and what the model is worth."""

import math
from collections.abc import Sequence

from vjepa2.data.episode_checks import Finding
from vjepa2.data.robot_statistics import RobotStatistics
from vjepa2.data.trajectories import SAME_RATE
from vjepa2.tasks.report_card_data import Recordings
from vjepa2.tasks.report_card_energy import AxisCalibration, Landscapes
from vjepa2.tasks.report_card_rollout import ActionGap, RolloutErrors
from vjepa2.tasks.report_card_suspects import Suspect
from vjepa2.tasks.report_card_vision import InverseDynamics

# A correction is believed where it takes away this share of the error, that many standard errors
# from none, and leaves the model better than no prediction.
LEAST_GAIN = 0.08
LEAST_CERTAINTY = 4.0
LARGEST_ERROR = 0.9
READABLE = 0.3  # R2 of movements that frames show
CLEARER = 0.1  # of another lag
UNREADABLE = 0.05
SENSITIVE = 0.3
CHANCE = 0.56
TURNED_DEGREES = 25.0
EXPLAINED = 0.7
OTHER_SIZE = 1.6  # of movements, beside those of training
MANY_PAIRS = 60
STILL_LATENTS = 1e-4  # mean change of features whose spread is 1


def data_findings(
    data: Recordings,
    *,
    fps: float | None,
    statistics: RobotStatistics | None,
    inverse: InverseDynamics,
    gap: ActionGap,
    calibration: AxisCalibration | None,
    tried: Sequence[Suspect],
) -> list[Finding]:
    """What latents and predictions tell about the data, beside the checks of its numbers.

    Frames that do not change tell nothing: the checks say so.
    """
    if visible_change(data) < STILL_LATENTS:
        return []
    found = _constant(data)
    if found:
        return found
    found = _rate(data, fps=fps, statistics=statistics)
    culprit = believed(tried)
    seen = _lag(inverse)
    if culprit is not None:
        found.append(_of_suspect(culprit, seen=inverse))
    elif seen is not None:
        found.append(seen)
    else:
        found += _unrelated(inverse, gap)
        found += _turned(data, calibration)
    return found + _gripper(data, inverse)


def believed(tried: Sequence[Suspect]) -> Suspect | None:
    """The correction that helps most, if it helps beyond doubt."""
    for suspect in tried:
        if (
            suspect.gain >= LEAST_GAIN
            and suspect.certainty >= LEAST_CERTAINTY
            and suspect.error <= LARGEST_ERROR
        ):
            return suspect
    return None


def _of_suspect(culprit: Suspect, *, seen: InverseDynamics) -> Finding:
    text = (
        f"The model predicts this data best with {culprit.name}: error {culprit.error:.2f} of that "
        f"of no prediction, {culprit.before:.2f} as it is recorded."
    )
    if culprit.cause == "camera lag" and seen.lags:
        text += (
            f" Frames show most of the movements at a lag of {seen.best_lag} (R2 "
            f"{seen.lags[seen.best_lag]:.2f}; at 0: {seen.lags[0]:.2f})."
        )
    return Finding(culprit.cause, True, text, culprit.advice)


def visible_change(data: Recordings) -> float:
    """Mean absolute change of the latents from one moment to the next."""
    steps = data.transitions()
    return (steps.after - steps.before).float().abs().mean().item()


def _constant(data: Recordings) -> list[Finding]:
    if data.ways:
        return []
    return [
        Finding(
            "constant states",
            True,
            "The states do not move, but the frames change.",
            "The columns of the specification, or the recording of the states, are wrong.",
        )
    ]


def _rate(
    data: Recordings, *, fps: float | None, statistics: RobotStatistics | None
) -> list[Finding]:
    rates = sorted(item.episode.rate_hz for item in data.items)
    rate = rates[len(rates) // 2]
    if fps is not None and rate < fps / (1 + SAME_RATE):
        return [
            Finding(
                "rate",
                True,
                f"Recorded at {rate:.2f} Hz; the model was trained on {fps:g} moments a second.",
                "Correct the times of the recording, or train at its rate.",
            )
        ]
    if statistics is None or not data.lengths:
        return []
    spread = data.actions.double().std(dim=0)
    ratios = [
        float(spread[number]) / statistics.actions.std[number]
        for number in data.lengths
        if statistics.actions.std[number] > 1e-9
    ]
    if not ratios or not (min(ratios) > OTHER_SIZE or max(ratios) < 1 / OTHER_SIZE):
        return []
    middle = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    return [
        Finding(
            "rate" if 0.05 < middle < 20 else "units",
            False,
            f"Movements from one moment to the next are {middle:.3g} times those of the training "
            f"data, along all {len(ratios)} axes.",
            "Check the time stamps: moments may lie further or less apart than they say. If the "
            "robot just moves otherwise here, the model is judged on what it has not seen."
            if 0.05 < middle < 20
            else "Check the unit of positions.",
        )
    ]


def _lag(inverse: InverseDynamics) -> Finding | None:
    """Frames beside the log, from latents alone."""
    if not inverse.lags or inverse.num_pairs < MANY_PAIRS:
        return None
    now = inverse.lags[0]
    best = inverse.best_lag
    stretch = max(inverse.stretches, key=lambda factor: inverse.stretches[factor])
    lagging, running = inverse.lags[best], inverse.stretches[stretch]
    if running > max(READABLE, lagging + CLEARER, now + CLEARER):
        return Finding(
            "rate",
            True,
            f"Frames run {stretch:.2g} times as fast as the log: movements can be read from them "
            f"with R2 {running:.2f} then, {now:.2f} as recorded.",
            "Give each row of the log its own frame: by time stamps, or in a column 'frame'.",
        )
    if best == 0 or lagging < READABLE or lagging - now < CLEARER:
        return None
    late = "late" if best > 0 else "early"
    return Finding(
        "camera lag",
        True,
        f"Frames are {abs(best)} moments {late}: movements can be read from them with R2 "
        f"{lagging:.2f} then, {now:.2f} as recorded.",
        f"Shift the frames by {abs(best)} moments against the log.",
    )


def _unrelated(inverse: InverseDynamics, gap: ActionGap) -> list[Finding]:
    """Frames and actions that have nothing in common at any lag."""
    if not inverse.lags or inverse.num_pairs < MANY_PAIRS:
        return []
    best = max(*inverse.lags.values(), *inverse.stretches.values())
    if best > UNREADABLE or gap.accuracy > CHANCE:
        return []
    sensitive = gap.sensitivity > SENSITIVE
    return [
        Finding(
            "shuffled actions",
            sensitive,
            f"Frames and actions have nothing in common: R2 {best:.2f} at the best lag, and the "
            f"model prefers the recorded action to others in {100 * gap.accuracy:.0f} % of cases.",
            "Check that frames, states and actions come from the same episodes in the same order."
            if sensitive
            else "Either they come from different episodes, or the camera does not see the robot, "
            "or the encoder is of no use here: judge with a model of sound data.",
        )
    ]


def _turned(data: Recordings, calibration: AxisCalibration | None) -> list[Finding]:
    if (
        calibration is None
        or calibration.explained < EXPLAINED
        or not (calibration.degrees > TURNED_DEGREES or calibration.reflected)
    ):
        return []
    names = data.spec.state_names
    rows = "; ".join(
        f"{names[number]}: {', '.join(f'{value:+.2f}' for value in row)}"
        for number, row in zip(calibration.ways, calibration.rotation, strict=True)
    )
    kind = "mirrored and turned" if calibration.reflected else "turned"
    return [
        Finding(
            "turned axes",
            False,
            f"The axes of the model are {kind} by {calibration.degrees:.0f} degrees against the "
            f"robot's: its movement is R times the true one, R = [{rows}] "
            f"({100 * calibration.explained:.0f} % explained).",
            "Turn planned actions back with calibration.robot_action(action), or train with "
            "recordings of this camera.",
        )
    ]


def _gripper(data: Recordings, inverse: InverseDynamics) -> list[Finding]:
    number = data.spec.state_size - 1
    if data.spec.gripper_column is None or number not in data.moving or not data.lengths:
        return []
    seen = [inverse.r2[way] for way in data.lengths]
    shown = inverse.r2[number]
    if shown is None or any(value is None or value < 0.5 for value in seen) or shown > UNREADABLE:
        return []
    return [
        Finding(
            "gripper",
            False,
            f"Frames show the movements but nothing of the gripper (R2 {shown:.2f}).",
            "Check gripper_column; or the gripper is hidden or too small in the frames.",
        )
    ]


# -- the model --------------------------------------------------------------------------------


def verdict(
    rollouts: RolloutErrors, gap: ActionGap, found: Landscapes | None, *, unit: str, factor: float
) -> list[str]:
    """What the model is worth, in sentences."""
    words = []
    skill = rollouts.skill
    good = sum(1 for value in skill if value > 0)
    if skill[0] <= 0:
        words.append("It predicts no better than that nothing changes, or changes as usual.")
    elif good < len(skill):
        words.append(
            f"It predicts better than both baselines for {good} of {len(skill)} actions ahead; do "
            "not plan further than that."
        )
    else:
        words.append(f"It predicts better than both baselines up to {len(skill)} actions ahead.")
    if gap.accuracy < CHANCE:
        words.append(
            f"It does not tell the true action from others ({100 * gap.accuracy:.0f} %, chance is "
            "50 %): it cannot be planned with."
        )
    else:
        words.append(
            f"It prefers the true action to another in {100 * gap.accuracy:.0f} % of cases."
        )
    if found is not None:
        share = found.offset / max(found.size, 1e-12)
        where = (
            f"{factor * found.offset:.1f} {unit} from the true movement, which is "
            f"{factor * found.size:.1f} {unit} long"
        )
        if share < 0.5:
            words.append(f"Energy is least {where}: near enough to be followed.")
        elif share < 1:
            words.append(f"Energy is least {where}: the direction is right, but coarse.")
        else:
            words.append(f"Energy is least {where}: staying where it is would be nearer.")
    return words
