"""One process of a run that learns a world model: its updates, its measurements, its health.

every update   samples -> teacher forcing and rollout -> gradient -> AdamW
now and then   held-out episodes -> loss beside "nothing changes" and beside other actions
"""

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vjepa2.errors import CheckpointFormatError, ConfigError, DivergedError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.nn.block import Block
from vjepa2.tasks.pretrainer import check_dtype, seed_of_micro_batch
from vjepa2.tasks.world_model_config import WorldModelTraining
from vjepa2.tasks.world_model_loss import WorldStep
from vjepa2.tasks.world_samples import FixedSamples, WorldBatch, WorldSamples
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.engine import StopTraining
from vjepa2.training.health import HealthMonitor, Verdict
from vjepa2.training.health_measures import effective_rank, skill
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.optim import build_optimizer, clip_gradients, set_rates
from vjepa2.training.sharding import choose_sharding, wrap
from vjepa2.training.state import TrainingState

MEASURE_BATCH = 32  # samples at once
RANK_ROWS = 512  # of these
SAME_FRAMES = 1e-3  # mean change of layer-normed features from frame to frame
FRAMES_ALIKE = (
    "The held-out frames hardly change from one step to the next: a camera that stands still, or "
    "one that does not see the robot, has nothing to learn from. Look at it: "
    "vjepa2 world-model check-data DATA --robot robot.json --out page.html"
)


