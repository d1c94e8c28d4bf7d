"""`VJEPA2Config`: the numbers that fix one network, and `config.json` on disk.

Field names, defaults and the bytes of the file are those of the Hugging Face port
(`transformers` 5.23, `VJEPA2Config`), so that either library reads what the other wrote. Two
things are stricter here: an unknown name in the constructor is an error that gives the nearest
name, and sizes that cannot make a network (width not divisible by heads, zero layers, a head too
narrow for rotary positions) are refused where they are written, not deep inside a layer.

Keys of a `config.json` that this class does not know are kept, readable as attributes, and
written back: published files carry some (`use_SiLU`, `is_causal`, ...).

`model_type` names one of three closed variants (`models/config_variants.py`). Files of the two
that the port does not know, V-JEPA 2.1 and 2-AC, carry names of their own, so that it refuses them
instead of loading half.
"""

import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import torch

from vjepa2.errors import ConfigError, check_choice, check_kind, check_option_names
from vjepa2.models.config_fields import (
    checked_num_labels,
    checked_value,
    default_labels,
    dtype_name,
    inverse,
    refuse_misspelled,
)
from vjepa2.models.config_file import ConfigFile
from vjepa2.models.config_sizes import check_sizes
from vjepa2.models.config_variants import (
    MODEL_TYPES,
    VARIANT_FIELDS,
    check_variant,
    levels_for_depth,
)

ATTENTION_IMPLEMENTATIONS = ("sdpa", "eager")
FORMAT_VERSION = "5.23.0"
"""Release of `transformers` whose `config.json` this module writes."""

# Two channels rotate per axis and pair, three axes: a narrower head would silently lose positions.
MIN_HEAD_WIDTH = 6


@dataclass_transform(kw_only_default=True, eq_default=False)
class _Fields(ConfigFile):
    """Tells type checkers that the annotated names of a subclass are constructor keywords."""


