"""Names of Meta's original checkpoints and ours: one table, read in both directions.

The original files hold query, key and value as one fused matrix, the mask tokens one by one, and
put `module.`, `backbone.` and `_orig_mod.` before every name (training wrappers). Here `to_ours`
takes them apart as views, without a copy, and `to_meta` puts them together again.

Names that the table does not have stay as they are; whoever fits the tensors to a network refuses
them under their original name.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vjepa2.errors import CheckpointFormatError

Part = Literal["encoder", "predictor", "probe"]
PARTS: tuple[Part, ...] = get_args(Part)

# `#` is a number, `.*` stands for .weight and .bias, `{a,b}` for matrices whose rows the original
# holds one after another, `[#]` for a place on a new first axis.
_TABLE: dict[Part, dict[str, str]] = {
    "encoder": {
        "patch_embed.proj.*": "encoder.embeddings.patch_embeddings.proj.*",
        "patch_embed_img.proj.*": "encoder.embeddings.patch_embeddings_img.proj.*",
        "video_mod_embed": "encoder.embeddings.modality.video",
        "img_mod_embed": "encoder.embeddings.modality.image",
        "blocks.#.norm1.*": "encoder.layer.#.norm1.*",
        "blocks.#.attn.qkv.*": "encoder.layer.#.attention.{query,key,value}.*",
        "blocks.#.attn.proj.*": "encoder.layer.#.attention.proj.*",
        "blocks.#.norm2.*": "encoder.layer.#.norm2.*",
        "blocks.#.mlp.fc1.*": "encoder.layer.#.mlp.fc1.*",
        "blocks.#.mlp.fc2.*": "encoder.layer.#.mlp.fc2.*",
        "norm.*": "encoder.layernorm.*",
        "norms_block.#.*": "encoder.layernorms.#.*",
    },
    "predictor": {
        "predictor_embed.*": "predictor.embeddings.predictor_embeddings.*",
        "predictor_embed.#.*": "predictor.embeddings.predictor_embeddings.#.*",
        "mask_tokens.#": "predictor.embeddings.mask_tokens[#]",
        "video_mod_embed": "predictor.embeddings.modality.video",
        "img_mod_embed": "predictor.embeddings.modality.image",
        "action_encoder.*": "predictor.embeddings.action_embeddings.*",
        "state_encoder.*": "predictor.embeddings.state_embeddings.*",
        "extrinsics_encoder.*": "predictor.embeddings.extrinsics_embeddings.*",
        "predictor_blocks.#.norm1.*": "predictor.layer.#.norm1.*",
        "predictor_blocks.#.attn.qkv.*": "predictor.layer.#.attention.{query,key,value}.*",
        "predictor_blocks.#.attn.proj.*": "predictor.layer.#.attention.proj.*",
        "predictor_blocks.#.norm2.*": "predictor.layer.#.norm2.*",
        "predictor_blocks.#.mlp.fc1.*": "predictor.layer.#.mlp.fc1.*",
        "predictor_blocks.#.mlp.fc2.*": "predictor.layer.#.mlp.fc2.*",
        "predictor_norm.*": "predictor.layernorm.*",
        "predictor_proj.*": "predictor.proj.*",
        "predictor_proj_context.*": "predictor.proj_context.*",
    },
    "probe": {
        "pooler.query_tokens": "pooler.query_tokens",
        "pooler.blocks.#.norm1.*": "pooler.self_attention_layers.#.layer_norm1.*",
        "pooler.blocks.#.attn.qkv.*": (
            "pooler.self_attention_layers.#.self_attn.{q_proj,k_proj,v_proj}.*"
        ),
        "pooler.blocks.#.attn.proj.*": "pooler.self_attention_layers.#.self_attn.out_proj.*",
        "pooler.blocks.#.norm2.*": "pooler.self_attention_layers.#.layer_norm2.*",
        "pooler.blocks.#.mlp.fc1.*": "pooler.self_attention_layers.#.mlp.fc1.*",
        "pooler.blocks.#.mlp.fc2.*": "pooler.self_attention_layers.#.mlp.fc2.*",
        "pooler.cross_attention_block.norm1.*": "pooler.cross_attention_layer.layer_norm1.*",
        "pooler.cross_attention_block.xattn.q.*": (
            "pooler.cross_attention_layer.cross_attn.q_proj.*"
        ),
        "pooler.cross_attention_block.xattn.kv.*": (
            "pooler.cross_attention_layer.cross_attn.{k_proj,v_proj}.*"
        ),
        "pooler.cross_attention_block.norm2.*": "pooler.cross_attention_layer.layer_norm2.*",
        "pooler.cross_attention_block.mlp.fc1.*": "pooler.cross_attention_layer.mlp.fc1.*",
        "pooler.cross_attention_block.mlp.fc2.*": "pooler.cross_attention_layer.mlp.fc2.*",
        "linear.*": "classifier.*",
        "verb_classifier.*": "classifiers.verb.*",
        "noun_classifier.*": "classifiers.noun.*",
        "action_classifier.*": "classifiers.action.*",
    },
}
_ROTARY = "a fixed table of positions; this network has rotary positions and never reads it"
_DROPPED: dict[Part, dict[str, str]] = {
    "encoder": {"pos_embed": _ROTARY},
    "predictor": {"predictor_pos_embed": _ROTARY},
    "probe": {},
}
# Training wraps networks again and again, in any order, and may compile them; what the prefixes
# mean stays clear.
_WRAPPERS = re.compile(r"(?:(?:module|backbone|_orig_mod)\.)+")
_NUMBER = re.compile(r"(?<=\.)(?:0|[1-9]\d{0,5})(?=\.|$)")


class _Row(NamedTuple):
    """One original tensor, or one per number; `ours` has several names when it is fused."""

    part: Part
    original: str
    ours: tuple[str, ...]
    stacked: bool


@dataclass(frozen=True)
class Renamed:
    """Tensors of one part of an original checkpoint.

    Attributes:
        tensors: under our names; those that fit nowhere keep their original one.
        names: our name to the original one.
        dropped: original name to the reason why nothing of it is needed.
        unexpected: original names that fit nowhere.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()


