"""The smallest thing that trains: two blocks, a teacher, AdamW."""

from typing import Any

import torch
from torch import Tensor, nn

from vjepa2.ema import MovingAverage, frozen_copy
from vjepa2.training.distributed import Processes
from vjepa2.training.optim import OptimConfig, build_optimizer, clip_gradients, set_rates
from vjepa2.training.schedules import ScheduleConfig
from vjepa2.training.sharding import Sharding, gradient_sync, unwrap, wrap
from vjepa2.training.state import TrainingState

WIDTH = 6
BATCH = 8


class TinyBlock(nn.Module):
    """A residual layer; the width is no multiple of the number of processes on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.fc(self.norm(tokens)).tanh()


class TinyEncoder(nn.Module):
    """Embedding, two blocks, and a vector of an odd shape like mask tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Linear(5, WIDTH)
        self.mask_tokens = nn.Parameter(torch.randn(3, 1, 1, WIDTH))
        self.layer = nn.ModuleList(TinyBlock() for _ in range(2))
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.embeddings(inputs) + self.mask_tokens.sum(dim=(0, 1, 2)) * self.scale
        for block in self.layer:
            tokens = block(tokens)
        return tokens


class TinyObjective(nn.Module):
    """Calls the encoder twice in one forward, as two masks do."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TinyEncoder()

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        first = (self.encoder(inputs) - targets).abs().mean()
        second = (self.encoder(inputs.flip(-1)) - targets).abs().mean()
        return (first + second) / 2


class TinyRun:
    """A `Trainable`: batches are a pure function of the step, cut by the rank."""

    def __init__(
        self,
        processes: Processes,
        sharding: Sharding = "none",
        *,
        micro_batch: int = BATCH,
        clip_norm: float | None = None,
        num_steps: int = 10,
    ) -> None:
        self.processes, self.micro_batch = processes, min(micro_batch, BATCH)
        self.config = OptimConfig(clip_norm=clip_norm)
        self.schedule = ScheduleConfig(num_steps=num_steps, lr=0.02, momentum=0.9)
        torch.manual_seed(3)
        objective = TinyObjective()
        blocks = (TinyBlock,)
        teacher = frozen_copy(objective.encoder)
        self.teacher = wrap(teacher, sharding, processes, blocks=blocks)
        self.objective = wrap(objective, sharding, processes, blocks=blocks)
        self.student: Any = unwrap(self.objective)
        self.optimizer = build_optimizer(
            self.config, {"encoder": self.student.encoder}, lr=0.02, weight_decay=0.04
        )
        self.average = MovingAverage(unwrap(self.teacher), self.student.encoder)
        self.values: dict[str, Any] = {"seen": 0}

    def run_step(self, step: int) -> dict[str, float]:
        rates = self.schedule.rates(step)
        set_rates(self.optimizer, lr=rates.lr, weight_decay=rates.weight_decay)
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(BATCH, 4, 5, generator=generator)
        share = BATCH // self.processes.world_size
        inputs = inputs[self.processes.rank * share :][:share]
        size = min(self.micro_batch, share)
        losses = []
        for start in range(0, share, size):
            part = inputs[start : start + size]
            with torch.no_grad():
                targets = nn.functional.layer_norm(self.teacher(part), (WIDTH,))
            with gradient_sync(self.objective, start + size == share):
                loss = self.objective(part, targets) * size / share
                loss.backward()
            losses.append(loss.detach())
        norm = clip_gradients(self.student.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(rates.momentum)
        self.values["seen"] += BATCH
        noise = torch.rand(()).item()  # of the global generator, which must go on after a resume
        return {"loss": sum(losses).item(), "norm": norm.item(), "noise": noise}  # type: ignore[union-attr]

    def state(self) -> TrainingState:
        return TrainingState(
            modules={"student": self.objective, "teacher": self.teacher},
            optimizer=self.optimizer,
            values=dict(self.values),
        )

    def resume(self, step: int, values: dict[str, Any]) -> None:
        assert values["seen"] == step * BATCH
        self.values = dict(values)
