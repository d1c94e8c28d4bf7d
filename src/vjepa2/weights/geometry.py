"""The numbers of a network, told from the names and shapes of its tensors alone.

Shapes tell widths, depths, patches, ratios, mask tokens, levels and classes, and so the family.
They do not tell into how many heads a width is divided (published widths are looked up), nor the
size of the frames that the weights were trained on. That size is assumed, and said so; only the
action-conditioned predictor computes with it, so there it is looked up as well.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.weights.foreign import foreign_cause


class Published(NamedTuple):
    """What published networks of one width have."""

    heads: int
    depths: tuple[int, ...]
    mlp_size: int


ENCODERS: dict[int, Published] = {
    192: Published(3, (12,), 768),
    384: Published(6, (12,), 1536),
    768: Published(12, (12,), 3072),
    1024: Published(16, (24,), 4096),
    1280: Published(16, (32,), 5120),
    1408: Published(22, (40,), 6144),
    1664: Published(26, (48,), 8192),
}
"""Width of an encoder to its heads and depths (V-JEPA 2, table of architectures; the code)."""

PREDICTORS: dict[str, dict[int, Published]] = {
    "vjepa2": {384: Published(12, (12,), 1536)},
    "vjepa2_1": {384: Published(12, (12, 24), 1536)},
    "vjepa2_ac": {1024: Published(16, (24,), 4096)},
}
"""The same for predictors, by family."""

ACTION_WIDTHS = (1408, 1024)
"""Widths of encoder and predictor of the published V-JEPA 2-AC, trained on frames of 256 pixels."""

PROBE_HEADS = 16
PROBE_EPS = 1e-5
_LEVELS = "the last block; probes of several, such as those of Diving48, need pooler_levels=[...]"
_CROP_SIZE = {"vjepa2": 256, "vjepa2_1": 384, "vjepa2_ac": 256}
_PATCHES = "encoder.embeddings.patch_embeddings.proj.weight"
_INDEX = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Geometry:
    """Configuration values of the network that some tensors belong to.

    Attributes:
        values: field of `VJEPA2Config` to its value, as told by the shapes or published for them.
        assumed: field to the reason why `values` has this one although no shape tells it.
        unknown: field that no shape tells and nothing was published for, with the reason.
        unusual: depth that differs from what was published for this width, with the reason.
        probe: whether a classifier is there.
    """

    values: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    unusual: dict[str, str] = field(default_factory=dict)
    probe: bool = False

    def completed(self, given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
        """All values, those of the user in place of the others.

        Args:
            given: fields that the user named.
            where: the file, for the message.

        Raises:
            ConfigError: heads, or the frame size of V-JEPA 2-AC, are neither published for these
                widths nor given.
            CheckpointFormatError: published widths with another depth that nobody confirmed.
        """
        for name, reason in self.unusual.items():
            if name not in given:
                raise CheckpointFormatError(
                    f"{where}: {reason}. The file is incomplete, or of another network; if the "
                    f"depth is right, say so with {name}={self.values[name]}."
                )
        if lost := {name: why for name, why in self.unknown.items() if name not in given}:
            words = "; ".join(lost.values())
            options = ", ".join(f"{name}=..." for name in lost)
            raise ConfigError(f"{where}: {words}. Pass {options}.")
        return {**self.values, **given}


def infer_geometry(
    tensors: Mapping[str, Tensor],
    *,
    where: str = "the file",
    needs_encoder: bool = False,
    original_probe: bool = True,
) -> Geometry:
    """Tell the configuration from tensors under our names.

    Args:
        tensors: encoder, predictor, probe, or several of them; only shapes are looked at.
        where: the file, for the message.
        needs_encoder: refuse a predictor or probe on its own.
        original_probe: whether a probe among them is one of Meta's, with 16 heads; those that the
            Hugging Face port stores have the heads of its encoder.

    Raises:
        CheckpointFormatError: they are of another kind of network, or the tensors that tell the
            numbers have shapes without a meaning.
    """
    shapes = {name.removeprefix("vjepa2."): tuple(tensor.shape) for name, tensor in tensors.items()}
    reader = _Shapes(shapes, where)
    found = Geometry(probe="pooler.query_tokens" in shapes)
    has_predictor = any(name.startswith("predictor.") for name in shapes)
    if _PATCHES not in shapes and (needs_encoder or not (has_predictor or found.probe)):
        raise reader.foreign("no patch embedding of video")
    found.values["model_type"] = family = _family(shapes)
    if _PATCHES in shapes:
        _encoder(reader, found)
    if has_predictor:
        _predictor(reader, found, family)
    if found.probe:
        _probe(reader, found, original=original_probe)
    if "hidden_size" in found.values:
        _frame_size(found, family)
        _assume(found, "frames_per_clip", 64, "usual; positions come from the input")
    return found


class _Shapes:
    """Shapes by name, with errors that name the file."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
        self.all = shapes
        self.where = where

    def of(self, name: str, *, rank: int) -> tuple[int, ...]:
        shape = self.all.get(name)
        if shape is None:
            raise self.foreign(f"no {name!r}")
        if len(shape) != rank or 0 in shape:
            must = f"must have {rank} axes" if len(shape) != rank else "is empty"
            raise CheckpointFormatError(
                f"{self.where}: {name!r} has the shape {list(shape)}; it {must}. " + self._cause()
            )
        return shape

    def depth(self, stack: str) -> int:
        """One more than the last block's number."""
        numbers = [
            int(match[1])
            for name in self.all
            if name.startswith(f"{stack}.") and (match := _INDEX.search(name, len(stack)))
        ]
        if not numbers:
            raise self.foreign(f"no block {stack}.0")
        return 1 + max(numbers)

    def foreign(self, what: str) -> CheckpointFormatError:
        shown = ", ".join(sorted(self.all)[:4]) or "nothing"
        return CheckpointFormatError(
            f"{self.where} is not a V-JEPA checkpoint, or not a whole one: {what} (it has {shown}"
            f"{', ...' if len(self.all) > 4 else ''}). {self._cause()}"
        )

    def _cause(self) -> str:
        cause = foreign_cause(self.all, translated=True)
        return f"Likely cause: {cause}." if cause else "Is this the right file?"


