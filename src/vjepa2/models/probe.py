"""`VJEPA2AttentiveProbe`: pooler and linear heads without an encoder (arXiv:2506.09985, 4).

The published probes are such files. They read tokens of a frozen encoder, of one or of several
blocks, of one or of several clips of a video, and score them for one set of classes or, with one
query of the pooler each, for several (verb, noun, action).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self, cast

import torch
from torch import Tensor, nn

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    InputError,
    LabelError,
    ShapeError,
    check_option_names,
    described,
    nearest_hint,
)
from vjepa2.models.checks import check_device, check_switch, may_read_values
from vjepa2.models.classification import classification_loss, make_pooler
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import attention_of
from vjepa2.models.outputs import ModelOutput
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.nn.init import init_weights
from vjepa2.weights.load import LoadReport
from vjepa2.weights.read import Checkpoint

FORWARD_OPTIONS = ("labels", "return_dict")


@dataclasses.dataclass
class ProbeOutput(ModelOutput):
    """Scores of a probe.

    Args:
        loss: scalar when labels were given.
        logits: [B, classes] before softmax; of a probe with `head_sizes` a dictionary of these by
            the head's name, in the order of the configuration (also with `return_dict=False`).
    """

    # The loss stays first: a dictionary there is how wrappers rebuild an output.
    loss: Tensor | None = None
    logits: Tensor | dict[str, Tensor] | None = None


class VJEPA2AttentiveProbe(PretrainedModel):
    """Scores of tokens for the classes in `config.id2label`, or of every head in `head_sizes`.

    The configuration is that of the encoder whose tokens it reads, with the fields of pooler and
    heads. Parameters are named `pooler.*` and `classifier.*` as in VJEPA2ForVideoClassification;
    with `head_sizes` the heads are `classifiers.<name>.*`.

        model = VJEPA2Model.from_pretrained(...)
        probe = VJEPA2AttentiveProbe.from_pretrained(...)
        encoded = model.encoder(pixels, output_levels=probe.levels)
        probe(encoded.level_hidden_states).logits

    `from_pretrained` also takes the folder of a VJEPA2ForVideoClassification: it reads the pooler
    and the head, and `load_report.dropped` names the rest.
    """

    main_input_name: ClassVar[str] = "tokens"
    _parts: ClassVar[tuple[str, ...]] = ("probe",)

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        sizes = config.head_sizes
        self.pooler = make_pooler(config, num_queries=1 if sizes is None else len(sizes))
        self.classifier: nn.Linear | None = None
        self.classifiers: nn.ModuleDict | None = None
        if sizes is None:
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        else:
            _check_head_names(sizes)
            self.classifiers = nn.ModuleDict(
                {name: nn.Linear(config.hidden_size, size) for name, size in sizes.items()}
            )
        init_weights(self, std=float(config.initializer_range))

    @property
    def levels(self) -> tuple[int, ...]:
        """Encoder blocks (0-based) whose normed tokens it reads; the encoder's `output_levels`."""
        return tuple(self.config.pooler_levels or [self.config.num_hidden_layers - 1])

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads, in the order of the pooler's queries; empty with a single head."""
        return tuple(self.config.head_sizes or ())

    def get_input_embeddings(self) -> NoReturn:
        """There is none: the input is tokens."""
        raise NotImplementedError(
            f"{type(self).__name__} reads tokens and has no patch embedding; its encoder has."
        )

    def forward(
        self,
        tokens: Tensor | Sequence[Tensor],
        labels: Tensor | Mapping[str, Tensor] | None = None,
        *,
        return_dict: bool | None = None,
        **unknown: Any,
    ) -> ProbeOutput | tuple[Any, ...]:
        """Score tokens; with labels, also the loss.

        Args:
            tokens: [B, N, D] with any N >= 1, or a sequence of [B, N_i, D], joined along the
                tokens: the levels of a clip (`level_hidden_states` of the encoder), of every clip
                of a video. Their order makes no difference. Cast to the weights' element type.
            labels: of one head, see `classification_loss`. Of several, one of these by the name
                of every head; the loss is the sum of theirs. (The published training on
                EPIC-KITCHENS-100 used a focal loss instead.)
            return_dict: False returns a plain tuple. Default: the configuration's.

        Raises:
            ShapeError: not [B, N, D], or as wide as another encoder's tokens.
            DtypeError: not floating point, NaN or infinity. The values are looked at on CPU only,
                on an accelerator that would stall it.
            InputError: a sequence that does not hold the same number of every level, or
                `return_dict` is neither True, False nor None.
            LabelError: labels that do not fit the classes, or the heads.
            UnknownOptionError: an argument does not exist.
        """
        check_option_names("VJEPA2AttentiveProbe.forward", unknown, FORWARD_OPTIONS)
        check_switch("return_dict", return_dict)
        config = self.config
        queries = self.pooler.query_tokens
        joined = _joined(tokens, config, of=queries).to(queries.dtype)
        pooled = self.pooler(joined, attention_of(config))
        logits: Tensor | dict[str, Tensor]
        if self.classifiers is None:
            assert self.classifier is not None
            logits = cast(Tensor, self.classifier(pooled))
        else:
            by_head = pooled.unflatten(-1, (1, -1)) if pooled.ndim == 2 else pooled
            logits = {
                name: head(by_head[:, index])
                for index, (name, head) in enumerate(self.classifiers.items())
            }
        loss = None
        if labels is not None:
            loss = _loss(logits, labels, problem_type=config.problem_type)
        output = ProbeOutput(loss=loss, logits=logits)
        as_dict = config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    @classmethod
    def _filled(
        cls, config: VJEPA2Config, checkpoint: Checkpoint, **options: Any
    ) -> tuple[Self, LoadReport]:
        """Also out of a classifier's checkpoint, whose encoder and predictor are left there."""
        base = f"{cls.base_model_prefix}."
        own = {name: t for name, t in checkpoint.tensors.items() if not name.startswith(base)}
        dropped = dict.fromkeys(
            checkpoint.tensors.keys() - own.keys(),
            f"part of encoder or predictor; {cls.__name__} has neither",
        )
        heads = dataclasses.replace(checkpoint, tensors=own)
        model, report = super()._filled(config, heads, **options)
        report = dataclasses.replace(report, dropped={**report.dropped, **dropped})
        model.load_report = report
        return model, report


