"""Small files in Meta's layout, beside what every parameter of ours must then be.

Written tensor by tensor: query, key and value are drawn apart and fused here, so that the expected
parameters do not come from the code under test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model

Tensors = dict[str, Tensor]


@dataclass
class Pair:
    """The same numbers under Meta's names and under ours."""

    generator: torch.Generator
    meta: Tensors = field(default_factory=dict)
    ours: Tensors = field(default_factory=dict)

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def add(self, meta: str, ours: str, *shape: int) -> None:
        self.meta[meta] = self.ours[ours] = self.draw(*shape)

    def layer(self, meta: str, ours: str, *weight: int) -> None:
        """A weight and its bias."""
        self.add(f"{meta}.weight", f"{ours}.weight", *weight)
        self.add(f"{meta}.bias", f"{ours}.bias", weight[0])

    def norm(self, meta: str, ours: str, width: int) -> None:
        self.layer(meta, ours, width)

    def fused(self, meta: str, ours: str, names: tuple[str, ...], width: int) -> None:
        for leaf, shape in (("weight", (width, width)), ("bias", (width,))):
            parts = [self.draw(*shape) for _ in names]
            self.meta[f"{meta}.{leaf}"] = torch.cat(parts)
            for name, part in zip(names, parts, strict=True):
                self.ours[f"{ours}.{name}.{leaf}"] = part

    def block(self, meta: str, ours: str, width: int) -> None:
        self.norm(f"{meta}.norm1", f"{ours}.norm1", width)
        self.fused(f"{meta}.attn.qkv", f"{ours}.attention", ("query", "key", "value"), width)
        self.layer(f"{meta}.attn.proj", f"{ours}.attention.proj", width, width)
        self.norm(f"{meta}.norm2", f"{ours}.norm2", width)
        self.layer(f"{meta}.mlp.fc1", f"{ours}.mlp.fc1", 2 * width, width)
        self.layer(f"{meta}.mlp.fc2", f"{ours}.mlp.fc2", width, 2 * width)


def encoder(seed: int, *, width: int, depth: int, second: bool) -> Pair:
    """An encoder; `second`: of V-JEPA 2.1."""
    made = Pair(torch.Generator().manual_seed(seed))
    embed = "encoder.embeddings"
    made.layer("patch_embed.proj", f"{embed}.patch_embeddings.proj", width, 3, 2, 4, 4)
    if second:
        made.layer("patch_embed_img.proj", f"{embed}.patch_embeddings_img.proj", width, 3, 1, 4, 4)
        made.add("video_mod_embed", f"{embed}.modality.video", 1, 1, width)
        made.add("img_mod_embed", f"{embed}.modality.image", 1, 1, width)
    for index in range(depth):
        made.block(f"blocks.{index}", f"encoder.layer.{index}", width)
    if second:
        for index in range(4):
            made.norm(f"norms_block.{index}", f"encoder.layernorms.{index}", width)
    else:
        made.norm("norm", "encoder.layernorm", width)
    return made


def predictor(
    seed: int, *, width: int, into: int, depth: int, kind: str, out: int | None = None
) -> Pair:
    """A predictor of `kind` "masked", "deep", "distilled" or "action"."""
    made = Pair(torch.Generator().manual_seed(seed))
    embed = "predictor.embeddings"
    if kind == "deep":
        made.layer("predictor_embed.0", f"{embed}.predictor_embeddings.0", into, 4 * into)
        made.layer("predictor_embed.2", f"{embed}.predictor_embeddings.2", width, into)
        out = 4 * into
    else:
        made.layer("predictor_embed", f"{embed}.predictor_embeddings", width, into)
    if kind == "action":
        made.layer("action_encoder", f"{embed}.action_embeddings", width, 7)
        made.layer("state_encoder", f"{embed}.state_embeddings", width, 5)
        made.layer("extrinsics_encoder", f"{embed}.extrinsics_embeddings", width, 6)
    else:
        tokens = [made.draw(1, 1, width) for _ in range(3)]
        made.meta |= {f"mask_tokens.{index}": token for index, token in enumerate(tokens)}
        made.ours[f"{embed}.mask_tokens"] = torch.stack(tokens)
    if kind in ("deep", "distilled"):
        made.add("video_mod_embed", f"{embed}.modality.video", 1, 1, width)
        made.add("img_mod_embed", f"{embed}.modality.image", 1, 1, width)
    for index in range(depth):
        made.block(f"predictor_blocks.{index}", f"predictor.layer.{index}", width)
    made.norm("predictor_norm", "predictor.layernorm", width)
    made.layer("predictor_proj", "predictor.proj", out or into, width)
    if kind in ("deep", "distilled"):
        made.layer("predictor_proj_context", "predictor.proj_context", out or into, width)
    return made