def _family(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if any("action_embeddings" in name for name in shapes):
        return "vjepa2_ac"
    marks = ("layernorms.", ".modality.", "patch_embeddings_img", "proj_context")
    return "vjepa2_1" if any(mark in name for name in shapes for mark in marks) else "vjepa2"


def _encoder(reader: _Shapes, found: Geometry) -> None:
    width, channels, tubelet, patch, _ = reader.of(_PATCHES, rank=5)
    hidden = reader.of("encoder.layer.0.mlp.fc1.weight", rank=2)[0]
    depth = reader.depth("encoder.layer")
    found.values.update(
        {
            "hidden_size": width,
            "in_chans": channels,
            "tubelet_size": tubelet,
            "patch_size": patch,
            "mlp_ratio": exact_ratio(hidden, width),
            "num_hidden_layers": depth,
            "qkv_bias": "encoder.layer.0.attention.query.bias" in reader.all,
        }
    )
    _published(found, ENCODERS, width, depth, prefix="", what="encoder")


def _predictor(reader: _Shapes, found: Geometry, family: str) -> None:
    if "predictor.layernorm.weight" not in reader.all:
        raise reader.foreign("no 'predictor.layernorm.weight'")
    width = reader.of("predictor.layernorm.weight", rank=1)[0]
    depth = reader.depth("predictor.layer")
    hidden = reader.of("predictor.layer.0.mlp.fc1.weight", rank=2)[0]
    out = reader.of("predictor.proj.weight", rank=2)[0]
    embed = "predictor.embeddings.predictor_embeddings"
    fused = f"{embed}.0.weight" in reader.all
    inner, into = reader.of(f"{embed}.0.weight" if fused else f"{embed}.weight", rank=2)
    found.values.update(
        {
            "pred_hidden_size": width,
            "pred_num_hidden_layers": depth,
            "pred_mlp_ratio": exact_ratio(hidden, width),
        }
    )
    encoder_width = found.values.setdefault("hidden_size", inner if fused else into)
    if "predictor.embeddings.mask_tokens" in reader.all:
        found.values["pred_num_mask_tokens"] = reader.of(
            "predictor.embeddings.mask_tokens", rank=4
        )[0]
    if family == "vjepa2_1":
        levels = max(1, into // encoder_width)
        found.values["pred_num_levels"] = levels
        found.values["pred_output_size"] = None if out == levels * encoder_width else out // levels
        reason = "as in published inference; the published training configuration has True"
        _assume(found, "pred_rescale_positions", False, reason)
    if family == "vjepa2_ac":
        for name in ("action", "state", "extrinsics"):
            weight = f"predictor.embeddings.{name}_embeddings.weight"
            if weight in reader.all:
                found.values[f"{name}_size"] = reader.of(weight, rank=2)[1]
    _published(found, PREDICTORS[family], width, depth, prefix="pred_", what="predictor")


def _probe(reader: _Shapes, found: Geometry, *, original: bool) -> None:
    _, _, width = reader.of("pooler.query_tokens", rank=3)
    encoder_width = found.values.get("hidden_size")
    if encoder_width is None:
        _encoder_of_probe(found, width)
    elif encoder_width != width:
        raise CheckpointFormatError(
            f"{reader.where}: the probe reads tokens of width {width}, this encoder makes "
            f"{encoder_width}. Give the encoder that the probe was trained on."
        )
    layers = "pooler.self_attention_layers"
    has_layers = any(name.startswith(layers) for name in reader.all)
    found.values["num_pooler_layers"] = reader.depth(layers) if has_layers else 0
    heads = {
        name.split(".")[1]: shape[0]
        for name, shape in reader.all.items()
        if name.startswith("classifiers.") and name.endswith(".weight") and shape
    }
    if heads:
        order = [name for name in ("verb", "noun", "action") if name in heads]
        found.values["head_sizes"] = {
            name: heads[name] for name in [*order, *sorted(set(heads) - set(order))]
        }
    else:
        found.values["num_labels"] = reader.of("classifier.weight", rank=2)[0]
    _assume(found, "pooler_levels", None, _LEVELS)
    if original:
        _assume(found, "num_pooler_attention_heads", PROBE_HEADS, "all original probes have 16")
        _assume(found, "pooler_layer_norm_eps", PROBE_EPS, "all original probes have 1e-5")
    elif found.values.get("num_attention_heads") != PROBE_HEADS:
        found.unknown["num_pooler_attention_heads"] = (
            "shapes do not tell the heads of the pooler: those of the encoder, as in the Hugging "
            "Face port, or 16, as in original probes (the config.json of the file says it)"
        )


def _encoder_of_probe(found: Geometry, width: int) -> None:
    """What a probe on its own does not tell of the encoder whose tokens it reads."""
    found.values["hidden_size"] = width
    if width in ENCODERS:
        heads, (depth, *_), mlp_size = ENCODERS[width]
        reason = f"published for encoders of width {width}"
        _assume(found, "num_attention_heads", heads, reason)
        _assume(found, "num_hidden_layers", depth, reason)
        _assume(found, "mlp_ratio", exact_ratio(mlp_size, width), reason)
    else:
        found.unknown["num_attention_heads"] = (
            f"a probe does not tell the heads of its encoder, and none of width {width} was "
            "published"
        )


def _published(
    found: Geometry,
    table: Mapping[int, Published],
    width: int,
    depth: int,
    *,
    prefix: str,
    what: str,
) -> None:
    """Look the heads up, and compare the depth with what was published."""
    heads, layers = f"{prefix}num_attention_heads", f"{prefix}num_hidden_layers"
    known = table.get(width)
    if known is None:
        found.unknown[heads] = (
            f"shapes do not tell the heads of a network, and no {what} of width {width} was "
            f"published (those have {', '.join(map(str, table))})"
        )
        return
    _assume(found, heads, known.heads, f"published for {what}s of width {width}")
    if depth not in known.depths:
        found.unusual[layers] = (
            f"the {what} of width {width} has {depth} blocks; published ones have "
            f"{' or '.join(map(str, known.depths))}"
        )


def _frame_size(found: Geometry, family: str) -> None:
    """Side of the training frames, by which the action predictor places its patches."""
    widths = found.values["hidden_size"], found.values.get("pred_hidden_size")
    if family == "vjepa2_ac" and widths != ACTION_WIDTHS:
        found.unknown["crop_size"] = (
            "the action-conditioned predictor places rows and columns on the grid of its training "
            "frames, whose size no shape tells, and no V-JEPA 2-AC of these widths was published"
        )
        return
    reason = "published for V-JEPA 2-AC" if family == "vjepa2_ac" else f"usual for {family}"
    _assume(found, "crop_size", _CROP_SIZE[family], reason)


def _assume(found: Geometry, name: str, value: Any, reason: str) -> None:
    found.values[name] = value
    found.assumed[name] = reason


def exact_ratio(hidden: int, width: int) -> float:
    """The ratio for which `int(width * ratio)` is `hidden`: 48/11 and 64/13 in published files."""
    ratio = hidden / width
    while int(width * ratio) < hidden:
        ratio = math.nextafter(ratio, math.inf)
    return ratio