def _check_head_names(sizes: Mapping[str, int]) -> None:
    """Heads are submodules, so their names are parts of parameter names."""
    for name in sizes:
        if not name or "." in name or hasattr(nn.ModuleDict, name):
            raise ConfigError(
                f"head_sizes names a head {name!r}, which cannot be part of a parameter name: it "
                "is empty, has a dot in it, or is a word that modules keep for themselves. Use "
                "another, such as 'verb'."
            )


# -- tokens -----------------------------------------------------------------------------------


def _joined(tokens: Tensor | Sequence[Tensor], config: VJEPA2Config, *, of: Tensor) -> Tensor:
    """All tokens of a clip as [B, N, D]."""
    if isinstance(tokens, Tensor):
        _check_tokens("tokens", tokens, config, batch=None, of=of)
        return tokens
    if not isinstance(tokens, list | tuple) or not tokens:
        raise DtypeError(
            "tokens must be a tensor [B, N, D], or a list or tuple of them, got "
            f"{described(tokens)}."
        )
    num_levels = len(config.pooler_levels or [0])
    if len(tokens) % num_levels:
        raise InputError(
            f"tokens holds {len(tokens)} tensors; this probe reads {num_levels} levels of every "
            f"clip, those of encoder blocks {config.pooler_levels}. Call the encoder with "
            "output_levels=probe.levels and pass its level_hidden_states."
        )
    for index, part in enumerate(tokens):
        batch = tokens[0].shape[0] if index else None
        _check_tokens(f"tokens[{index}]", part, config, batch=batch, of=of)
    return torch.cat(list(tokens), dim=1)


def _check_tokens(
    name: str, tokens: Any, config: VJEPA2Config, *, batch: int | None, of: Tensor
) -> None:
    width = config.hidden_size
    if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
        got = tokens.dtype if isinstance(tokens, Tensor) else described(tokens)
        raise DtypeError(
            f"{name} must be floating point tokens [B, N, {width}] of an encoder, got {got}."
        )
    if tokens.layout is not torch.strided:
        raise DtypeError(f"{name} must be a dense tensor, got one stored as {tokens.layout}.")
    check_device(name, tokens, of)
    shape = list(tokens.shape)
    if tokens.ndim != 3 or 0 in shape[:2]:
        hint = " Add the batch axis: x[None]." if tokens.ndim == 2 else ""
        raise ShapeError(f"{name} must be [B, N, D={width}], B and N >= 1, got {shape}.{hint}")
    if shape[2] != width:
        source = f"blocks {config.pooler_levels}" if config.pooler_levels else "the last block"
        hint = ""
        if shape[2] % width == 0:
            count = shape[2] // width
            hint = f" {count} levels side by side become tokens.chunk({count}, dim=-1)."
        raise ShapeError(
            f"{name} is {shape[2]} wide, got {shape}; this is a probe for another encoder width "
            f"or level set: it reads tokens {width} wide, of {source} of an encoder with "
            f"{config.num_hidden_layers} blocks.{hint}"
        )
    if batch is not None and shape[0] != batch:
        raise ShapeError(
            f"{name} is {shape}, of {shape[0]} clips; tokens[0] is of {batch}. All parts are "
            "joined along the tokens, so they must be of the same clips."
        )
    if (
        tokens.device.type == "cpu"
        and may_read_values(tokens)
        and not torch.isfinite(tokens.detach().sum(dtype=torch.float64))
    ):
        raise DtypeError(
            f"{name} holds NaN or infinity. Look at the encoder's input and weights; float16 "
            "overflows where bfloat16 does not."
        )


