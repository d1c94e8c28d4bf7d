"""What one field of `VJEPA2Config` may hold: its type, its range, and its stored form.

Kept apart from the class so that the class reads as the list of fields. Types come from the
annotations of the class; this module knows how to check them and which numbers make sense.
"""

import difflib
import types
import typing
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from vjepa2.errors import (
    ConfigError,
    UnknownOptionError,
    check_choice,
    checked_integer,
    in_digits,
)
from vjepa2.models.config_variants import MODEL_TYPES
from vjepa2.nn.activations import ACTIVATIONS
from vjepa2.runtime import resolve_dtype

MAX_SHOWN = 200  # characters of a wrong value
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class Range(NamedTuple):
    """A condition on a number and its words."""

    holds: Callable[[Any], bool]
    words: str


# Bounds far above any network there is: a damaged file must not keep the machine busy, and what it
# would build must not fail deep inside the library with an overflow.
MAX_LAYERS = 1000
MAX_WIDTH = 2**17
MAX_SIDE = 2**16  # pixels
MAX_FRAMES = 10**7
MAX_MASK_TOKENS = 10**6
MAX_LABELS = 10**6
MAX_RATIO = 1000.0
MAX_SMALL_NUMBER = 1e30  # of what is added to, or multiplied with, float32 numbers


def _between(least: int, most: int) -> Range:
    return Range(lambda value: least <= value <= most, f"{least} to {most}")


_ABOVE_ZERO = Range(
    lambda value: 0 < value <= MAX_SMALL_NUMBER, f"a number above 0, at most {MAX_SMALL_NUMBER:g}"
)
_RATIO = Range(lambda value: 0 < value <= MAX_RATIO, f"a number above 0, at most {MAX_RATIO:g}")
_PROBABILITY = Range(lambda value: 0 <= value < 1, "at least 0 and below 1")
_BLOCKS = Range(
    lambda blocks: bool(blocks) and blocks[0] >= 0 and sorted(set(blocks)) == blocks,
    "numbers of blocks, counted from 0, ascending, at least one",
)
_HEAD_SIZES = Range(
    lambda sizes: (
        bool(sizes)
        and all(type(n) is int and n >= 1 for n in sizes.values())
        and sum(sizes.values()) <= MAX_LABELS
    ),
    "at least one name with a number of classes of 1 or more, at most "
    f"{MAX_LABELS} classes together",
)

RANGES: dict[str, Range] = {
    **dict.fromkeys(("patch_size", "crop_size"), _between(1, MAX_SIDE)),
    **dict.fromkeys(("frames_per_clip", "tubelet_size"), _between(1, MAX_FRAMES)),
    **dict.fromkeys(
        (
            "hidden_size",
            "in_chans",
            "num_attention_heads",
            "num_pooler_attention_heads",
            "pred_hidden_size",
            "pred_num_attention_heads",
            "pred_output_size",
            "action_size",
            "state_size",
            "extrinsics_size",
        ),
        _between(1, MAX_WIDTH),
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "pred_num_hidden_layers", "pred_num_levels"), _between(1, MAX_LAYERS)
    ),
    "num_pooler_layers": _between(0, MAX_LAYERS),
    "pred_num_mask_tokens": _between(1, MAX_MASK_TOKENS),
    "drop_path_rate": _PROBABILITY,
    "attention_dropout": _PROBABILITY,
    "attention_probs_dropout_prob": _PROBABILITY,
    "mlp_ratio": _RATIO,
    "pred_mlp_ratio": _RATIO,
    "layer_norm_eps": _ABOVE_ZERO,
    "pooler_layer_norm_eps": _ABOVE_ZERO,
    "pooler_levels": _BLOCKS,
    "hierarchical_layers": _BLOCKS,
    "head_sizes": _HEAD_SIZES,
    "initializer_range": Range(
        lambda value: 0 <= value <= MAX_SMALL_NUMBER, f"0 to {MAX_SMALL_NUMBER:g}"
    ),
}