class WorldTrainer:
    """What the engine drives (`training.engine.Trainable`).

    Args:
        config: of the run.
        model: with its trained part chosen; the predictor is moved and wrapped here.
        step: the predictor with its loss.
        train, val: samples.
        grid: rows and columns of a frame's tokens.
        processes: of the run.
        store: checkpoints of the run.
        log: of the run.
        mark: of data and encoder, so that a resumed run goes on with the same.

    Attributes:
        measured: the last measurement.

    Raises:
        ConfigError: the device lacks what was asked for, or the batch cannot be shared.
    """

    def __init__(
        self,
        config: WorldModelTraining,
        model: VJEPA2ActionModel,
        step: WorldStep,
        train: WorldSamples,
        val: WorldSamples,
        *,
        grid: tuple[int, int],
        processes: Processes,
        store: CheckpointStore,
        log: MetricsLog,
        mark: str,
    ) -> None:
        self.config, self.model, self.processes = config, model, processes
        self.train, self.val, self.grid = train, val, grid
        self.store, self.log, self.mark = store, log, mark
        check_dtype(config.runtime.dtype, processes.device)
        if config.batch_size % processes.world_size:
            raise ConfigError(
                f"batch_size={config.batch_size} cannot be shared by {processes.world_size} "
                "processes. Set it to a multiple."
            )
        self._share = config.batch_size // processes.world_size
        self.plain = step.to(processes.device)
        if config.runtime.compile:
            for part in step.modules():
                if isinstance(part, Block):
                    part.compile()
        sharding = choose_sharding(config.runtime.sharding, processes)
        self.step = wrap(step, sharding, processes, blocks=(Block,))
        first = config.schedule.rates(0)
        self.optimizer = build_optimizer(
            config.optim,
            {"predictor": step.predictor},
            lr=first.lr,
            weight_decay=first.weight_decay,
        )
        self.monitor = HealthMonitor(config.health)
        self.fixed = val.fixed(config.health.num_clips)
        self.measured: dict[str, float] = {}
        self._constants: dict[str, float] = {}
        self._is_resumed = self._told_alike = False

    # -- what the engine calls -------------------------------------------------------------------

    def run_step(self, step: int) -> dict[str, float]:
        """Make update `step`; measure before it when it is time."""
        began = time.perf_counter()
        if step % self.config.health.every == 0:
            self.measure(step)
        measured = time.perf_counter() - began
        first = self.processes.rank * self._share
        batch = self.train.learned(step, range(first, first + self._share))
        numbers = self._update(step, batch)
        self.monitor.add_step(step, numbers)
        return {**numbers, "measure_seconds": measured}

    def state(self) -> TrainingState:
        """Predictor, optimizer, counters."""
        return TrainingState(
            modules={"step": self.step},
            optimizer=self.optimizer,
            values={"monitor": self.monitor.state_dict(), "data": self.mark},
        )

    def resume(self, step: int, values: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointFormatError: recordings or encoder are not those that the run began with.
        """
        if values["data"] != self.mark:
            raise CheckpointFormatError(
                "The recordings (data.path) or the encoder are not those that this run began "
                "with. Give the same ones, or start in a new folder."
            )
        self.monitor.load_state_dict(values["monitor"])
        self._is_resumed = True

    # -- an update -------------------------------------------------------------------------------

    def _update(self, step: int, batch: WorldBatch) -> dict[str, float]:
        rates = self.config.schedule.rates(step)
        seed_of_micro_batch(self.config.seed, step, self.processes.rank)
        with self._precision():
            losses = self.step(*batch, grid=self.grid, auto_steps=self.config.auto_steps)
        losses.total.backward()
        trained = (value for value in self.plain.parameters() if value.requires_grad)
        norm = clip_gradients(trained, self.config.optim.clip_norm).to(self.processes.device)
        values = torch.stack(
            [losses.total.detach(), losses.teacher_forced.detach(), losses.rollout.detach(),
             norm.float()]
        ).tolist()  # fmt: skip  # one look at the device
        names = ("loss", "next_frame_loss", "rollout_loss", "predictor_gradient_norm")
        numbers = dict(zip(names, values, strict=True))
        self._check_finite(step, numbers)
        set_rates(self.optimizer, lr=rates.lr, weight_decay=rates.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {**numbers, "lr": rates.lr, "weight_decay": rates.weight_decay}

    def _check_finite(self, step: int, numbers: Mapping[str, float]) -> None:
        """Leave the weights as they are when a loss or a gradient of any process is no number."""
        is_finite = all(map(math.isfinite, numbers.values()))
        if not self.processes.largest(int(not is_finite)):
            return
        self.optimizer.zero_grad(set_to_none=True)
        kept = self.store.latest()
        raise DivergedError(
            f"Loss or gradient of step {step} is not finite: {dict(numbers)}. "
            + (f"The newest checkpoint is of step {kept}. " if kept is not None else "")
            + "Lower schedule.lr, warm up longer (schedule.warmup_share) or set "
            "optim.clip_norm=1.0, and start in a new folder."
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.runtime.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16)

    # -- health ----------------------------------------------------------------------------------

    def finish(self) -> Verdict:
        """The last measurement, after all updates."""
        num_steps = self.config.schedule.num_steps
        self.log.start_from(num_steps)  # the engine has closed it
        verdict = self.measure(num_steps, is_last=True)
        self.log.close()
        return verdict

    def measure(self, step: int, *, is_last: bool = False) -> Verdict:
        """Measure and judge after `step` updates; log it, and react to an alarm.

        Raises:
            StopTraining: an alarm, where `health.action` says so.
        """
        self.plain.eval()
        numbers = self.numbers()
        self.plain.train()
        self.measured = numbers
        self.log.write(step, "health", numbers)
        if numbers["copy_last_loss"] < SAME_FRAMES and not self._told_alike:
            self._told_alike = True
            self.log.event(step, "frames_alike", {"advice": FRAMES_ALIKE})
        verdict = self.monitor.add_health(step, numbers)
        # Rounding may differ between processes; what one decides all do.
        verdict, state = self.processes.from_first((verdict, self.monitor.state_dict()))
        self.monitor.load_state_dict(state)
        if self.monitor.best_step == step and step in self.store.steps():
            self.store.protect("best", step)
        standing, self._is_resumed = self._is_resumed, False
        if verdict.new:
            details = verdict.as_event()
            self.log.event(step, details.pop("event"), details)
        wants_stop = verdict.alarm and (verdict.new or standing) and not is_last
        if wants_stop and self.config.health.action == "stop":
            raise StopTraining(f"{verdict} Set health.action=warn to train on all the same.")
        return verdict

    @torch.no_grad()
    def numbers(self) -> dict[str, float]:
        """Of the fixed samples of the held-out episodes.

        Returns:
            `held_out_loss` (mean |difference| of the next frame), `rollout_loss_1` .. (of every
            step of the longest rollout a sample allows), `copy_last_loss` (of the frame before),
            `copy_mean_loss` (of the mean token), `other_action_loss` (the next frame, with
            actions of another sample), `skill` beside the better of the two copies,
            `teacher_token_rank`.
        """
        if not self._constants:
            self._constants = constant_numbers(self.fixed)
        steps = self.train.length - 1
        size = max(1, min(self._share, MEASURE_BATCH))
        rank, world_size = self.processes.rank, self.processes.world_size
        parts = list(self.fixed.portions(size, rank=rank, world_size=world_size))
        sums: list[Tensor] = []
        # Sharded weights come together in all processes at the same time.
        for number in range(self.processes.largest(len(parts))):
            spare = next(self.fixed.portions(1))
            batch, other_actions = parts[number] if number < len(parts) else spare
            weight = len(batch.latents) if number < len(parts) else 0
            with self._precision():
                own = self.step(*batch, grid=self.grid, auto_steps=steps)
                other = self.step(
                    batch.latents, other_actions, batch.states, grid=self.grid, auto_steps=1
                )
            losses = torch.stack([own.teacher_forced, other.teacher_forced]).float()
            row = torch.cat([losses, own.by_step.float()]) * weight
            sums.append(torch.cat([row, row.new_full((1,), weight)]))
        gathered = torch.tensor(
            self.processes.gather(torch.stack(sums).sum(dim=0).tolist()), dtype=torch.float64
        )
        *values, count = gathered.sum(dim=0).tolist()
        names = (
            "held_out_loss",
            "other_action_loss",
            *(f"rollout_loss_{step}" for step in range(1, steps + 1)),
        )
        named = {name: value / count for name, value in zip(names, values, strict=True)}
        trivial = self._constants["copy_last_loss"], self._constants["copy_mean_loss"]
        return {**named, **self._constants, "skill": skill(named["held_out_loss"], *trivial)}


@torch.no_grad()
def constant_numbers(fixed: FixedSamples) -> dict[str, float]:
    """What a frozen encoder's features cost without a model, which no update changes.

    Returns:
        `copy_last_loss`: mean |difference| from a frame to the next; `copy_mean_loss`: from a frame
        to the mean token of all; `teacher_token_rank`: of some tokens.
    """
    centre, count, some = torch.zeros(()), 0, []
    for batch, _ in fixed.portions(MEASURE_BATCH):
        tokens = batch.latents.flatten(0, 2)
        centre = centre.to(tokens.device) + tokens.sum(dim=0, dtype=torch.float64)
        count += len(tokens)
        some.append(tokens[:: max(1, len(tokens) // RANK_ROWS)])
    centre = (centre / count).float()
    still = mean = 0.0
    for batch, _ in fixed.portions(MEASURE_BATCH):
        targets, share = batch.latents[:, 1:], len(batch.latents) / len(fixed.places)
        still += share * float((targets - batch.latents[:, :-1]).abs().mean())
        mean += share * float((targets - centre).abs().mean())
    return {
        "copy_last_loss": still,
        "copy_mean_loss": mean,
        "teacher_token_rank": effective_rank(torch.cat(some)),
    }
