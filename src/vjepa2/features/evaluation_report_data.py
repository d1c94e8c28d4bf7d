"""What the folder of an evaluation holds, read for its page."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.errors import InputError, check_path

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class EvaluationRecord:
    """Content of `evaluation.json`.

    Attributes:
        folder: of the evaluation.
        values: all numbers and findings.
    """

    folder: Path
    values: Mapping[str, Any]

    @property
    def measures(self) -> Mapping[str, Any]:
        """Numbers of the evaluated head."""
        found: Mapping[str, Any] = self.values["measures"]
        return found

    @property
    def is_anticipation(self) -> bool:
        """Whether events were foretold, at several horizons and of several label columns."""
        return self.values.get("task") == "anticipation"

    def by_head(self) -> list[tuple[str, "EvaluationRecord"]]:
        """Of every label column a record of its own, the main one first; of one, the whole."""
        heads = self.values.get("heads")
        if not heads:
            return [(str(self.values.get("head", "")), self)]
        order = sorted(heads, key=lambda head: head != self.values["head"])
        return [
            (
                head,
                EvaluationRecord(
                    self.folder,
                    {
                        **self.values,
                        "measures": heads[head],
                        "worst": self.values["worst"].get(head, []),
                    },
                ),
            )
            for head in order
        ]

    @property
    def names(self) -> list[str]:
        """Names of the classes, by number."""
        return [str(row["name"]) for row in self.measures["classes"]]


def read_evaluation(folder: str | os.PathLike[str]) -> EvaluationRecord:
    """Read a finished evaluation.

    Raises:
        ConfigError: `folder` is no path.
        InputError: there is none in it, or its file is damaged.
    """
    check_path("The folder of the evaluation", folder)
    path = Path(folder) / EVALUATION
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        record = EvaluationRecord(Path(folder), values)
        for name in ("top1", "classes", "confused", "reliability", "baselines"):
            record.measures[name]
        for name in ("model", "data", "findings", "motion", "controls", "worst"):
            values[name]
        if record.is_anticipation:
            for name in ("rows", "horizons", "seconds", "anchor", "heads"):
                values[name]
            for _, own in record.by_head():
                own.measures["reliability"]
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}. A finished evaluation has this "
            "file; an unfinished one goes on with the command that started it."
        ) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}).") from error
    return record
