"""What lies in the folder of an evaluation.

settings.json     what decides the answers: model, list, views, controls
answers.jsonl     one line a video, written as it was answered; a killed evaluation goes on here
files.jsonl       content hash and facts of every file
evaluation.json   all numbers and findings
report.html       the same as a page, with pictures of the worst errors
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from vjepa2.errors import ConfigError, OutputError
from vjepa2.files import atomic_path, write_json

SETTINGS_NAME = "settings.json"
ANSWERS_NAME = "answers.jsonl"
FILES_NAME = "files.jsonl"
EVALUATION_NAME = "evaluation.json"

DIGITS = 9  # of a probability: as many as float32 needs to come back the same


@dataclass(frozen=True)
class Answer:
    """What was answered for one item of the list.

    Attributes:
        index: of the item.
        scores: of every form in which it was shown, float32 [K]; empty when the file could not
            be read.
        problem: why it could not be read, "" otherwise.
        times: of an anticipation: end of its context, start and end of its event, seconds; else
            empty.
    """

    index: int
    scores: Mapping[str, Tensor]
    problem: str = ""
    times: tuple[float, ...] = ()


class AnswerFile:
    """Answers of an evaluation, kept as they come.

    Args:
        folder: of the evaluation; made when missing.
        settings: JSON values of all that decides the answers.

    Attributes:
        known: answers by index, those that were there already and those added. An unreadable file
            has one too and is not tried again in this folder.

    Raises:
        ConfigError: the folder holds an evaluation of something else.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.path = self.folder / ANSWERS_NAME
        stored = self.folder / SETTINGS_NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot write into {folder}: {error.strerror or error}.") from error
        if self.path.exists():
            _check_same(self.folder, _read_settings(stored), settings)
        elif not stored.exists() and any(self.folder.iterdir()):
            raise ConfigError(
                f"{self.folder} holds other files and no evaluation. Give a new or empty folder."
            )
        else:  # nothing was answered yet, so an evaluation that was refused binds nothing
            write_json(stored, dict(settings))
        self.known = self._read()
        self._file: TextIO | None = None

    def _read(self) -> dict[int, Answer]:
        """Whole lines only; a line that was cut off by a kill is taken out of the file."""
        if not self.path.exists():
            return {}
        found, kept, lines = {}, [], self.path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                values = json.loads(line)
                scores = {
                    str(name): torch.tensor(numbers, dtype=torch.float32)
                    for name, numbers in values["scores"].items()
                }
                times = tuple(map(float, values.get("times", ())))
                answer = Answer(int(values["index"]), scores, str(values["problem"]), times)
                found[answer.index] = answer
                kept.append(line)
        if len(kept) < len(lines):
            with atomic_path(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        return found

    def add(self, answers: list[Answer]) -> None:
        """Keep more answers; after this call they outlive a kill of the process.

        Raises:
            OutputError: the file cannot be written.
        """
        lines = []
        for answer in answers:
            scores = {
                name: [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
                for name, values in answer.scores.items()
            }
            self.known[answer.index] = answer
            line = {"index": answer.index, "scores": scores, "problem": answer.problem}
            lines.append(json.dumps(line | ({"times": answer.times} if answer.times else {})))
        try:
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write("".join(f"{line}\n" for line in lines))
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.path}: {error.strerror or error}. The answers so far are "
                "kept; the same command goes on with them."
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Give a new folder.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings of an evaluation. Give a new folder.")
    return values


def _check_same(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    # Through JSON, where tuples are lists.
    given = json.loads(json.dumps(dict(wanted)))
    names = sorted(set(stored) | set(given))
    other = [name for name in names if stored.get(name) != given.get(name)]
    if other:
        shown = "; ".join(
            f"{name}: {_short(stored.get(name))} there, {_short(given.get(name))} here"
            for name in other
        )
        raise ConfigError(
            f"{folder} holds answers of another evaluation ({shown}). Answers of two must not be "
            "mixed: give a new folder, or the same model, list and settings to go on."
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a file's lines; damaged lines are left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                values = json.loads(line)
                if isinstance(values, dict):
                    yield values
