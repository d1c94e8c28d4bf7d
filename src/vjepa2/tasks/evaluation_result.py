"""What an evaluation found, for programs and for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.tasks.fooling import Finding

UNKNOWN_TRAINING = (
    "What the model was trained on is not known: whether these videos are among it cannot be told. "
    "Give its training list with --train."
)


@dataclass(frozen=True)
class EvaluationResult:
    """What was measured.

    Attributes:
        folder: with `evaluation.json` and the answers.
        values: content of `evaluation.json`.
        findings: what makes the numbers mean something else than they seem.
    """

    folder: Path
    values: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether no finding is an error that was not allowed."""
        allowed = self.values["config"]["allow"]
        return not any(one.severity == "error" and one.kind not in allowed for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; the lists of classes and confusions are in the file."""
        head = self.values["measures"]
        short = {
            name: value
            for name, value in head.items()
            if name not in ("classes", "confused", "reliability")
        }
        names = ("model", "data", "num_items", "num_videos", "motion", "controls", "findings")
        return {
            "folder": str(self.folder),
            "sound": self.is_sound,
            "measures": short,
            **{name: self.values[name] for name in names},
        }

    def __str__(self) -> str:
        found, without = self.values["measures"], self.values["measures"]["baselines"]
        size = f"{self.values['num_items']} items of {self.values['num_videos']} videos"
        looking = (
            f"{'without looking':22} chance {without['chance']:.1%}, commonest class "
            f"{without['majority']:.1%}, label prior {without['prior']:.1%}"
        )
        lines = [
            f"{size}, {found['num_classes']} classes",
            *(
                f"{words:22} {interval_text(found[name])}"
                for name, words in (
                    ("top1", "top-1"),
                    ("top5", "top-5"),
                    ("mean_class", "mean over classes"),
                    ("recall_at_5", "class-mean recall@5"),
                )
            ),
            f"{'mean average precision':22} {found['mean_average_precision']:.1%}",
            f"{'calibration error':22} {found['ece']:.1%}" if found["ece"] is not None else "",
            looking,
            self.values["motion"]["sentence"],
            UNKNOWN_TRAINING if self.values["training"] == "unknown" else "",
            *(f"{one.severity}: {one}" for one in self.findings),
        ]
        return "\n".join(line for line in lines if line)


def interval_text(
    interval: Mapping[str, float | None], *, alone: str = " (one video only: no interval)"
) -> str:
    """`81.3% (74.0% to 87.5%)`; where there is no interval, `alone` says so."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return f"{interval['value']:.1%}{alone}"
    return f"{interval['value']:.1%} ({low:.1%} to {high:.1%})"
