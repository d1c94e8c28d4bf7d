"""Peak memory of the encoder beyond its weights, beside transformers; one process per side.

    python -m benchmarks.memory

64 frames of 256 px at ViT-L width with 4 layers: the peak does not grow with the number of layers
in inference, only the weights do.
"""

import json
import subprocess
import sys
from typing import Any

from benchmarks.common import parser, save

FRAMES = 64
LAYERS = 4


def child(side: str) -> None:
    """Print the peak growth of resident memory during one forward, in bytes."""
    import resource

    import psutil
    import torch

    if side == "ours":
        from vjepa2 import VJEPA2Config as Config
        from vjepa2 import VJEPA2Model as Model
    else:
        from transformers import VJEPA2Config as Config  # type: ignore[assignment]
        from transformers import VJEPA2Model as Model  # type: ignore[assignment]
    config = Config(num_hidden_layers=LAYERS, pred_num_hidden_layers=1)
    model = Model._from_config(config, attn_implementation="sdpa").eval()
    with torch.inference_mode():
        model.get_vision_features(torch.zeros(1, 2, 3, 256, 256))  # thread pools, kernels
        pixels = torch.zeros(1, FRAMES, 3, 256, 256)
        pixels.normal_()
        before = psutil.Process().memory_info().rss
        model.get_vision_features(pixels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes_beyond_weights": peak - before}))


def measure(side: str, repeats: int = 3) -> dict[str, Any]:
    """Smallest peak of several fresh processes."""
    peaks = []
    for _ in range(repeats):
        command = [sys.executable, "-m", "benchmarks.memory", "--child", side]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_bytes_beyond_weights"])
    return {
        "peak_mb_beyond_weights": round(min(peaks) / 1e6, 1),
        "runs_mb": [p // 10**6 for p in peaks],
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--child", choices=["ours", "reference"])
    options = arguments.parse_args()
    if options.child:
        child(options.child)
        return
    ours, reference = measure("ours"), measure("reference")
    ratio = ours["peak_mb_beyond_weights"] / reference["peak_mb_beyond_weights"]
    results = {"frames": FRAMES, "ours": ours, "reference": reference, "ratio": round(ratio, 3)}
    print(results)
    save("memory", results)


if __name__ == "__main__":
    main()
