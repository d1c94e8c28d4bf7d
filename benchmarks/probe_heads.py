"""Twenty probes at once beside twenty separate runs: same results, how much sooner?

    python -m benchmarks.probe_heads

The heads are the published grid, 5 learning rates x 4 weight decays, on the same random features in
memory; every side makes the same updates from the same initial weights on the same batches. Two
kinds of separate runs take turns with the heads at once:

* `ordinary`: VJEPA2AttentiveProbe with torch.optim.AdamW (fused), one run per pair of rates;
* `own`: this package's heads, one run with one head per pair of rates.

Differences are the largest over all heads: of losses of every update, and of the final logits over
their deviation. The ordinary probe computes in another order, so its float32 rounding differs; in
float64 (`*_float64`, few updates) what is left is the mathematics.

At depth 1 the gain is in the arithmetic (one learned query needs no keys and values of all tokens).
At depth 4 self-attention blocks with weights of their own are nearly all of the cost: heads at once
then compute what separate runs compute, and only share reading and encoding.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import parser, save
from vjepa2 import VJEPA2Config
from vjepa2.tasks.probe_heads import HeadsAdamW, ProbeHeads, grid_of, head_losses

LRS, DECAYS = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8)
GRID = grid_of(LRS, DECAYS)
NUM_CLIPS, NUM_CLASSES = 32, 10

# name: depth, width, attention heads, tokens, batch, updates
CASES = {
    "depth1_vits_width": (1, 384, 6, 512, 8, 2),
    "depth1_tiny": (1, 128, 4, 256, 8, 6),
    "depth4_tiny": (4, 128, 4, 64, 4, 1),
}
Trained = tuple[list[Any], Tensor]


def network(depth: int, width: int, num_heads: int) -> VJEPA2Config:
    """Configuration of the probes."""
    return VJEPA2Config(
        hidden_size=width,
        num_attention_heads=num_heads,
        num_pooler_layers=depth - 1,
        num_labels=NUM_CLASSES,
    )


def train_heads(
    config: VJEPA2Config, grid: list[tuple[float, float]], data: Tensor, labels: Tensor,
    *, steps: int, batch: int,
) -> Trained:  # fmt: skip
    """Heads at once, and their losses [steps, K]."""
    heads = ProbeHeads(config, len(grid), seed=0).to(data.dtype)
    optimizer = HeadsAdamW(heads)
    losses = []
    for step in range(steps):
        rows = torch.arange(step * batch, (step + 1) * batch) % len(data)
        optimizer.set_rates([lr for lr, _ in grid], [decay for _, decay in grid])
        loss = head_losses(heads(data[rows]), labels[rows])
        loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return [heads], torch.stack(losses)


def train_ordinary(
    config: VJEPA2Config, grid: list[tuple[float, float]], data: Tensor, labels: Tensor,
    *, steps: int, batch: int,
) -> Trained:  # fmt: skip
    """One ordinary probe after the other."""
    probes, losses = [], []
    for lr, decay in grid:
        probe = ProbeHeads(config, 1, seed=0).probe(0).to(data.dtype).train()
        optimizer = torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=decay, fused=True)
        own = []
        for step in range(steps):
            rows = torch.arange(step * batch, (step + 1) * batch) % len(data)
            loss = probe(data[rows], labels=labels[rows]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            own.append(loss.detach())
        probes.append(probe)
        losses.append(torch.stack(own))
    return probes, torch.stack(losses, dim=1)


def train_own(
    config: VJEPA2Config, grid: list[tuple[float, float]], data: Tensor, labels: Tensor,
    *, steps: int, batch: int,
) -> Trained:  # fmt: skip
    """One head of this package after the other."""
    runs = [train_heads(config, [pair], data, labels, steps=steps, batch=batch) for pair in grid]
    return [run[0][0] for run in runs], torch.cat([run[1] for run in runs], dim=1)


@torch.no_grad()
def logits_of(trained: Trained, data: Tensor) -> Tensor:
    """[K, B, L], whatever was trained."""
    found = [part(data) for part in trained[0]]
    return torch.cat([out if isinstance(out, Tensor) else out.logits[None] for out in found])


def differences(name: str, ours: Trained, theirs: Trained, data: Tensor) -> dict[str, float]:
    """Largest differences over heads."""
    own, other = logits_of(ours, data[:8]), logits_of(theirs, data[:8])
    return {
        f"{name}_loss_difference": float((ours[1] - theirs[1]).abs().max()),
        f"{name}_logit_difference": float((own - other).abs().max() / own.std()),
    }


def measure(case: tuple[int, ...], *, repeats: int) -> dict[str, Any]:
    """All sides in turn, and what they differ in."""
    depth, width, num_heads, tokens, batch, steps = case
    config = network(depth, width, num_heads)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(NUM_CLIPS, tokens, width, generator=generator)
    labels = torch.randint(NUM_CLASSES, (NUM_CLIPS,), generator=generator)
    sides: dict[str, Callable[..., Trained]] = {
        "together": train_heads, "ordinary": train_ordinary, "own": train_own,
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Trained] = {}
    for repeat in range(repeats):
        order = list(sides) if repeat % 2 == 0 else list(reversed(sides))
        for name in order:
            start, start_cpu = time.perf_counter(), time.process_time()
            found[name] = sides[name](config, GRID, data, labels, steps=steps, batch=batch)
            times[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    result: dict[str, Any] = {
        "depth": depth, "width": width, "attention_heads": num_heads, "tokens": tokens,
        "batch": batch, "updates": steps, "heads": len(GRID), "repeats": repeats,
    }  # fmt: skip
    for name in sides:
        result[f"{name}_median_seconds"] = round(statistics.median(times[name]), 4)
        result[f"{name}_median_cpu_seconds"] = round(statistics.median(cpu[name]), 4)
    for name in ("ordinary", "own"):
        ratios = [a / b for a, b in zip(times[name], times["together"], strict=True)]
        cpu_ratios = [a / b for a, b in zip(cpu[name], cpu["together"], strict=True)]
        result[f"speedup_over_{name}"] = round(statistics.median(ratios), 2)
        result[f"cpu_speedup_over_{name}"] = round(statistics.median(cpu_ratios), 2)
        result |= differences(name, found["together"], found[name], data)
    few = min(steps, 2)
    exact = [
        side(config, GRID[::7], data[:8].double(), labels[:8], steps=few, batch=4)
        for side in (train_heads, train_ordinary)
    ]
    float64 = differences("ordinary", exact[0], exact[1], data[:8].double())
    return result | {f"{name}_float64": value for name, value in float64.items()}


def main() -> None:
    """Measure and write the result."""
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--cases", nargs="*", default=list(CASES))
    given = arguments.parse_args()
    train_heads(network(1, 64, 4), GRID, torch.randn(8, 8, 64), torch.zeros(8).long(),
                steps=1, batch=4)  # fmt: skip  # loads what the first optimizer loads
    results = {}
    for name in given.cases:
        results[name] = measure(CASES[name], repeats=given.repeats)
        print(name, json.dumps(results[name], indent=2), flush=True)
    save("probe_heads", results)


if __name__ == "__main__":
    main()
