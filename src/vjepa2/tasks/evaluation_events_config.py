"""All that decides an evaluation of a model that anticipates."""

from pydantic import Field, field_validator

from vjepa2.data.event_clips import MOST_SECONDS
from vjepa2.data.label_options import LabelOptions, Layout
from vjepa2.errors import ConfigError, check_choice
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.fooling import KINDS


class EventEvaluationConfig(StrictConfig):
    """How a model that anticipates is evaluated. Frames are those it was trained for.

    Attributes:
        layout, split, labels: how the list is read, see `data.labelled_lists`; it needs a start of
            every event and every label column of the model.
        horizons: anticipation times in seconds, the first of which the headline is for; empty:
            those that the training measured.
        train: list that the model was trained on, where it is at hand: groups, stretches and
            pictures are compared too, and baselines are counted on it.
        train_split: of that list.
        near_copies: compare pictures with those of `train`, for videos that were encoded anew.
        disturbed: videos that are asked about again with everything replaced by noise that comes
            after the context; 0 leaves it out.
        allow: kinds of findings that do not stop the evaluation, see `tasks.fooling.KINDS`.
        best_possible: share of right answers of the last label column at the first horizon that
            cannot be surpassed, where it is known.
        bins: of the reliability diagram.
        draws: of the bootstrap over videos.
        num_worst: of the surest wrong answers of each label column that are listed and shown.
        seed: of the bootstrap.
        batch_size: events computed at a time.
        workers: batches that are decoded ahead, each by a thread; 0 decodes when asked.
        device: where to compute; None: the best there is.
    """

    layout: Layout = "auto"
    split: str | None = None
    labels: LabelOptions = LabelOptions()
    horizons: tuple[float, ...] = Field((), max_length=64)
    train: str | None = None
    train_split: str | None = None
    near_copies: bool = True
    disturbed: int = Field(2, ge=0, le=100)
    allow: tuple[str, ...] = ()
    best_possible: float | None = Field(None, gt=0, le=1)
    bins: int = Field(15, ge=2, le=100)
    draws: int = Field(1000, ge=100, le=100_000)
    num_worst: int = Field(12, ge=0, le=1000)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    batch_size: int = Field(16, ge=1, le=1 << 16)
    workers: int = Field(2, ge=0, le=256)
    device: str | None = None

    @field_validator("allow")
    @classmethod
    def _exist(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            check_choice("Kind of finding", kind, KINDS)
        return kinds

    @field_validator("horizons")
    @classmethod
    def _are_times(cls, horizons: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= seconds <= MOST_SECONDS for seconds in horizons):
            raise ConfigError(f"horizons must be 0 to {MOST_SECONDS:g} s, got {horizons}")
        if len(set(horizons)) < len(horizons):
            raise ConfigError(f"horizons names a time twice: {horizons}")
        return horizons
