"""`vjepa2 compare`: which tensors of two checkpoints differ, and how much the features do."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from vjepa2.errors import VJEPAError
from vjepa2.tasks.checkpoint_settings import checked_settings
from vjepa2.tasks.fingerprint import seeded_outputs
from vjepa2.tasks.opened_weights import OpenedWeights, open_weights
from vjepa2.weights.load import FLOATS
from vjepa2.weights.mismatch import fold

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """How two tensors of one name differ.

    Attributes:
        name: ours.
        relative: norm of the difference over the norm of the first; None where that is no number.
        largest: largest absolute difference; likewise.
    """

    name: str
    relative: float | None
    largest: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare_checkpoints` found.

    Attributes:
        first, second: what was compared.
        num_equal: tensors that agree bit for bit.
        num_cast: tensors that agree up to their element type.
        only_first, only_second: names that one of them has alone.
        shapes: name to the two shapes, where they differ.
        types: name to the two element types, where they differ and one of them is no weight's.
        different: tensors with other values, the largest relative difference first.
        features_relative: norm of the difference of the outputs for a seeded clip, over the norm
            of the first's; None where one of them does not load, or they are other networks.
        features_cosine: mean cosine of their output tokens; None likewise.
        features_note: why there is no comparison of features; "" otherwise.
    """

    first: str
    second: str
    num_equal: int
    num_cast: int
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    types: dict[str, tuple[str, str]] = field(default_factory=dict)
    different: list[TensorDifference] = field(default_factory=list)
    features_relative: float | None = None
    features_cosine: float | None = None
    features_note: str = ""

    @property
    def same(self) -> bool:
        """Whether both hold the same tensors, bit for bit or up to their element type."""
        apart = (self.only_first, self.only_second, self.shapes, self.types, self.different)
        return not any(apart)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"same": self.same, **asdict(self)}

    def __str__(self) -> str:
        lines = [
            f"{self.first} and {self.second}: " + ("the same" if self.same else "different"),
            f"  equal bit for bit: {self.num_equal} tensors",
        ]
        if self.num_cast:
            lines.append(f"  equal up to their element type: {self.num_cast}")
        for words, names in (("first", self.only_first), ("second", self.only_second)):
            if names:
                lines.append(f"  only in the {words} ({len(names)}): {fold(names)}")
        for pairs in (self.shapes, self.types):
            lines += [f"  {name}: {a} and {b}" for name, (a, b) in list(pairs.items())[:SHOWN]]
        if self.different:
            lines.append(f"  other values: {len(self.different)}, the most different first")
            lines += [
                f"    {row.name}: relative {_short(row.relative)}, largest {_short(row.largest)}"
                for row in self.different[:SHOWN]
            ]
        if self.features_relative is not None:
            lines.append(
                f"  features of a seeded clip: relative difference {self.features_relative:.2e}, "
                f"cosine {self.features_cosine:.6f}"
            )
        else:
            lines.append(f"  features not compared: {self.features_note}")
        return "\n".join(lines)


def compare_checkpoints(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    from_key: str | None = None,
    second_key: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare two checkpoints tensor by tensor, and their features for a seeded clip.

    Args:
        first, second: file, folder, hub name or preset each.
        from_key: sub-dictionary of the first's encoder, in an original file.
        second_key: sub-dictionary of the second's encoder.
        settings: configuration fields that the files do not tell, for both.

    Raises:
        WeightsError: one of them cannot be read.
    """
    given = checked_settings(settings)
    one, other = open_weights(first, from_key=from_key), open_weights(second, from_key=second_key)
    left, right = one.tensors, other.tensors
    counts = {"equal": 0, "cast": 0}
    shapes: dict[str, tuple[list[int], list[int]]] = {}
    types: dict[str, tuple[str, str]] = {}
    different: list[TensorDifference] = []
    for name in sorted(left.keys() & right.keys()):
        a, b = left[name], right[name]
        if a.shape != b.shape:
            shapes[name] = (list(a.shape), list(b.shape))
        elif a.dtype != b.dtype and not {a.dtype, b.dtype} <= set(FLOATS):
            types[name] = (str(a.dtype), str(b.dtype))
        elif a.dtype == b.dtype and torch.equal(a, b):
            counts["equal"] += 1
        elif a.dtype != b.dtype and _equal_when_cast(a, b):
            counts["cast"] += 1
        else:
            different.append(_difference(name, a, b))
    return Comparison(
        first=one.name,
        second=other.name,
        num_equal=counts["equal"],
        num_cast=counts["cast"],
        only_first=sorted(left.keys() - right.keys()),
        only_second=sorted(right.keys() - left.keys()),
        shapes=shapes,
        types=types,
        different=sorted(
            different, key=lambda row: -math.inf if row.relative is None else -row.relative
        ),
        **_features(one, other, given),
    )


def _equal_when_cast(a: Tensor, b: Tensor) -> bool:
    """Whether the wider of two floating tensors, rounded, is the narrower."""
    narrow, wide = (a, b) if a.element_size() <= b.element_size() else (b, a)
    return torch.equal(wide.to(narrow.dtype), narrow)


def _difference(name: str, a: Tensor, b: Tensor) -> TensorDifference:
    gap = (a.double() - b.double()).abs()
    size = float(a.double().norm())
    relative, largest = float(gap.norm()) / size if size else math.inf, float(gap.max())
    return TensorDifference(
        name=name,
        relative=relative if math.isfinite(relative) else None,
        largest=largest if math.isfinite(largest) else None,
    )


def _how_different(row: TensorDifference) -> float:
    return math.inf if row.relative is None else row.relative


def _short(value: float | None) -> str:
    return "no number" if value is None else f"{value:.2e}"


def _features(
    one: OpenedWeights, other: OpenedWeights, settings: Mapping[str, Any]
) -> dict[str, Any]:
    outputs: list[list[Tensor]] = []
    try:
        for opened in (one, other):
            opened.check_values()
            outputs.append(seeded_outputs(opened.load(settings).float()))
    except VJEPAError as error:
        return {"features_note": str(error)}
    if [a.shape for a in outputs[0]] != [b.shape for b in outputs[1]]:
        return {"features_note": "they are networks of different kinds or sizes"}
    left, right = (torch.cat([part.flatten() for part in parts]) for parts in outputs)
    cosines = torch.cat(
        [torch.cosine_similarity(a, b, dim=-1).flatten() for a, b in zip(*outputs, strict=True)]
    )
    return {
        "features_relative": float((left - right).norm() / left.norm()),
        "features_cosine": float(cosines.mean()),
    }
