"""What models return: named fields, read as attribute, key or position.

The fields, their order and the three ways to read them are those of the Hugging Face port:
fields that are None are absent from keys, iteration and tuples.
"""

import dataclasses
from collections import OrderedDict
from typing import Any, ClassVar

from torch import Tensor
from torch.utils import _pytree as pytree


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
        for name in type(self).__dataclass_fields__:
            value = getattr(self, name)
            if value is not None:
                OrderedDict.__setitem__(self, name, value)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return OrderedDict.__getitem__(self, key)
        return self.to_tuple()[key]

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None and name in self.keys():
            OrderedDict.__setitem__(self, name, value)
        object.__setattr__(self, name, value)

    def __setitem__(self, key: str, value: Any) -> None:
        OrderedDict.__setitem__(self, key, value)
        object.__setattr__(self, key, value)

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
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class VJEPA2WithMaskedInputPredictorOutput(ModelOutput):
    """What the predictor predicts, and what the encoder saw there.

    Args:
        last_hidden_state: [B, M, D] predictions for the target ids, in the order of the ids.
        target_hidden_state: [B, M, D] encoder tokens at the target ids (not layer-normed again).
        hidden_states: per level [B, K + M, width], context tokens first, when asked for.
        attentions: per block [B, G, K + M, K + M] when asked for.
    """

    last_hidden_state: Tensor | None = None
    target_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class VJEPA2WithMaskedInputModelOutput(ModelOutput):
    """Encoder tokens, the part of them that was context, and the predictor's output.

    Args:
        last_hidden_state: [B, N, D] encoder tokens of the whole clip.
        masked_hidden_state: [B, K, D] those at the context ids.
        predictor_output: absent with `skip_predictor=True`.
        hidden_states, attentions: of the encoder, see `BaseModelOutput`.
    """

    last_hidden_state: Tensor | None = None
    masked_hidden_state: Tensor | None = None
    predictor_output: VJEPA2WithMaskedInputPredictorOutput | None = None
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


def select_levels(
    levels: list[Tensor], wanted: "bool | list[int]"
) -> tuple[Tensor | None, ...] | None:
    """Keep all levels (True), none (False), or only those listed (negative counts from the end).

    The tuple keeps its length: levels that were not asked for are None.
    """
    if wanted is False:
        return None
    if wanted is True:
        return tuple(levels)
    kept = {index % len(levels) for index in wanted}
    return tuple(level if index in kept else None for index, level in enumerate(levels))


__all__ = [
    "BaseModelOutput",
    "ImageClassifierOutput",
    "ModelOutput",
    "VJEPA2WithMaskedInputModelOutput",
    "VJEPA2WithMaskedInputPredictorOutput",
    "select_levels",
]