def without_wrappers(name: str) -> str:
    """`blocks.0.norm1.bias` for `module.backbone.blocks.0.norm1.bias`."""
    match = _WRAPPERS.match(name)
    return name[match.end() :] if match else name


def part_of(name: str) -> Part | None:
    """The part that an original name belongs to; None: no part has it.

    The modality vectors have the same names in encoder and predictor: "encoder".
    """
    stem = _NUMBER.sub("#", without_wrappers(name))
    known = (part for part in PARTS if stem in _from_original(part) or stem in _DROPPED[part])
    return next(known, None)


def to_ours(tensors: Mapping[str, Tensor], part: Part) -> Renamed:
    """Give one sub-dictionary of an original checkpoint our names.

    Args:
        tensors: by original names, with or without the prefixes of wrappers.
        part: what the sub-dictionary is.

    Returns:
        Views of the same memory; only the mask tokens, a few numbers, are copied.

    Raises:
        CheckpointFormatError: two names mean the same tensor.
    """
    rows = _from_original(part)
    done = Renamed()
    strangers: dict[str, Tensor] = {}
    seen: dict[str, str] = {}
    stacks: dict[str, dict[int, str]] = {}
    for name, tensor in tensors.items():
        plain = without_wrappers(name)
        if plain in seen:
            raise CheckpointFormatError(
                f"{seen[plain]!r} and {name!r} are two tensors for the same place. Remove one, or "
                "save the network without its wrappers."
            )
        seen[plain] = name
        if plain in _DROPPED[part]:
            done.dropped[name] = _DROPPED[part][plain]
            continue
        row = rows.get(_NUMBER.sub("#", plain))
        number = _NUMBER.search(plain)
        if row is None:
            strangers[name] = tensor
        elif row.stacked and number is not None:
            stacks.setdefault(row.ours[0], {})[int(number[0])] = name
        elif len(row.ours) > 1 and (tensor.ndim == 0 or tensor.shape[0] % len(row.ours)):
            strangers[name] = tensor  # not one matrix above the other
        else:
            pieces = tensor.detach().tensor_split(len(row.ours)) if tensor.ndim else [tensor]
            for ours, piece in zip(row.ours, pieces, strict=True):
                own_name = ours.replace("#", number[0]) if number else ours
                done.tensors[own_name] = piece
                done.names[own_name] = name
    for ours, numbered in stacks.items():
        _stack(ours, numbered, tensors, done, strangers)
    return Renamed(
        {**done.tensors, **strangers}, done.names, done.dropped, unexpected=tuple(strangers)
    )


