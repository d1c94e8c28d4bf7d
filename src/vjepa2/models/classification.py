"""`VJEPA2ForVideoClassification`: encoder, attentive pooler, linear head (arXiv:2506.09985, 4)."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa2.errors import ConfigError, LabelError, check_kind, check_option_names
from vjepa2.models.checks import (
    IGNORED_LABEL,
    check_class_labels,
    check_switch,
    check_targets,
)
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import attention_of
from vjepa2.models.outputs import HiddenLevels, ImageClassifierOutput
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.init import init_weights
from vjepa2.nn.pooler import AttentivePooler
from vjepa2.weights.skeleton import Skeleton

if TYPE_CHECKING:
    from vjepa2.models.probe import VJEPA2AttentiveProbe

FORWARD_OPTIONS = ("labels", "output_hidden_states", "output_attentions", "return_dict")


def make_pooler(config: VJEPA2Config, *, num_queries: int = 1) -> AttentivePooler:
    """The pooler of a classifier or probe, without initialised weights."""
    return AttentivePooler(
        config.hidden_size,
        config.pooler_heads,
        num_layers=config.num_pooler_layers,
        activation=config.hidden_act,
        layer_norm_eps=float(config.pooler_eps),
        dropout=float(config.attention_dropout),
        num_queries=num_queries,
    )


class VJEPA2ForVideoClassification(PretrainedModel):
    """Scores of clips for the classes in `config.id2label`.

    The pooler reads the last block's tokens, or those of all `config.pooler_levels`, joined along
    the tokens. With `config.model_type` "vjepa2_1" one frame [B, 1, C, H, W] is a still image.
    """

    _parts: ClassVar[tuple[str, ...]] = ("encoder", "predictor", "probe")

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        _check_one_head(config)
        self.num_labels = config.num_labels
        self.vjepa2 = VJEPA2Model(config)
        self.pooler = make_pooler(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        init_weights(self.pooler, std=float(config.initializer_range))
        init_weights(self.classifier, std=float(config.initializer_range))

    @classmethod
    def from_parts(cls, model: VJEPA2Model, probe: "VJEPA2AttentiveProbe") -> Self:
        """Put a probe on the encoder it was trained on.

        The parts themselves become those of the classifier: nothing is copied, so a change of
        either is a change of the classifier, and one encoder can carry several probes. Their
        configurations stay as they are; the classifier has one of its own.

        Raises:
            ConfigError: they do not belong together, or the probe has several heads.
        """
        # Not at the top: the probe uses the loss of this module.
        from vjepa2.models.probe import joined_config

        check_kind("model", model, VJEPA2Model, words="a VJEPA2Model")
        config = joined_config(model, probe)
        with Skeleton():
            joined = cls(config)
        assert probe.classifier is not None
        joined.vjepa2, joined.pooler, joined.classifier = model, probe.pooler, probe.classifier
        joined.training = model.training
        return joined

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vjepa2.get_input_embeddings()

    def forward(
        self,
        pixel_values_videos: Tensor,
        labels: Tensor | None = None,
        *,
        output_hidden_states: HiddenLevels = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **unknown: Any,
    ) -> ImageClassifierOutput | tuple[Any, ...]:
        """Score clips; with labels, also the loss.

        Args:
            pixel_values_videos: [B, T, C, H, W] normalised pixels (the processor's output).
            labels: see `classification_loss`.
            output_hidden_states, output_attentions: of the encoder, see `VJEPA2Encoder.forward`.
            return_dict: False returns a plain tuple. Default: the configuration's.

        Raises:
            ShapeError, DtypeError: the pixels are not [B, T, C, H, W] finite floats.
            LabelError: the labels do not fit the classes.
            InputError: a level in `output_hidden_states` does not exist, or an argument is of
                another type.
            UnknownOptionError: an argument does not exist.
        """
        check_option_names("VJEPA2ForVideoClassification.forward", unknown, FORWARD_OPTIONS)
        check_switch("output_attentions", output_attentions)
        check_switch("return_dict", return_dict)
        config = self.config
        levels = (
            config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        weights = config.output_attentions if output_attentions is None else output_attentions

        # Through the base model, so that hooks and sharding on it take part.
        encoded = self.vjepa2(
            pixel_values_videos,
            skip_predictor=True,
            output_levels=config.pooler_levels or (),
            output_hidden_states=levels,
            output_attentions=weights,
            return_dict=True,
        )
        tokens = encoded.last_hidden_state
        if config.pooler_levels:
            tokens = torch.cat(encoded.level_hidden_states, dim=1)
        pooled = self.pooler(tokens, attention_of(config))
        logits = self.classifier(pooled)
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, problem_type=config.problem_type)
        output = ImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        as_dict = config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()


def _check_one_head(config: VJEPA2Config) -> None:
    if config.model_type == "vjepa2_ac":
        raise ConfigError(
            "VJEPA2ForVideoClassification is made of encoder, masked predictor and pooler; "
            "model_type 'vjepa2_ac' has an action-conditioned predictor instead. Its encoder's "
            "tokens go into a VJEPA2AttentiveProbe."
        )
    if config.head_sizes is not None:
        raise ConfigError(
            f"VJEPA2ForVideoClassification has one head, of num_labels={config.num_labels} "
            f"classes; this configuration has head_sizes={config.head_sizes}. Use "
            "VJEPA2AttentiveProbe on the tokens of a VJEPA2Model, or head_sizes=None."
        )


def classification_loss(
    logits: Tensor, labels: Tensor, *, problem_type: str | None, name: str = "labels"
) -> Tensor:
    """Loss of a classifier; the kind follows from the labels unless it is named.

    Equal to that of the port wherever it is a number. Labels of which it makes NaN or something
    else than a loss are refused: class ids on every device, other numbers where they lie on the
    CPU (looking at them elsewhere would stall the accelerator).

    Args:
        logits: [B, classes].
        labels: one class: [B] or [B, 1] finite numbers, mean squared error ("regression").
            Several classes, integers [B] or [B, 1]: cross entropy
            ("single_label_classification"), -100 ignores a clip, though not all of a batch.
            Several classes, floats [B, classes] in [0, 1]: binary cross entropy per class
            ("multi_label_classification").
        problem_type: one of the names above, or None. Nothing is written to the configuration.
        name: what messages call the labels.

    Raises:
        LabelError: labels of a shape, type or range that does not fit.
    """
    if not isinstance(labels, Tensor):
        raise LabelError(
            f"{name} must be a tensor, got {type(labels).__name__}. Use torch.tensor({name})."
        )
    if labels.layout is not torch.strided or (labels.is_meta and not logits.is_meta):
        kind = "without values (meta)" if labels.is_meta else f"stored as {labels.layout}"
        raise LabelError(f"{name} must be a plain tensor of numbers, got one {kind}.")
    if labels.is_complex():
        raise LabelError(f"{name} must be whole or real numbers, got {labels.dtype}.")
    batch, num_labels = logits.shape
    kind = problem_type or _kind_of(labels, num_labels)
    _check_shape(name, labels, kind, batch=batch, num_labels=num_labels)
    if kind == "single_label_classification":
        if labels.is_floating_point():
            raise LabelError(
                f"{name} for single_label_classification must be integers, got {labels.dtype}. "
                f"Use {name}.long()."
            )
        ids = labels.view(batch).long()
        check_class_labels(name, ids, num_labels=num_labels)
        return F.cross_entropy(logits, ids.to(logits.device), ignore_index=IGNORED_LABEL)
    targets = labels.to(logits.dtype)
    check_targets(name, targets, most=None if kind == "regression" else 1.0)
    targets = targets.to(logits.device)
    if kind == "regression":
        return F.mse_loss(logits.view_as(targets), targets)
    return F.binary_cross_entropy_with_logits(logits, targets)


def _check_shape(name: str, labels: Tensor, kind: str, *, batch: int, num_labels: int) -> None:
    shapes: dict[str, list[list[int]]] = {
        "regression": [[batch], [batch, 1]] if num_labels == 1 else [[batch, num_labels]],
        "single_label_classification": [[batch], [batch, 1]],
        "multi_label_classification": [[batch, num_labels]],
    }
    if list(labels.shape) not in shapes[kind]:
        allowed = " or ".join(str(shape) for shape in shapes[kind])
        raise LabelError(
            f"{name} for {kind} must be {allowed}, got {list(labels.shape)} {labels.dtype}. "
            "Integer labels name one class per clip; float labels score every class."
        )


def _kind_of(labels: Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return "regression"
    if labels.is_floating_point() or labels.dtype is torch.bool:
        return "multi_label_classification"
    return "single_label_classification"
