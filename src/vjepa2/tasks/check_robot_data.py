"""Check the recordings of a robot before anything is trained on them.

report = check_robot_data("my_dataset", RobotSpec.from_file("robot.json"))
print(report.text())
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from vjepa2.data.action_checks import Agreement, agreement, check_agreement, check_camera
from vjepa2.data.episode_checks import (
    Cause,
    Finding,
    check_jumps,
    check_numbers,
    check_times,
    check_video,
)
from vjepa2.data.robot_layouts import RobotLayout, read_episodes
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import RobotStatistics, robot_statistics
from vjepa2.data.trajectories import Episode, Episodes
from vjepa2.errors import (
    ConfigError,
    DataError,
    InputError,
    MissingExtraError,
    ShapeError,
    VideoError,
    checked_integer,
)
from vjepa2.progress import track

MAX_VIDEOS = 8  # episodes whose frames are looked at
MAX_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class RobotDataReport:
    """What is known of a data set.

    Attributes:
        path, layout: of the set.
        num_episodes, num_readable: episodes, and those without damage.
        num_moments: states of the readable ones.
        seconds: their duration, all together.
        rates_hz: lowest, middle and highest measured rate.
        statistics: of states and actions; None where nothing is readable.
        state_names: of their numbers.
        lag: of recorded actions; None where there are none, or too few.
        findings: serious ones first.
    """

    path: str
    layout: str
    num_episodes: int
    num_readable: int
    num_moments: int
    seconds: float
    rates_hz: tuple[float, float, float]
    statistics: RobotStatistics | None
    state_names: tuple[str, ...]
    lag: Agreement | None
    findings: tuple[Finding, ...]

    @property
    def serious(self) -> bool:
        """True where something must be mended before training."""
        return any(finding.serious for finding in self.findings)

    def values(self) -> dict[str, Any]:
        """For JSON."""
        lag = self.lag
        return {
            "path": self.path,
            "layout": self.layout,
            "episodes": self.num_episodes,
            "readable_episodes": self.num_readable,
            "moments": self.num_moments,
            "seconds": self.seconds,
            "rates_hz": list(self.rates_hz) if self.num_readable else None,
            "state_names": list(self.state_names),
            "statistics": None if self.statistics is None else self.statistics.model_dump(),
            "actions": None
            if lag is None
            else {"read_as": lag.meaning, "lag_steps": lag.lag, "correlation": lag.score},
            "findings": [asdict(finding) for finding in self.findings],
            "serious": self.serious,
        }

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Per number of a state: name, least, most, mean change up and spread of changes."""
        if self.statistics is None:
            return []
        states, actions = self.statistics.states, self.statistics.actions
        columns = (self.state_names, states.least, states.most, actions.std)
        return [
            (name, f"{least:.4g}", f"{most:.4g}", f"{most - least:.4g}", f"{std:.3g}")
            for name, least, most, std in zip(*columns, strict=True)
        ]

    def text(self) -> str:
        """A table and the findings, for people."""
        low, middle, high = self.rates_hz
        head = (
            f"{self.path}: {self.layout}, {self.num_readable} of {self.num_episodes} episodes "
            f"readable, {self.num_moments} moments, {self.seconds:.1f} s"
        )
        lines = [
            head,
            f"rate: {middle:.2f} Hz ({low:.2f} to {high:.2f})",
            self.agreement_text(),
        ]
        heads = ("state", "least", "most", "span", "spread of changes")
        table = [heads, *self.rows()]
        if len(table) > 1:
            widths = [max(len(row[at]) for row in table) for at in range(len(heads))]
            for row in table:
                cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
                lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
        for finding in self.findings[:MAX_SHOWN]:
            mark = "WRONG" if finding.serious else "look"
            where = f" [{finding.episode}]" if finding.episode else ""
            lines += [f"{mark}: {finding.cause}{where}: {finding.text}", f"  -> {finding.advice}"]
        if len(self.findings) > MAX_SHOWN:
            lines.append(f"and {len(self.findings) - MAX_SHOWN} more findings")
        if not self.findings:
            lines.append("Nothing wrong was found.")
        return "\n".join(lines)

    def agreement_text(self) -> str:
        """A line on recorded actions."""
        if self.lag is None:
            return "recorded actions: none, or too few to compare with the states"
        return (
            f"recorded actions: read as {self.lag.meaning}, they explain the states best at a lag "
            f"of {self.lag.lag} steps (correlation {self.lag.score:.2f})"
        )


