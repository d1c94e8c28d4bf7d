"""The network of a fine-tuning run: encoder, attentive head, and what of them is trained."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vjepa2.errors import CheckpointMismatchError, ConfigError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder, attention_of
from vjepa2.models.preset_files import named_preset
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.models.weights_file import weights_path
from vjepa2.nn.block import Block
from vjepa2.tasks.finetune_config import FineTuneConfig, HeadConfig
from vjepa2.tasks.finetune_loss import soft_cross_entropy
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_folder import MODEL_NAME, is_run, stored_config
from vjepa2.tasks.pretrain_networks import averaged_model, with_adapters
from vjepa2.weights.hub import SHIPPED, shipped_folder

Kept = Literal["nothing", "pooler", "head"]

CLASSIFIER = VJEPA2ForVideoClassification.__name__


@dataclass(frozen=True)
class Start:
    """What a run starts from, before its weights are read.

    Attributes:
        name: what to load, a name or a path.
        class_names: of a classifier's head, by number; empty for an encoder.
        is_run: whether it is the folder of a pretraining run that has no model yet.
    """

    name: str
    class_names: tuple[str, ...] = ()
    is_run: bool = False

    @property
    def is_classifier(self) -> bool:
        """Whether there is a head already."""
        return bool(self.class_names)


def find_start(start_from: str) -> Start:
    """Look at what `start_from` names; of a folder or repository only the configuration is read.

    Raises:
        ConfigError, WeightsError: there is no such model.
    """
    if start_from in SHIPPED:
        start_from = os.fspath(shipped_folder(start_from))
    folder = Path(start_from)
    if (folder / MODEL_NAME / CONFIG_NAME).is_file():
        folder = folder / MODEL_NAME  # of a run that has ended
        start_from = os.fspath(folder)
    elif is_run(folder):
        if not set(stored_config(folder)) <= set(PretrainConfig.model_fields):
            raise ConfigError(
                f"The run in {start_from} has not ended: it has no folder {MODEL_NAME!r} yet. Let "
                "it go on to its end, and start from what it makes."
            )
        return Start(start_from, is_run=True)
    if weights_path(start_from) is not None:
        return Start(start_from)
    preset = named_preset(start_from)
    network = VJEPA2Config.from_pretrained(start_from)
    has_head = CLASSIFIER in (network.architectures or ())
    if preset is not None:
        has_head = preset.kind == "probe" and network.head_sizes is None
    names = tuple(network.id2label[number] for number in sorted(network.id2label))
    return Start(start_from, class_names=names if has_head else ())


def kept_parts(head: HeadConfig, start: Start, class_names: tuple[str, ...]) -> Kept:
    """What of a classifier's head goes on.

    Args:
        head: settings of the run.
        start: what the run starts from.
        class_names: of the labelled videos, by number.
    """
    if not start.is_classifier or head.start == "fresh":
        return "nothing"
    return "head" if start.class_names == class_names else "pooler"


def describe_start(head: HeadConfig, start: Start, class_names: tuple[str, ...]) -> str:
    """What a run starts from, in words; arguments as in `kept_parts`."""
    words = {
        "nothing": "a fresh attentive head",
        "pooler": "its pooler, and a fresh linear layer for other classes",
        "head": "its own head",
    }
    return f"{start.name} with {words[kept_parts(head, start, class_names)]}"


def make_classifier(
    config: FineTuneConfig, start: Start, class_names: tuple[str, ...]
) -> VJEPA2ForVideoClassification:
    """The classifier before the first update, in float32, the same on every process.

    Args:
        config: of the run.
        start: what it starts from.
        class_names: of the labelled videos, by number.

    Raises:
        ConfigError: the head does not fit the encoder.
        WeightsError: the weights cannot be loaded.
    """
    kept = kept_parts(config.head, start, class_names)
    labels = dict(enumerate(class_names))
    # Apart from the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if kept == "nothing":
            model = _with_fresh_head(load_encoder(start), config.head, labels)
        else:
            model = VJEPA2ForVideoClassification.from_pretrained(start.name, dtype=torch.float32)
            if kept == "pooler":
                fresh = VJEPA2AttentiveProbe(model.config.replaced({"id2label": labels}))
                assert fresh.classifier is not None
                model.classifier = fresh.classifier
    model.config = model.config.replaced(
        {"id2label": labels, "problem_type": "single_label_classification"}
    )
    model.num_labels = len(labels)
    return model.train()


def stored_classifier(values: Mapping[str, Any]) -> VJEPA2ForVideoClassification:
    """The classifier of a run that goes on, to be filled from its checkpoint.

    What the run once started from need not be there any more.

    Args:
        values: small values of the checkpoint.
    """
    with torch.random.fork_rng(devices=[]):
        network = VJEPA2Config.from_dict(values["network"])
        return VJEPA2ForVideoClassification(network).train()


def choose_trained(model: VJEPA2ForVideoClassification, config: FineTuneConfig) -> None:
    """Freeze what the run does not train; put adapters in for method "lora"; set what is random.

    Never trained are the predictor, which classifying does not use, the norms of levels that the
    head does not read, and V-JEPA 2.1's parts for still images.

    Raises:
        ConfigError: more blocks than there are, or adapters for layers that do not exist.
        MissingExtraError: adapters without the package `peft`.
    """
    encoder = model.vjepa2.encoder
    depth = len(encoder.layer)
    _set_drop_path(encoder, config.drop_path_rate)
    model.vjepa2.requires_grad_(False)
    if config.method == "lora":
        with_adapters(model.vjepa2, config.adapters, seed=config.seed)
        model.vjepa2.predictor.requires_grad_(False)
    elif config.method == "full":
        encoder.requires_grad_(True)
    else:
        if config.last_blocks > depth:
            raise ConfigError(
                f"last_blocks={config.last_blocks}, but the encoder has {depth} blocks. Take "
                "fewer, or method='full'."
            )
        for block in encoder.layer[depth - config.last_blocks :]:
            block.requires_grad_(True)
        for norm in (encoder.layernorm, encoder.layernorms):
            if norm is not None:
                norm.requires_grad_(config.last_blocks > 0)
    _freeze_unused(model)
    model.vjepa2.encoder.gradient_checkpointing = config.runtime.recompute
    model.pooler.gradient_checkpointing = config.runtime.recompute


class StepOutput(NamedTuple):
    """Of one micro-batch.

    Attributes:
        loss: scalar, mean over its videos.
        logits: [B, K].
    """

    loss: Tensor
    logits: Tensor


class ClassifierStep(nn.Module):
    """A classifier with its loss, as processes share it.

    Args:
        model: trained in place.
    """

    def __init__(self, model: VJEPA2ForVideoClassification) -> None:
        super().__init__()
        self.model = model

    def train(self, mode: bool = True) -> "ClassifierStep":
        """Switch dropout and stochastic depth, which frozen blocks never have."""
        super().train(mode)
        for block in self.model.vjepa2.encoder.layer:
            if not any(parameter.requires_grad for parameter in block.parameters()):
                block.eval()
        return self

    def forward(
        self, pixels: Float[Tensor, "B S T C H W"], targets: Float[Tensor, "B K"]
    ) -> StepOutput:
        """Loss of some videos.

        Args:
            pixels: normalised; the S segments of a video are read together.
            targets: share of every class.
        """
        logits = segment_logits(self.model, pixels)
        return StepOutput(soft_cross_entropy(logits, targets), logits)

    def probabilities(
        self, pixels: Float[Tensor, "B S V T C H W"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B V K"]]:
        """Softmax averaged over views, and the logits of every view, in float32.

        Args:
            pixels: normalised; V views of every segment.
        """
        logits = torch.stack(
            [segment_logits(self.model, view) for view in pixels.unbind(dim=2)], dim=1
        ).float()
        return logits.softmax(dim=-1).mean(dim=1), logits


def segment_logits(
    model: VJEPA2ForVideoClassification, pixels: Float[Tensor, "B S T C H W"]
) -> Float[Tensor, "B K"]:
    """Scores of videos: segments are encoded one by one, the head reads all tokens together.

    With one segment equal to `model(pixels[:, 0]).logits`. Source: published evaluation code.
    """
    batch, num_segments = pixels.shape[:2]
    levels = model.config.pooler_levels or ()
    encoded = model.vjepa2(
        pixels.flatten(0, 1), skip_predictor=True, output_levels=levels, return_dict=True
    )
    tokens: Tensor = encoded.last_hidden_state
    if levels:
        tokens = torch.cat(encoded.level_hidden_states, dim=1)
    joined = tokens.unflatten(0, (batch, num_segments)).flatten(1, 2)
    logits: Tensor = model.classifier(model.pooler(joined, attention_of(model.config)))
    return logits


def load_encoder(start: Start) -> VJEPA2Model:
    """Encoder and predictor in float32; a predictor that the file lacks is made fresh."""
    if start.is_run:
        return averaged_model(start.name)
    try:
        return VJEPA2Model.from_pretrained(start.name, dtype=torch.float32)
    except CheckpointMismatchError as error:
        absent = {name.partition("predictor.")[0] for name in error.missing}
        if not error.missing or not absent <= {"", "vjepa2."}:
            raise
        if any("predictor." not in name for name in error.missing):
            raise
    # Exported without its predictor, which classifying does not need.
    return VJEPA2Model.from_pretrained(start.name, dtype=torch.float32, fresh_predictor=True)


def _with_fresh_head(
    model: VJEPA2Model, head: HeadConfig, labels: dict[int, str]
) -> VJEPA2ForVideoClassification:
    config = model.config.replaced(
        {
            "num_pooler_layers": head.num_self_blocks,
            "num_pooler_attention_heads": head.num_heads,
            "pooler_levels": None if head.levels is None else list(head.levels),
            "attention_dropout": head.dropout,
            "head_sizes": None,
            "id2label": labels,
        }
    )
    return VJEPA2ForVideoClassification.from_parts(model, VJEPA2AttentiveProbe(config))


def _set_drop_path(encoder: VJEPA2Encoder, rate: float) -> None:
    """Stochastic depth of the run; the configuration that is saved keeps its own."""
    last = max(1, len(encoder.layer) - 1)
    for index, block in enumerate(encoder.layer):
        assert isinstance(block, Block)
        block.drop_path.probability = rate * index / last


def _freeze_unused(model: VJEPA2ForVideoClassification) -> None:
    """Processes would wait for gradients that never come."""
    encoder = model.vjepa2.encoder
    levels = model.config.pooler_levels or [len(encoder.layer) - 1]
    if encoder.layernorms is not None:
        for block, norm in zip(encoder.config.levels, encoder.layernorms, strict=True):
            if block not in levels:
                norm.requires_grad_(False)
    for unread in encoder.layer[max(levels) + 1 :]:
        unread.requires_grad_(False)
    for name, parameter in encoder.named_parameters():
        if "patch_embeddings_img." in name or name.endswith("modality.image"):
            parameter.requires_grad_(False)
