"""The robot's whole chain at small scale: record, check, learn, judge, drive, film.

    vjepa2 world-model demo --out demo

    demo/recordings    episodes of the simulated arm that wanders about, as a LeRobot data set
    demo/run           the run that learns from them, with the model
    demo/report.html   the report card, on episodes that were not learned from
    demo/drive         attempts to reach places that are given as pictures, and their film

Each part goes on where it was interrupted, and each is a command of its own.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import check_path
from vjepa2.features.report_card_page import write_report_card_page
from vjepa2.recipes.world_model import run_config
from vjepa2.simulation.collect import ROBOT_NAME, collect
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.closed_loop import DriveConfig, DriveResult, drive
from vjepa2.tasks.report_card import ReportCard, report_card
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.world_folder import load_world
from vjepa2.tasks.world_model import train_world_model

RECIPE = "simulated_arm"
# Held-out recordings are by another seed than those that are learned from.
HELD_OUT_SEED = 1_000_003


class DemoConfig(StrictConfig):
    """Sizes of the demo.

    Attributes:
        recorded: episodes to learn from.
        held_out: episodes for the report card.
        steps: actions of an episode.
        settings: changes of recipe "simulated_arm".
        report: sizes of the report card.
        drive: what is tried in the end.
        seed: of the recordings.
    """

    recorded: int = Field(60, ge=2)
    held_out: int = Field(6, ge=1)
    steps: int = Field(24, ge=2)
    settings: tuple[str, ...] = ("schedule.num_steps=400",)
    report: ReportCardConfig = ReportCardConfig(episodes=6, rollouts=24, starts=8)
    drive: DriveConfig = DriveConfig(episodes=5, baselines=("random",))
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, kw_only=True)
class WorldDemo:
    """What the demo made.

    Attributes:
        folder: of everything.
        card: the report card.
        page: of the report card.
        driven: how the attempts went.
    """

    folder: Path
    card: ReportCard
    page: Path
    driven: DriveResult

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "report": str(self.page),
            "score": self.card.score,
            "verdict": self.card.verdict,
            "drive": self.driven.as_dict(),
        }

    def __str__(self) -> str:
        return "\n".join([*self.card.verdict, str(self.driven), f"Report: {self.page}"])


def run_world_demo(
    folder: str | os.PathLike[str], *, config: DemoConfig | None = None, quiet: bool = False
) -> WorldDemo:
    """Do the chain; what is there already is not done again.

    Args:
        folder: is made when missing.
        config: sizes; None: minutes on two cores of a CPU.
        quiet: no progress on stderr.

    Raises:
        MissingExtraError: MuJoCo or pyarrow is not installed.
        RobotError: there are no graphics.
        ConfigError, OutputError: the folder holds other things, or cannot be written.
    """
    check_path("The demo's folder", folder)
    config = DemoConfig() if config is None else config
    folder = Path(folder)
    recordings, held_out = folder / "recordings", folder / "held_out"
    for path, episodes, seed in (
        (recordings, config.recorded, config.seed),
        (held_out, config.held_out, config.seed + HELD_OUT_SEED),
    ):
        collect(
            path,
            episodes=episodes,
            steps=config.steps,
            seed=seed,
            task="wander",
            size=config.drive.picture_size,
            quiet=quiet,
        )
    run = folder / "run"
    if not (run / "model").is_dir():
        training = run_config(
            run,
            data=str(recordings),
            robot=recordings / ROBOT_NAME,
            recipe=None if (run / "config.json").exists() else RECIPE,
            settings=config.settings,
        )
        train_world_model(training, run, quiet=quiet)
    world = load_world(run)
    spec = RobotSpec.from_file(held_out / ROBOT_NAME)
    card = report_card(world, held_out, spec, config=config.report, quiet=quiet)
    page = write_report_card_page(
        folder / "report.html",
        model=str(run),
        data=str(held_out),
        rows=card.rows(),
        verdict=card.verdict,
        findings=card.findings,
        errors=card.errors(),
        curves=card.curves(),
        lags=card.inverse.lags,
        landscape=card.example,
    )
    driven = drive(world, folder / "drive", config=config.drive, quiet=quiet)
    return WorldDemo(folder=folder, card=card, page=page, driven=driven)