def probe(seed: int, *, width: int, heads: dict[str, int] | None = None) -> Pair:
    """A probe of depth 3; `heads`: one classifier and query each, in place of one of 5 classes."""
    made = Pair(torch.Generator().manual_seed(seed))
    made.add("pooler.query_tokens", "pooler.query_tokens", 1, len(heads or [0]), width)
    for index in range(2):
        meta, ours = f"pooler.blocks.{index}", f"pooler.self_attention_layers.{index}"
        made.norm(f"{meta}.norm1", f"{ours}.layer_norm1", width)
        names = ("q_proj", "k_proj", "v_proj")
        made.fused(f"{meta}.attn.qkv", f"{ours}.self_attn", names, width)
        made.layer(f"{meta}.attn.proj", f"{ours}.self_attn.out_proj", width, width)
        made.norm(f"{meta}.norm2", f"{ours}.layer_norm2", width)
        made.layer(f"{meta}.mlp.fc1", f"{ours}.mlp.fc1", 4 * width, width)
        made.layer(f"{meta}.mlp.fc2", f"{ours}.mlp.fc2", width, 4 * width)
    meta, ours = "pooler.cross_attention_block", "pooler.cross_attention_layer"
    made.norm(f"{meta}.norm1", f"{ours}.layer_norm1", width)
    made.layer(f"{meta}.xattn.q", f"{ours}.cross_attn.q_proj", width, width)
    made.fused(f"{meta}.xattn.kv", f"{ours}.cross_attn", ("k_proj", "v_proj"), width)
    made.norm(f"{meta}.norm2", f"{ours}.layer_norm2", width)
    made.layer(f"{meta}.mlp.fc1", f"{ours}.mlp.fc1", 4 * width, width)
    made.layer(f"{meta}.mlp.fc2", f"{ours}.mlp.fc2", width, 4 * width)
    if heads is None:
        made.layer("linear", "classifier", 5, width)
    for name, size in (heads or {}).items():
        made.layer(f"{name}_classifier", f"classifiers.{name}", size, width)
    return made


@dataclass
class Sample:
    """One valid file: its content, how to load it, and what must come out.

    Attributes:
        content: what torch.save gets.
        part: key of the sub-dictionary that most mutations change.
        twin: key of an encoder that is the same network, or "".
        expected: parameters of ours.
        model: class that loads it.
        options: what the shapes of small networks do not tell.
    """

    content: dict[str, Any]
    part: str
    twin: str
    expected: Tensors
    model: type[PretrainedModel]
    options: dict[str, Any]

    def tensors(self) -> Tensors:
        """The sub-dictionary that mutations change."""
        found = self.content[self.part]
        return found[0] if isinstance(found, list) else found

    def both(self) -> list[Tensors]:
        """The same and its twin, for changes that both have."""
        return [self.tensors(), *([self.content[self.twin]] if self.twin else [])]

    def save(self, folder: Path) -> Path:
        path = folder / "weights.pt"
        torch.save(self.content, path)
        return path

    def load(self, path: Path, **options: Any) -> PretrainedModel:
        return self.model.from_pretrained(path, **{**self.options, **options})


HEADS = {"num_attention_heads": 2, "pred_num_attention_heads": 2}
DEPTHS = {"num_hidden_layers": 3, "pred_num_hidden_layers": 2}
EXTRAS = {"opt": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}, "epoch": 4}
WRAPPED = "module.backbone."


