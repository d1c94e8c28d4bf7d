"""Speed of the networks beside transformers, on the same weights, both sides taking turns.

    python -m benchmarks.encode                  # CPU, float32
    python -m benchmarks.encode --device cuda    # bfloat16, eager and compiled
    python -m benchmarks.encode --quick          # seconds instead of minutes, nothing saved

Cases: the encoder from tiny to full ViT-L, the default forward with predictor, the classifier.
Each result also says how far the outputs of the two sides are apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from benchmarks.common import interleaved, parser, save
from vjepa2 import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

TINY = {
    "patch_size": 16,
    "crop_size": 64,
    "hidden_size": 96,
    "num_attention_heads": 3,
    "num_hidden_layers": 4,
    "pred_hidden_size": 48,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 2,
}


def vit(width: int, heads: int, layers: int, *, predictor_layers: int = 1) -> dict[str, Any]:
    """Configuration of a given width at 256 px."""
    return {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pred_num_hidden_layers": predictor_layers,
    }


@dataclass(frozen=True)
class Case:
    """One network, one input, one way to call it."""

    name: str
    config: dict[str, Any]
    frames: int = 16
    size: int = 256
    call: str = "features"
    repeats: int = 9
    quick: bool = field(default=False)


CPU_CASES = [
    Case("encoder tiny, 16 frames of 64 px", TINY, size=64, repeats=60, quick=True),
    Case("encoder width 192, 12 layers", vit(192, 3, 12), repeats=9),
    Case("encoder width 384, 12 layers", vit(384, 6, 12), repeats=7),
    Case("encoder width 768, 4 layers", vit(768, 12, 4), repeats=7),
    Case("encoder ViT-L width, 4 layers", vit(1024, 16, 4), repeats=7),
    Case("encoder ViT-L full, 24 layers", vit(1024, 16, 24), repeats=3),
    Case("forward with predictor, tiny", TINY, size=64, call="forward", repeats=60, quick=True),
    Case(
        "forward with predictor, ViT-L width, 4 + 2 layers",
        vit(1024, 16, 4, predictor_layers=2),
        call="forward",
        repeats=5,
    ),
    Case("classification, ViT-L width, 4 + 4 layers", vit(1024, 16, 4), call="classify", repeats=5),
]
GPU_CASES = [
    Case("encoder ViT-L full, 64 frames", vit(1024, 16, 24), frames=64, repeats=15),
    Case("encoder ViT-L full, 16 frames", vit(1024, 16, 24), frames=16, repeats=15),
    Case(
        "forward with predictor, ViT-L full, 64 frames",
        vit(1024, 16, 24, predictor_layers=12),
        frames=64,
        call="forward",
        repeats=9,
    ),
]


def build(case: Case, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """The same random weights on both sides."""
    ours_class: Any = VJEPA2Model
    reference_class: Any = transformers.VJEPA2Model
    if case.call == "classify":
        ours_class = VJEPA2ForVideoClassification
        reference_class = transformers.VJEPA2ForVideoClassification
    torch.manual_seed(0)
    reference_config = transformers.VJEPA2Config(**case.config)
    reference = reference_class._from_config(reference_config, attn_implementation="sdpa")
    ours = ours_class(VJEPA2Config(**case.config))
    ours.load_state_dict(reference.state_dict())
    return ours.to(device, dtype).eval(), reference.to(device, dtype).eval()


def caller(model: Any, call: str, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The function that is timed; returns the tensor that is compared."""
    if call == "features":
        return lambda: model.get_vision_features(pixels)
    if call == "classify":
        return lambda: model(pixels).logits
    return lambda: model(pixels).predictor_output.last_hidden_state


def run_case(case: Case, device: torch.device, dtype: torch.dtype, *, compiled: bool) -> Any:
    """Time one case."""
    ours, reference = build(case, device, dtype)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, case.frames, 3, case.size, case.size, generator=generator)
    pixels = pixels.to(device, dtype)
    sides = [caller(model, case.call, pixels) for model in (ours, reference)]
    if compiled:
        sides = [torch.compile(side) for side in sides]
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    with torch.inference_mode():
        own, theirs = (side().double() for side in sides)
        timed = interleaved(*sides, repeats=case.repeats, synchronize=synchronize)
    timed["relative_difference"] = float((own - theirs).norm() / theirs.norm())
    return timed


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Best measured GFLOP/s of one large matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    with torch.inference_mode():
        timed = interleaved(lambda: a @ b, lambda: a @ b, repeats=9, synchronize=synchronize)
    return float(2 * size**3 / timed["ours_min_seconds"] / 1e9)


def encoder_gflop(case: Case) -> float:
    """Floating point operations of the encoder's matrix products and attention, in 1e9."""
    width, layers = case.config["hidden_size"], case.config["num_hidden_layers"]
    patch = case.config.get("patch_size", 16)
    tokens = case.frames // 2 * (case.size // patch) ** 2
    per_layer = 2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    embedding = 2 * tokens * width * 3 * 2 * patch**2
    return (layers * per_layer + embedding) / 1e9


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--quick", action="store_true")
    options = arguments.parse_args()
    device = torch.device(options.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    cases = CPU_CASES if device.type == "cpu" else GPU_CASES
    results: dict[str, Any] = {"dtype": str(dtype), "cases": {}}
    results["matrix_peak_gflops"] = round(matrix_peak(device, dtype), 1)
    for case in cases:
        if options.quick and not case.quick:
            continue
        for compiled in (False, True) if device.type == "cuda" else (False,):
            timed = run_case(case, device, dtype, compiled=compiled)
            if case.call == "features":
                rate = encoder_gflop(case) / timed["ours_median_seconds"]
                timed["ours_gflops"] = round(rate, 1)
                timed["ours_share_of_matrix_peak"] = round(rate / results["matrix_peak_gflops"], 3)
            name = case.name + (", compiled" if compiled else "")
            results["cases"][name] = timed
            print(f"{name}: {timed['speedup_median']}x, {timed['ours_median_seconds']} s")
    if not options.quick:
        save("encode", results, hardware="cpu" if device.type == "cpu" else "gpu")


if __name__ == "__main__":
    main()
