"""`vjepa2 inspect`: what a checkpoint is, from its names and shapes, and what disagrees with it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from vjepa2.errors import VJEPAError
from vjepa2.models.configuration import FIELDS, VJEPA2Config
from vjepa2.models.presets import Preset
from vjepa2.tasks.checkpoint_settings import checked_settings
from vjepa2.tasks.fingerprint import features_mark, weights_mark
from vjepa2.tasks.opened_weights import OpenedWeights, open_weights
from vjepa2.weights.geometry import Geometry

FAMILIES = {"vjepa2": "V-JEPA 2", "vjepa2_1": "V-JEPA 2.1", "vjepa2_ac": "V-JEPA 2-AC"}
SIZES = {
    (192, 12): "ViT-Tiny",
    (384, 12): "ViT-Small",
    (768, 12): "ViT-B",
    (1024, 24): "ViT-L",
    (1280, 32): "ViT-H",
    (1408, 40): "ViT-g",
    (1664, 48): "ViT-G",
}
"""Width and depth of an encoder to the name of its size."""

ROOTS = {
    "encoder": "encoder",
    "predictor": "predictor",
    "pooler": "probe",
    "classifier": "probe",
    "classifiers": "probe",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Counts of one group of tensors.

    Attributes:
        num_tensors, num_parameters, size_bytes: counts.
        dtypes: element types, without "torch.".
    """

    num_tensors: int
    num_parameters: int
    size_bytes: int
    dtypes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "Part":
        """Count tensors."""
        listed = list(tensors)
        return cls(
            num_tensors=len(listed),
            num_parameters=sum(tensor.numel() for tensor in listed),
            size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in listed),
            dtypes=sorted({str(tensor.dtype).removeprefix("torch.") for tensor in listed}),
        )

    def __str__(self) -> str:
        return (
            f"{self.num_tensors} tensors, {self.num_parameters:,} parameters, "
            f"{self.size_bytes / 1e6:,.1f} MB, {', '.join(self.dtypes) or 'empty'}"
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What `inspect_checkpoint` found.

    Attributes:
        name, form, files, size_bytes: what was looked at.
        published: of a published model, what is known of it: summary, Hugging Face repository,
            licence, results with their source.
        family: "V-JEPA 2", "V-JEPA 2.1" or "V-JEPA 2-AC".
        size: "ViT-L", ..., or the width and depth of an unpublished size; of a probe the width.
        model_class: the class of this package that loads it.
        network: "encoder", "predictor", "probe": counts of each.
        sub_dictionaries: those of an original file, with counts; other entries with a word.
        read_from: the sub-dictionary that the encoder, or the probe, was read from.
        training: step, loss and the like, as the file states them.
        geometry: configuration fields that the shapes tell.
        assumed: field to the reason for a value that no shape tells.
        unknown: field to the reason why it cannot be told.
        differences: field to (configuration beside the weights, what the shapes tell, or for heads
            what published networks of this width have).
        dropped: stored name to the reason why it is not needed.
        problem: why the network cannot be loaded; "" if it can.
        weights_mark, features_mark: see `vjepa2.tasks.fingerprint`; "" where not computed.
    """

    name: str
    form: str
    files: list[str]
    size_bytes: int
    family: str
    size: str
    model_class: str
    network: dict[str, Part]
    published: dict[str, str] = field(default_factory=dict)
    sub_dictionaries: dict[str, Part | str] = field(default_factory=dict)
    read_from: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    geometry: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    differences: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    weights_mark: str = ""
    features_mark: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.family} {self.size}, {', '.join(self.network)} ({self.form})",
            f"Loads as {self.model_class}."
            if not self.problem
            else f"Does not load: {self.problem}",
        ]
        lines += _section("Published", self.published)
        lines += _section("Network", {name: str(part) for name, part in self.network.items()})
        lines += _section("In the file", {k: str(v) for k, v in self.sub_dictionaries.items()})
        if self.read_from:
            lines += [f"  read: {self.read_from}"]
        lines += _section("Training, as the file states it", self.training)
        lines += _section("Told by the shapes", self.geometry)
        lines += _section(
            "Assumed", {k: f"{self.geometry.get(k)} ({why})" for k, why in self.assumed.items()}
        )
        lines += _section("Not known (give it with --set NAME=VALUE)", self.unknown)
        lines += _section(
            "The configuration beside it disagrees",
            {
                k: f"configuration {ours!r}, weights {theirs!r}"
                for k, (ours, theirs) in self.differences.items()
            },
        )
        lines += _section("Not needed", self.dropped)
        marks = {"weights": self.weights_mark, "features": self.features_mark}
        lines += _section("Fingerprint", {name: mark for name, mark in marks.items() if mark})
        return "\n".join(lines)


def _section(title: str, rows: Mapping[str, Any]) -> list[str]:
    return [title, *(f"  {name}: {value}" for name, value in rows.items())] if rows else []


def inspect_checkpoint(
    name: str | os.PathLike[str],
    *,
    from_key: str | None = None,
    head: int | None = None,
    fingerprint: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> CheckpointFacts:
    """Look at a checkpoint: family, size, parts, geometry, disagreements, fingerprint.

    Args:
        name: file, folder, hub name or name of a published model.
        from_key: sub-dictionary of the encoder in an original file.
        head: which of several probes in a file.
        fingerprint: look at every value, load the network completely and run it once.
        settings: configuration fields that the file does not tell (num_attention_heads=4).

    Raises:
        VJEPAError: the file cannot be read, or is no V-JEPA checkpoint at all. A checkpoint that
            is readable but does not load is described, with `problem` set.
    """
    given = checked_settings(settings)
    opened = open_weights(name, from_key=from_key, head=head)
    geometry = opened.geometry
    # What a configuration beside the weights states, the shapes need not tell.
    untold = (*geometry.assumed, *geometry.unknown)
    stated = {field: getattr(opened.config, field) for field in untold} if opened.config else {}
    known = {**stated, **given}
    problem = features = ""
    if fingerprint:
        try:
            opened.check_values()
            features = features_mark(opened.load(given))
        except VJEPAError as error:
            problem = str(error)
    return CheckpointFacts(
        name=opened.name,
        form=opened.form,
        files=[str(path) for path in opened.checkpoint.paths],
        size_bytes=opened.size_bytes,
        family=FAMILIES[geometry.values["model_type"]],
        size=_size(geometry.values),
        model_class=opened.model_class.__name__,
        network=_parts(opened),
        published=_published(opened.preset) if opened.preset else {},
        sub_dictionaries=_sub_dictionaries(opened),
        read_from=opened.origin.from_key,
        training=dict(opened.file.facts) if opened.file else {},
        geometry={**geometry.values, **known},
        assumed={field: why for field, why in geometry.assumed.items() if field not in known},
        unknown={field: why for field, why in geometry.unknown.items() if field not in known},
        differences=_differences(opened.config, geometry),
        dropped=dict(opened.origin.dropped),
        problem=problem,
        weights_mark=weights_mark(opened.tensors) if fingerprint else "",
        features_mark=features,
    )


def _published(preset: Preset) -> dict[str, str]:
    results = [f"{r.benchmark} {r.value:g} ({r.metric}; {r.source})" for r in preset.results]
    facts = {
        "summary": preset.summary,
        "file": f"{preset.file}: {preset.key}",
        "Hugging Face": preset.hub_name or "not there",
        "licence": preset.licence,
    }
    return facts | ({"results": "; ".join(results)} if results else {})


def _size(values: Mapping[str, Any]) -> str:
    width, depth = values.get("hidden_size"), values.get("num_hidden_layers")
    if width is None:
        return "of unknown size"
    if depth is None:
        return f"for tokens {width} wide"
    return SIZES.get((width, depth), f"{width} wide, {depth} blocks")


def _parts(opened: OpenedWeights) -> dict[str, Part]:
    groups: dict[str, list[str]] = {}
    for name in opened.tensors:
        group = ROOTS.get(name.partition(".")[0], "other")
        groups.setdefault(group, []).append(name)
    return {
        group: Part.of(opened.tensors[name] for name in names) for group, names in groups.items()
    }


def _sub_dictionaries(opened: OpenedWeights) -> dict[str, Part | str]:
    if opened.file is None or opened.file.layout != "nested":
        return {}
    found: dict[str, Part | str] = {
        key: Part.of(tensors.values()) for key, tensors in opened.file.parts.items()
    }
    for index, head in enumerate(opened.file.heads):
        found[f"classifiers[{index}]"] = Part.of(head.values())
    return {**found, **opened.file.others}


# Shapes do not tell them, but a configuration that states others than were published for a width
# is worth a look: the shapes agree, and only the numbers come out wrong.
_WORTH_A_LOOK = ("num_attention_heads", "pred_num_attention_heads")


def _differences(config: VJEPA2Config | None, geometry: Geometry) -> dict[str, tuple[Any, Any]]:
    """Fields that the configuration states otherwise than the shapes, or than was published."""
    if config is None:
        return {}
    told = {
        name: value
        for name, value in geometry.values.items()
        if name not in geometry.assumed or name in _WORTH_A_LOOK
    }
    return {
        name: (getattr(config, name), value)
        for name, value in told.items()
        if (name in FIELDS or name == "num_labels") and not _same(config, name, value)
    }


def _same(config: VJEPA2Config, name: str, value: Any) -> bool:
    stated = getattr(config, name)
    if name == "mlp_ratio":
        return int(config.hidden_size * stated) == int(config.hidden_size * value)
    if name == "pred_mlp_ratio":
        width = config.pred_hidden_size
        return int(width * stated) == int(width * value)
    if name == "pred_num_levels":
        return (stated or len(config.levels)) == (value or len(config.levels))
    if name == "pred_output_size":
        return (stated or config.hidden_size) == (value or config.hidden_size)
    return bool(stated == value)
