"""Check the recordings of a robot before anything is trained on them.

report = check_robot_data("my_dataset", RobotSpec.from_file("robot.json"))
print(report.text())
"""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from vjepa2.data.action_checks import Agreement, agreement, check_agreement, check_camera
from vjepa2.data.clock_checks import check_even, check_times, check_video
from vjepa2.data.episode_checks import Finding, check_alike, check_jumps, check_numbers
from vjepa2.data.robot_layouts import RobotLayout, read_episodes
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import RobotStatistics, robot_statistics
from vjepa2.data.trajectories import Episode, Episodes
from vjepa2.errors import (
    ConfigError,
    DataError,
    InputError,
    MissingExtraError,
    MissingFramesError,
    ShapeError,
    VideoError,
    checked_integer,
)
from vjepa2.progress import track
from vjepa2.video.reader import VideoReader

MAX_VIDEOS = 8  # episodes whose frames are decoded and looked at; of all of them, files are opened
USUAL_FPS = 4.0  # moments per second of the published model
MAX_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class RobotDataReport:
    """What is known of a data set.

    Attributes:
        path, layout: of the set.
        num_episodes, num_readable: episodes, and those without damage.
        num_looked_at: episodes of which frames were decoded.
        num_moments: states of the readable ones.
        seconds: their duration, all together.
        rates_hz: lowest, middle and highest rate.
        num_without_times: readable episodes whose rate was not measured, but stated or assumed.
        statistics: of states and actions; None where nothing is readable.
        state_names: of their numbers.
        lag: of recorded actions; None where there are none, or too few.
        findings: serious ones first.
    """

    path: str
    layout: str
    num_episodes: int
    num_readable: int
    num_looked_at: int
    num_moments: int
    seconds: float
    rates_hz: tuple[float, float, float]
    num_without_times: int
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
            "episodes_looked_at": self.num_looked_at,
            "moments": self.num_moments,
            "seconds": self.seconds,
            "rates_hz": list(self.rates_hz) if self.num_readable else None,
            "episodes_without_times": self.num_without_times,
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
            f"readable, {self.num_moments} moments, {self.seconds:.1f} s; all videos opened, "
            f"frames of {self.num_looked_at} episodes looked at"
        )
        lines = [
            head,
            f"rate: {middle:.2f} Hz ({low:.2f} to {high:.2f}){self._unmeasured()}",
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

    def _unmeasured(self) -> str:
        count = self.num_without_times
        return f"; {count} episodes hold no times: not measured" if count else ""

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
    """Read every episode's numbers, open its videos, decode some, and say what is wrong.

    Args:
        path: a data set in any layout of `read_episodes`.
        spec: what its numbers mean.
        fps: moments per second that are to be trained on; None: 4, as published.
        quiet: show no progress.
        max_videos: episodes whose frames are decoded, spread over the set.

    Raises:
        DataNotFoundError, ListError: no such data set.
        ConfigError: the specification does not fit the data: columns, the camera.
        MissingExtraError: a package for this layout is not installed.
    """
    checked_integer("max_videos", max_videos, least=0)
    episodes = read_episodes(path, layout=layout, fps=spec.control_rate_hz)
    findings: list[Finding] = []
    readable = _readable(episodes, spec, findings, quiet=quiet)
    without_times = [
        episode for episode in readable if str(episode.facts.get("times", "")).startswith("assumed")
    ]
    if without_times and spec.control_rate_hz is None and episodes.layout != "droid":
        findings.append(_assumed_rate(without_times))
    nominal = episodes.facts.get("nominal_fps")
    for episode in readable:
        findings += check_times(episode, nominal_hz=nominal)
        findings += check_jumps(episode, spec.states(episode.states), spec)
    # Steps alike in length are a matter of the rate, which one episode tells for all.
    uneven = (check_even(episode, USUAL_FPS if fps is None else fps) for episode in readable)
    findings += next((found for found in uneven if found), [])
    unlike = check_alike(readable, spec)
    findings += unlike
    rates = [episode.rate_hz for episode in readable if len(episode) > 1]
    found = agreement([episode for episode in readable if episode.actions is not None], spec)
    statistics = None
    if readable:
        # The set is judged without episodes in another unit, which would be blamed on it.
        others = {finding.episode for finding in unlike}
        alike = [episode for episode in readable if episode.name not in others] or readable
        raw = np.concatenate([episode.states for episode in alike])
        states = torch.cat([spec.states(episode.states) for episode in alike])
        findings += check_numbers(raw, states, spec, rates=rates)
        statistics = robot_statistics(readable, spec) if rates else None
    if found is not None:
        findings += check_agreement(found, spec, rate_hz=float(np.median(rates)))
    looked_at = _some(readable, max_videos)
    findings += _videos(readable, looked_at, spec, fps=fps, quiet=quiet)
    return RobotDataReport(
        path=str(path),
        layout=episodes.layout,
        num_episodes=len(episodes),
        num_readable=len(readable),
        num_looked_at=len(looked_at),
        num_moments=sum(len(episode) for episode in readable),
        seconds=float(sum(np.ptp(episode.times_seconds) for episode in readable)),
        rates_hz=(min(rates), float(np.median(rates)), max(rates)) if rates else (math.nan,) * 3,
        num_without_times=len(without_times),
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


def _assumed_rate(episodes: Sequence[Episode]) -> Finding:
    """A rate that nobody stated: recordings hold no times, the specification no rate."""
    return Finding(
        "rate",
        False,
        f"{len(episodes)} episodes hold no times; {episodes[0].rate_hz:g} moments a second are "
        "assumed, not measured.",
        "Record the times (seconds) beside the states, or set control_rate_hz in the robot's "
        "specification; with a wrong rate every action is learned wrongly.",
    )


def _some(episodes: Sequence[Episode], count: int) -> list[Episode]:
    step = max(1, math.ceil(len(episodes) / count)) if count else 1
    return list(episodes[::step][:count])


class _Opened:
    """Readers of video files, the last one of which stays open: episodes share files in a row."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, path: Path) -> VideoReader:
        if path != self._path:
            self._stack.close()
            self._path = None
            self._reader = self._stack.enter_context(VideoReader(path, num_ffmpeg_threads=1))
            self._path = path
        return self._reader


def _videos(
    episodes: Sequence[Episode],
    looked_at: Sequence[Episode],
    spec: RobotSpec,
    *,
    fps: float | None,
    quiet: bool,
) -> list[Finding]:
    """Every video is opened, those of some episodes are decoded."""
    decoded = {episode.name for episode in looked_at}
    findings: list[Finding] = []
    with _Opened() as opened:
        for episode in track(episodes, total=len(episodes), description="videos", quiet=quiet):
            names = list(episode.cameras)
            if spec.camera is not None:
                episode.camera(spec.camera)
                names = [spec.camera]
            for name in names:
                try:
                    findings += check_video(episode, name, opened=opened, fps=fps)
                    if episode.name in decoded:
                        findings += check_camera(episode, name, spec)
                except (DataError, VideoError) as error:
                    is_short = isinstance(error, MissingFramesError)
                    findings.append(
                        Finding(
                            "missing frames" if is_short else "unreadable",
                            True,
                            str(error),
                            "Mend or leave out the episode.",
                            episode.name,
                        )
                    )
    return findings
