"""What one encoder layer costs, counted instead of timed, beside transformers.

    python -m benchmarks.operations

Every ATen operation is counted as PyTorch dispatches it (views included), and every byte an
operation writes: fresh outputs and those written in place; views write nothing. The figures do not
depend on the machine. They are the difference between encoders of two and of one layer, ViT-L
width, 16 frames of 256 px. The graphs that `torch.compile` makes are counted too.
"""

from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.common import parser, save
from vjepa2 import VJEPA2Config, VJEPA2Model


class Counter(TorchDispatchMode):
    """Counts operations and written bytes while active."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.written_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        returns = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not is_view:
            tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            self.written_bytes += sum(tensor.nbytes for tensor in tensors)
        return out


def count(model: Any, pixels: torch.Tensor) -> tuple[int, int]:
    """(operations, written bytes) of one encoder forward."""
    with torch.no_grad(), Counter() as counter:
        model.get_vision_features(pixels)
    return counter.operations, counter.written_bytes


def per_layer(model_class: Any, config_class: Any, pixels: torch.Tensor) -> dict[str, float]:
    """Cost of one more layer."""
    counts = []
    for layers in (1, 2):
        config = config_class(num_hidden_layers=layers, pred_num_hidden_layers=1)
        counts.append(
            count(model_class._from_config(config, attn_implementation="sdpa").eval(), pixels)
        )
    (operations_1, bytes_1), (operations_2, bytes_2) = counts
    return {"operations": operations_2 - operations_1, "megabytes": (bytes_2 - bytes_1) / 1e6}


def graphs(model: Any, pixels: torch.Tensor) -> dict[str, int]:
    """Graphs and graph breaks of the default forward."""
    torch._dynamo.reset()
    explained = torch._dynamo.explain(model)(pixels)
    return {"graphs": explained.graph_count, "breaks": explained.graph_break_count}


def main() -> None:
    parser(__doc__).parse_args()
    pixels = torch.randn(1, 16, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    ours = per_layer(VJEPA2Model, VJEPA2Config, pixels)
    reference = per_layer(transformers.VJEPA2Model, transformers.VJEPA2Config, pixels)
    tiny: dict[str, Any] = {
        "hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 1, "crop_size": 32,
        "pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
    }  # fmt: skip
    small = torch.randn(1, 4, 3, 32, 32)
    results = {
        "ours_per_layer": ours,
        "reference_per_layer": reference,
        "operations_ratio": round(ours["operations"] / reference["operations"], 3),
        "bytes_ratio": round(ours["megabytes"] / reference["megabytes"], 3),
        "ours_default_forward": graphs(VJEPA2Model(VJEPA2Config(**tiny)).eval(), small),
        "reference_default_forward": graphs(
            transformers.VJEPA2Model(transformers.VJEPA2Config(**tiny)).eval(), small
        ),
    }
    print(results)
    save("operations", results)


if __name__ == "__main__":
    main()
