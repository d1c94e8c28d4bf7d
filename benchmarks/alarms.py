"""Is the alarm of `training/health.py` right? 40 seeded tiny runs, 20 of them sabotaged.

    python -m benchmarks.alarms                     # seeds 0 to 39, the numbers of the docs
    python -m benchmarks.alarms --first-seed 100    # the seeds that thresholds were chosen on

Each run trains a network of two blocks, width 48, on 4 frames of 32 x 32 pixels with moving discs.
Healthy ones differ in seed, learning rate, EMA momentum and warm-up. Five kinds of sabotage, four
runs each: EMA 0; learning rate x 30; gradient through the targets; the same clip again and again;
masks that hide nothing (the context is the whole clip).

A run counts as alarmed when any of its measurements raises an alarm. Recall: alarmed sabotaged
runs; false alarms: alarmed healthy runs.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import parser, save
from vjepa2 import VJEPA2Config, VJEPA2Model
from vjepa2.ema import MovingAverage, frozen_copy
from vjepa2.files import write_json
from vjepa2.losses import normalised_targets, prediction_error
from vjepa2.masking import MaskConfig, Masks, draw_masks, fitted_to, published_masks
from vjepa2.shapes import TokenGrid
from vjepa2.training.health import HealthConfig, HealthMonitor
from vjepa2.training.health_measures import gradient_norms, held_out_numbers

NETWORK: dict[str, Any] = {
    "patch_size": 8, "crop_size": 32, "frames_per_clip": 4, "tubelet_size": 2,
    "hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "mlp_ratio": 2.0,
    "pred_hidden_size": 32, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 2,
    "pred_num_mask_tokens": 2, "pred_mlp_ratio": 2.0, "initializer_range": 0.1,
}  # fmt: skip
GRID = TokenGrid(2, 4, 4)
SABOTAGES = ("ema_0", "lr_x30", "no_stop_gradient", "constant_data", "all_visible")
RUNS_PER_SABOTAGE = 4
NUM_STEPS, EVERY, BATCH, HELD_OUT, PATIENCE = 300, 10, 16, 16, 3


@dataclass(frozen=True)
class Run:
    """One tiny run; `sabotage` is empty for a healthy one."""

    seed: int
    lr: float
    momentum: float
    warmup: int
    sabotage: str = ""


def plan(first_seed: int) -> list[Run]:
    """20 healthy and 20 sabotaged runs; settings are drawn from the seed."""
    kinds = [""] * 20 + [kind for kind in SABOTAGES for _ in range(RUNS_PER_SABOTAGE)]
    runs = []
    for seed, kind in enumerate(kinds, start=first_seed):
        generator = torch.Generator().manual_seed(seed)
        lr = 10 ** float(torch.empty(()).uniform_(-3.3, -2.7, generator=generator))
        momenta = (0.99, 0.996, 0.998, 0.999, 0.9995)
        momentum = momenta[int(torch.randint(5, (), generator=generator))]
        warmup = (5, 15, 40)[int(torch.randint(3, (), generator=generator))]
        runs.append(Run(seed, lr, momentum, warmup, kind))
    return runs


def make_clips(count: int, generator: torch.Generator) -> Tensor:
    """Normalised clips [count, 4, 3, 32, 32]: three discs that move over a smooth background."""
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    background = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")
    clips = (0.5 * background)[:, None].repeat(1, 4, 1, 1, 1)
    axis = torch.linspace(-1, 1, 32)
    for _ in range(3):
        start = 1.6 * torch.rand(count, 1, 2, generator=generator) - 0.8
        speed = 0.15 * torch.randn(count, 1, 2, generator=generator)
        radius = 0.12 + 0.25 * torch.rand(count, 1, 1, 1, generator=generator)
        colour = 1.5 * torch.randn(count, 1, 3, 1, 1, generator=generator)
        places = start + speed * torch.arange(4.0)[:, None]
        squared = (axis[:, None] - places[..., 0, None, None]) ** 2
        squared = squared + (axis - places[..., 1, None, None]) ** 2
        cover = torch.sigmoid(60 * (radius**2 - squared))[:, :, None]
        clips = clips * (1 - cover) + cover * colour
    return clips


class TinyRun:
    """The training step of V-JEPA 2 in its plainest form, with a place for each sabotage."""

    def __init__(self, run: Run) -> None:
        self.run = run
        torch.manual_seed(run.seed)
        self.generator = torch.Generator().manual_seed(run.seed + 1_000_000)
        self.model = VJEPA2Model(VJEPA2Config(**NETWORK))
        self.teacher = frozen_copy(self.model.encoder)
        self.average = MovingAverage(self.teacher, self.model.encoder)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=0.04)
        self.masks: list[MaskConfig] = [fitted_to(each, GRID) for each in published_masks()]
        self.held_out = self.clips(HELD_OUT)
        self.held_out_masks = self.draw(HELD_OUT, step=0)
        self.constant = self.held_out[:1]

    def clips(self, count: int) -> Tensor:
        if self.run.sabotage == "constant_data":
            one = make_clips(1, torch.Generator().manual_seed(self.run.seed))
            return one.expand(count, -1, -1, -1, -1)
        return make_clips(count, self.generator)

    def draw(self, batch: int, *, step: int) -> list[Masks]:
        drawn = [
            draw_masks(each, GRID, batch=batch, seed=self.run.seed, step=step, number=number)
            for number, each in enumerate(self.masks)
        ]
        if self.run.sabotage == "all_visible":
            everything = torch.arange(GRID.num_tokens).expand(batch, -1)
            return [Masks(everything, mask.target_ids) for mask in drawn]
        return drawn

    def predict(self, pixels: Tensor, mask: Masks) -> Tensor:
        tokens = self.model.encoder(pixels, mask.context_ids).last_hidden_state
        predicted: Tensor = self.model.predictor.predict(
            tokens, mask.context_ids, mask.target_ids, grid=GRID, mask_index=0
        ).last_hidden_state
        return predicted

    def targets(self, pixels: Tensor) -> Tensor:
        if self.run.sabotage == "no_stop_gradient":
            return normalised_targets(self.model.encoder(pixels).last_hidden_state)
        with torch.no_grad():
            return normalised_targets(self.teacher(pixels).last_hidden_state)

    def step(self, number: int) -> dict[str, float]:
        rate = self.run.lr * (30 if self.run.sabotage == "lr_x30" else 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (number + 1) / self.run.warmup)
        pixels = self.clips(BATCH)
        targets = self.targets(pixels)
        losses = [
            prediction_error(
                self.predict(pixels, mask),
                targets.gather(1, mask.target_ids[..., None].expand(-1, -1, targets.shape[-1])),
            )
            for mask in self.draw(BATCH, step=number + 1)
        ]
        loss = torch.stack(losses).mean()
        self.optimizer.zero_grad()
        loss.backward()
        parts = {"encoder": self.model.encoder, "predictor": self.model.predictor}
        numbers = {"loss": loss.item(), **gradient_norms(parts)}
        self.optimizer.step()
        self.average.update(0.0 if self.run.sabotage == "ema_0" else self.run.momentum)
        return numbers

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        numbers = held_out_numbers(
            self.held_out,
            self.held_out_masks,
            encode_student=lambda pixels: self.model.encoder(pixels).last_hidden_state,
            encode_teacher=lambda pixels: self.teacher(pixels).last_hidden_state,
            targets=self.targets(self.held_out),
            predict=self.predict,
            grid=GRID,
            patch_size=NETWORK["patch_size"],
            tubelet_size=NETWORK["tubelet_size"],
        )
        return numbers | {"ema_distance": self.average.distance()}


def record(run: Run) -> list[tuple[str, int, dict[str, float]]]:
    """All numbers of a run, in order: ("step" or "health", step, numbers)."""
    torch.set_num_threads(1)
    tiny = TinyRun(run)
    rows = [("health", 0, tiny.measure())]
    for number in range(NUM_STEPS):
        rows.append(("step", number, tiny.step(number)))
        if (number + 1) % EVERY == 0:
            rows.append(("health", number + 1, tiny.measure()))
    return rows


def judge(rows: list[tuple[str, int, dict[str, float]]]) -> dict[str, Any]:
    """The first alarm of a run, as the trainer would have got it."""
    monitor = HealthMonitor(HealthConfig(every=EVERY, patience=PATIENCE))
    states = []
    for kind, step, numbers in rows:
        take: Callable[..., Any] = monitor.add_step if kind == "step" else monitor.add_health
        verdict = take(step, numbers)
        if verdict is None:
            continue
        states.append(verdict.state)
        if verdict.alarm:
            return {"alarm": verdict.state, "step": step, "reason": verdict.reason}
    return {"alarm": None, "step": None, "reason": "", "last": states[-1]}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--first-seed", type=int, default=0)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--keep", type=Path, help="write all numbers of all runs to this file")
    options = arguments.parse_args()
    runs = plan(options.first_seed)
    started = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        recorded = list(pool.map(record, runs))
    seconds = time.perf_counter() - started
    if options.keep:
        write_json(
            options.keep, [{"run": vars(r), "rows": x} for r, x in zip(runs, recorded, strict=True)]
        )
    results = summary(runs, [judge(rows) for rows in recorded]) | {"seconds": round(seconds, 1)}
    for line in lines(results):
        print(line)
    if options.first_seed == 0:
        save("alarms", results)


def summary(runs: list[Run], verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall and false alarms, in all and per kind of sabotage."""
    both = list(zip(runs, verdicts, strict=True))
    by_kind = {
        kind or "healthy": [
            verdict["alarm"] is not None for run, verdict in both if run.sabotage == kind
        ]
        for kind in ("", *SABOTAGES)
    }
    hits = [hit for kind in SABOTAGES for hit in by_kind[kind]]
    return {
        "recall": sum(hits) / len(hits),
        "false_alarms": sum(by_kind["healthy"]) / len(by_kind["healthy"]),
        "alarmed": {kind: f"{sum(found)} of {len(found)}" for kind, found in by_kind.items()},
        "settings": {"steps": NUM_STEPS, "every": EVERY, "patience": PATIENCE, "batch": BATCH},
        "runs": [vars(run) | verdict for run, verdict in both],
    }


def lines(results: dict[str, Any]) -> Iterator[str]:
    """What is printed."""
    for run in results["runs"]:
        yield (
            f"{run['seed']:4d} {run['sabotage'] or 'healthy':17s} lr {run['lr']:.1e} "
            f"ema {run['momentum']} warm-up {run['warmup']:3d}: {run['alarm'] or '-'} "
            f"{run['step'] if run['step'] is not None else ''} {run['reason']}"
        )
    yield f"recall {results['recall']:.0%}, false alarms {results['false_alarms']:.0%}"


if __name__ == "__main__":
    main()
