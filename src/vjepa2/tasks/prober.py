"""Training and measuring of many probes: what the engine drives.

every update    features of a batch -> losses of all heads -> gradients -> AdamW
every epoch     validation features -> accuracy of every head -> the best one so far
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import BadFilesError, CheckpointFormatError, DivergedError
from vjepa2.files import write_json
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.progress import track
from vjepa2.scoring.accuracy import mean_class_accuracy, top_k_accuracy
from vjepa2.tasks.pretrain_folder import BAD_FILES_NAME, add_bad_files
from vjepa2.tasks.probe_config import AttentiveProbeConfig
from vjepa2.tasks.probe_features import FeatureBatch, FeatureSource
from vjepa2.tasks.probe_heads import HeadsAdamW, ProbeHeads, head_losses
from vjepa2.training.engine import StopTraining
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.state import TrainingState

RESULTS_NAME = "results.json"
LEAST_PROBABILITY = 1e-12
TOP = 5


class Prober:
    """All heads of a run, their updates and their measurements.

    Args:
        config: of the run.
        network: of a probe: encoder width, pooler, classes.
        sources: features of "train", and of "val" and "test" where they are measured.
        baselines: chance and majority of videos of some classes [n].
        fingerprints: of the labelled sets, to refuse others when the run goes on.
        log: of the run.
        folder: of the run.
        device: where the heads are trained.
        quiet: nothing on stderr.

    Attributes:
        per_epoch: updates of an epoch.
        num_steps: of the run.
        history: measures of every epoch so far.
    """

    def __init__(
        self,
        config: AttentiveProbeConfig,
        network: VJEPA2Config,
        sources: Mapping[str, FeatureSource],
        *,
        baselines: Callable[[Int[Tensor, " n"]], dict[str, float]],
        fingerprints: Mapping[str, str],
        log: MetricsLog,
        folder: Path,
        device: torch.device,
        quiet: bool = False,
    ) -> None:
        self.config, self.sources, self.baselines = config, sources, baselines
        self.fingerprints = dict(fingerprints)
        self.log, self.folder, self.device, self.quiet = log, folder, device, quiet
        self.rates = config.heads.rates
        self.heads = ProbeHeads(network, len(self.rates), seed=config.seed).to(device)
        self.optimizer = HeadsAdamW(self.heads, decay=config.heads.decay)
        self.per_epoch = sources["train"].num_batches
        self.num_steps = config.schedule.epochs * self.per_epoch
        self.history: list[dict[str, Any]] = []
        self.failure: BadFilesError | None = None

    # -- what the engine calls -------------------------------------------------------------------

    def run_step(self, step: int) -> dict[str, float]:
        """Make update `step`; measure before the first one of an epoch."""
        began = time.perf_counter()
        if step and step % self.per_epoch == 0:
            self.measure(step)
        measured = time.perf_counter()
        try:
            batch = self._next(step)
        except BadFilesError as error:
            self.failure = error  # raised when the updates so far are saved
            raise StopTraining(str(error)) from error
        stalled = time.perf_counter() - measured
        numbers = self._update(step, batch)
        return {**numbers, "stall_seconds": stalled, "measure_seconds": measured - began}

    def state(self) -> TrainingState:
        """Heads, their optimizer, and what was measured."""
        return TrainingState(
            modules={"heads": self.heads},
            optimizer=self.optimizer,
            values={"history": self.history, "data": self.fingerprints},
        )

    def resume(self, step: int, values: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointFormatError: the labelled videos are not those that the run began with.
        """
        for name, mark in self.fingerprints.items():
            if values["data"].get(name) != mark:
                raise CheckpointFormatError(
                    f"The {name} videos (data.{name}) are not those that the run in {self.folder} "
                    "began with: other files, labels or segments. Go on with the list of then, or "
                    "train in another folder."
                )
        # What was measured at this very step is measured again, with its line in the log.
        self.history = [line for line in values["history"] if line["step"] < step]

    # -- an update -------------------------------------------------------------------------------

    def _next(self, step: int) -> FeatureBatch:
        epoch, place = divmod(step, self.per_epoch)
        for chosen in (place, *range(self.per_epoch)):
            batch = self.sources["train"].batch(epoch, chosen)
            if batch is not None:
                return batch
        raise BadFilesError(
            f"No training video can be read any more; see {self.folder / BAD_FILES_NAME}."
        )

    def _update(self, step: int, batch: FeatureBatch) -> dict[str, float]:
        config = self.config
        lrs = [config.schedule.lr(rates.lr, step, per_epoch=self.per_epoch) for rates in self.rates]
        self.optimizer.set_rates(lrs, [rates.weight_decay for rates in self.rates])
        count = len(batch.labels)
        micro = config.micro_batch or count
        losses = torch.zeros(len(self.rates), device=self.device)
        for tokens, labels in zip(
            batch.tokens.split(micro), batch.labels.split(micro), strict=True
        ):
            num_views = tokens.shape[1]
            with self._precision():
                logits = self.heads(
                    tokens.flatten(0, 1).to(self.device), recompute=config.recompute
                )
            found = head_losses(logits, labels.repeat_interleave(num_views).to(self.device))
            share = len(tokens) / count
            (found.sum() * share).backward()
            losses += found.detach() * share
        values = losses.tolist()
        if not all(map(math.isfinite, values)):
            broken = [str(self.rates[n]) for n, v in enumerate(values) if not math.isfinite(v)]
            raise DivergedError(
                f"Update {step} was not made: the loss of {len(broken)} of {len(values)} heads is "
                f"NaN or infinite ({'; '.join(broken[:3])}). Take the largest heads.lrs out, and "
                "start in a new folder."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"loss": min(values), "mean_loss": sum(values) / len(values), "lr": max(lrs)}

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.dtype == "bfloat16"
        )

    # -- measuring -------------------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        """The last measurement, the choice of a head, and its number on the test set.

        Returns:
            JSON values: "best" and "heads" on validation, "test" where there is one, "baselines".
        """
        self.log.start_from(self.num_steps)  # the engine has closed it
        self.measure(self.num_steps)
        results = self.results()
        if "test" in self.sources:
            (measures,), known = self._measures("test", which=[results["best"]["head"]])
            results["test"] = measures
            results["baselines"] = {**results.get("baselines", {}), "test": known}
            self.log.write(self.num_steps, "test", measures)
        self.log.close()
        write_json(self.folder / RESULTS_NAME, results)
        return results

    def measure(self, step: int) -> None:
        """Measure every head on the validation videos after `step` updates."""
        self.report_bad_files()
        if "val" not in self.sources:
            return
        measures, known = self._measures("val", epoch=step // self.per_epoch - 1)
        epoch = step // self.per_epoch
        line = {"step": step, "epoch": epoch, "heads": measures, "baselines": known}
        self.history = [*self.history, line]
        self.log.write(step, "validation", {"epoch": epoch, "heads": measures})
        results = self.results()
        write_json(self.folder / RESULTS_NAME, results)
        if not self.quiet:
            sys.stderr.write(f"{epoch_text(results, self.config.schedule.epochs)}\n")

    def results(self) -> dict[str, Any]:
        """What is known so far: every head, the best one, and what no look at a video reaches."""
        settings = [
            {"head": number, "lr": rates.lr, "weight_decay": rates.weight_decay}
            for number, rates in enumerate(self.rates)
        ]
        if not self.history:
            return {"epoch": self.config.schedule.epochs, "heads": settings, "best": settings[0]}
        line = self.history[-1]
        heads = [{**own, **found} for own, found in zip(settings, line["heads"], strict=True)]
        best = max(heads, key=lambda head: (head["top1"], -head["loss"]))
        return {
            "epoch": line["epoch"],
            "heads": heads,
            "best": best,
            "baselines": {"val": line["baselines"]} if "baselines" in line else {},
        }

    @torch.no_grad()
    def _measures(
        self, name: str, *, epoch: int = 0, which: Sequence[int] | None = None
    ) -> tuple[list[dict[str, float]], dict[str, float]]:
        """Scores of some heads on all videos of a set that can be read, and the baselines there."""
        source = self.sources[name]
        chosen = list(range(len(self.rates))) if which is None else list(which)
        found: list[Tensor] = []
        labels: list[Tensor] = []
        places = track(
            range(source.num_batches),
            total=source.num_batches,
            description=f"Measure {name}",
            quiet=self.quiet or source.num_batches < 50,
        )
        for place in places:
            batch = source.batch(epoch, place)
            if batch is not None:
                found.append(self.probabilities(batch.tokens)[chosen].cpu())
                labels.append(batch.labels)
        if not found:
            raise BadFilesError(f"No {name} video can be read (data.{name}).")
        scores, truth = torch.cat(found, dim=1), torch.cat(labels)
        if not bool(scores.isfinite().all()):
            raise DivergedError("A head gives NaN. Take the largest heads.lrs out.")
        return [measures_of(own, truth) for own in scores], self.baselines(truth)

    def probabilities(self, tokens: Float[Tensor, "B V M D"]) -> Float[Tensor, "K B L"]:
        """Softmax of every view, averaged over views, for every head."""
        batch, views = tokens.shape[:2]
        micro = max(1, (self.config.micro_batch or batch) // views)
        parts = []
        for part in tokens.split(micro):
            with self._precision():
                logits = self.heads(part.flatten(0, 1).to(self.device))
            parts.append(logits.float().softmax(dim=-1).unflatten(1, (-1, views)).mean(dim=2))
        return torch.cat(parts, dim=1)

    # -- data ------------------------------------------------------------------------------------

    def report_bad_files(self) -> None:
        """Write what could not be read so far into the run's folder."""
        new = [bad for source in self.sources.values() for bad in source.new_bad_files()]
        add_bad_files(self.folder / BAD_FILES_NAME, new)

    def close(self) -> None:
        """End the decoding processes."""
        for source in self.sources.values():
            source.close()


