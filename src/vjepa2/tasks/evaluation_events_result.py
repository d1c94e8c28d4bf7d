"""What an evaluation of a model that anticipates found, for programs and for people."""

from dataclasses import dataclass
from typing import Any

from vjepa2.tasks.evaluation_result import UNKNOWN_TRAINING, EvaluationResult, interval_text

NOT_STRICT = (
    "WARNING: contexts were counted back from the END of events, as the published code does: long "
    "events were seen while they happened. These numbers are no anticipation."
)


@dataclass(frozen=True)
class EventEvaluationResult(EvaluationResult):
    """What was measured: see `EvaluationResult`, with all horizons and label columns."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values; the lists of classes and confusions are in the file."""
        names = ("model", "data", "num_items", "num_videos", "seconds", "anchor", "horizons")
        more = ("rows", "events", "num_disturbed", "notes", "findings")
        return {
            "folder": str(self.folder),
            "sound": self.is_sound,
            **{name: self.values[name] for name in (*names, *more)},
        }

    def __str__(self) -> str:
        values = self.values
        lines = [f"{values['num_items']} events of {values['num_videos']} videos"]
        width = max(len(head) for head in values["heads"])
        words = f"{'ahead':>6}  {'':{width}}  {'':14}  {'top-1':24}  recall"
        lines.append(words)
        for row in values["rows"]:
            accuracy, recall = (
                interval_text(
                    {
                        "value": row[name],
                        "low": row[f"{name}_interval"][0],
                        "high": row[f"{name}_interval"][1],
                    },
                    alone="",
                )
                for name in ("accuracy", "recall")
            )
            lines.append(
                f"{row['seconds']:5g}s  {row['head']:{width}}  {row['name']:14}  {accuracy:24}  "
                f"{recall} @{row['k']}"
            )
        for head, found in values["heads"].items():
            ece = "" if found["ece"] is None else f", calibration error {found['ece']:.1%}"
            lines.append(
                f"{head}, {values['seconds']:g} s ahead: mean average precision "
                f"{found['mean_average_precision']:.1%}{ece}"
            )
        lines += [
            NOT_STRICT if values["anchor"] != "start" else "",
            UNKNOWN_TRAINING if values["training"] == "unknown" else "",
            *values["notes"],
            *(f"{one.severity}: {one}" for one in self.findings),
        ]
        return "\n".join(line for line in lines if line)
