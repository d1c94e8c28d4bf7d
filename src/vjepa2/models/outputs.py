"""What models return: named fields, read as attribute, key or position.

The fields, their order and the three ways to read them are those of the Hugging Face port:
fields that are None are absent from keys, iteration and tuples.
"""

import dataclasses
import numbers
from collections import OrderedDict
from collections.abc import Sequence
from types import GeneratorType
from typing import Any, ClassVar

from torch import Tensor
from torch.utils import _pytree as pytree

from vjepa2.errors import InputError, check_option_names, described, in_digits


class ModelOutput(OrderedDict[str, Any]):
    """Base of the output dataclasses.

    `out.name`, `out["name"]`, `out[0]`, `out[:2]` and `out.to_tuple()` all see the same values;
    positions and slices count only the fields that are present.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # So that export, FSDP and functional transforms look inside, as they do for a dict.
        pytree.register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output.keys())),
            lambda values, names: cls(**dict(zip(names, values, strict=True))),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
            flatten_with_keys_fn=lambda output: (
                [(pytree.MappingKey(name), value) for name, value in output.items()],
                list(output.keys()),
            ),
        )

    def __post_init__(self) -> None:
        # The class attribute, not `dataclasses.fields(self)`: Dynamo can trace only the former.
        names = list(type(self).__dataclass_fields__)
        first = getattr(self, names[0])
        if isinstance(first, dict | GeneratorType):
            # Wrappers rebuild any dictionary as `type(out)(pairs)`: accelerate, DataParallel.
            pairs = dict(first)
            check_option_names(type(self).__name__, pairs, names)
            for name in names:
                setattr(self, name, pairs.get(name))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return OrderedDict.__getitem__(self, key)
        return self.to_tuple()[key]

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None:
            OrderedDict.__setitem__(self, name, value)
        elif name in self.keys():
            OrderedDict.__delitem__(self, name)
        object.__setattr__(self, name, value)

    def __setitem__(self, key: str, value: Any) -> None:
        OrderedDict.__setitem__(self, key, value)
        object.__setattr__(self, key, value)

    def __delitem__(self, key: str) -> None:
        OrderedDict.__delitem__(self, key)
        object.__setattr__(self, key, None)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a field and return it; `default` (or KeyError) when it is absent."""
        value = OrderedDict.pop(self, key, *default)
        setattr(self, key, None)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self))

    def to_tuple(self) -> tuple[Any, ...]:
        """Present fields in order; outputs nested inside become tuples too."""
        return tuple(
            value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values()
        )


def _rebuild(cls: type[ModelOutput], values: dict[str, Any]) -> ModelOutput:
    return cls(**values)


@dataclasses.dataclass
class BaseModelOutput(ModelOutput):
    """Tokens of an encoder or predictor.

    Args:
        last_hidden_state: [B, N, D] after the final layer norm.
        hidden_states: one [B, N, D] per level when asked for: the embeddings, then the output of
            every block; the last one is *before* the final layer norm.
        attentions: one [B, G, N, N] per block when asked for.
        level_hidden_states: one normed [B, N, D] per block in `output_levels`.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    level_hidden_states: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class PredictorOutput(ModelOutput):
    """What the predictor predicts.

    Args:
        last_hidden_state: [B, M, D] predictions at the target ids.
        context_hidden_state: [B, K, D] predictions at the context ids, by a head of their own
            (V-JEPA 2.1). D is the width of all predicted levels together.
        hidden_states, attentions: see `BaseModelOutput`; context tokens first, then targets.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    context_hidden_state: Tensor | None = None


@dataclasses.dataclass
class VJEPA2WithMaskedInputPredictorOutput(ModelOutput):
    """What the predictor predicts, and what the encoder saw there.

    Args:
        last_hidden_state: [B, M, D] predictions for the target ids, in the order of the ids.
        target_hidden_state: [B, M, D] encoder tokens at the target ids (not layer-normed again).
        hidden_states: per level [B, K + M, width], context tokens first, when asked for.
        attentions: per block [B, G, K + M, K + M] when asked for.
        context_hidden_state: [B, K, D] predictions at the context ids (V-JEPA 2.1).

    In V-JEPA 2.1 D is the width of all levels that the predictor reads, side by side; distilled
    models predict in the width of their teacher, so there the two fields differ in width.
    """

    last_hidden_state: Tensor | None = None
    target_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    context_hidden_state: Tensor | None = None