def measures_of(scores: Float[Tensor, "N L"], labels: Int[Tensor, " N"]) -> dict[str, float]:
    """Accuracies and loss of one head's probabilities."""
    own_class = scores.gather(1, labels[:, None]).clamp(min=LEAST_PROBABILITY)
    numbers = {
        "top1": top_k_accuracy(scores, labels, 1),
        "mean_class": mean_class_accuracy(scores, labels),
        "loss": float(-own_class.log().mean()),
        "videos": float(len(labels)),
    }
    if scores.shape[1] > TOP:
        numbers["top5"] = top_k_accuracy(scores, labels, TOP)
    return numbers


def epoch_text(results: Mapping[str, Any], epochs: int) -> str:
    """`epoch 3 of 20: best of 20 heads top-1 71.2 % (lr 0.001, weight decay 0.1) ...`."""
    best, heads = results["best"], results["heads"]
    known = results["baselines"]["val"]
    middle = sorted(head["top1"] for head in heads)[len(heads) // 2]
    return (
        f"epoch {results['epoch']} of {epochs}: best of {len(heads)} heads top-1 "
        f"{best['top1']:.1%} (lr {best['lr']:g}, weight decay {best['weight_decay']:g}), median "
        f"{middle:.1%}, chance {known['chance']:.1%}, most frequent class {known['majority']:.1%}"
    )
