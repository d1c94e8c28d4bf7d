"""The port and ours side by side, with the same random weights."""

from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn

from tiny_models import TINY, randomise, relative_error
from vjepa2 import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": TINY,
    # ViT-g in small: heads of 88 channels, MLP ratio 48/11, the 174 classes of SSv2.
    "vitg": {
        **TINY,
        "patch_size": 16,
        "crop_size": 64,
        "frames_per_clip": 8,
        "hidden_size": 176,
        "mlp_ratio": 48 / 11,
        "num_pooler_layers": 3,
        "pred_hidden_size": 64,
        "pred_num_mask_tokens": 10,
        "pred_mlp_ratio": 4.0,
        "num_labels": 174,
    },
    # Every unusual option at once.
    "odd": {
        **TINY,
        "crop_size": 24,
        "tubelet_size": 1,
        "hidden_size": 72,
        "in_chans": 1,
        "num_attention_heads": 3,
        "mlp_ratio": 2,
        "qkv_bias": False,
        "layer_norm_eps": 1e-3,
        "hidden_act": "gelu_pytorch_tanh",
        "pred_num_hidden_layers": 1,
        "pred_num_mask_tokens": 1,
        "pred_zero_init_mask_tokens": False,
        "pred_mlp_ratio": 3,
        "num_labels": 1,
    },
    # One unusual option each.
    "one_block": {**TINY, "num_hidden_layers": 1, "pred_num_hidden_layers": 1},
    "narrow_heads": {**TINY, "hidden_size": 36, "num_attention_heads": 3},
    "three_frame_tubelets": {**TINY, "tubelet_size": 3, "frames_per_clip": 6},
    "no_pooler_layers": {**TINY, "num_pooler_layers": 0},
    "two_mask_tokens": {**TINY, "pred_num_mask_tokens": 2},
    "drop_path": {**TINY, "drop_path_rate": 0.2},
    **{f"act_{name}": {**TINY, "hidden_act": name} for name in ("relu", "silu", "quick_gelu")},
    "act_gelu_new": {**TINY, "hidden_act": "gelu_new"},
}


class Pair(NamedTuple):
    """The same network twice."""

    theirs: nn.Module
    ours: nn.Module


def make_pair(
    values: dict[str, Any],
    *,
    classifier: bool = False,
    seed: int = 0,
    attention: str = "sdpa",
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Pair:
    """Both with the weights of one random draw, in evaluation mode."""
    values = {**values, **changes}
    kind = "VJEPA2ForVideoClassification" if classifier else "VJEPA2Model"
    theirs = getattr(transformers, kind)._from_config(
        transformers.VJEPA2Config(**values), attn_implementation=attention
    )
    randomise(theirs.to(dtype), seed=seed).eval()
    ours_class = VJEPA2ForVideoClassification if classifier else VJEPA2Model
    ours = ours_class(VJEPA2Config(**values, attn_implementation=attention)).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict())
    return Pair(theirs, ours)


def tell_the_grid(theirs: nn.Module, height: int, width: int) -> None:
    """Make the port place tokens on a grid of so many rows and columns, as Meta's code does."""

    def positions(x: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.arange(x.shape[1]) if masks is None else masks[:, None]
        return ids // (height * width), ids % (height * width) // width, ids % width

    for layer in [*theirs.encoder.layer, *theirs.predictor.layer]:
        layer.attention.get_position_ids = positions


def flatten(output: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of an output by its path."""
    if isinstance(output, Tensor):
        return {prefix: output}
    pairs = output.items() if isinstance(output, dict) else enumerate(output)
    found = {}
    for key, value in pairs:
        found.update(flatten(value, f"{prefix}/{key}"))
    return found


def assert_same(ours: Any, theirs: Any, *, tolerance: float) -> None:
    """The same tensors under the same names, each within the relative error."""
    got, wanted = flatten(ours), flatten(theirs)
    assert got.keys() == wanted.keys()
    for name, expected in wanted.items():
        assert got[name].dtype == expected.dtype, name
        error = relative_error(got[name], expected)
        assert error <= tolerance, f"{name}: {error:.1e}"
