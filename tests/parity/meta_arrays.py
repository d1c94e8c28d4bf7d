"""The V-JEPA 2 network behind `fixtures/meta/vjepa2_a_outputs.safetensors`, drawn again.

Weights and videos are random numbers of one generator, in the order of the original state dict, so
they need not be stored. A checksum in the tests notices if PyTorch ever draws other numbers.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FIXTURES = Path(__file__).parent.parent / "fixtures" / "meta"
WIDTH, DEPTH = 96, 3
PREDICTOR_WIDTH, PREDICTOR_DEPTH, MASK_TOKENS = 48, 2, 3
# What shapes do not tell.
V2: dict[str, Any] = {
    "num_attention_heads": 4,
    "pred_num_attention_heads": 4,
    "crop_size": 64,
}
V21: dict[str, Any] = {
    "num_attention_heads": 2,
    "pred_num_attention_heads": 2,
    "crop_size": 64,
}


def _block(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.norm1.weight": (width,),
        f"{prefix}.norm1.bias": (width,),
        f"{prefix}.attn.qkv.weight": (3 * width, width),
        f"{prefix}.attn.qkv.bias": (3 * width,),
        f"{prefix}.attn.proj.weight": (width, width),
        f"{prefix}.attn.proj.bias": (width,),
        f"{prefix}.norm2.weight": (width,),
        f"{prefix}.norm2.bias": (width,),
        f"{prefix}.mlp.fc1.weight": (4 * width, width),
        f"{prefix}.mlp.fc1.bias": (4 * width,),
        f"{prefix}.mlp.fc2.weight": (width, 4 * width),
        f"{prefix}.mlp.fc2.bias": (width,),
    }


def _encoder_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (WIDTH, 3, 2, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for index in range(DEPTH):
        shapes |= _block(f"blocks.{index}", WIDTH)
    return {**shapes, "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}


def _predictor_shapes() -> dict[str, tuple[int, ...]]:
    width = PREDICTOR_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "predictor_embed.weight": (width, WIDTH),
        "predictor_embed.bias": (width,),
    }
    shapes |= {f"mask_tokens.{index}": (1, 1, width) for index in range(MASK_TOKENS)}
    for index in range(PREDICTOR_DEPTH):
        shapes |= _block(f"predictor_blocks.{index}", width)
    shapes |= {"predictor_norm.weight": (width,), "predictor_norm.bias": (width,)}
    return {**shapes, "predictor_proj.weight": (WIDTH, width), "predictor_proj.bias": (WIDTH,)}


def _drawn(shapes: dict[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
    drawn = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1 or "mask_tokens" in name:
            values = 0.2 * values
        else:
            values = values * (1.2 / values[0].numel() ** 0.5)
        if "norm" in name and name.endswith("weight"):
            values = 1 + values
        drawn[f"module.backbone.{name}"] = values
    return drawn


def vjepa2_a() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Content of the original file, and the videos [B, C, T, H, W] by name."""
    generator = torch.Generator().manual_seed(1)
    encoder = _drawn(_encoder_shapes(), generator)
    predictor = _drawn(_predictor_shapes(), generator)
    videos = {"video": torch.randn(2, 3, 8, 64, 64, generator=generator)}
    for _ in range(2):
        torch.randperm(64, generator=generator)  # the masks were drawn here
    videos["video_nonsquare"] = torch.randn(1, 3, 8, 96, 48, generator=generator)
    videos["video_16_frames"] = torch.randn(1, 3, 16, 64, 64, generator=generator)
    content = {
        "encoder": {name: value + 1 for name, value in encoder.items()},  # must not be taken
        "target_encoder": encoder,
        "predictor": predictor,
        "opt": None,
        "epoch": 3,
        "loss": 0.5,
    }
    return content, videos