def check_robot_data(
    path: str | os.PathLike[str],
    spec: RobotSpec,
    *,
    layout: RobotLayout = "auto",
    fps: float | None = None,
    max_videos: int = MAX_VIDEOS,
    quiet: bool = True,
) -> RobotDataReport:
    """Read every episode's numbers and some episodes' frames, and say what is wrong.

    Args:
        path: a data set in any layout of `read_episodes`.
        spec: what its numbers mean.
        fps: moments per second that are to be trained on; for words only.
        quiet: show no progress.
        max_videos: episodes whose frames are looked at, spread over the set.

    Raises:
        DataNotFoundError, ListError: no such data set.
        ConfigError: the specification does not fit the data: columns, the camera.
        MissingExtraError: a package for this layout is not installed.
    """
    checked_integer("max_videos", max_videos, least=0)
    episodes = read_episodes(path, layout=layout, fps=spec.control_rate_hz)
    findings: list[Finding] = []
    readable = _readable(episodes, spec, findings, quiet=quiet)
    if episodes.layout != "droid":  # whose log has a known rate
        findings += _assumed_rate(readable, spec)
    nominal = episodes.facts.get("nominal_fps")
    for episode in readable:
        findings += check_times(episode, nominal_hz=nominal)
        findings += check_jumps(episode, spec.states(episode.states), spec)
    rates = [episode.rate_hz for episode in readable if len(episode) > 1]
    found = agreement([episode for episode in readable if episode.actions is not None], spec)
    statistics = None
    if readable:
        raw = np.concatenate([episode.states for episode in readable])
        states = torch.cat([spec.states(episode.states) for episode in readable])
        findings += check_numbers(raw, states, spec, rates=rates)
        statistics = robot_statistics(readable, spec) if rates else None
    if found is not None:
        findings += check_agreement(found, spec, rate_hz=float(np.median(rates)))
    for episode in _some(readable, max_videos):
        findings += _frames(episode, spec, fps=fps)
    return RobotDataReport(
        path=str(path),
        layout=episodes.layout,
        num_episodes=len(episodes),
        num_readable=len(readable),
        num_moments=sum(len(episode) for episode in readable),
        seconds=float(sum(np.ptp(episode.times_seconds) for episode in readable)),
        rates_hz=(min(rates), float(np.median(rates)), max(rates)) if rates else (math.nan,) * 3,
        statistics=statistics,
        state_names=spec.state_names,
        lag=found,
        findings=tuple(sorted(findings, key=lambda finding: not finding.serious)),
    )


def _readable(
    episodes: Episodes, spec: RobotSpec, findings: list[Finding], *, quiet: bool
) -> list[Episode]:
    """Episodes whose numbers can be read; a finding for each of the others."""
    kept = []
    numbers: Sequence[int] = range(len(episodes))
    for number in track(numbers, total=len(numbers), description="episodes", quiet=quiet):
        try:
            episode = episodes[number]
            spec.states(episode.states)
        except MissingExtraError:
            raise
        except ShapeError as error:
            raise ConfigError(f"The specification does not fit the data: {error}") from error
        except (DataError, InputError) as error:
            advice = "Mend the episode, or leave it out."
            findings.append(Finding("unreadable", True, str(error), advice, episodes.names[number]))
            continue
        kept.append(episode)
    return kept


def _assumed_rate(episodes: Sequence[Episode], spec: RobotSpec) -> list[Finding]:
    """Rates that nobody stated: the recordings hold no times, the specification no rate."""
    assumed = [e for e in episodes if str(e.facts.get("times", "")).startswith("assumed")]
    if not assumed or spec.control_rate_hz is not None:
        return []
    rate = assumed[0].rate_hz
    return [
        Finding(
            "rate",
            False,
            f"{len(assumed)} of {len(episodes)} episodes hold no times; {rate:g} moments a second "
            "are assumed, not measured.",
            "Record the times (seconds) beside the states, or set control_rate_hz in the robot's "
            "specification; with a wrong rate every action is learned wrongly.",
        )
    ]


def _some(episodes: Sequence[Episode], count: int) -> list[Episode]:
    step = max(1, math.ceil(len(episodes) / count)) if count else 1
    return list(episodes[::step][:count])


def _frames(episode: Episode, spec: RobotSpec, *, fps: float | None) -> list[Finding]:
    names = list(episode.cameras)
    if spec.camera is not None:
        episode.camera(spec.camera)
        names = [spec.camera]
    findings = []
    for name in names:
        try:
            findings += check_video(episode, name, fps=fps)
            findings += check_camera(episode, name, spec)
        except (DataError, VideoError) as error:
            cause: Cause = "missing frames" if "missing" in str(error) else "unreadable"
            findings.append(
                Finding(cause, True, str(error), "Mend or leave out the episode.", episode.name)
            )
    return findings
