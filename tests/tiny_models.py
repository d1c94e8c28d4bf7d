"""Tiny networks and random clips for tests: milliseconds instead of minutes on a CPU."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vjepa2.models.configuration import VJEPA2Config

Model = TypeVar("Model", bound=nn.Module)

# 4 frames of 32x32 pixels make 2 x 4 x 4 = 32 tokens. Heads of 16 channels: three axes of 4
# rotated channels (two frequencies each, so that the tiled layout differs) and 4 unrotated.
TINY: dict[str, Any] = {
    "patch_size": 8,
    "crop_size": 32,
    "frames_per_clip": 4,
    "tubelet_size": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "mlp_ratio": 2.0,
    "num_pooler_layers": 1,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 2,
    "pred_num_mask_tokens": 3,
    "pred_mlp_ratio": 2.0,
    "num_labels": 5,
}


def tiny_config(**changes: Any) -> VJEPA2Config:
    """The configuration `TINY`, with some fields changed."""
    return VJEPA2Config(**{**TINY, **changes})


def randomise(model: Model, *, seed: int = 0) -> Model:
    """Give every parameter random values, so that nothing is hidden by a zero or a one.

    Biases, norms, mask tokens and query tokens too. Queries and keys are large: attention is far
    from uniform, and a wrong position shows.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim == 1:
                values = 0.2 * values + (1.0 if name.endswith("weight") else 0.0)
            elif not name.endswith(("mask_tokens", "query_tokens")):
                sharp = any(key in name for key in (".query.", ".key.", ".q_proj.", ".k_proj."))
                values = values * (2.0 if sharp else 1.0) / parameter[0].numel() ** 0.5
            parameter.copy_(values)
    return model


def clip(
    config: VJEPA2Config,
    *,
    batch: int = 2,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    seed: int = 1,
) -> Tensor:
    """Random pixels [B, T, C, H, W]; sizes are the configuration's unless given."""
    generator = torch.Generator().manual_seed(seed)
    shape = (
        batch,
        frames or config.frames_per_clip,
        config.in_chans,
        height or config.crop_size,
        width or config.crop_size,
    )
    return torch.randn(shape, generator=generator)


def random_ids(num_tokens: int, count: int, *, batch: int = 2, seed: int = 2) -> Tensor:
    """Ids [B, count] without repetition, unsorted, another choice per sample."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(num_tokens, generator=generator)[:count] for _ in range(batch)]
    return torch.stack(rows)


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of what was wanted."""
    assert got.shape == wanted.shape, f"{got.shape} is not {wanted.shape}"
    difference = got.detach().double() - wanted.detach().double()
    return float(difference.norm() / wanted.detach().double().norm().clamp_min(1e-30))


def block_names(prefix: str, *, qkv_bias: bool = True) -> set[str]:
    names = {
        f"{prefix}.{norm}.{leaf}" for norm in ("norm1", "norm2") for leaf in ("weight", "bias")
    }
    for part in ("query", "key", "value"):
        names |= {f"{prefix}.attention.{part}.weight"}
        names |= {f"{prefix}.attention.{part}.bias"} if qkv_bias else set()
    for part in ("attention.proj", "mlp.fc1", "mlp.fc2"):
        names |= {f"{prefix}.{part}.weight", f"{prefix}.{part}.bias"}
    return names


def model_names(*, encoder_depth: int, predictor_depth: int, qkv_bias: bool = True) -> set[str]:
    """The published names, written out."""
    names = {
        "encoder.embeddings.patch_embeddings.proj.weight",
        "encoder.embeddings.patch_embeddings.proj.bias",
        "encoder.layernorm.weight",
        "encoder.layernorm.bias",
        "predictor.embeddings.mask_tokens",
        "predictor.embeddings.predictor_embeddings.weight",
        "predictor.embeddings.predictor_embeddings.bias",
        "predictor.layernorm.weight",
        "predictor.layernorm.bias",
        "predictor.proj.weight",
        "predictor.proj.bias",
    }
    for stack, depth in (("encoder", encoder_depth), ("predictor", predictor_depth)):
        for i in range(depth):
            names |= block_names(f"{stack}.layer.{i}", qkv_bias=qkv_bias)
    return names
