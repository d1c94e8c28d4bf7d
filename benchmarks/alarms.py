"""Is the alarm of `training/health.py` right? 40 seeded tiny runs, 20 of them sabotaged.

    python -m benchmarks.alarms                     # seeds 0 to 39, the numbers of the docs
    python -m benchmarks.alarms --first-seed 100    # other seeds, of the same kinds

Each run is one of `vjepa2.tasks.pretrain`: a network of two blocks, width 48, on 4 frames of 32 x
32 pixels with moving discs. Healthy ones differ in seed, learning rate, EMA momentum and warm-up.
Five kinds of sabotage, four runs each: EMA 0; learning rate x 30; gradient through the targets (of
the student itself); the same clip again and again; masks that hide nothing (the context is the
whole clip).

A run counts as alarmed when its log has an alarm. Recall: alarmed sabotaged runs; false alarms:
alarmed healthy runs. Thresholds were chosen on 14 other runs (seeds from 100 to 227, 200 updates,
five of them healthy) and not touched after that.
"""

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import parser, save
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import DivergedError
from vjepa2.masking import Masks, draw_masks
from vjepa2.tasks import pretrain as pretraining
from vjepa2.tasks.masked_prediction import target_tokens
from vjepa2.tasks.pretrain_config import ClipConfig, NetworkConfig, PretrainConfig, RuntimeConfig
from vjepa2.tasks.pretrain_networks import Networks, make_networks
from vjepa2.training.health import HealthConfig
from vjepa2.training.schedules import ScheduleConfig

SABOTAGES = ("ema_0", "lr_x30", "no_stop_gradient", "constant_data", "all_visible")
RUNS_PER_SABOTAGE = 4
NUM_STEPS, EVERY, PATIENCE, BATCH, HELD_OUT = 120, 10, 3, 16, 16
NUM_FILES, FRAMES_PER_FILE = 128, 12


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
        lr = 10 ** float(torch.empty(()).uniform_(-3.1, -2.6, generator=generator))
        momenta = (0.99, 0.996, 0.998, 0.999, 0.9995)
        momentum = momenta[int(torch.randint(5, (), generator=generator))]
        warmup = (5, 15, 40)[int(torch.randint(3, (), generator=generator))]
        runs.append(Run(seed, lr, momentum, warmup, kind))
    return runs


def make_clip(generator: torch.Generator) -> Tensor:
    """uint8 [T, 3, 32, 32]: three discs that move over a smooth background."""
    coarse = torch.randn(1, 3, 4, 4, generator=generator)
    background = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")
    clip = (0.5 * background).repeat(FRAMES_PER_FILE, 1, 1, 1)
    axis, time_axis = torch.linspace(-1, 1, 32), torch.arange(float(FRAMES_PER_FILE))
    for _ in range(3):
        start = 1.6 * torch.rand(2, generator=generator) - 0.8
        speed = 0.15 * torch.randn(2, generator=generator)
        radius = 0.12 + 0.25 * float(torch.rand((), generator=generator))
        colour = 1.5 * torch.randn(3, 1, 1, generator=generator)
        # Discs are thrown back at the edges.
        places = ((start + speed * time_axis[:, None] + 1) % 4 - 2).abs() - 1
        squared = (axis[:, None] - places[:, 0, None, None]) ** 2
        squared = squared + (axis - places[:, 1, None, None]) ** 2
        cover = torch.sigmoid(60 * (radius**2 - squared))[:, None]
        clip = clip * (1 - cover) + cover * colour
    return (255 * (0.5 + 0.25 * clip)).clamp(0, 255).round().to(torch.uint8)


def write_clips(folder: Path, run: Run) -> None:
    """Arrays of moving discs; for constant data the same few frames in every file."""
    generator = torch.Generator().manual_seed(run.seed + 1_000_000)
    for number in range(NUM_FILES):
        clip = make_clip(generator)
        if run.sabotage == "constant_data":
            clip = make_clip(torch.Generator().manual_seed(run.seed))[:1].expand_as(clip)
        np.save(folder / f"{number:03d}.npy", clip.numpy())


def config_of(run: Run, clips: Path) -> PretrainConfig:
    """A configuration of one of the tiny runs."""
    lr = run.lr * (30 if run.sabotage == "lr_x30" else 1)
    return PretrainConfig(
        seed=run.seed,
        network=NetworkConfig(
            hidden_size=48, num_layers=2, num_heads=3, mlp_ratio=2.0, patch_size=8,
            pred_hidden_size=32, pred_num_layers=2, pred_num_heads=2, pred_num_mask_tokens=1,
            initializer_range=0.1,
        ),
        data=DataConfig(
            sources=(SourceConfig(path=str(clips), kind="array", frame_step=1),),
            workers=0,
            prefetch=1,
        ),
        augment=AugmentConfig(scale=(0.6, 1.0), mean=(0.5,) * 3, std=(0.25,) * 3),
        clip=ClipConfig(num_frames=4, crop_size=32, batch_size=BATCH),
        schedule=ScheduleConfig(
            num_steps=NUM_STEPS,
            warmup_share=run.warmup / NUM_STEPS,
            cooldown_share=0.0,
            start_lr=lr / 10,
            lr=lr,
            momentum=0.0 if run.sabotage == "ema_0" else run.momentum,
        ),
        health=HealthConfig(every=EVERY, num_clips=HELD_OUT, patience=PATIENCE),
        runtime=RuntimeConfig(device="cpu", checkpoint_every=NUM_STEPS, keep_checkpoints=1),
    )  # fmt: skip