def _stack(
    ours: str,
    numbered: Mapping[int, str],
    tensors: Mapping[str, Tensor],
    done: Renamed,
    strangers: dict[str, Tensor],
) -> None:
    """Join tensors 0, 1, ... on a new axis; what has gaps or unequal shapes stays apart."""
    values = [tensors[name].detach() for _, name in sorted(numbered.items())]
    alike = len({(value.shape, value.dtype) for value in values}) == 1
    if alike and sorted(numbered) == list(range(len(numbered))):
        done.tensors[ours] = torch.stack(values)
        done.names[ours] = numbered[0].removesuffix(".0")
    else:
        strangers.update({name: tensors[name] for name in numbered.values()})


def to_meta(tensors: Mapping[str, Tensor]) -> dict[Part, dict[str, Tensor]]:
    """Give tensors their original names, without prefixes, by part.

    Args:
        tensors: by our names, with or without the `vjepa2.` of a classifier.

    Raises:
        CheckpointFormatError: a tensor has no place in the original layout, or one of several
            that are fused there is missing.
    """
    rows = _from_ours()
    parts: dict[Part, dict[str, Tensor]] = {part: {} for part in PARTS}
    pieces: dict[tuple[Part, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix("vjepa2.")
        stem, number = _NUMBER.sub("#", plain), _NUMBER.search(plain)
        row = rows.get(stem)
        if row is None:
            raise CheckpointFormatError(
                f"{name!r} has no place in Meta's original layout. Save this network in the layout "
                "of this package (save_pretrained)."
            )
        if row.stacked:
            for index, value in enumerate(tensor):
                parts[row.part][row.original.replace("#", str(index))] = value
            continue
        original = row.original.replace("#", number[0]) if number else row.original
        pieces.setdefault((row.part, original), {})[stem] = tensor
    for (part, original), found in pieces.items():
        row = _from_original(part)[_NUMBER.sub("#", original)]
        if lost := [ours for ours in row.ours if ours not in found]:
            raise CheckpointFormatError(
                f"{original!r} of Meta's layout needs {lost[0]!r} too, which is not there."
            )
        ordered = [found[ours] for ours in row.ours]
        parts[part][original] = ordered[0] if len(ordered) == 1 else torch.cat(ordered)
    return parts


def original_content(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[dict[str, Tensor]]]]:
    """What files for the original code hold: (encoder and predictor, probe); {} when there is none.

    `target_encoder` (or `ema_encoder` in distilled V-JEPA 2.1 files) is the same network as
    `encoder`; `torch.save` stores its tensors once.

    Raises:
        CheckpointFormatError: see `to_meta`.
    """
    parts = to_meta(tensors)
    is_action = "action_encoder.weight" in parts["predictor"]
    prefix = "module." if is_action else "module.backbone."
    wrapped = {
        part: {f"{prefix}{name}": tensor for name, tensor in parts[part].items()}
        for part in ("encoder", "predictor")
    }
    model: dict[str, dict[str, Tensor]] = {}
    if wrapped["encoder"]:
        model["encoder"] = wrapped["encoder"]
    if wrapped["encoder"] and not is_action:
        distilled = {"predictor_embed.weight", "video_mod_embed"} <= parts["predictor"].keys()
        model["ema_encoder" if distilled else "target_encoder"] = dict(wrapped["encoder"])
    if wrapped["predictor"]:
        model["predictor"] = wrapped["predictor"]
    probe = {f"module.{name}": tensor for name, tensor in parts["probe"].items()}
    return model, {"classifiers": [probe]} if probe else {}


@functools.cache
def _from_original(part: Part) -> dict[str, _Row]:
    return {row.original: row for row in _rows(part)}


@functools.cache
def _from_ours() -> dict[str, _Row]:
    return {ours: row for part in PARTS for row in _rows(part) for ours in row.ours}


def _rows(part: Part) -> Iterator[_Row]:
    for original, ours in _TABLE[part].items():
        for leaf in (".weight", ".bias") if original.endswith(".*") else ("",):
            before, brace, rest = ours.removesuffix("[#]").removesuffix(".*").partition("{")
            words, _, after = rest.partition("}")
            names = [f"{before}{word}{after}" for word in words.split(",")] if brace else [before]
            yield _Row(
                part,
                original.removesuffix(".*") + leaf,
                tuple(name + leaf for name in names),
                stacked=ours.endswith("[#]"),
            )