def checked_value(name: str, value: Any, *, annotation: Any) -> Any:
    """Return the value to store in field `name`, or raise `ConfigError` with got and allowed.

    Args:
        name: field name.
        value: what the user gave.
        annotation: the declared type. `float` takes whole numbers too and keeps them whole, as
            the Hugging Face port does (`mlp_ratio: 4` stays `4` in the file).
    """
    if not _fits(value, annotation):
        raise ConfigError(
            f"{name} must be {_words(annotation)}, got {_shown(value)} ({type(value).__name__})."
        )
    if value is None:
        return None
    if name in RANGES and not RANGES[name].holds(value):
        raise ConfigError(
            f"{name}={_shown(value)} is out of range: it must be {RANGES[name].words}."
        )
    if name == "model_type":
        check_choice("model_type", value, MODEL_TYPES)
    elif name == "hidden_act":
        check_choice("hidden_act", value, ACTIVATIONS)
    elif name == "problem_type":
        check_choice("problem_type", value, PROBLEM_TYPES)
    elif name == "dtype":
        return resolve_dtype(value)
    elif name == "id2label":
        return _labels_by_id(value)
    elif name == "label2id":
        return _ids_by_label(value)
    return value


def refuse_misspelled(owner: str, name: str, *, known: Iterable[str]) -> None:
    """Raise `UnknownOptionError` when `name` looks like a misspelled one of `known`.

    Other new names pass: trainers and adapters leave notes of their own on a configuration.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)
    if near and not name.startswith("_"):
        raise UnknownOptionError(f"{owner} has no field {name!r}. Did you mean {near[0]!r}?")


def _fits(value: Any, annotation: Any) -> bool:
    if isinstance(annotation, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(annotation))
    kind = typing.get_origin(annotation) or annotation
    if kind is types.NoneType:
        return value is None
    if kind is list:
        (inner,) = typing.get_args(annotation)
        return isinstance(value, list) and all(_fits(item, inner) for item in value)
    if isinstance(value, bool):  # bool is an int for Python, but True is no number of layers
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _shown(value: Any) -> str:
    """Text of a value for messages; Python refuses to print enormous numbers."""
    if isinstance(value, int):
        return in_digits(value)
    try:
        text = repr(value)
    except ValueError:
        return "something with an enormous number in it"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _words(annotation: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a string"}
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else [annotation]
    words = [
        "None" if part is types.NoneType else names.get(part, str(part).removeprefix("<class "))
        for part in parts
    ]
    return " or ".join(words)


def _labels_by_id(labels: Mapping[Any, Any]) -> dict[int, str]:
    """JSON turns ids into strings; turn them back and check that they count 0, 1, 2, ..."""
    try:
        by_id = {int(key): labels[key] for key in labels}
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"id2label needs whole numbers as keys: {error}.") from error
    if not 1 <= len(labels) <= MAX_LABELS:
        raise ConfigError(f"id2label needs 1 to {MAX_LABELS} names, got {len(labels)}.")
    if sorted(by_id) != list(range(len(labels))):
        raise ConfigError(
            f"id2label needs the ids 0, 1, ... without a gap, got {_shown(sorted(by_id)[:20])}."
        )
    for index, label in by_id.items():
        if not isinstance(label, str):
            raise ConfigError(f"id2label[{index}] must be a string, got {_shown(label)}.")
    if len(set(by_id.values())) < len(by_id):
        _warn_of_equal_names(by_id)
    return dict(sorted(by_id.items()))


def _warn_of_equal_names(by_id: Mapping[int, str]) -> None:
    """A warning only: scores and losses go by id, and other libraries load such files too."""
    counts = Counter(by_id.values())
    label = next(label for label, count in counts.items() if count > 1)
    ids = [index for index in sorted(by_id) if by_id[index] == label]
    warnings.warn(
        f"id2label gives the name {_shown(label)} to the classes {_shown(ids)}; they cannot be "
        "told apart by name, and label2id keeps one of them. Give every class its own name.",
        stacklevel=7,
    )


def _ids_by_label(ids: Mapping[Any, Any]) -> dict[str, int]:
    try:
        return {str(label): int(index) for label, index in ids.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"label2id needs whole numbers as values: {error}.") from error


def checked_num_labels(value: Any) -> int:
    """Return a number of classes, or raise `ConfigError`."""
    return checked_integer("num_labels", value, least=1, most=MAX_LABELS)


def default_labels(num_labels: int) -> dict[int, str]:
    """`{0: "LABEL_0", 1: "LABEL_1", ...}`, the names used when none are given."""
    return {index: f"LABEL_{index}" for index in range(num_labels)}


def inverse(id2label: Mapping[int, str]) -> dict[str, int]:
    """`label2id` of an `id2label`."""
    return {label: index for index, label in id2label.items()}


def dtype_name(dtype: "str | torch.dtype") -> str:
    """`"float32"` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")
