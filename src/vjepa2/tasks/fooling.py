"""Ways of fooling oneself with a good number: what is looked for, and how it is said.

    fooling_files    the evaluated videos were trained on, or are there several times
    fooling_labels   the model's numbers of classes are not those of the list
    fooling_times    an anticipation saw what it should have foretold
    fooling_scores   the answers themselves cannot be what they seem

Each look returns findings and changes nothing. An "error" means that the number is no measure of
how the model does on new videos; a "warning" that it has to be read with care.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vjepa2.errors import LeakError, check_choice

Severity = Literal["error", "warning"]
MAX_EXAMPLES = 5

KINDS = {
    # Videos across splits.
    "evaluated_on_training_set": "the evaluated files are those of the training",
    "trained_on": "some evaluated files were trained on, whatever they are called",
    "overlaps_training_segment": "a stretch overlaps one that was trained on",
    "same_group": "a group (person, scene, source video) is in training and evaluation",
    "copy_of_training_video": "a video looks like one that was trained on, encoded anew",
    "selected_on_these_videos": "the head or checkpoint was chosen by these very videos",
    # Inside the evaluated list.
    "duplicate_rows": "rows of the list are there twice",
    "same_content": "files of different names have the same content",
    "contradicting_labels": "the same stretch has two labels",
    # Labels.
    "labels_in_another_order": "the model and the list number the same names differently",
    "labels_shifted": "the numbers of all classes are shifted",
    "labels_renamed": "the model and the list name their classes differently",
    "shuffled_label_map": "the answers fit the labels much better under other class numbers",
    "rows_shifted": "the answers fit the labels of a neighbouring row better",
    "one_class_only": "all labels are the same",
    "classes_missing": "classes of the model have no sample",
    "few_samples": "classes have very few samples",
    # Times of anticipation.
    "context_after_event": "the context goes on when the event has begun",
    "context_too_late": "the context ends within the anticipation time",
    "anchored_at_stop": "the context was counted back from the end of the event",
    "mixed_anchors": "some contexts are counted from the start of events and some from the end",
    "other_anticipation_time": "the contexts end at another distance than the one that is told",
    "context_before_video": "the context ends before the video begins: nothing was seen",
    "event_outside_video": "times of events are no seconds of their video",
    "event_already_running": "the same event is already going on in the context",
    "times_missing": "it is not recorded what was seen",
    "future_changes_answer": "what comes after the context changes the answer",
    # Answers.
    "not_finite": "scores are NaN or infinite",
    "same_answer_for_all": "the scores are the same for every video",
    "not_probabilities": "the scores are no probabilities",
    "answers_missing": "items of the list have no answer",
    "answers_repeated": "items of the list have several answers",
    "not_above_majority": "the answers are not surely better than naming the commonest class",
    "above_the_best_possible": "the answers are better than can be",
    "label_in_the_file": "facts of the files tell the label without looking at a frame",
}


@dataclass(frozen=True)
class Finding:
    """One thing that makes a number mean something else than it seems.

    Attributes:
        kind: one of `KINDS`.
        severity: "error" or "warning".
        reason: what was found, what it does to the number, what to do next.
        count: how many items are concerned.
        examples: names of some of them.
    """

    kind: str
    severity: Severity
    reason: str
    count: int = 0
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("Kind of finding", self.kind, KINDS)

    @classmethod
    def of(cls, kind: str, severity: Severity, reason: str, names: Sequence[str] = ()) -> "Finding":
        """A finding about some items, with the first few of them as examples."""
        return cls(kind, severity, reason, len(names), tuple(names[:MAX_EXAMPLES]))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"examples": list(self.examples)}

    def __str__(self) -> str:
        shown = f" For example: {'; '.join(self.examples)}." if self.examples else ""
        return f"{self.kind}: {self.reason}{shown}"


def refuse(findings: Iterable[Finding], *, allow: Collection[str] = ()) -> None:
    """Raise for findings that are errors and not of an allowed kind.

    Raises:
        LeakError: all of them, each with its reason.
        ConfigError: an allowed kind does not exist.
    """
    for kind in allow:
        check_choice("Kind of finding", kind, KINDS)
    bad = [found for found in findings if found.severity == "error" and found.kind not in allow]
    if bad:
        lines = "\n".join(f"- {found}" for found in bad)
        names = " ".join(f"--allow {kind}" for kind in dict.fromkeys(one.kind for one in bad))
        raise LeakError(
            f"This evaluation would not tell how the model does on new videos:\n{lines}\n"
            f"Mend it, or go on in spite of it, with the reason in the report, by {names}."
        )