class VJEPA2Config(_Fields):
    """Configuration of a V-JEPA 2 network; every argument is a keyword and has a default.

    Args:
        patch_size: side of a patch, pixels.
        crop_size: side of the frames the model was trained on, pixels. Positions come from the
            input, so other sizes work; the processor makes frames of this size.
        frames_per_clip: frames of a training clip; for information, other lengths work.
        tubelet_size: frames that share one token.
        hidden_size: D, width of the encoder; a multiple of `num_attention_heads`.
        in_chans: C, colour channels.
        num_attention_heads: G, heads of the encoder (and of the pooler, see below).
        num_hidden_layers: blocks of the encoder.
        drop_path_rate: probability, 0 <= p < 1, of skipping the last block of a stack in training;
            earlier blocks less, linearly.
        mlp_ratio: hidden width of an encoder MLP is `int(hidden_size * mlp_ratio)`.
        layer_norm_eps: added to the variance in every LayerNorm.
        qkv_bias: whether query, key and value of encoder and predictor have biases.
        attention_probs_dropout_prob: dropout of attention weights, encoder and predictor.
        hidden_act: activation of the MLPs, a name in `vjepa2.nn.activations.ACTIVATIONS`.
        initializer_range: standard deviation of fresh weights.
        attention_dropout: dropout of attention weights in the pooler.
        num_pooler_layers: self-attention blocks of the pooler, before its cross-attention.
        pred_hidden_size: P, width of the predictor; a multiple of `pred_num_attention_heads`.
        pred_num_attention_heads: heads of the predictor.
        pred_num_hidden_layers: blocks of the predictor.
        pred_num_mask_tokens: learned mask tokens of the predictor.
        pred_zero_init_mask_tokens: whether fresh mask tokens are zero.
        pred_mlp_ratio: as `mlp_ratio`, for the predictor.
        num_pooler_attention_heads: heads of the pooler; None means `num_attention_heads`, as in
            the Hugging Face port. Original ViT-g classifiers were trained with 16.
        pooler_layer_norm_eps: eps of the pooler's LayerNorms; None means `layer_norm_eps`.
        pooler_levels: encoder blocks (0-based) whose normed tokens the pooler reads, all of them
            side by side; None means the last block's, as in the port.
        head_sizes: classes of each head of a probe with several, {"verb": 97, ...}; one query of
            the pooler per head, in this order. None means one head of `num_labels`.
        model_type: "vjepa2", "vjepa2_1" (V-JEPA 2.1) or "vjepa2_ac" (V-JEPA 2-AC).
        hierarchical_layers: V-JEPA 2.1: encoder blocks (0-based) with a LayerNorm of their own,
            ascending, the last block included; None means the published ones for this depth.
        pred_num_levels: V-JEPA 2.1: levels that the predictor reads and predicts, all of
            `hierarchical_layers` (None) or 1 (distilled models).
        pred_output_size: V-JEPA 2.1: width of one predicted level, the teacher's; None means
            `hidden_size`.
        pred_rescale_positions: V-JEPA 2.1: whether the predictor maps rows and columns onto the
            grid of 256 pixels, as the encoder does. Published inference does not; the published
            training configuration does.
        action_size, state_size, extrinsics_size: V-JEPA 2-AC: numbers in one action, one state of
            the robot, one camera pose.
        id2label: class id to name; ids are 0, 1, ... without a gap.
        label2id: name to class id; made from `id2label` when not given.
        num_labels: number of classes; other names than `LABEL_i` need `id2label`. When both are
            given and disagree, `num_labels` wins with a warning.
        problem_type: None (chosen from labels), "regression",
            "single_label_classification" or "multi_label_classification".
        output_hidden_states: default of the forward argument of that name.
        output_attentions: likewise.
        return_dict: likewise.
        dtype: element type of the stored weights, `"float16"` or `torch.float16`; `torch_dtype`
            is the older name of the same.
        architectures: names of the model classes the weights belong to.
        attn_implementation: "sdpa" or "eager"; not written to the file.

    Raises:
        UnknownOptionError: an argument does not exist (the nearest one is given).
        ConfigError: a value has a wrong type or is out of range; also when an attribute is set.
    """

    # Read by generic code written for the Hugging Face port; no other value makes sense here.
    is_encoder_decoder: ClassVar[bool] = False
    chunk_size_feed_forward: ClassVar[int] = 0
    # Which query of the pooler belongs to which head.
    ordered_fields: ClassVar[tuple[str, ...]] = ("head_sizes",)

    model_type: str = "vjepa2"

    patch_size: int = 16
    crop_size: int = 256
    frames_per_clip: int = 64
    tubelet_size: int = 2
    hidden_size: int = 1024
    in_chans: int = 3
    num_attention_heads: int = 16
    num_hidden_layers: int = 24
    drop_path_rate: float = 0.0
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    attention_probs_dropout_prob: float = 0.0
    hidden_act: str = "gelu"
    initializer_range: float = 0.02
    attention_dropout: float = 0.0
    num_pooler_layers: int = 3
    pred_hidden_size: int = 384
    pred_num_attention_heads: int = 12
    pred_num_hidden_layers: int = 12
    pred_num_mask_tokens: int = 10
    pred_zero_init_mask_tokens: bool = True
    pred_mlp_ratio: float = 4.0

    num_pooler_attention_heads: int | None = None
    pooler_layer_norm_eps: float | None = None
    pooler_levels: list[int] | None = None
    head_sizes: dict[str, int] | None = None

    hierarchical_layers: list[int] | None = None
    pred_num_levels: int | None = None
    pred_output_size: int | None = None
    pred_rescale_positions: bool = False

    action_size: int = 7
    state_size: int = 7
    extrinsics_size: int = 6

    architectures: list[str] | None = None
    dtype: str | torch.dtype | None = None
    id2label: dict[int, str] = default_labels(2)
    label2id: dict[str, int] | None = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    problem_type: str | None = None
    return_dict: bool = True
    transformers_version: str | None = None

    if TYPE_CHECKING:  # properties and constructor keywords that are not stored fields
        num_labels: int = 2
        attn_implementation: str | None = None
        name_or_path: str = ""
        torch_dtype: str | torch.dtype | None = None
        _attn_implementation: str | None = None
        _name_or_path: str = ""

    def __init__(self, **values: Any) -> None:
        check_option_names(type(self).__name__, values, {*FIELDS, *ALIASES})
        self._assign(values)

    def _assign(self, values: Mapping[str, Any]) -> None:
        """Set every field from `values` or its default; unknown names become plain attributes."""
        given = {name: copy.deepcopy(value) for name, value in values.items()}
        self.__dict__.update(_attn_implementation=None, _name_or_path="")
        num_labels = given.pop("num_labels", None)
        if num_labels is not None:
            num_labels = checked_num_labels(num_labels)
        older_dtype = given.pop("torch_dtype", None)
        given["dtype"] = older_dtype if given.get("dtype") is None else given["dtype"]
        had_names = given.get("id2label") is not None
        if not had_names:
            given["id2label"] = default_labels(2)
        for name, default in FIELDS.items():
            setattr(self, name, given.pop(name, default))
        for name in [name for name in (*ALIASES, "_attn_implementation") if name in given]:
            setattr(self, name, given.pop(name))
        self.__dict__.update(given)
        if num_labels is not None:
            if had_names and num_labels != self.num_labels:
                warnings.warn(
                    f"num_labels={num_labels} disagrees with the {self.num_labels} names in "
                    "id2label; num_labels is used and the names become LABEL_0, LABEL_1, ... "
                    "Give only one of the two.",
                    stacklevel=4,
                )
            self.num_labels = num_labels
        self.validate()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIELDS:
            value = checked_value(name, value, annotation=type(self).__annotations__[name])
        elif name == "_attn_implementation":
            if value is not None:
                check_choice("attn_implementation", value, ATTENTION_IMPLEMENTATIONS)
        elif name not in self.__dict__ and name not in ALIASES:
            refuse_misspelled(type(self).__name__, name, known=[*FIELDS, *ALIASES])
        super().__setattr__(name, value)
        if name == "id2label" or (name == "label2id" and value is None):
            self.__dict__["label2id"] = inverse(self.id2label)

    def validate(self) -> None:
        """Check what one field alone cannot tell; models call it before they are built.

        Raises:
            ConfigError: a width is not divisible by its heads, a head is too narrow for rotary
                positions, a weight matrix would be empty or enormous, levels do not exist, a field
                belongs to another variant, or the problem type does not fit the number of labels.
        """
        for width_name, heads_name in (
            ("hidden_size", "num_attention_heads"),
            ("pred_hidden_size", "pred_num_attention_heads"),
            ("hidden_size", "num_pooler_attention_heads"),
        ):
            width, heads = getattr(self, width_name), getattr(self, heads_name)
            if heads is None:
                continue
            if width % heads:
                raise ConfigError(
                    f"{width_name}={width} cannot be divided into {heads_name}={heads} heads. "
                    f"Choose a multiple of {heads}."
                )
            if width // heads < MIN_HEAD_WIDTH and heads_name != "num_pooler_attention_heads":
                raise ConfigError(
                    f"{width_name}={width} with {heads_name}={heads} gives heads of "
                    f"{width // heads} channels; rotary positions in time, height and width need "
                    f"at least {MIN_HEAD_WIDTH}. Use fewer heads."
                )
        check_variant(self)
        check_sizes(self)
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ConfigError(
                "problem_type='single_label_classification' needs at least 2 labels, got 1. "
                "Use num_labels=2, or problem_type='regression'."
            )

    # -- names that are read or written in another way than they are stored --------------------

    @property
    def head_dim(self) -> int:
        """Dh, width of one encoder head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def pred_head_dim(self) -> int:
        """Width of one predictor head."""
        return self.pred_hidden_size // self.pred_num_attention_heads

    @property
    def pooler_heads(self) -> int:
        """Heads of the pooler: `num_pooler_attention_heads`, or those of the encoder."""
        return self.num_pooler_attention_heads or self.num_attention_heads

    @property
    def pooler_eps(self) -> float:
        """Eps of the pooler's norms: `pooler_layer_norm_eps`, or that of the encoder."""
        eps = self.pooler_layer_norm_eps
        return self.layer_norm_eps if eps is None else eps

    @property
    def levels(self) -> tuple[int, ...]:
        """Encoder blocks (0-based) with a norm of their own (V-JEPA 2.1); empty otherwise."""
        if self.model_type != "vjepa2_1":
            return ()
        if self.hierarchical_layers is not None:
            return tuple(self.hierarchical_layers)
        return levels_for_depth(self.num_hidden_layers)

    @property
    def predictor_levels(self) -> tuple[int, ...]:
        """Levels that the predictor reads, shallow first; empty: only the last tokens."""
        return () if self.pred_num_levels == 1 else self.levels

    if not TYPE_CHECKING:

        @property
        def num_labels(self) -> int:
            """Number of classes; setting another number renames them LABEL_0, LABEL_1, ..."""
            return len(self.id2label)

        @num_labels.setter
        def num_labels(self, value: int) -> None:
            value = checked_num_labels(value)
            if value != len(self.id2label):
                self.id2label = default_labels(value)

        @property
        def name_or_path(self) -> str:
            """Folder or hub name the configuration was read from, or ""."""
            return self._name_or_path

        @name_or_path.setter
        def name_or_path(self, value: str) -> None:
            self._name_or_path = str(value)

        @property
        def attn_implementation(self) -> str | None:
            """Attention chosen for the model: "sdpa", "eager" or None (not chosen yet)."""
            return self._attn_implementation

        @attn_implementation.setter
        def attn_implementation(self, value: str | None) -> None:
            self._attn_implementation = value

        @property
        def torch_dtype(self) -> torch.dtype | None:
            """Older name of `dtype`."""
            return self.dtype

        @torch_dtype.setter
        def torch_dtype(self, value: str | torch.dtype | None) -> None:
            self.dtype = value

    @property
    def use_return_dict(self) -> bool:
        """Older name of `return_dict`."""
        return self.return_dict

    # -- as a dictionary (`ConfigFile` turns it into a file) ------------------------------------

    @classmethod
    def of_published(cls, name_or_path: str | os.PathLike[str]) -> Self | None:
        """Configuration of a published model by its name; None for any other name.

        Raises:
            UnknownOptionError: the name is nearly that of one.
        """
        # Not at the top: the table of published models is made of configurations.
        from vjepa2.models.preset_files import named_preset

        preset = named_preset(name_or_path)
        if preset is None:
            return None
        config = cls(**preset.config)
        config.name_or_path = preset.name
        return config

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from the content of a `config.json`; unknown keys are kept.

        Raises:
            ConfigError: `model_type` is another one, a value is wrong, or `values` is not a
                dictionary with text as keys.
        """
        check_kind("values", values, Mapping, words="a dictionary, the content of a config.json")
        for name in values:
            check_kind("A key of a configuration", name, str, words="text")
            if callable(getattr(cls, name, None)):
                raise ConfigError(
                    f"A configuration cannot hold the key {name!r}: {cls.__name__} has a method of "
                    "that name. Remove the key."
                )
        kind = values.get("model_type", cls.model_type)
        check_kind("model_type", kind, str, words="text")
        if kind not in MODEL_TYPES:
            raise ConfigError(
                f"model_type {kind!r} is another architecture; this class reads "
                f"{', '.join(map(repr, MODEL_TYPES))}. Is this the right folder or repository?"
            )
        config = cls.__new__(cls)
        config._assign({key: value for key, value in values.items() if key not in UNSTORED})
        return config

    def replaced(self, overrides: Mapping[str, Any]) -> Self:
        """A copy with some fields replaced.

        Raises:
            UnknownOptionError: a name is not a field.
            ConfigError: a value is wrong.
        """
        check_kind("overrides", overrides, Mapping, words="a dictionary of fields")
        check_option_names(type(self).__name__, overrides, {*FIELDS, *ALIASES})
        config = copy.deepcopy(self)
        # Names of classes go last: they tell more than their number.
        for name in sorted(overrides, key=("id2label", "label2id").__contains__):
            setattr(config, name, overrides[name])
        config.validate()
        return config

    def to_dict(self) -> dict[str, Any]:
        """All public fields and kept keys, ready for JSON; `from_dict` reads it back."""
        values = {key: copy.deepcopy(value) for key, value in vars(self).items() if key[0] != "_"}
        values["transformers_version"] = FORMAT_VERSION
        if self.dtype is not None:
            values["dtype"] = dtype_name(self.dtype)
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """What the file holds: every network field, and the others where they are not default."""
        return {
            key: value
            for key, value in self.to_dict().items()
            if key not in WRITTEN_WHEN_SET or value != WRITTEN_WHEN_SET[key]
        }

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, VJEPA2Config)
            and self.to_dict() == other.to_dict()
            and list(self.head_sizes or ()) == list(other.head_sizes or ())
        )

    __hash__ = None  # type: ignore[assignment]  # fields may change

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


ALIASES = ("num_labels", "torch_dtype", "attn_implementation", "name_or_path")
"""Constructor keywords that are not stored under their own name."""

FIELDS: dict[str, Any] = {
    name: getattr(VJEPA2Config, name)
    for name, annotation in VJEPA2Config.__annotations__.items()
    if "ClassVar" not in str(annotation)
}
"""Every stored field and its default."""

# Keys of a file that are not stored: constants, and traces of older library versions.
UNSTORED = (
    "is_encoder_decoder",
    "chunk_size_feed_forward",
    "_name_or_path",
    "_commit_hash",
)

WRITTEN_WHEN_SET: dict[str, Any] = {
    "architectures": None,
    "dtype": None,
    "id2label": default_labels(2),
    "label2id": inverse(default_labels(2)),
    "num_pooler_attention_heads": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "pooler_layer_norm_eps": None,
    "pooler_levels": None,
    "head_sizes": None,
    "problem_type": None,
    "return_dict": True,
    **{name: FIELDS[name] for names in VARIANT_FIELDS.values() for name in names},
}
