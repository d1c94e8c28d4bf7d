"""Where the time of an encoder layer goes, and the small experiments behind its code.

    python -m benchmarks.profile_layer

Part 1: PyTorch's profiler over both sides (ViT-L width, 4 layers, 16 frames of 256 px): share of
CPU time per kind of operation, and the rate of the matrix products beside the measured peak.
Part 2: variants of the two places where our code differs from the obvious one: swapping
neighbouring channels for rotary positions, and running the MLP in pieces.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import parser, save
from benchmarks.encode import Case, build, encoder_gflop, matrix_peak, vit

KINDS = {
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::mkldnn_convolution"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu",),
    "activation": ("aten::gelu", "aten::gelu_"),
}


def shares(model: Any, pixels: torch.Tensor) -> dict[str, float]:
    """Share of self CPU time per kind of operation, and milliseconds in all."""
    with torch.inference_mode():
        model.get_vision_features(pixels)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(3):
                model.get_vision_features(pixels)
    spent = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(spent.values())
    result = {
        kind: round(sum(spent.get(name, 0.0) for name in names) / total, 4)
        for kind, names in KINDS.items()
    }
    result["everything else"] = round(1.0 - sum(result.values()), 4)
    result["milliseconds_per_forward"] = round(total / 3e3, 1)
    return result


def medians(variants: dict[str, Callable[[], object]], repeats: int = 15) -> dict[str, float]:
    """Median milliseconds of each variant, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        for variant in variants.values():
            variant()
        for _ in range(repeats):
            for name, variant in variants.items():
                start = time.perf_counter()
                variant()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def swap_variants() -> dict[str, float]:
    """Ways to exchange channels 2m and 2m + 1 of a [1, 2048, 16, 64] tensor."""
    x = torch.randn(1, 2048, 16, 64)
    index = torch.arange(64) ^ 1
    permutation = torch.eye(64)[index]
    return medians(
        {
            "flip (used)": lambda: x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2),
            "stack": lambda: torch.stack((x[..., 1::2], x[..., 0::2]), -1).flatten(-2),
            "index_select": lambda: x.index_select(-1, index),
            "matrix product": lambda: x @ permutation,
        }
    )


def mlp_variants() -> dict[str, float]:
    """The MLP of ViT-L on 2048 tokens: whole or in pieces, activation fresh or in place."""
    x = torch.randn(2048, 1024)
    weight_1, bias_1 = torch.randn(4096, 1024) / 32, torch.randn(4096)
    weight_2, bias_2 = torch.randn(1024, 4096) / 64, torch.randn(1024)

    def run(size: int, in_place: bool) -> list[torch.Tensor]:
        out = []
        for piece in x.split(size):
            wide = F.linear(piece, weight_1, bias_1)
            wide = torch.ops.aten.gelu_(wide) if in_place else F.gelu(wide)
            out.append(F.linear(wide, weight_2, bias_2))
        return out

    variants: dict[str, Callable[[], object]] = {}
    for size in (2048, 1024, 512, 256):
        for in_place in (False, True):
            name = f"{2048 // size} pieces, {'in place' if in_place else 'fresh'}"
            variants[name] = lambda size=size, in_place=in_place: run(size, in_place)
    return medians(variants, repeats=9)


def main() -> None:
    parser(__doc__).parse_args()
    case = Case("ViT-L width, 4 layers", vit(1024, 16, 4))
    device, dtype = torch.device("cpu"), torch.float32
    ours, reference = build(case, device, dtype)
    pixels = torch.randn(1, case.frames, 3, case.size, case.size)
    results: dict[str, Any] = {
        "ours": shares(ours, pixels),
        "reference": shares(reference, pixels),
        "matrix_peak_gflops": round(matrix_peak(device, dtype), 1),
        "gflop_per_forward": round(encoder_gflop(case), 1),
        "swap_milliseconds": swap_variants(),
        "mlp_milliseconds": mlp_variants(),
    }
    rate = results["gflop_per_forward"] / results["ours"]["milliseconds_per_forward"] * 1e3
    results["ours_share_of_matrix_peak"] = round(rate / results["matrix_peak_gflops"], 3)
    print(results)
    save("profile_layer", results)


if __name__ == "__main__":
    main()
