"""The report card of a world model: what it is worth for planning, and whether the data is sound.

    card = report_card(load_world("model"), "recordings")
    print(card.text())

Measured offline on recordings, best on some that the model has not seen. The score puts models in
an order; it is no probability of success.
"""

import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from vjepa2.data.episode_checks import Finding
from vjepa2.data.robot_layouts import RobotLayout, read_episodes
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.tasks.check_robot_data import check_robot_data
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.report_card_data import Recordings, read_recordings
from vjepa2.tasks.report_card_energy import (
    AxisCalibration,
    EnergyExample,
    Landscapes,
    calibrate,
    energy_example,
    landscapes,
)
from vjepa2.tasks.report_card_findings import data_findings, verdict
from vjepa2.tasks.report_card_rollout import ActionGap, RolloutErrors, action_gap, rollout_errors
from vjepa2.tasks.report_card_suspects import Suspect, suspects
from vjepa2.tasks.report_card_vision import (
    CameraShift,
    InverseDynamics,
    camera_shift,
    inverse_dynamics,
)
from vjepa2.tasks.world_folder import LoadedWorld

# Of the score: aim at the next moment, aim at a goal some moments away, telling actions apart.
WEIGHTS = (0.4, 0.4, 0.2)


@dataclass(frozen=True, kw_only=True)
class ReportCard:
    """What was measured.

    Attributes:
        path: of the recordings.
        num_episodes, num_transitions: that were used.
        skipped: episodes that could not be used.
        state_names: of the numbers of an action.
        rollouts: errors by horizon.
        gap: of true and other actions.
        inverse: actions read from latents.
        landscapes: what energy prefers; None where nothing moves.
        example: one landscape to look at.
        calibration: axes of the model against the robot's; None with fewer than two axes.
        shift: of the camera.
        suspects: corrections of the data that were tried.
        findings: what is wrong with the data, serious ones first.
        verdict: what the model is worth, in sentences.
        in_metres: whether lengths are metres, not radians of joints.
    """

    path: str
    num_episodes: int
    num_transitions: int
    skipped: tuple[str, ...]
    state_names: tuple[str, ...]
    rollouts: RolloutErrors
    gap: ActionGap
    inverse: InverseDynamics
    landscapes: Landscapes | None
    example: EnergyExample | None
    calibration: AxisCalibration | None
    shift: CameraShift
    suspects: tuple[Suspect, ...]
    findings: tuple[Finding, ...]
    verdict: tuple[str, ...]
    in_metres: bool

    @property
    def serious(self) -> bool:
        """True where something is wrong with the data."""
        return any(finding.serious for finding in self.findings)

    @property
    def score(self) -> float:
        """One number to rank models by, 0..1, higher is better.

        0.4 aim at the next moment + 0.4 aim at a goal some moments away + 0.2 accuracy, where aim
        is size / (size + offset): 1 where energy is least at the true movement, 0.5 where it is
        as far from it as the movement is long; accuracy is that of true against other actions.
        Compare scores on the same recordings only.
        """
        found = self.landscapes
        near, far, choice = WEIGHTS
        if found is None:
            return choice * self.gap.accuracy
        return (
            near * _aim(found.size, found.offset)
            + far * _aim(found.far_size, found.far_offset)
            + choice * self.gap.accuracy
        )

    @property
    def unit(self) -> tuple[str, float]:
        """In which lengths are told, and how many of them a metre, or a radian, has."""
        return ("cm", 100.0) if self.in_metres else ("degrees", math.degrees(1))

    def errors(self) -> dict[str, tuple[float, ...]]:
        """Errors after 1, 2, .. actions, by what predicts."""
        rollouts = self.rollouts
        return {
            "the model": rollouts.model,
            "nothing changes": rollouts.copy,
            "it changes as usual": rollouts.motion,
        }

    def curves(self) -> dict[str, tuple[float, ...]]:
        """By the number of an action, energy over that at the true one, from -reach to reach."""
        if self.landscapes is None:
            return {}
        rows = self.landscapes.curves.tolist()
        return {
            name: tuple(row)
            for name, row in zip(self.state_names, rows, strict=True)
            if not math.isnan(row[0])
        }

    def values(self) -> dict[str, Any]:
        """For JSON."""
        unit, factor = self.unit
        found, calibration = self.landscapes, self.calibration
        return {
            "path": self.path,
            "score": self.score,
            "episodes": self.num_episodes,
            "transitions": self.num_transitions,
            "skipped": list(self.skipped),
            "rollouts": {**asdict(self.rollouts), "skill": list(self.rollouts.skill)},
            "action_gap": {**asdict(self.gap), "gap": self.gap.gap},
            "inverse_dynamics": {
                "r2": dict(zip(self.state_names, self.inverse.r2, strict=True)),
                "lags": {str(lag): value for lag, value in self.inverse.lags.items()},
                "best_lag": self.inverse.best_lag if self.inverse.lags else None,
            },
            "energy": None
            if found is None
            else {
                "unit": unit,
                "offset": factor * found.offset,
                "movement": factor * found.size,
                "far_offset": factor * found.far_offset,
                "far_movement": factor * found.far_size,
            },
            "calibration": None if calibration is None else asdict(calibration),
            "camera_shift": {
                "shares_of_width": list(self.shift.shifts),
                "change_over_that_of_an_action": list(self.shift.ratios),
            },
            "suspects": [{**asdict(item), "gain": item.gain} for item in self.suspects[:5]],
            "findings": [asdict(finding) for finding in self.findings],
            "serious": self.serious,
            "verdict": list(self.verdict),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Measures in words and numbers."""
        unit, factor = self.unit
        errors, skill, found = self.rollouts.model, self.rollouts.skill, self.landscapes
        rollouts = (
            f"error {errors[0]:.4f} after 1 action, {errors[-1]:.4f} after {len(skill)}; skill "
            f"over the better baseline {skill[0]:+.2f} and {skill[-1]:+.2f}"
        )
        choice = (
            f"the true one is better in {100 * self.gap.accuracy:.0f} %; error "
            f"{100 * self.gap.gap:+.0f} % with others"
        )
        names = zip(self.state_names, self.inverse.r2, strict=True)
        read = ", ".join(f"{name} {value:.2f}" for name, value in names if value is not None)
        rows = [
            ("score", f"{self.score:.3f}"),
            ("rollouts", rollouts),
            ("true and other actions", choice),
            ("inverse dynamics, R2", read or "too few pairs of frames"),
        ]
        if found is not None:
            energy = (
                f"least {factor * found.offset:.1f} {unit} from the true movement of "
                f"{factor * found.size:.1f} {unit}; for far goals "
                f"{factor * found.far_offset:.1f} of {factor * found.far_size:.1f} {unit}"
            )
            rows.append(("energy", energy))
        if self.calibration is not None:
            mirrored = ", mirrored" if self.calibration.reflected else ""
            axes = (
                f"turned by {self.calibration.degrees:.0f} degrees{mirrored}, "
                f"{100 * self.calibration.explained:.0f} % explained"
            )
            rows.append(("axes of the model", axes))
        shifts = zip(self.shift.shifts, self.shift.ratios, strict=True)
        told = [f"{share:.0%} of the width: {ratio:.1f}" for share, ratio in shifts]
        rows.append(("camera moved sideways", f"{', '.join(told)} times the change of one action"))
        return rows

    def text(self) -> str:
        """For people."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        lines = [
            f"{self.path}: {self.num_episodes} episodes, {self.num_transitions} steps",
            *(f"{name.ljust(width)}  {value}" for name, value in rows),
            *self.verdict,
        ]
        for finding in self.findings:
            mark = "WRONG" if finding.serious else "look"
            where = f" [{finding.episode}]" if finding.episode else ""
            lines += [f"{mark}: {finding.cause}{where}: {finding.text}", f"  -> {finding.advice}"]
        if not self.findings:
            lines.append("Nothing wrong was found with the data.")
        return "\n".join(lines)