def networks_without_stop(config: PretrainConfig, **options: Any) -> Networks:
    """The student is its own teacher."""
    networks = make_networks(config, **options)
    return dataclasses.replace(networks, target=networks.student.encoder)


def masks_that_hide_nothing(mask: Any, grid: Any, **options: Any) -> Any:
    """Drawn as usual, but every token is visible."""

    def opened(drawn: Masks) -> Masks:
        everything = torch.arange(grid.num_tokens).expand(len(drawn.target_ids), -1)
        return Masks(everything, drawn.target_ids)

    drawn: Any = draw_masks(mask, grid, **options)
    return [opened(each) for each in drawn] if isinstance(drawn, list) else opened(drawn)


@contextlib.contextmanager
def sabotaged(kind: str) -> Iterator[None]:
    """Break the trainer where a mistake in it would be; the others are wrong settings or data."""
    with contextlib.ExitStack() as stack:
        if kind == "no_stop_gradient":
            with_gradient = target_tokens.__wrapped__  # type: ignore[attr-defined]
            for name, value in (
                ("pretrain.make_networks", networks_without_stop),
                ("pretrainer.target_tokens", with_gradient),
            ):
                stack.enter_context(mock.patch(f"vjepa2.tasks.{name}", value))
        if kind == "all_visible":
            for module in ("pretrain_streams", "pretrain_health"):
                name = f"vjepa2.tasks.{module}.draw_masks"
                stack.enter_context(mock.patch(name, masks_that_hide_nothing))
        yield


def record(run: Run) -> list[dict[str, Any]]:
    """The log of a run."""
    with tempfile.TemporaryDirectory() as temporary, sabotaged(run.sabotage):
        clips, folder = Path(temporary, "clips"), Path(temporary, "run")
        clips.mkdir()
        write_clips(clips, run)
        failed = ""
        try:
            pretraining.pretrain(config_of(run, clips), folder, quiet=True)
        except DivergedError as error:  # an end with a reason is an alarm too
            failed = str(error)
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    if failed:
        event = {"event": "alarm", "state": "diverged", "reason": failed}
        rows.append({"step": rows[-1]["step"], "kind": "event", **event})
    return rows


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first alarm of a run, and how it ended."""
    alarms = [row for row in rows if row.get("event") == "alarm"]
    measured = [row for row in rows if row["kind"] == "health"]
    end = {
        name: round(measured[-1][name], 4)
        for name in ("skill", "teacher_token_rank", "student_token_rank")
    }
    if not alarms:
        return {"alarm": None, "step": None, "reason": "", **end}
    first = alarms[0]
    return {"alarm": first["state"], "step": first["step"], "reason": first["reason"], **end}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--first-seed", type=int, default=0)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--every-nth", type=int, default=1, help="only every nth of the runs")
    arguments.add_argument("--keep", type=Path, help="folder for the logs of all runs")
    options = arguments.parse_args()
    runs = plan(options.first_seed)[:: options.every_nth]
    started = time.perf_counter()
    verdicts = []
    with ProcessPoolExecutor(
        options.processes, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for run, rows in zip(runs, pool.map(record, runs), strict=True):
            verdicts.append(judge(rows))
            print(line(dataclasses.asdict(run) | verdicts[-1]), flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                text = "".join(json.dumps(row) + "\n" for row in rows)
                name = f"{run.seed}-{run.sabotage or 'healthy'}.jsonl"
                (options.keep / name).write_text(text, encoding="utf-8")
    results = summary(runs, verdicts)
    results["seconds"] = round(time.perf_counter() - started, 1)
    print(f"recall {results['recall']:.0%}, false alarms {results['false_alarms']:.0%}")
    if options.first_seed == 0 and options.every_nth == 1:
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
        "runs": [dataclasses.asdict(run) | verdict for run, verdict in both],
    }


def line(run: dict[str, Any]) -> str:
    """What is printed of a run."""
    return (
        f"{run['seed']:4d} {run['sabotage'] or 'healthy':17s} lr {run['lr']:.1e} "
        f"ema {run['momentum']} warm-up {run['warmup']:3d}: {run['alarm'] or '-'} "
        f"{run['step'] if run['step'] is not None else ''} {run['reason']} "
        f"(skill {run['skill']}, ranks {run['teacher_token_rank']} {run['student_token_rank']})"
    )


if __name__ == "__main__":
    main()
