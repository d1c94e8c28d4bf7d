"""How a probe run ended, for programs and for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2.tasks.pretrain_folder import BAD_FILES_NAME
from vjepa2.tasks.probe_config import AttentiveProbeConfig
from vjepa2.training.engine import Reason


@dataclass(frozen=True)
class ProbeResult:
    """How a run, or a part of it, ended.

    Attributes:
        folder: of the run.
        reason: "finished", "stop_at" or "signal".
        step: updates made in all.
        resumed_from: step of the checkpoint that it went on from, or None.
        model: folder of the classifier; None while the run is not finished.
        results: "best" head, all "heads", "baselines", and "test", see `Prober.results`.
        transformers: "" where transformers computes the same from the model's folder, else why not.
        sampling: options of `vjepa2 classify` that take frames as the run did.
        bad_files: files that could not be read, in all of the run.
    """

    folder: Path
    reason: Reason
    step: int
    resumed_from: int | None
    model: Path | None
    results: Mapping[str, Any]
    transformers: str = ""
    sampling: str = ""
    bad_files: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "folder": str(self.folder),
            "reason": self.reason,
            "step": self.step,
            "resumed_from": self.resumed_from,
            "model": None if self.model is None else str(self.model),
            "results": dict(self.results),
            "transformers": self.transformers,
            "bad_files": self.bad_files,
        }

    def __str__(self) -> str:
        lines = []
        if self.model is None:
            lines.append(f"Stopped after {self.step} updates, all of them saved.")
            lines.append(f"Go on:  vjepa2 probe --out {self.folder}")
        else:
            lines.append(f"Done: {self.step} updates of {len(self.results['heads'])} heads.")
            lines += self._scores()
            lines.append(f"Model:  {self.model}")
            lines.append(f"Use it: vjepa2 classify VIDEO --model {self.model}{self.sampling}")
            if self.transformers:
                lines.append(f"Note: transformers does not compute the same: {self.transformers}.")
        if self.bad_files:
            where = self.folder / BAD_FILES_NAME
            lines.append(f"{self.bad_files} files could not be read, see {where}")
        return "\n".join(lines)

    def _scores(self) -> list[str]:
        best = self.results["best"]
        if "top1" not in best:
            return ["Nothing was measured: there are no validation videos (--val)."]
        known = self.results["baselines"]["val"]
        baselines = f"chance {known['chance']:.1%}, most frequent class {known['majority']:.1%}"
        lines = [
            f"Best head: lr {best['lr']:g}, weight decay {best['weight_decay']:g}.",
            f"Validation top-1 {best['top1']:.1%} of {best['videos']:.0f} videos ({baselines}).",
        ]
        test = self.results.get("test")
        if test is not None:
            lines.append(f"Test top-1 {test['top1']:.1%} of {test['videos']:.0f} videos.")
        elif len(self.results["heads"]) > 1:
            lines.append(
                "It was chosen by that number, which is therefore a little too high: report one "
                "of other videos (--test, or vjepa2 evaluate)."
            )
        return lines


def classify_options(config: AttentiveProbeConfig) -> str:
    """Options of `vjepa2 classify` that take frames as the run did."""
    views, text = config.views, ""
    if views.fps is not None:
        text = f" --sampling fps={views.fps:g}"
    elif views.frame_step is not None:
        text = f" --sampling stride={views.frame_step}"
    return f"{text} --num-clips {views.num_segments}" if views.num_segments > 1 else text
