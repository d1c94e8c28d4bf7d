"""The updates and measurements of a run that learns to anticipate.

    contexts -> encoder -> E -> predictor -> P      (learned along, or frozen)
             -> one probe per pair of rates on [E ; P], E and P -> losses -> AdamW

All probes read the same tokens, so encoder and predictor run once for all of them.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vjepa2.data.draws import Draws, Permutation, Purpose
from vjepa2.data.event_clips import marked_end
from vjepa2.data.event_loader import EventBatch, EventReader
from vjepa2.data.labelled import LabelledSet
from vjepa2.errors import CheckpointFormatError, DtypeError
from vjepa2.losses import sigmoid_focal_loss
from vjepa2.models.anticipation import AnticipationTokens, TokenChoice
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.init import init_weights
from vjepa2.progress import track
from vjepa2.scoring.accuracy import class_mean_recall_at_k, top_k_accuracy
from vjepa2.tasks.anticipate_config import AnticipateConfig
from vjepa2.tasks.anticipate_scores import CHOICES, Answers, top_of
from vjepa2.training.distributed import Processes
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.optim import parameter_groups
from vjepa2.training.state import TrainingState

MEASURE_BATCH = 32


class AnticipationTrainer:
    """What the engine drives (`training.engine.Trainable`).

    Args:
        config: of the run.
        model: encoder and predictor, on the CPU.
        train, val: usable events with one label map.
        processes: of the run; one.
        log: of the run.
        mark: of the sets, so that a resumed run learns from the same events.
        quiet: nothing on stderr.

    Attributes:
        tokens: encoder and predictor with their settings.
        probes: by "<choice>_<number of the pair of rates>".
        per_epoch: updates of an epoch.
        history: measures of every epoch.

    Raises:
        ConfigError: the probes do not fit the encoder.
    """

    def __init__(
        self,
        config: AnticipateConfig,
        model: VJEPA2Model,
        train: LabelledSet,
        val: LabelledSet,
        processes: Processes,
        *,
        log: MetricsLog,
        mark: str = "",
        quiet: bool = False,
    ) -> None:
        self.config, self.train, self.val, self.log = config, train, val, log
        self.device, self.quiet, self.mark = processes.device, quiet, mark
        self.heads = {name: len(names) for name, names in train.label_map.heads.items()}
        # All tokens are made, and each probe is handed its part of them.
        own = config.future.tokens
        needs_future = config.ablations or own != "encoder"
        settings = config.future.override([f"tokens={'both' if needs_future else 'encoder'}"])
        self.tokens = AnticipationTokens(model, settings, fps=config.clips.fps).to(self.device)
        self.choices: tuple[TokenChoice, ...] = CHOICES if config.ablations else (own,)
        self.probes = nn.ModuleDict(
            {
                f"{choice}_{number}": make_probe(config, model.config, self.heads)
                for choice in self.choices
                for number in range(len(config.probe.grid))
            }
        ).to(self.device)
        self._choose_trained()
        self.batch_size = min(config.batch_size, len(train))
        self.per_epoch = len(train) // self.batch_size
        self.schedule = config.schedule.steps(self.per_epoch)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=config.schedule.lr)
        views, seed = config.views, config.seed
        self._reader = EventReader(train, config.clips, views, train=config.augment, seed=seed)
        self._val_reader = EventReader(val, config.clips, views)
        self.history: list[dict[str, Any]] = []
        self._batches: Iterator[EventBatch] | None = None
        self._next_step = -1

    # -- what the engine calls -------------------------------------------------------------------

    def run_step(self, step: int) -> dict[str, float]:
        """Make update `step`; measure before the first one of some epochs."""
        began = time.perf_counter()
        if step and step % (self.per_epoch * self.config.measure_every) == 0:
            self.measure(step)
        measured = time.perf_counter()
        batch = self._next(step)
        torch.manual_seed(self.config.seed + step)  # dropout and stochastic depth
        self._set_rates(step)
        losses = self._losses(batch)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        own = losses[f"{self.config.future.tokens}_0"].detach()
        if self.config.loss == "focal":
            own = own / len(batch.indices)
        return {"loss": float(own), "measure_seconds": measured - began}

    def state(self) -> TrainingState:
        """Probes, the network where it learns, optimizer, measures."""
        modules: dict[str, nn.Module] = {"probes": self.probes}
        if self.config.learn == "all":
            modules["model"] = self.tokens.model
        return TrainingState(
            modules=modules,
            optimizer=self.optimizer,
            values={"history": self.history, "events": self.mark},
        )

    def resume(self, step: int, values: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointFormatError: the events are not those that the run began with.
        """
        if values["events"] != self.mark:
            raise CheckpointFormatError(
                "The events of data.train or data.val are not those that this run began with. Give "
                "the same lists, or start in a new folder."
            )
        self.history = list(values["history"])
        self._batches = None

    # -- learning --------------------------------------------------------------------------------

    def _choose_trained(self) -> None:
        learns = self.config.learn == "all"
        self.tokens.model.requires_grad_(learns).train(learns)
        if learns and self.config.future.tokens == "encoder":
            self.tokens.model.predictor.requires_grad_(False)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameter groups; each knows its share of the schedule's rate."""
        config = self.config
        groups: list[dict[str, Any]] = []
        for name, probe in self.probes.items():
            lr, decay = config.probe.grid[int(name.rsplit("_", 1)[1])]
            groups.append(
                {
                    "params": list(probe.parameters()),
                    "lr_scale": lr / config.schedule.lr,
                    "weight_decay": decay,
                }
            )
        if config.learn == "all":
            for group in parameter_groups(self.tokens.model, name="model", layer_decay=1.0):
                decay = config.schedule.weight_decay * group["decay_scale"]
                groups.append({"params": group["params"], "lr_scale": 1.0, "weight_decay": decay})
        return groups

    def _set_rates(self, step: int) -> None:
        lr = self.schedule.rates(step).lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def _next(self, step: int) -> EventBatch:
        """The events of update `step`."""
        epoch, number = divmod(step, self.per_epoch)
        if self._batches is None or step != self._next_step or number == 0:
            order = Permutation(len(self.train), Draws(self.config.seed, Purpose.EPOCH, step=epoch))
            rows = [
                [order[place] for place in range(start, start + self.batch_size)]
                for start in range(
                    number * self.batch_size, self.per_epoch * self.batch_size, self.batch_size
                )
            ]
            self._batches = self._reader.batches(
                rows, epoch=epoch, workers=self.config.data.workers
            )
        self._next_step = step + 1
        return next(self._batches)

    def _losses(self, batch: EventBatch) -> dict[str, Tensor]:
        """Loss of every probe."""
        labels = batch.labels.to(self.device)
        main = self.config.future.tokens
        with self._precision(), torch.set_grad_enabled(self.config.learn == "all"):
            parts = self._parts(batch.pixels, batch.seconds)
        losses = {}
        for name, probe in self.probes.items():
            choice = name.rsplit("_", 1)[0]
            tokens = parts[choice]
            if choice != main:
                tokens = tokens.detach()  # an ablation looks on
            with self._precision():
                logits = probe(tokens, return_dict=True).logits
            losses[name] = anticipation_loss(
                as_heads(logits, self.heads), labels, loss=self.config.loss
            )
        return losses

    def _parts(self, pixels: Tensor, seconds: Tensor) -> dict[str, Tensor]:
        """Tokens by choice: [E ; P], E, P."""
        encoded = self.tokens.encode(pixels.to(self.device))
        parts = {"encoder": encoded.tokens}
        if self.tokens.settings.tokens == "both":
            parts["predictor"] = self.tokens.future(encoded, seconds)
            parts["both"] = torch.cat([encoded.tokens, parts["predictor"]], dim=1)
        return parts

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.runtime.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    # -- measuring -------------------------------------------------------------------------------

    def measure(self, step: int) -> None:
        """Measure the validation events after `step` updates, at the first horizon."""
        numbers = self.measures(self.config.measured[0])
        name = f"{self.config.future.tokens}_{self.best_probe(self.config.future.tokens, numbers)}"
        line = {"step": step, "epoch": step // self.per_epoch, **numbers[name]}
        self.history = [*self.history, line]
        self.log.write(step, "validation", {k: v for k, v in line.items() if k != "step"})
        if not self.quiet:
            told = ", ".join(f"{k} {v:.1%}" for k, v in numbers[name].items())
            sys.stderr.write(f"epoch {line['epoch']} of {self.config.schedule.epochs}: {told}\n")

    def measures(self, seconds: float) -> dict[str, dict[str, float]]:
        """By probe: accuracy and class-mean recall of every head."""
        answers = self.answers(seconds)
        found: dict[str, dict[str, float]] = {}
        for name, logits in answers[1].items():
            found[name] = {}
            for number, (head, count) in enumerate(self.heads.items()):
                labels = torch.tensor([item.labels[number] for item in self.val.items])
                scores, k = logits[head].double(), top_of(count)
                found[name][f"{head}_top1"] = top_k_accuracy(scores, labels)
                found[name][f"{head}_recall_at_{k}"] = class_mean_recall_at_k(scores, labels, k)
        return found

    def best_probe(self, choice: str, measures: dict[str, dict[str, float]]) -> int:
        """Number of the pair of rates whose probe of a choice has the best recall.

        One probe for all heads and measures, by the recall of the last head: the original reports
        the best probe of each measure on its own, which no single model reaches.
        """
        head = list(self.heads)[-1]
        measure = f"{head}_recall_at_{top_of(self.heads[head])}"
        other = f"{head}_top1"
        ranks = [
            (measures[f"{choice}_{number}"][measure], measures[f"{choice}_{number}"][other])
            for number in range(len(self.config.probe.grid))
        ]
        return max(range(len(ranks)), key=lambda number: ranks[number])

    @torch.no_grad()
    def answers(
        self, seconds: float, *, names: Sequence[str] | None = None
    ) -> tuple[Answers, dict[str, dict[str, Tensor]]]:
        """What probes say of all validation events.

        Args:
            seconds: anticipation time.
            names: of the probes; None: all.

        Returns:
            the events with their times (without logits), and logits by probe and head.
        """
        chosen = list(self.probes) if names is None else list(names)
        size = max(self.batch_size, MEASURE_BATCH)
        count = len(self.val)
        order = [list(range(at, min(at + size, count))) for at in range(0, count, size)]
        found: dict[str, dict[str, list[Tensor]]] = {
            name: {head: [] for head in self.heads} for name in chosen
        }
        ends: list[float] = []
        starts: list[float] = []
        stops: list[float | None] = []
        self.tokens.eval()
        self.probes.eval()
        batches = self._val_reader.batches(order, seconds=seconds, workers=self.config.data.workers)
        title = f"Measure at {seconds:g} s"
        for batch in track(batches, total=len(order), description=title, quiet=self.quiet):
            with self._precision():
                parts = self._parts(batch.pixels, batch.seconds)
            for name in chosen:
                with self._precision():
                    tokens = parts[name.rsplit("_", 1)[0]]
                    logits = self.probes[name](tokens, return_dict=True).logits
                for head, values in as_heads(logits, self.heads).items():
                    found[name][head].append(values.float().cpu())
            ends += [clip.context_end_seconds for clip in batch.clips]
            starts += [clip.event_start_seconds for clip in batch.clips]
            stops += [
                marked_end(self.val.items[index], clip)
                for index, clip in zip(batch.indices, batch.clips, strict=True)
            ]
        self.tokens.train(self.config.learn == "all")
        self.probes.train()
        joined = {
            name: {head: torch.cat(values) for head, values in heads.items()}
            for name, heads in found.items()
        }
        bare = Answers(seconds, self.val.items, tuple(ends), tuple(starts), {}, tuple(stops))
        return bare, joined


def make_probe(
    config: AnticipateConfig, network: VJEPA2Config, heads: dict[str, int]
) -> VJEPA2AttentiveProbe:
    """A fresh probe for the tokens of a network, the same for every pair of rates.

    Raises:
        ConfigError: the heads of attention do not divide the width.
    """
    own = network.replaced(
        {
            "num_pooler_layers": config.probe.num_self_blocks,
            "num_pooler_attention_heads": config.probe.num_heads,
            "pooler_levels": None,
            "head_sizes": dict(heads),
            "problem_type": None,
        }
    )
    probe = VJEPA2AttentiveProbe(own)
    init_weights(
        probe,
        std=float(own.initializer_range),
        generator=torch.Generator().manual_seed(config.seed),
    )
    return probe


def as_heads(logits: Tensor | dict[str, Tensor], heads: dict[str, int]) -> dict[str, Tensor]:
    """Logits by head, also of a probe with a single one."""
    return logits if isinstance(logits, dict) else {next(iter(heads)): logits}


def anticipation_loss(
    logits: dict[str, Float[Tensor, "B K"]], labels: Int[Tensor, "B heads"], *, loss: str
) -> Float[Tensor, ""]:
    """Sum over heads of the focal loss (itself a sum), or of the mean cross entropy.

    Raises:
        DtypeError: scores are not finite.
    """
    losses = []
    for number, (head, scores) in enumerate(logits.items()):
        target = labels[:, number]
        if loss == "focal":
            wanted = F.one_hot(target, scores.shape[1])
            losses.append(sigmoid_focal_loss(scores, wanted.to(scores.dtype)))
        else:
            losses.append(F.cross_entropy(scores.float(), target))
        if not torch.isfinite(losses[-1]):
            raise DtypeError(
                f"The loss of head {head!r} is {losses[-1].item()}: the features that the probe "
                "reads are not finite, or the learning rate is far too high. Look at the encoder's "
                "weights; float16 overflows where bfloat16 does not."
            )
    return torch.stack(losses).sum()
