"""What happened in an episode, step by step, on disk: `trace.safetensors` and `trace.json`.

Arrays are in the first, [steps, ...]: states, actions as carried out, plans; words and numbers in
the second. Both are written beside each other and put in place together.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vjepa2.errors import DataError, DataNotFoundError, check_path
from vjepa2.files import atomic_folder, write_json
from vjepa2.planning.plan import Plan

ARRAYS, WORDS = "trace.safetensors", "trace.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TraceStep:
    """One step of an episode.

    Attributes:
        state: [K] seen before the action.
        action: [A] as carried out, after the safety filter; None: none was.
        plan: all that was planned; None: none was.
        goal: number of the goal in the schedule.
        cost_now: of what was seen, by that goal.
        clipped: whether the safety filter changed the action.
        facts: anything else that JSON can hold.
    """

    state: Float[Tensor, " K"]
    action: Float[Tensor, " A"] | None
    plan: Plan | None
    goal: int
    cost_now: float
    clipped: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trace:
    """An episode that grows.

    Attributes:
        about: what JSON can hold: settings, seed.
        steps: so far.
        reason: why the episode ended; "" while it goes on.
        error: what went wrong, in words; "".
    """

    about: dict[str, Any] = field(default_factory=dict)
    steps: list[TraceStep] = field(default_factory=list)
    reason: str = ""
    error: str = ""

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write both files; what was there before stays until they are whole.

        Raises:
            ConfigError, OutputError: the folder cannot be written.
        """
        arrays: dict[str, Tensor] = {}
        if self.steps:
            arrays["states"] = torch.stack([step.state.cpu() for step in self.steps])
        for number, step in enumerate(self.steps):
            if step.action is not None:
                arrays[f"action.{number:05d}"] = step.action.detach().cpu().clone()
            if step.plan is not None:
                arrays[f"plan.{number:05d}"] = step.plan.actions.clone()
        with atomic_folder(folder) as temporary:
            save_file(arrays, temporary / ARRAYS)
            write_json(temporary / WORDS, self._words())
        return Path(folder)

    def _words(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "about": self.about,
            "reason": self.reason,
            "error": self.error,
            "steps": [
                {
                    "goal": step.goal,
                    "cost_now": _plain(step.cost_now),
                    "clipped": step.clipped,
                    "acted": step.action is not None,
                    "facts": step.facts,
                    "plan": _plan_words(step.plan),
                }
                for step in self.steps
            ],
        }


def _plain(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if torch.isfinite(torch.tensor(value)) else None


def _plan_words(plan: Plan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "cost": _plain(plan.cost),
        "iterations": plan.iterations,
        "samples": plan.samples,
        "complete": plan.complete,
        "seconds": plan.seconds,
        "num_not_finite": plan.num_not_finite,
        "history": [
            {name: _plain(value) for name, value in asdict(item).items()} for item in plan.history
        ],
    }


@dataclass(frozen=True, kw_only=True)
class SavedTrace:
    """A trace read back.

    Attributes:
        words: of `trace.json`.
        states: [steps, K].
        actions: by step, [A].
        plans: by step, [L, A].
    """

    words: dict[str, Any]
    states: Float[Tensor, "steps K"]
    actions: dict[int, Float[Tensor, " A"]]
    plans: dict[int, Float[Tensor, "L A"]]


def read_trace(folder: str | os.PathLike[str]) -> SavedTrace:
    """Read what `Trace.save` wrote.

    Raises:
        DataNotFoundError: no trace there.
        DataError: damaged files.
    """
    check_path("The folder of a trace", folder)
    place = Path(folder)
    if not (place / WORDS).is_file() or not (place / ARRAYS).is_file():
        raise DataNotFoundError(f"{place} holds no trace: {WORDS} and {ARRAYS} are expected there.")
    try:
        words = json.loads((place / WORDS).read_text(encoding="utf-8"))
        arrays = load_file(place / ARRAYS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise DataError(f"The trace in {place} is damaged: {error}") from error
    if not isinstance(words, dict) or words.get("format") != FORMAT:
        raise DataError(f"{place / WORDS} is no trace of format {FORMAT}.")

    def numbered(prefix: str) -> dict[int, Tensor]:
        return {
            int(name.removeprefix(prefix)): value
            for name, value in arrays.items()
            if name.startswith(prefix)
        }

    return SavedTrace(
        words=words,
        states=arrays.get("states", torch.empty(0, 0)),
        actions=numbered("action."),
        plans=numbered("plan."),
    )