def wrapped(tensors: Tensors, prefix: str = WRAPPED) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def v2(seed: int = 0) -> Sample:
    trained = encoder(seed + 100, width=24, depth=3, second=False)
    averaged = encoder(seed, width=24, depth=3, second=False)
    predicts = predictor(seed + 1, width=16, into=24, depth=2, kind="masked")
    content = {
        "encoder": wrapped(trained.meta),
        "target_encoder": wrapped(averaged.meta),
        "predictor": wrapped(predicts.meta),
        **EXTRAS,
    }
    expected = averaged.ours | predicts.ours
    options = {**HEADS, "pred_num_hidden_layers": 2}
    return Sample(content, "target_encoder", "encoder", expected, VJEPA2Model, options)


def v21_deep(seed: int = 0) -> Sample:
    trained = encoder(seed + 100, width=12, depth=12, second=True)
    averaged = encoder(seed, width=12, depth=12, second=True)
    predicts = predictor(seed + 1, width=12, into=12, depth=2, kind="deep")
    content = {
        "encoder": wrapped(trained.meta),
        "target_encoder": wrapped(averaged.meta),
        "predictor": wrapped(predicts.meta),
        **EXTRAS,
    }
    expected = averaged.ours | predicts.ours
    options = {**HEADS, "pred_num_hidden_layers": 2}
    return Sample(content, "target_encoder", "encoder", expected, VJEPA2Model, options)


def v21_distilled(seed: int = 0) -> Sample:
    trained = encoder(seed + 100, width=12, depth=12, second=True)
    averaged = encoder(seed, width=12, depth=12, second=True)
    predicts = predictor(seed + 1, width=12, into=12, depth=2, kind="distilled", out=20)
    content = {
        "encoder": wrapped(trained.meta),
        "ema_encoder": wrapped(averaged.meta),
        "predictor": wrapped(predicts.meta),
        "epoch": 40,
        "loss": 0.4,
    }
    expected = averaged.ours | predicts.ours
    options = {**HEADS, "pred_num_hidden_layers": 2}
    return Sample(content, "ema_encoder", "encoder", expected, VJEPA2Model, options)


def action(seed: int = 0) -> Sample:
    only = encoder(seed, width=24, depth=3, second=False)
    predicts = predictor(seed + 1, width=16, into=24, depth=2, kind="action")
    content = {
        "encoder": wrapped(only.meta, "module."),
        "predictor": wrapped(predicts.meta, "module."),
        **EXTRAS,
    }
    # One encoder only: nothing beside it tells that its last block was lost.
    # Frames of 4 by 4 patches: the predictor places its tokens by their number.
    options = {**HEADS, **DEPTHS, "crop_size": 16}
    return Sample(content, "encoder", "", only.ours | predicts.ours, VJEPA2ActionModel, options)


def probe_one(seed: int = 0) -> Sample:
    made = probe(seed, width=24)
    content = {"classifiers": [wrapped(made.meta, "module.")], **EXTRAS}
    options = {"num_attention_heads": 2, "num_pooler_attention_heads": 4, "num_pooler_layers": 2}
    return Sample(content, "classifiers", "", made.ours, VJEPA2AttentiveProbe, options)


def probe_three(seed: int = 0) -> Sample:
    made = probe(seed, width=24, heads={"verb": 4, "noun": 6, "action": 9})
    content = {"classifiers": [wrapped(made.meta, "module.")], **EXTRAS}
    options = {"num_attention_heads": 2, "num_pooler_attention_heads": 4, "num_pooler_layers": 2}
    return Sample(content, "classifiers", "", made.ours, VJEPA2AttentiveProbe, options)


FAMILIES: dict[str, Callable[[int], Sample]] = {
    "v2": v2,
    "v21_deep": v21_deep,
    "v21_distilled": v21_distilled,
    "action": action,
    "probe_one": probe_one,
    "probe_three": probe_three,
}
