"""Rollouts that compute every step once, beside the published algorithm, on the same weights.

    python -m benchmarks.rollout [--device cuda] [--width 384 --layers 6 --side 8]

The published planner predicts all candidates at once, and for every action it adds runs the
predictor on all frames so far (arXiv:2506.09985, section 4; 1 + 2 + ... + L steps for a horizon of
L). Here both sides try the same 64 candidates from one frame; the reference integrates poses with
the same code, so the difference is the network's. Also: how the cost grows from horizon 2 to 16,
and the memory that was asked for beside what was taken.
"""

import argparse
import resource
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import interleaved, parser, save
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.world_model import ActionWorldModel, Situation
from vjepa2.poses import integrate_pose
from vjepa2.shapes import TokenGrid

CANDIDATES = 64
HORIZONS = (4, 8)
GROWTH = (2, 4, 6, 8, 10, 12, 14, 16)
REPEATS = 3


def make_model(options: argparse.Namespace) -> VJEPA2ActionModel:
    """A predictor with random weights behind an encoder that is not used."""
    config = VJEPA2Config(
        model_type="vjepa2_ac",
        crop_size=16 * options.side,
        hidden_size=options.latent,
        num_hidden_layers=1,
        num_attention_heads=options.latent // 64,
        pred_hidden_size=options.width,
        pred_num_hidden_layers=options.layers,
        pred_num_attention_heads=options.width // 64,
    )
    model: VJEPA2ActionModel = VJEPA2ActionModel(config).to(options.device).eval()
    return model


def published(
    model: VJEPA2ActionModel, situation: Situation, actions: Tensor, *, side: int
) -> Tensor:
    """All frames again for every action that is added; features of the last frame."""
    count, horizon, _ = actions.shape
    frames = situation.tokens.expand(count, -1, -1)
    states = situation.state.expand(count, -1)[:, None]
    size = side * side
    for step in range(1, horizon + 1):
        predicted = model.predict_next(
            frames, actions[:, :step], states, grid=TokenGrid(step, side, side)
        )
        frames = torch.cat([frames, predicted[:, -size:]], dim=1)
        moved = integrate_pose(states[:, -1:], actions[:, step - 1 : step])
        states = torch.cat([states, moved], dim=1)
    return frames[:, -size:]


def peak_bytes(device: str) -> int:
    """Most memory so far: of the device, or resident of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.no_grad()
def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--latent", type=int, default=384, help="width of the features")
    arguments.add_argument("--width", type=int, default=384, help="of the predictor")
    arguments.add_argument("--layers", type=int, default=6)
    arguments.add_argument("--side", type=int, default=8, help="tokens of a row")
    options = arguments.parse_args()
    torch.manual_seed(0)
    model = make_model(options)
    budget = 512 * 2**20
    world = ActionWorldModel(model, memory_bytes=budget)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(options.device)

    size = options.side**2
    situation = world.begin(draw(1, size, options.latent), draw(1, 7))

    def synchronize() -> None:
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    def ours(actions: Tensor) -> Tensor:
        return world.costs(situation, actions, lambda rolled: rolled.latents[:, -1].mean((1, 2)))

    before = peak_bytes(options.device)
    longest = 0.05 * draw(CANDIDATES, max(GROWTH), 7)
    ours(longest)
    synchronize()
    memory = {
        "budget": budget,
        "taken": peak_bytes(options.device) - before,
        "bytes_per_candidate_horizon_8": world.bytes_per_candidate(situation, horizon=8),
        "candidates_at_once_horizon_8": world.candidates_at_once(situation, horizon=8),
    }
    results: dict[str, Any] = {"memory": memory}
    for horizon in HORIZONS:
        actions = 0.05 * draw(CANDIDATES, horizon, 7)
        rolled = world.rollout(situation, actions).latents[:, -1]
        expected = published(model, situation, actions, side=options.side)
        timed = interleaved(
            lambda actions=actions: ours(actions),  # type: ignore[misc]
            lambda actions=actions: published(  # type: ignore[misc]
                model, situation, actions, side=options.side
            ).mean(dim=(1, 2)),
            repeats=REPEATS,
            synchronize=synchronize,
        )
        results[f"horizon {horizon}"] = {
            "largest_difference": (rolled - expected).abs().max().item(),
            **timed,
        }
        print(horizon, results[f"horizon {horizon}"])
    results["growth"] = growth(lambda horizon: ours(longest[:, :horizon]), synchronize)
    print(results["growth"], memory)
    named = {
        "device": options.device,
        **{name: getattr(options, name) for name in ("latent", "width", "layers", "side")},
    }
    save("rollout", {"sizes": named, "candidates": CANDIDATES, **results})


def growth(run: Any, synchronize: Any) -> dict[str, Any]:
    """Seconds per horizon, and how far the longest lies above a straight line through the rest."""
    seconds: dict[int, float] = {horizon: float("inf") for horizon in GROWTH}
    for _ in range(REPEATS):
        for horizon in GROWTH:
            synchronize()
            start = time.perf_counter()
            run(horizon)
            synchronize()
            seconds[horizon] = min(seconds[horizon], time.perf_counter() - start)
    x = torch.tensor(GROWTH, dtype=torch.float64)
    y = torch.tensor([seconds[horizon] for horizon in GROWTH], dtype=torch.float64)
    design = torch.stack([torch.ones_like(x), x], dim=1)
    line = design @ torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    return {
        "seconds": {str(horizon): round(value, 4) for horizon, value in seconds.items()},
        "most_above_the_line": (y / line).max().item(),
    }


if __name__ == "__main__":
    main()
