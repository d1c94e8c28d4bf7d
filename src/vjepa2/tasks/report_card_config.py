"""How much a report card looks at."""

from pydantic import Field

from vjepa2.strict_config import StrictConfig


class ReportCardConfig(StrictConfig):
    """Sizes of a report card; the defaults take seconds for a small model.

    Attributes:
        episodes: that are looked at, spread over the set.
        moments: of each, from one stretch.
        horizon: largest number of actions of a rollout.
        rollouts: that are compared with what was recorded.
        starts: moments whose energy landscape is searched.
        far: moments between a start and its far goal.
        candidates: actions per landscape, in the first of its rounds.
        shuffles: wrong actions per transition.
        suspects: transitions on which corrections of the data are tried.
        seed: of all draws.
    """

    episodes: int = Field(12, ge=1)
    moments: int = Field(40, ge=4)
    horizon: int = Field(8, ge=1, le=64)
    rollouts: int = Field(48, ge=1)
    starts: int = Field(16, ge=1)
    far: int = Field(4, ge=2)
    candidates: int = Field(128, ge=8)
    shuffles: int = Field(4, ge=1)
    suspects: int = Field(160, ge=8)
    seed: int = Field(0, ge=0)
