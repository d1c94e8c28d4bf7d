"""What an update will cost, before it runs: parameters, operations, memory, time.

Operations are those of matrix products and attention, as `torch.utils.flop_counter` counts them.
Memory follows what autograd keeps of a block (`training.forecast_counts`).
All masks of a micro-batch are in memory at once: the backward pass starts when all are done.
Time is operations over a measured rate of matrix products, times the share of it that whole
updates reach; after the first updates their own time is the better forecast.

    expected = forecast(network, num_frames=16, crop_size=(256, 256), batch_size=24, masks=...)
    seconds = expected.seconds(measured_peak("cuda", "bfloat16"), utilisation=UTILISATION["cuda"])
    print(expected.text(seconds=seconds, num_steps=100_000))
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from vjepa2.errors import check_choice, checked_integer
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.shapes import TokenGrid
from vjepa2.training.forecast_counts import (
    Dtype,
    Mask,
    activation_bytes,
    block_parameters,
    count_flops,
    count_parameters,
    input_bytes,
    mask_counts,
    sizes_of,
    stacks_of,
    teaching_bytes,
    widths_of,
)

# Share of the matrix peak that updates are taken to reach (benchmarks/train_step.py measures it).
UTILISATION = {"cpu": 0.6, "cuda": 0.4}
# Memory that allocators hold beyond what is asked of them, and libraries for themselves: on a CPU
# measured by benchmarks/train_memory.py, on a GPU the usual size of its context and kernels.
HELD_SHARE = {"cpu": 1.1, "cuda": 1.04}
LIBRARY_BYTES = {"cpu": 50 * 2**20, "cuda": 500 * 2**20}
CALIBRATION_SECONDS = 0.2

Moment = Literal["teacher", "backward", "optimizer"]


@dataclass(frozen=True)
class Forecast:
    """What one update costs.

    Attributes:
        num_parameters: by part: "encoder", "predictor", "trainable" of both; "average" of the
            encoder; "teacher", the average or another encoder.
        tokens: of one update, over all clips and masks: "teacher", "student", "predictor".
        flops: of one update, over all processes: "teacher", "student", "predictor" (forward),
            "backward", "recompute", "total".
        memory_bytes: of one process at the fullest moment, by what they hold; "total" is the sum.
        peak_moment: "backward" (all activations are there), "optimizer" (all gradients are) or
            "teacher" (a large one reads the clips).
        num_processes: of the run.
    """

    num_parameters: Mapping[str, int]
    tokens: Mapping[str, int]
    flops: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    peak_moment: Moment
    num_processes: int

    def seconds(self, peak_flops: float, *, utilisation: float) -> float:
        """Time of an update where each process multiplies matrices at `peak_flops` a second."""
        return self.flops["total"] / self.num_processes / (peak_flops * utilisation)

    def text(
        self, *, seconds: float | None = None, num_steps: int | None = None, beside: int = 0
    ) -> str:
        """Lines for people.

        Args:
            seconds: of an update, if known.
            num_steps: updates left, if known.
            beside: bytes that a process holds beside an update; they are added to the memory.
        """
        count, tokens, memory = self.num_parameters, self.tokens, self.memory_bytes
        moment = {
            "teacher": "teacher's pass",
            "backward": "backward pass",
            "optimizer": "optimizer's step",
        }[self.peak_moment]
        large = {
            name: value
            for name, value in sorted(
                {**memory, "Python and imports": beside}.items(), key=lambda item: -item[1]
            )
            if name != "total" and value * 50 > memory["total"]
        }
        parts = {
            "Parameters": f"{_short(count['encoder'])} encoder, {_short(count['predictor'])} "
            f"predictor; {_short(count['trainable'])} are trained",
            "Tokens": f"{_short(sum(tokens.values()))} an update: "
            + ", ".join(f"{_short(value)} {name}" for name, value in tokens.items()),
            "Operations": f"{_short(self.flops['total'])} an update, "
            f"{self.flops['backward'] / self.flops['total']:.0%} of them in the backward pass",
            "Memory": f"{_bytes(memory['total'] + beside)} per process, fullest in the {moment}: "
            + ", ".join(f"{_bytes(value)} {name}" for name, value in large.items()),
        }
        if seconds is not None:
            whole = ""
            if num_steps is not None:
                whole = f", {_hours(seconds * num_steps)} for {num_steps} updates"
            parts["Time"] = (
                f"at least {seconds:.3g} s an update{whole}; waiting for clips, measuring and "
                "saving come on top"
            )
        return "\n".join(f"{name:<11} {text}" for name, text in parts.items())


def forecast(
    network: VJEPA2Config,
    *,
    num_frames: int,
    crop_size: tuple[int, int],
    batch_size: int,
    masks: Sequence[Mask],
    micro_batch: int | None = None,
    processes: int = 1,
    sharding: Literal["none", "ddp", "fsdp2"] = "none",
    dtype: Dtype = "float32",
    device: str = "cpu",
    recompute: bool = False,
    teacher: bool = True,
    teacher_network: VJEPA2Config | None = None,
    adapter_rank: int = 0,
    adapter_targets: Sequence[str] = ("query", "value"),
) -> Forecast:
    """Count what one update needs.

    Args:
        network: encoder and predictor.
        num_frames: T of a clip; 1 is a still image to V-JEPA 2.1.
        crop_size: height and width, pixels.
        batch_size: clips of an update, over all processes.
        masks: per mask the visible and the hidden tokens of a clip, as counts (int) or as shares
            of all tokens (float).
        micro_batch: clips in memory at once; None: all of a process.
        processes: of the run.
        sharding: how weights are spread over them.
        dtype: of products; "bfloat16" is autocast over float32 weights.
        device: kind of device, "cpu" or "cuda".
        recompute: blocks keep only their inputs.
        teacher: whether an average of the encoder is kept beside it.
        teacher_network: of a frozen teacher that is held besides and makes the targets
            (distillation); None: the average makes them.
        adapter_rank: of low-rank adapters in an encoder that is not trained itself; 0: none.
        adapter_targets: layers of a block that have one.

    Raises:
        ConfigError: a number is not positive, or a mask names more tokens than there are.
    """
    check_choice("dtype", dtype, ("float32", "bfloat16"))
    check_choice("sharding", sharding, ("none", "ddp", "fsdp2"))
    for name, value in (("batch_size", batch_size), ("processes", processes)):
        checked_integer(name, value, least=1)
    own = max(1, batch_size // processes)
    micro = min(micro_batch or own, own)
    is_image = num_frames == 1 and network.model_type == "vjepa2_1"
    tubelet = 1 if is_image else network.tubelet_size
    patch = network.in_chans * network.patch_size**2 * tubelet
    grid = TokenGrid(
        max(1, num_frames // tubelet), *(side // network.patch_size for side in crop_size)
    )
    counts = [mask_counts(mask, grid) for mask in masks]
    encoder, predictor = stacks_of(network)
    parameters = count_parameters(
        network, rank=adapter_rank, targets=adapter_targets, teacher_network=teacher_network
    )
    flops = {
        name: batch_size * value
        for name, value in count_flops(
            network,
            grid,
            counts,
            patch=patch,
            recompute=recompute,
            rank=adapter_rank,
            targets=adapter_targets,
            teacher_network=teacher_network,
        ).items()
    }
    tokens = {
        "teacher": batch_size * grid.num_tokens,
        "student": batch_size * sum(visible for visible, _ in counts),
        "predictor": batch_size * sum(visible + hidden for visible, hidden in counts),
    }
    kind = "cuda" if device.startswith("cuda") else "cpu"
    sizes = sizes_of(dtype, kind)
    activations, workspace = activation_bytes(
        network,
        grid,
        counts,
        sizes,
        patch=patch,
        frozen=adapter_rank > 0,
        recompute=recompute,
    )
    shards = processes if sharding == "fsdp2" else 1
    trained = parameters["encoder"] + parameters["predictor"]
    held = {
        "weights": 4 * trained // shards,
        "average": 4 * parameters["average"] * teacher // shards,
        "teacher": 4 * parameters["teacher"] // shards if teacher_network else 0,
        "optimizer state": 8 * parameters["trainable"] // shards,
        "libraries": LIBRARY_BYTES[kind],
        "input": input_bytes(network, num_frames, crop_size, own=own, micro=micro),
    }
    if shards > 1:  # two blocks at a time are whole: one computes, the next is on its way
        stacks = [encoder, predictor, *stacks_of(teacher_network or network)[:1]]
        held["gathered weights"] = 2 * 4 * max(map(block_parameters, stacks))
    gradients = 4 * parameters["trainable"] // shards
    # Buckets of DDP stay; else gradients exist from the first backward pass of an update on. On a
    # CPU what blocks free before they recompute lies in pieces too small for gradients.
    has_gradients = sharding == "ddp" or own > micro or (recompute and kind == "cpu")
    copies = 0
    if dtype == "bfloat16":  # kept until the backward pass, but those of patch embeddings
        steps = network.tubelet_size + (1 if network.model_type == "vjepa2_1" else 0)
        patches = network.in_chans * network.patch_size**2 * steps * encoder.width
        copies = 2 * (trained - patches) // shards
    waiting = {"gradients": gradients} if has_gradients else {}
    told = widths_of(network)[1]
    teaching = teaching_bytes(teacher_network or network, grid, sizes, told=told)
    moments: dict[Moment, dict[str, int]] = {
        "backward": {
            **held,
            **waiting,
            "activations": int(micro * activations),
            "targets": micro * grid.num_tokens * told * 4,
            "workspace": int(micro * workspace),
            "bfloat16 copies of weights": copies,
        },
        "optimizer": {**held, "gradients": gradients},
        "teacher": {**held, **waiting, "workspace": int(micro * teaching)},
    }
    fullest = max(moments, key=lambda moment: sum(moments[moment].values()))
    memory = {
        name: int(value if name == "libraries" else value * HELD_SHARE[kind])
        for name, value in moments[fullest].items()
        if value
    }
    memory["total"] = sum(memory.values())
    return Forecast(
        num_parameters=parameters,
        tokens=tokens,
        flops=flops,
        memory_bytes=memory,
        peak_moment=fullest,
        num_processes=processes,
    )


def measured_peak(
    device: torch.device | str, dtype: Dtype, *, seconds: float = CALIBRATION_SECONDS
) -> float:
    """Floating point operations per second of large matrix products, the best of several.

    Args:
        device: where to multiply.
        dtype: of the matrices.
        seconds: how long to try, about.
    """
    device = torch.device(device)
    size = 8192 if device.type == "cuda" else 768
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best, end = math.inf, time.perf_counter() + seconds
    with torch.inference_mode():
        while best == math.inf or time.perf_counter() < end:
            _wait(device)
            start = time.perf_counter()
            left @ right
            _wait(device)
            best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# -- words ---------------------------------------------------------------------------------------


def _short(number: float) -> str:
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {letter}"
    return f"{number:.3g}"


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
