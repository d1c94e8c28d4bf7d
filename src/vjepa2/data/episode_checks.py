"""Checks of recorded numbers: units, ranges, the gripper, jumps (`clock_checks`: rates, gaps).

Each check returns findings: what was seen, with numbers, and what to change. What recordings do not
decide is not guessed at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from vjepa2.data.robot_spec import METRES, RobotSpec
from vjepa2.data.trajectories import SAME_RATE, Episode, Numbers

Cause = Literal[
    "unreadable",
    "units",
    "gripper",
    "rate",
    "missing frames",
    "frozen camera",
    "camera lag",
    "lag",
    "shuffled actions",
    "swapped axes",
    "scale",
    "jumps",
    "turned axes",
    "mirrored images",
    "colours",
    "other video",
    "constant states",
]
# Metres that a hand is away from its base, at most, and at least once in a data set.
LARGEST_REACH = 4.0
SMALLEST_REACH = 0.02
LIKELY_REACH = (0.15, 2.5)
# How often the reach of one episode is that of the others before they have different units: of
# metres, centimetres and millimetres the nearest are 10 apart, but so may be two tasks.
OTHER_UNIT = 30.0
LARGEST_SPEED = 5.0  # metres per second, of a hand
LARGEST_TURN = 2 * math.pi * 1.02
LARGEST_JOINT = 4 * math.pi
GRIPPER_SLACK = 0.05
GRIPPER_ENDS = 0.2
GRIPPER_USED = 0.15  # of the declared range, by a gripper that is used


@dataclass(frozen=True)
class Finding:
    """Something wrong, or to be looked at.

    Attributes:
        cause: in a word.
        serious: False: only to be looked at.
        text: what was seen, with numbers.
        advice: what to change.
        episode: in which one, "" for the whole set.
    """

    cause: Cause
    serious: bool
    text: str
    advice: str
    episode: str = ""


def check_alike(episodes: Sequence[Episode], spec: RobotSpec) -> list[Finding]:
    """Episodes whose numbers are in another unit than those of the others; none of fewer than 3."""
    if spec.kind != "arm_pose" or len(episodes) < 3:
        return []
    found = []
    columns: list[tuple[str, tuple[int, ...], str, str]] = [
        ("Positions", spec.positions, "position_unit", spec.position_unit)
    ]
    if spec.rotation in ("euler", "axis_angle"):
        columns.append(("Angles", spec.rotations, "angle_unit", spec.angle_unit))
    for what, where, setting, unit in columns:
        reach = np.array([np.abs(episode.states[:, list(where)]).max() for episode in episodes])
        usual = float(np.median(reach))
        far = reach > OTHER_UNIT * usual
        if what == "Angles":
            # Hardly turning is no other unit; what no angle in radians reaches is.
            far = (reach > LARGEST_TURN) & (usual <= LARGEST_TURN)
        else:
            far |= reach * OTHER_UNIT < usual
        found += [
            Finding(
                "units",
                True,
                f"{what} reach {reach[number]:.4g} in this episode and {usual:.4g} in the others.",
                f"Bring this episode to the unit of the others ({setting}={unit!r}), or leave it "
                "out.",
                episodes[number].name,
            )
            for number in np.flatnonzero(far).tolist()
        ]
    return found


def check_numbers(
    raw: Numbers, states: Tensor, spec: RobotSpec, *, rates: Sequence[float] = ()
) -> list[Finding]:
    """Units and ranges over a whole data set.

    Args:
        raw: [T, K_raw] all recorded states.
        states: [T, K] the same as `spec` reads them.
        rates: measured, of the episodes.
    """
    found = []
    if spec.kind in ("arm_pose", "mobile_base"):
        found += _lengths(raw, spec)
    found += _angles(raw, spec)
    if spec.gripper_column is not None:
        found += _gripper(raw[:, spec.gripper_column], states[:, -1].double().numpy(), spec)
    if spec.control_rate_hz is not None and rates:
        rate = float(np.median(rates))
        if spec.control_rate_hz > rate * (1 + SAME_RATE):
            found.append(
                Finding(
                    "rate",
                    True,
                    f"control_rate_hz is {spec.control_rate_hz:g}, but states were recorded at "
                    f"{rate:.2f} Hz.",
                    f"Set control_rate_hz to {rate:.3g} or less.",
                )
            )
    return found


def _lengths(raw: Numbers, spec: RobotSpec) -> list[Finding]:
    places = raw[:, list(spec.positions)]
    reach = float(np.abs(places).max())
    metres = reach * METRES[spec.position_unit]
    span = float(np.ptp(places, axis=0).max())
    seen = f"Positions reach {reach:.4g} and span {span:.4g}, which position_unit="
    fitting = [
        unit
        for unit, size in METRES.items()
        if LIKELY_REACH[0] <= reach * size <= LIKELY_REACH[1] and unit != spec.position_unit
    ]
    guess = " or ".join(repr(unit) for unit in fitting) or "the unit of the recording"
    if spec.kind == "arm_pose" and metres > LARGEST_REACH:
        text = f"{seen}{spec.position_unit!r} reads as {metres:.4g} m: no arm is that long."
        return [Finding("units", True, text, f"Set position_unit to {guess}.")]
    if spec.kind == "arm_pose" and metres < SMALLEST_REACH:
        text = f"{seen}{spec.position_unit!r} reads as {1000 * metres:.3g} mm: hardly a movement."
        return [Finding("units", True, text, f"Set position_unit to {guess}.")]
    if spec.kind == "mobile_base" and span * METRES[spec.position_unit] < SMALLEST_REACH:
        text = f"{seen}{spec.position_unit!r} reads as under {100 * SMALLEST_REACH:g} cm."
        return [Finding("units", False, text, f"Set position_unit to {guess}, if the base drove.")]
    return []


def _angles(raw: Numbers, spec: RobotSpec) -> list[Finding]:
    columns: tuple[int, ...] = ()
    limit = LARGEST_TURN
    if spec.kind == "arm_pose" and spec.rotation in ("euler", "axis_angle"):
        columns = spec.rotations
    elif spec.kind == "joints":
        turning = set(spec.continuous_joints)
        columns = tuple(c for at, c in enumerate(spec.joint_columns) if at not in turning)
        limit = LARGEST_JOINT
    if not columns:
        return []
    largest = float(np.abs(raw[:, list(columns)]).max())
    if spec.angle_unit == "radians" and largest > limit:
        return [
            Finding(
                "units",
                True,
                f"Angles reach {largest:.4g}; in radians a turn is 6.28.",
                "Set angle_unit to 'degrees', or name joints that turn without end in "
                "continuous_joints.",
            )
        ]
    if spec.angle_unit == "degrees" and 0.05 < largest <= math.pi * 1.02:
        return [
            Finding(
                "units",
                spec.kind == "arm_pose",
                f"Angles stay within {largest:.3g}, which angle_unit='degrees' reads as hardly "
                "turning.",
                "Set angle_unit to 'radians', if the robot did turn.",
            )
        ]
    return []


def _gripper(raw: Numbers, closed: Numbers, spec: RobotSpec) -> list[Finding]:
    least, most = float(closed.min()), float(closed.max())
    where = (
        f"Column {spec.gripper_column}, the gripper, holds {raw.min():.4g} to {raw.max():.4g}; "
        f"declared are {spec.gripper_open:g} (open) to {spec.gripper_closed:g} (closed)."
    )
    advice = "Correct gripper_column, or gripper_open and gripper_closed."
    if least < -GRIPPER_SLACK or most > 1 + GRIPPER_SLACK:
        return [Finding("gripper", True, where, advice)]
    if most - least < 1e-6:
        return [Finding("gripper", False, f"{where} It never moves.", advice)]
    if least > GRIPPER_ENDS and most < 1 - GRIPPER_ENDS:
        return [Finding("gripper", True, f"{where} It is never near either end.", advice)]
    if most - least < GRIPPER_USED:
        share = f"{where} It uses only {most - least:.1%} of that."
        return [Finding("gripper", False, share, advice)]
    return []


def check_jumps(episode: Episode, states: Tensor, spec: RobotSpec) -> list[Finding]:
    """Steps that no arm makes: the pose was lost, or episodes were glued together."""
    if spec.kind != "arm_pose" or len(episode) < 2:
        return []
    moved = np.linalg.norm(np.diff(states[:, :3].double().numpy(), axis=0), axis=1)
    speed = moved / np.diff(episode.times_seconds)
    worst = int(speed.argmax())
    usual = float(np.median(speed))
    if speed[worst] <= LARGEST_SPEED or speed[worst] <= 5 * usual:
        return []
    return [
        Finding(
            "jumps",
            True,
            f"The hand moves {moved[worst]:.2f} m in one step at "
            f"{episode.times_seconds[worst]:.3f} s ({speed[worst]:.1f} m/s).",
            "Cut the episode there.",
            episode.name,
        )
    ]