# -- labels -----------------------------------------------------------------------------------


def _loss(
    logits: Tensor | dict[str, Tensor],
    labels: Tensor | Mapping[str, Tensor],
    *,
    problem_type: str | None,
) -> Tensor:
    """Loss of one head, or the sum of the losses of all."""
    if isinstance(logits, Tensor):
        return classification_loss(logits, cast(Tensor, labels), problem_type=problem_type)
    names = ", ".join(logits)
    if not isinstance(labels, Mapping):
        raise LabelError(
            f"labels must be a dictionary with one entry per head ({names}), got "
            f"{type(labels).__name__}."
        )
    for name in labels:
        if name not in logits:
            raise LabelError(f"labels name a head {name!r}. {nearest_hint(str(name), logits)}")
    missing = [name for name in logits if name not in labels]
    if missing:
        raise LabelError(
            f"labels lack {', '.join(missing)}; this probe has {names}. Labels of -100 leave a "
            "clip out of a head's loss, though not every clip of a batch."
        )
    losses = [
        classification_loss(
            scores, labels[name], problem_type=problem_type, name=f"labels[{name!r}]"
        )
        for name, scores in logits.items()
    ]
    return torch.stack(losses).sum()


# -- encoder and probe together ----------------------------------------------------------------

# What has to be the same in both configurations for the probe to belong to the encoder.
_OF_THE_ENCODER = (
    "model_type",
    "patch_size",
    "crop_size",
    "tubelet_size",
    "in_chans",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mlp_ratio",
    "layer_norm_eps",
    "qkv_bias",
    "hidden_act",
    "levels",
)
_OF_THE_PROBE = (
    "num_pooler_layers",
    "num_pooler_attention_heads",
    "pooler_layer_norm_eps",
    "pooler_levels",
    "attention_dropout",
    "frames_per_clip",
    "id2label",
    "label2id",
    "problem_type",
)


def joined_config(model: PretrainedModel, probe: PretrainedModel) -> VJEPA2Config:
    """Configuration of the classifier made of an encoder and a probe.

    What only one of them knows is no difference: an original file does not say everything, and
    `load_report.assumed` names the rest.

    Raises:
        ConfigError: they do not belong together; every difference is named.
    """
    if not isinstance(probe, VJEPA2AttentiveProbe):
        raise ConfigError(f"probe must be a VJEPA2AttentiveProbe, got {type(probe).__name__}.")
    if probe.head_names:
        raise ConfigError(
            f"VJEPA2ForVideoClassification has one head; this probe has {len(probe.head_names)}: "
            f"{', '.join(probe.head_names)}. Call the probe with the encoder's tokens instead."
        )
    own, other = model.config, probe.config
    assumed = {name for part in (model, probe) for name in _assumed(part)}
    pairs = {
        name: (getattr(own, name), getattr(other, name))
        for name in _OF_THE_ENCODER
        if name not in assumed
    }
    pairs["dtype"] = (model.dtype, probe.dtype)
    pairs["device"] = (model.device, probe.device)
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if different:
        listed = "; ".join(f"{name}: {a} and {b}" for name, (a, b) in different.items())
        raise ConfigError(
            f"Encoder and probe do not belong together. {listed} (encoder, probe). A probe fits "
            "the encoder it was trained on. What its file does not say, give to from_pretrained "
            f"(crop_size={own.crop_size}); probe.to(...) changes dtype and device."
        )
    # Of the encoder where the probe's own is a guess.
    unknown = {"frames_per_clip"} & set(_assumed(probe))
    config = own.replaced(
        {name: getattr(other, name) for name in _OF_THE_PROBE if name not in unknown}
    )
    config.attn_implementation = own.attn_implementation
    return config


def _assumed(model: PretrainedModel) -> Mapping[str, str]:
    return model.load_report.assumed if model.load_report else {}
