"""Do recorded actions explain what the robot did, and does the camera see it?

Actions c and the changes d of the state are correlated at several lags, every number of one with
every number of the other. In order, c_i goes with d_i at lag 0. A peak elsewhere is a lag, a peak
beside the diagonal are swapped axes, no peak at all are actions of another recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vjepa2.data.episode_checks import Finding
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.trajectories import Episode, Numbers, RecordedActions
from vjepa2.errors import InputError

MAX_LAG = 5
LEAST_ROWS = 30
EXPLAINED = 0.3  # correlation below which actions explain nothing
STILL = 1e-7  # spread of a number that does not change
LATER_IS_BETTER = 0.05
BESIDE = 0.25
CERTAIN = 0.5
SAME_SCALE = 2.0
UNIT_FACTORS = (1000.0, 100.0, 10.0, 180 / np.pi)
FROZEN_LEVELS = 1.5  # of 255, in the cell that changes most
GRID = 32
CAMERA_ROWS = 40

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Recorded actions against changes of the state.

    Attributes:
        meaning: what the actions were read as.
        lag: steps by which the state follows its action, where they agree best.
        score: mean of the best correlations there, 0..1.
        at_zero: the same at lag 0.
        matrix: [K, K] correlations of action i (row) with change j at `lag`.
        scale: [K] change per unit of action; nan where nothing moves.
        rows: pairs that were compared.
    """

    meaning: RecordedActions
    lag: int
    score: float
    at_zero: float
    matrix: Table
    scale: Table
    rows: int


def agreement(episodes: Sequence[Episode], spec: RobotSpec) -> Agreement | None:
    """How well recorded actions explain what followed; None where there are too few.

    Where the specification does not say what actions mean, both meanings are tried.
    """
    meanings: tuple[RecordedActions, ...] = (
        ("changes", "targets") if spec.recorded_actions is None else (spec.recorded_actions,)
    )
    tried = [found for meaning in meanings if (found := _agreement(episodes, spec, meaning))]
    return max(tried, key=lambda found: found.score, default=None)


def _agreement(
    episodes: Sequence[Episode], spec: RobotSpec, meaning: RecordedActions
) -> Agreement | None:
    pairs = []
    for episode in episodes:
        if episode.actions is None or len(episode) < 2 * MAX_LAG + 3:
            continue
        changes = spec.actions(spec.states(episode.states).double())
        try:
            told = (
                spec.actions(spec.targets(episode))
                if meaning == "targets"
                else spec.recorded(episode, meaning)
            )
        except InputError:  # changes are no rotations, as the specification reads them
            return None
        pairs.append((told.numpy(), changes[len(changes) - len(told) :].numpy()))
    if sum(len(told) for told, _ in pairs) < LEAST_ROWS:
        return None
    lags = range(-MAX_LAG, MAX_LAG + 1)
    tables = {lag: _correlations(pairs, lag) for lag in lags}
    scores = {lag: _score(table) for lag, table in tables.items()}
    best = max(lags, key=lambda lag: (round(scores[lag], 4), -abs(lag)))
    return Agreement(
        meaning=meaning,
        lag=best,
        score=scores[best],
        at_zero=scores[0],
        matrix=tables[best],
        scale=_scales(pairs, best),
        rows=sum(len(told) for told, _ in pairs),
    )


def _shifted(told: Table, changes: Table, lag: int) -> tuple[Table, Table]:
    """Rows t of the one with rows t + lag of the other."""
    if lag >= 0:
        return told[: len(told) - lag], changes[lag:]
    return told[-lag:], changes[:lag]


def _stacked(pairs: Sequence[tuple[Table, Table]], lag: int) -> tuple[Table, Table]:
    shifted = [_shifted(told, changes, lag) for told, changes in pairs]
    one, two = zip(*shifted, strict=True)
    return np.concatenate(one), np.concatenate(two)


def _correlations(pairs: Sequence[tuple[Table, Table]], lag: int) -> Table:
    told, changes = _stacked(pairs, lag)
    told, changes = told - told.mean(axis=0), changes - changes.mean(axis=0)
    one, two = told.std(axis=0), changes.std(axis=0)
    scale = np.outer(one, two)
    moving = np.outer(one > STILL, two > STILL)
    products = told.T @ changes / len(told)
    table: Table = np.divide(products, scale, out=np.zeros_like(products), where=moving)
    return table


def _score(table: Table) -> float:
    """Mean over the numbers that move of the best correlation with any action."""
    moving = np.abs(table).sum(axis=0) > 0
    return float(np.abs(table[:, moving]).max(axis=0).mean()) if moving.any() else 0.0


def _scales(pairs: Sequence[tuple[Table, Table]], lag: int) -> Table:
    told, changes = _stacked(pairs, lag)
    power = np.square(told).sum(axis=0)
    product = (told * changes).sum(axis=0)
    scales: Table = np.full_like(power, np.nan)
    np.divide(product, power, out=scales, where=power > STILL**2)
    return scales


def check_agreement(found: Agreement, spec: RobotSpec, *, rate_hz: float) -> list[Finding]:
    """Findings of lag, shuffled actions, swapped or reversed axes and other scales."""
    floor = max(EXPLAINED, 3.5 / np.sqrt(found.rows))
    if found.score < floor:
        return [
            Finding(
                "shuffled actions",
                True,
                f"Recorded actions explain nothing of what the robot did: correlation "
                f"{found.score:.2f} at best, of lags -{MAX_LAG} to {MAX_LAG} ({found.rows} rows, "
                f"read as {found.meaning}).",
                "Check that actions and states come from the same episodes in the same order, and "
                "recorded_actions and action_columns.",
            )
        ]
    findings = []
    if found.lag != 0 and found.score - found.at_zero > LATER_IS_BETTER:
        late = "States follow their actions" if found.lag > 0 else "Actions are logged too late,"
        findings.append(
            Finding(
                "lag",
                True,
                f"{late} by {abs(found.lag)} steps ({abs(found.lag) / rate_hz:.3f} s): correlation "
                f"{found.score:.2f} there, {found.at_zero:.2f} at 0.",
                f"Shift the actions by {found.lag} rows, or take actions_from='states'.",
            )
        )
    return findings + _axes(found, spec) + _scale(found, spec)


