"""What comes next in many files: the face of anticipation for the command line."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vjepa2.data.labelled import LabelMap
from vjepa2.errors import ConfigError, InputError, VideoError
from vjepa2.tasks.anticipate_video import HORIZONS, VideoForecast, anticipate_video
from vjepa2.tasks.anticipator_folder import (
    LoadedAnticipator,
    join_published_probe,
    load_anticipator,
)


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be anticipated, and why."""

    source: str
    error: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.source in self.reason else f"{self.source}: {self.reason}"


@dataclass(frozen=True)
class AnticipateReport:
    """Forecasts of many files.

    Attributes:
        model: name of the model.
        results: in the order given.
        failed: files that could not be read, and why.
    """

    model: str
    results: tuple[VideoForecast, ...]
    failed: tuple[FailedFile, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model": self.model,
            "results": [result.as_dict() for result in self.results],
            "failed": [asdict(failed) for failed in self.failed],
        }

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))


def read_horizons(text: str | None, *, default: tuple[float, ...] = HORIZONS) -> tuple[float, ...]:
    """Seconds from `1,2,4` or `1 2 4`; None is the default.

    Raises:
        ConfigError: a part is no number.
    """
    if text is None:
        return default
    try:
        found = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(
            f"horizons {text!r} are no seconds. Give numbers with commas between: 1,2,4."
        ) from error
    if not found:
        raise ConfigError("horizons is empty. Give numbers with commas between: 1,2,4.")
    return found


def open_model(
    model: str | None,
    *,
    probe: str | None = None,
    labels: str | None = None,
    device: str | torch.device | None = None,
) -> LoadedAnticipator:
    """A folder of `vjepa2 anticipate --train`, or an encoder with a published probe.

    Raises:
        ConfigError: no model, or a probe without labels; see also `load_anticipator` and
            `join_published_probe`.
    """
    if model is None:
        raise ConfigError(
            "Which model? Give --model RUN/model, made by vjepa2 anticipate --train; or an encoder "
            "with --probe and --labels."
        )
    if probe is None:
        if labels is not None:
            raise ConfigError("--labels belongs to --probe; a model folder has its own labels.")
        return load_anticipator(model, device=device)
    if labels is None:
        raise ConfigError(
            "A published probe does not say what its classes are: give --labels, a labels.json "
            "with them in the order of the probe."
        )
    return join_published_probe(model, probe, LabelMap.load(labels), device=device)


def anticipate_files(
    files: Sequence[str],
    model: LoadedAnticipator,
    *,
    every: float = 1.0,
    horizons: Sequence[float] = HORIZONS,
    top_k: int = 5,
    quiet: bool = False,
) -> AnticipateReport:
    """Ask what comes next along many files; goes on after one that cannot be read.

    Args:
        files: paths; one named twice is looked at once.
        model, every, horizons, top_k, quiet: see `anticipate_video`.

    Raises:
        ConfigError: see `anticipate_video`.
    """
    results, failed = [], []
    for source in dict.fromkeys(files):
        try:
            results.append(
                anticipate_video(
                    source, model, every=every, horizons=horizons, top_k=top_k, quiet=quiet
                )
            )
        except (VideoError, InputError) as error:
            failed.append(FailedFile(source, type(error).__name__, str(error)))
    return AnticipateReport(model.name, tuple(results), tuple(failed))