def _aim(size: float, offset: float) -> float:
    return size / max(size + offset, 1e-12)


def report_card(
    loaded: LoadedWorld,
    path: str | os.PathLike[str],
    spec: RobotSpec | None = None,
    *,
    layout: RobotLayout = "auto",
    config: ReportCardConfig | None = None,
    quiet: bool = True,
) -> ReportCard:
    """Judge a world model on recordings, and the recordings with the model.

    Sabotage that leaves the numbers in order, such as exchanged axes of states and actions alike or
    mirrored pictures, can be told only by a model that learned from sound recordings.

    Args:
        loaded: what `load_world` returns.
        path: recordings in any layout of `read_episodes`.
        spec: what their numbers mean; None: as in training.
        config: None: the defaults.

    Raises:
        DataNotFoundError, ListError: no such data set.
        ConfigError: the specification does not fit the data or the model.
        EpisodeError: no episode can be used.
        MissingExtraError: a package for this layout is not installed.
    """
    config = ReportCardConfig() if config is None else config
    spec = loaded.spec if spec is None else spec
    episodes = read_episodes(path, layout=layout, fps=spec.control_rate_hz)
    data = read_recordings(loaded, episodes, spec, config, quiet=quiet)
    checked = check_robot_data(path, spec, layout=layout, fps=loaded.fps, quiet=quiet)
    return _card(loaded, data, checked.findings, str(path), config)


def _card(
    loaded: LoadedWorld,
    data: Recordings,
    checked: tuple[Finding, ...],
    path: str,
    config: ReportCardConfig,
) -> ReportCard:
    world = loaded.world
    rollouts = rollout_errors(world, data, config)
    gap = action_gap(world, data, config)
    inverse = inverse_dynamics(data)
    found = landscapes(loaded, data, config)
    calibration = None if found is None else calibrate(found)
    tried = suspects(loaded, data, config)
    seen = data_findings(
        data,
        fps=loaded.fps,
        statistics=loaded.statistics,
        inverse=inverse,
        gap=gap,
        calibration=calibration,
        tried=tried,
    )
    if any(finding.cause == "constant states" for finding in seen):
        # Of states that do not move no action explains anything: that is no second fault.
        checked = tuple(item for item in checked if item.cause != "shuffled actions")
    in_metres = data.spec.kind != "joints"
    unit, factor = ("cm", 100.0) if in_metres else ("degrees", math.degrees(1))
    return ReportCard(
        path=path,
        num_episodes=len(data.items),
        num_transitions=sum(len(item.actions) for item in data.items),
        skipped=data.skipped,
        state_names=data.spec.state_names,
        rollouts=rollouts,
        gap=gap,
        inverse=inverse,
        landscapes=found,
        example=None if found is None else energy_example(loaded, data, found),
        calibration=calibration,
        shift=camera_shift(loaded, data),
        suspects=tuple(tried),
        findings=tuple(sorted([*checked, *seen], key=lambda finding: not finding.serious)),
        verdict=tuple(verdict(rollouts, gap, found, unit=unit, factor=factor)),
        in_metres=in_metres,
    )
