"""All that decides an evaluation."""

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from vjepa2.data.label_options import LabelOptions, Layout
from vjepa2.data.views import ViewConfig
from vjepa2.errors import ConfigError, check_choice
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.fooling import KINDS

Control = Literal["shuffled", "reversed", "first_frame"]
AS_IT_IS = "as_it_is"


class EvaluationConfig(StrictConfig):
    """How a classifier is evaluated.

    Attributes:
        layout, split, labels: how the list or folder is read, see `data.labelled_lists`.
        head: which label column is evaluated, for lists with several; "" takes the one the model
            was trained on, or the only one.
        probe_head: of a probe run, the number ("head" in its `results.json`) of another head than
            the best one, which is in its model folder; None takes that.
        views: clips and crops of a video. By default those that the model was trained for.
        controls: what else every video is shown as: its frames shuffled, reversed, or the first
            frame of the first clip in place of all. They tell whether the task needs motion.
        train: list or folder that the model was trained on, where it is at hand: groups, stretches
            and pictures are compared too, and baselines are counted on it.
        train_split: of that list.
        near_copies: compare pictures with those of `train`, for videos that were encoded anew.
        file_facts: look whether size, rate or length of the files tell the label.
        allow: kinds of findings that do not stop the evaluation, see `tasks.fooling.KINDS`.
        best_possible: share of right answers that cannot be surpassed, where it is known.
        bins: of the reliability diagram.
        draws: of the bootstrap over videos.
        num_worst: of the surest wrong answers that are listed, and shown in the report.
        seed: of shuffled frames and of the bootstrap.
        batch_size: videos computed at a time.
        workers: decoding processes; 0 decodes in this one.
        max_bad_share: share of the files that may be unreadable.
        device, dtype: where and in which element type; None: the best device, that of the file.
    """

    layout: Layout = "auto"
    split: str | None = None
    labels: LabelOptions = LabelOptions()
    head: str = ""
    probe_head: int | None = Field(None, ge=0)
    views: ViewConfig = ViewConfig()
    controls: tuple[Control, ...] = ("shuffled", "reversed", "first_frame")
    train: str | None = None
    train_split: str | None = None
    near_copies: bool = True
    file_facts: bool = True
    allow: tuple[str, ...] = ()
    best_possible: float | None = Field(None, gt=0, le=1)
    bins: int = Field(15, ge=2, le=100)
    draws: int = Field(1000, ge=100, le=100_000)
    num_worst: int = Field(24, ge=0, le=1000)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    batch_size: int = Field(4, ge=1)
    workers: int = Field(2, ge=0, le=256)
    max_bad_share: float = Field(0.05, ge=0, le=1)
    device: str | None = None
    dtype: str | None = None

    @field_validator("allow")
    @classmethod
    def _exist(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            check_choice("Kind of finding", kind, KINDS)
        return kinds

    @property
    def shown_as(self) -> tuple[str, ...]:
        """Names of all forms in which a video is shown, the plain one first."""
        return (AS_IT_IS, *self.controls)


def as_settings(
    settings: Sequence[str],
    *,
    train: str | None = None,
    num_segments: int | None = None,
    num_views: int | None = None,
    horizons: Sequence[float] | None = None,
    probe_head: int | None = None,
    allow: Sequence[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> list[str]:
    """Settings with those that have a name of their own on the command line added behind."""
    named = {
        "train": train,
        "views.num_segments": num_segments,
        "views.num_views": num_views,
        "horizons": None if horizons is None else list(horizons),
        "probe_head": probe_head,
        "allow": None if allow is None else list(allow),
        "device": device,
        "dtype": dtype,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return [*settings, *(f"{name}={json.dumps(value)}" for name, value in given.items())]


def chosen_list(data: str | None, named: str | None) -> str:
    """The list of the command line, given by its place or by name.

    Raises:
        ConfigError: none, or two.
    """
    if data is not None and named is not None:
        raise ConfigError(f"Two lists: {data} and --data {named}. Give one of them.")
    if (found := data or named) is None:
        raise ConfigError("Evaluate on what? Give a labelled list: vjepa2 evaluate MODEL LIST.")
    return found