def _axes(found: Agreement, spec: RobotSpec) -> list[Finding]:
    names = spec.state_names
    moved, reversed_ = [], []
    for row, name in enumerate(names):
        values = found.matrix[row]
        best = int(np.abs(values).argmax())
        if best != row and abs(values[best]) > CERTAIN:
            if abs(values[best]) - abs(values[row]) > BESIDE:
                sign = "-" if values[best] < 0 else ""
                moved.append(f"{name} moves {sign}{names[best]} ({values[best]:.2f})")
        elif values[row] < -CERTAIN:
            reversed_.append(f"{name} ({values[row]:.2f})")
    findings = []
    if moved:
        findings.append(
            Finding(
                "swapped axes",
                True,
                f"Actions move other axes than their own: {', '.join(moved)}.",
                "Correct position_columns or action_columns; or the actions are in another frame "
                "(of the tool or a camera): take actions_from='states'.",
            )
        )
    if reversed_:
        findings.append(
            Finding(
                "swapped axes",
                True,
                f"Actions move their axes the other way: {', '.join(reversed_)}.",
                "Reverse their sign in the recording, or take actions_from='states'.",
            )
        )
    return findings


def _scale(found: Agreement, spec: RobotSpec) -> list[Finding]:
    certain = np.diag(found.matrix) > CERTAIN
    off = [
        (name, float(scale))
        for name, scale, sure in zip(spec.state_names, found.scale, certain, strict=True)
        if sure and not 1 / SAME_SCALE <= scale <= SAME_SCALE
    ]
    if not off:
        return []
    ratio = float(np.median([scale for _, scale in off]))
    factors = [factor for unit in UNIT_FACTORS for factor in (unit, 1 / unit)]
    of_units = any(abs(np.log(ratio / factor)) < np.log(1.3) for factor in factors)
    listed = ", ".join(f"{name} {scale:.3g}" for name, scale in off)
    return [
        Finding(
            "units" if of_units else "scale",
            of_units,
            f"The robot moves by another amount than its actions say; change per unit: {listed}.",
            "Actions and states are in different units"
            if of_units
            else "Actions may be normalised, or the robot does not reach them in one step: take "
            "actions_from='states'.",
        )
    ]


# -- the camera -------------------------------------------------------------------------------


def camera_motion(episode: Episode, camera: str, *, most: int = 96) -> tuple[Numbers, Numbers]:
    """Mean and largest change between frames of a stretch from the start, in levels of 255.

    Raises:
        EpisodeError: frames are missing or cannot be read.
    """
    count = min(len(episode), most)
    pixels = episode.frames(camera, range(count)).float().mean(dim=1, keepdim=True)
    small = F.adaptive_avg_pool2d(pixels, (min(GRID, pixels.shape[2]), min(GRID, pixels.shape[3])))
    change = torch.diff(small[:, 0], dim=0).abs().flatten(1).double()
    return change.mean(dim=1).numpy(), change.amax(dim=1).numpy()


def check_camera(
    episode: Episode, camera: str, spec: RobotSpec, *, most: int = 96
) -> list[Finding]:
    """A frozen camera, repeated frames, or one that shows things later than they were logged.

    Raises:
        EpisodeError: frames are missing or cannot be read.
    """
    if len(episode) < 3:
        return []
    mean, largest = camera_motion(episode, camera, most=most)
    changes = spec.actions(spec.states(episode.states).double())[: len(mean)].numpy()
    spread = changes.std(axis=0)
    moving = spread > 1e-4
    if not moving.any():
        return []
    # What moves most pixels is the hand's way, not its turning or its gripper.
    way = np.zeros_like(moving)
    way[: len(spec.positions) or None] = True
    seen = moving & way if (moving & way).any() else moving
    speed = np.abs(changes[:, seen] / spread[seen]).mean(axis=1)
    still = largest < FROZEN_LEVELS
    busy = speed > 0.25 * np.median(speed)
    if busy.sum() < 2:
        return []
    share = float(still[busy].mean())
    if share > 0.3:
        frozen = share > 0.9
        return [
            Finding(
                "frozen camera",
                frozen,
                f"Camera {camera!r}: {100 * share:.0f} % of {int(busy.sum())} pairs of frames show "
                "no change while the robot moves.",
                "Leave the episode out: its frames do not show what was logged."
                if frozen
                else "The camera may be slower than the log, with frames repeated: resample to its "
                "rate; or it does not see the robot.",
                episode.name,
            )
        ]
    if len(mean) < CAMERA_ROWS:
        return []
    lags = range(-MAX_LAG, MAX_LAG + 1)
    pair = [(mean[:, None], speed[:, None])]
    values = {lag: float(_correlations(pair, lag)[0, 0]) for lag in lags}
    best = max(lags, key=lambda lag: values[lag])
    if best == 0 or values[best] < CERTAIN or values[best] - values[0] < 0.2:
        return []
    late = "later" if best < 0 else "earlier"
    return [
        Finding(
            "camera lag",
            False,
            f"Camera {camera!r} shows movements {abs(best)} frames {late} than they were logged: "
            f"correlation {values[best]:.2f} there, {values[0]:.2f} at 0.",
            "Shift the frames of this camera against the log by that many.",
            episode.name,
        )
    ]