@dataclasses.dataclass
class VJEPA2WithMaskedInputModelOutput(ModelOutput):
    """Encoder tokens, the part of them that was context, and the predictor's output.

    Args:
        last_hidden_state: [B, N, D] encoder tokens of the whole clip.
        masked_hidden_state: [B, K, D] those at the context ids.
        predictor_output: absent with `skip_predictor=True`.
        hidden_states, attentions: of the encoder, see `BaseModelOutput`.
        level_hidden_states: one normed [B, N, D] per block in `output_levels`.
    """

    last_hidden_state: Tensor | None = None
    masked_hidden_state: Tensor | None = None
    predictor_output: VJEPA2WithMaskedInputPredictorOutput | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    level_hidden_states: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class VJEPA2ActionModelOutput(ModelOutput):
    """What V-JEPA 2-AC predicts for the frame after each frame, and what it saw.

    Args:
        last_hidden_state: [B, t*h*w, D] at frame i the predicted features of frame i + 1, layer-
            normed without weights; to be compared with `encoder_hidden_state` of frame i + 1.
        encoder_hidden_state: [B, t*h*w, D] features of the frames themselves, normed likewise.
        hidden_states: per level of the predictor [B, t * (2 + h*w), width] when asked for: step
            by step action, state, patches (with camera poses 3 + h*w).
        attentions: per block of the predictor [B, G, N, N] when asked for, in that order.
    """

    last_hidden_state: Tensor | None = None
    encoder_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class ImageClassifierOutput(ModelOutput):
    """Scores of a classifier (named as in the port).

    Args:
        loss: scalar when labels were given.
        logits: [B, classes] before softmax.
        hidden_states, attentions: of the encoder, see `BaseModelOutput`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


HiddenLevels = bool | int | Sequence[int] | None
"""What `output_hidden_states` takes: all levels (True), none (False, None), one, or several."""


def listed_levels(name: str, wanted: Any) -> list[int]:
    """Levels or blocks as plain numbers.

    Args:
        name: what messages call them.
        wanted: a sequence of whole numbers.

    Raises:
        InputError: anything else.
    """
    listed = isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes)
    if listed and all(_is_whole(level) for level in wanted):
        return [int(level) for level in wanted]
    raise InputError(f"{name} must be a list of whole numbers, got {described(wanted)}.")


def levels_to_keep(wanted: HiddenLevels, *, num_levels: int) -> list[int]:
    """Levels to keep, counted from 0; negative ones in `wanted` count from the end.

    Raises:
        InputError: a level does not exist, or `wanted` is nothing that names levels.
    """
    if wanted is None or isinstance(wanted, bool):
        return list(range(num_levels)) if wanted else []
    listed = _one_or_several(wanted)
    for level in listed:
        if not -num_levels <= level < num_levels:
            raise InputError(
                f"output_hidden_states asks for level {in_digits(level)}; there are {num_levels}: "
                f"0 (the embeddings) to {num_levels - 1} (the last block), or -{num_levels} to -1 "
                "from the end."
            )
    return [level % num_levels for level in listed]


def levels_that_exist(wanted: HiddenLevels, *, num_levels: int) -> HiddenLevels:
    """`wanted` without the levels that a stack of `num_levels` does not have.

    Raises:
        InputError: `wanted` is nothing that names levels.
    """
    if wanted is None or isinstance(wanted, bool):
        return wanted
    return [level for level in _one_or_several(wanted) if -num_levels <= level < num_levels]


def _one_or_several(wanted: Any) -> list[int]:
    return listed_levels(
        "output_hidden_states, unless True, False or one level,",
        [wanted] if _is_whole(wanted) else wanted,
    )


def _is_whole(value: Any) -> bool:
    # The plain type first: the other question cannot be traced by every compiler.
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, numbers.Integral)


__all__ = [
    "BaseModelOutput",
    "HiddenLevels",
    "ImageClassifierOutput",
    "ModelOutput",
    "PredictorOutput",
    "VJEPA2ActionModelOutput",
    "VJEPA2WithMaskedInputModelOutput",
    "VJEPA2WithMaskedInputPredictorOutput",
    "levels_that_exist",
    "levels_to_keep",
    "listed_levels",
]
