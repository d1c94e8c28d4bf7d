"""Where the labelled clips of a question come from, for `tasks.scene_evidence`.

The questions about the small world (`SCENE_SOURCES`) are the usual ones; another set of labelled
clips becomes one by a `ClipSource` of its own.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from vjepa2.tasks.scene_tasks import SCENE_TASKS, LabelledClips, make_task_clips

# Seeds of the clips: far from each other and from those of training videos. Test clips of seed
# 880_001 were looked at while settings were chosen; those of 990_001 were not.
TRAIN_SEED, TEST_SEED = 770_001, 990_001


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """Which clips are wanted.

    Attributes:
        part: clips that probes learn from, or others that they are tested on.
        count: how many, a multiple of the number of answers.
        size: height and width, pixels.
        num_frames: of every clip.
        fps: frames per second, where the clips have a rate.
    """

    part: Literal["train", "test"]
    count: int
    size: int
    num_frames: int
    fps: float


@dataclass(frozen=True, kw_only=True)
class ClipSource:
    """One question: its answers, and how clips with the number of the right answer are made."""

    answers: tuple[str, ...]
    make: Callable[[ClipRequest], LabelledClips]


def _scene_clips(task: str, wanted: ClipRequest) -> LabelledClips:
    return make_task_clips(
        task,
        count=wanted.count,
        seed=TRAIN_SEED if wanted.part == "train" else TEST_SEED,
        size=wanted.size,
        num_frames=wanted.num_frames,
        fps=wanted.fps,
    )


SCENE_SOURCES: Mapping[str, ClipSource] = {
    name: ClipSource(answers=task.answers, make=functools.partial(_scene_clips, name))
    for name, task in SCENE_TASKS.items()
}
