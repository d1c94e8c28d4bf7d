"""Files with the names and shapes of the released ones, written down from their description.

Nothing here comes from the package: names and shapes are spelled out a second time, so that a
mistake in the package's tables shows. The files are sparse: they have the size of the released ones
(half of it, in bfloat16) but hold only a few values per tensor, so that a network of 1.8 billion
parameters takes a few megabytes of disk.
"""

import json
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.serialization import skip_data

Shapes = dict[str, tuple[int, ...]]

# arch: width, depth, heads, hidden width of the MLP
ENCODERS = {
    "vitb": (768, 12, 12, 3072),
    "vitl": (1024, 24, 16, 4096),
    "vith": (1280, 32, 16, 5120),
    "vitg": (1408, 40, 22, 6144),
    "vitG": (1664, 48, 26, 8192),
}


def linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def block(name: str, width: int, hidden: int) -> Shapes:
    return {
        **norm(f"{name}.norm1", width),
        **linear(f"{name}.attn.qkv", 3 * width, width),
        **linear(f"{name}.attn.proj", width, width),
        **norm(f"{name}.norm2", width),
        **linear(f"{name}.mlp.fc1", hidden, width),
        **linear(f"{name}.mlp.fc2", width, hidden),
    }


def encoder(arch: str, *, v2_1: bool = False) -> Shapes:
    width, depth, _, hidden = ENCODERS[arch]
    shapes: Shapes = {
        "patch_embed.proj.weight": (width, 3, 2, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    if v2_1:
        shapes |= {
            "patch_embed_img.proj.weight": (width, 3, 1, 16, 16),
            "patch_embed_img.proj.bias": (width,),
            "img_mod_embed": (1, 1, width),
            "video_mod_embed": (1, 1, width),
        }
        for level in range(4):
            shapes |= norm(f"norms_block.{level}", width)
    else:
        shapes |= norm("norm", width)
    for index in range(depth):
        shapes |= block(f"blocks.{index}", width, hidden)
    return shapes


def predictor_blocks(width: int, depth: int) -> Shapes:
    shapes = norm("predictor_norm", width)
    for index in range(depth):
        shapes |= block(f"predictor_blocks.{index}", width, 4 * width)
    return shapes


def predictor(arch: str) -> Shapes:
    width = ENCODERS[arch][0]
    shapes = {
        **linear("predictor_embed", 384, width),
        **predictor_blocks(384, 12),
        **linear("predictor_proj", width, 384),
    }
    return shapes | {f"mask_tokens.{k}": (1, 1, 384) for k in range(10)}


def predictor_2_1(arch: str, *, distilled: bool) -> Shapes:
    width = ENCODERS[arch][0]
    if distilled:
        shapes = {**linear("predictor_embed", 384, width), **predictor_blocks(384, 12)}
        out = 1664
    else:
        shapes = {
            **linear("predictor_embed.0", width, 4 * width),
            **linear("predictor_embed.2", 384, width),
            **predictor_blocks(384, 24),
        }
        out = 4 * width
    return {
        **shapes,
        **linear("predictor_proj", out, 384),
        **linear("predictor_proj_context", out, 384),
        **{f"mask_tokens.{k}": (1, 1, 384) for k in range(8)},
        "img_mod_embed": (1, 1, 384),
        "video_mod_embed": (1, 1, 384),
    }


def action_predictor() -> Shapes:
    return {
        **linear("predictor_embed", 1024, 1408),
        **linear("action_encoder", 1024, 7),
        **linear("state_encoder", 1024, 7),
        **linear("extrinsics_encoder", 1024, 6),
        **predictor_blocks(1024, 24),
        **linear("predictor_proj", 1408, 1024),
    }


def probe(width: int, heads: Mapping[str, int]) -> Shapes:
    """Depth 4: three self-attention blocks and one cross-attention block; one query per head."""
    cross = "pooler.cross_attention_block"
    shapes: Shapes = {
        "pooler.query_tokens": (1, len(heads), width),
        **norm(f"{cross}.norm1", width),
        **linear(f"{cross}.xattn.q", width, width),
        **linear(f"{cross}.xattn.kv", 2 * width, width),
        **norm(f"{cross}.norm2", width),
        **linear(f"{cross}.mlp.fc1", 4 * width, width),
        **linear(f"{cross}.mlp.fc2", width, 4 * width),
    }
    for index in range(3):
        shapes |= block(f"pooler.blocks.{index}", width, 4 * width)
    for name, classes in heads.items():
        shapes |= linear(name, classes, width)
    return shapes


EK100 = {"verb_classifier": 97, "noun_classifier": 300, "action_classifier": 3568}

# Tail of the published address: sub-dictionaries with the prefix of their names.
Parts = dict[str, tuple[str, Shapes]]


def v2_parts(arch: str) -> Parts:
    wrapped = "module.backbone."
    return {
        "encoder": (wrapped, encoder(arch)),
        "predictor": (wrapped, predictor(arch)),
        "target_encoder": (wrapped, encoder(arch)),
    }


def v2_1_parts(arch: str, *, distilled: bool) -> Parts:
    wrapped = "module.backbone."
    kept = "ema_encoder" if distilled else "target_encoder"
    return {
        "encoder": (wrapped, encoder(arch, v2_1=True)),
        "predictor": (wrapped, predictor_2_1(arch, distilled=distilled)),
        kept: (wrapped, encoder(arch, v2_1=True)),
    }


def file_parts(tail: str) -> Parts:
    """Content of a released file, by its name."""
    match tail:
        case "vitl.pt" | "vith.pt" | "vitg.pt" | "vitg-384.pt":
            return v2_parts(tail.removesuffix(".pt").removesuffix("-384"))
        case "vjepa2-ac-vitg.pt":
            return {
                "encoder": ("module.", encoder("vitg")),
                "predictor": ("module.", action_predictor()),
            }
        case "vjepa2_1_vitb_dist_vitG_384.pt" | "vjepa2_1_vitl_dist_vitG_384.pt":
            return v2_1_parts(tail.split("_")[2], distilled=True)
        case "vjepa2_1_vitg_384.pt" | "vjepa2_1_vitG_384.pt":
            return v2_1_parts(tail.split("_")[2], distilled=False)
        case "evals/ssv2-vitl-16x2x3.pt":
            shapes = probe(1024, {"linear": 174})
        case "evals/ssv2-vitg-384-64x2x3.pt":
            shapes = probe(1408, {"linear": 174})
        case "evals/diving48-vitl-256.pt":
            shapes = probe(1024, {"linear": 48})
        case "evals/diving48-vitg-384-32x4x3.pt":
            shapes = probe(1408, {"linear": 48})
        case "evals/ek100-vitl-256.pt":
            shapes = probe(1024, EK100)
        case "evals/ek100-vitg-384.pt":
            shapes = probe(1408, EK100)
        case _:
            raise ValueError(tail)
    return {"classifiers": ("module.", shapes)}


def write_released(folder: Path, tail: str, *, two_encoders: bool = True) -> Path:
    """Write a file as it would be downloaded, sparse and in bfloat16; returns its path.

    Args:
        folder: where it goes, under its published name.
        tail: published name.
        two_encoders: False gives both encoders of the file the same memory, which halves its size.
    """
    content: dict[str, Any] = {}
    encoder: dict[str, Tensor] | None = None
    for key, (prefix, shapes) in file_parts(tail).items():
        shared = encoder if key.endswith("encoder") and not two_encoders else None
        names = {prefix + name: shape for name, shape in shapes.items()}
        tensors = empty(names) if shared is None else dict(shared)
        encoder = tensors if key == "encoder" else encoder
        content[key] = [tensors] if key == "classifiers" else tensors
    content |= {"opt": None, "scaler": None, "epoch": 40, "batch_size": 24, "world_size": 128}
    path = folder / tail
    path.parent.mkdir(parents=True, exist_ok=True)
    with skip_data():
        torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if "/data/" in entry.filename]
    places = [(_data_start(path, entry), entry.file_size) for entry in entries]
    _sprinkle(path, places)
    return path


def write_safetensors(path: Path, shapes: Shapes) -> Path:
    """The same as one `.safetensors` file under the names given."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    places = []
    start = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, start + size]}
        places.append((start, size))
        start += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + start)
    _sprinkle(path, [(8 + len(text) + first, size) for first, size in places])
    return path


def empty(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors whose memory is never touched, so that it is never there."""
    return {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}


def _data_start(path: Path, entry: zipfile.ZipInfo) -> int:
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return entry.header_offset + 30 + int(name_length) + int(extra_length)


def _sprinkle(path: Path, places: list[tuple[int, int]]) -> None:
    """Random values at the beginning of every sixth of a tensor: halves and thirds have some."""
    random = Random(path.name)
    with path.open("r+b") as file:
        for start, size in places:
            for sixth in range(6):
                value = torch.tensor([random.uniform(0.01, 1.0)], dtype=torch.bfloat16)
                # Thirds and halves of a fused tensor begin at whole rows, so at whole sixths.
                file.seek(start + (size // 2 * sixth // 6) * 2)
                file.write(value.view(torch.uint8).numpy().tobytes())
