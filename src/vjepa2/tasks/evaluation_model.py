"""The classifier that is evaluated: its network, its classes, and what it was trained on."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.label_rows import SINGLE_HEAD
from vjepa2.data.labelled import LabelMap
from vjepa2.data.settings import IMAGE_MEAN, IMAGE_STD
from vjepa2.data.views import ViewConfig
from vjepa2.errors import ConfigError, InputError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.runtime import resolve_device, resolve_dtype
from vjepa2.tasks.evaluation_probe_head import model_folder, with_probe_head
from vjepa2.tasks.finetune_networks import segment_logits
from vjepa2.tasks.fingerprint import weights_mark
from vjepa2.tasks.fooling import Finding
from vjepa2.tasks.fooling_labels import map_findings
from vjepa2.tasks.probe_folder import TRAINING_NAME, TrainedOn
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.weights.hub import SHIPPED, shipped_folder

SHIPPED_CLASSIFIER = SHIPPED[0]


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A classifier, ready to answer.

    Attributes:
        name: as it was given.
        network: in evaluation mode, in its place.
        label_map: the one head that it scores, and its class names.
        trained_on: what is known of its training; None for published classifiers.
        views: those it was trained for.
        findings: contradictions between the model's own files.
    """

    name: str
    network: VJEPA2ForVideoClassification
    label_map: LabelMap
    trained_on: TrainedOn | None
    views: ViewConfig
    findings: tuple[Finding, ...]

    @property
    def head(self) -> str:
        """Name of the head that it scores."""
        return next(iter(self.label_map.heads))

    def mark(self) -> str:
        """Sixteen digits of all weights."""
        return weights_mark(self.network.state_dict())

    @torch.no_grad()
    def probabilities(self, pixels: Float[Tensor, "B segments V T C S S"]) -> Float[Tensor, "B K"]:
        """Softmax of every view over all its segments, averaged over views; float32 on the CPU.

        Raises:
            InputError: they are not finite.
        """
        network = self.network
        moved = pixels.to(network.device, network.dtype)
        views = [segment_logits(network, view) for view in moved.unbind(dim=2)]
        found = torch.stack([logits.float().softmax(dim=-1) for logits in views]).mean(dim=0).cpu()
        if not bool(found.isfinite().all()):
            raise InputError(
                f"The model {self.name} gave NaN or infinity. Its weights may be damaged, or too "
                f"large for {network.dtype}: evaluate it with dtype=float32."
            )
        return found


def load_evaluated(
    model: str | os.PathLike[str] | VJEPA2ForVideoClassification | None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    probe_head: int | None = None,
) -> EvaluatedModel:
    """Load a classifier with what is known of its training.

    Args:
        model: folder of `vjepa2 probe` or `vjepa2 finetune`, or of the model in it, hub name or
            folder of any other classifier, a loaded one (it stays where it is); None: the shipped
            one.
        device, dtype: where and in which element type; None: the best device, that of the file.
        probe_head: of a probe run, the number of another than the best of its heads.

    Raises:
        ConfigError: it has no trained head for classes, no head of that number, or device, dtype
            or probe_head for a loaded network.
        WeightsError: it cannot be loaded.
    """
    if isinstance(model, VJEPA2ForVideoClassification):
        if device is not None or dtype is not None or probe_head is not None:
            raise ConfigError(
                "device, dtype and probe_head are for models that evaluate loads; move this."
            )
        network, name = model.eval(), model.config.name_or_path or type(model).__name__
        return _ready(network, name, trained_on=None, views=_published_views(network, None))
    name = SHIPPED_CLASSIFIER if model is None else os.fspath(model)
    place = str(shipped_folder(name)) if name in SHIPPED else model_folder(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*were made fresh")  # told by the error below
        network = VJEPA2ForVideoClassification.from_pretrained(
            place,
            dtype=None if dtype is None else resolve_dtype(dtype),
            device_map=resolve_device(device),
        )
    report = network.load_report
    if report is not None and report.fresh:
        raise ConfigError(
            f"{name} has no trained head that scores classes, so there is nothing to evaluate. "
            "Train one: vjepa2 probe, vjepa2 finetune. Published classifiers have one, such as "
            "facebook/vjepa2-vitl-fpc16-256-ssv2."
        )
    if network.config.num_labels < 2 or network.config.problem_type == "regression":
        raise ConfigError(f"{name} predicts a number; evaluate is for classes.")
    if probe_head is not None:
        network, name = with_probe_head(network, place, probe_head), f"{name}, head {probe_head}"
    trained_on = TrainedOn.load(place) if (Path(place) / TRAINING_NAME).is_file() else None
    processor = None
    if trained_on is None and Path(place).is_dir():
        processor = VJEPA2VideoProcessor.from_pretrained(place)
    views = _published_views(network, processor)
    if trained_on is not None:
        views = ViewConfig(**trained_on.views)
    return _ready(network, name, trained_on=trained_on, views=views)


def _ready(
    network: VJEPA2ForVideoClassification,
    name: str,
    *,
    trained_on: TrainedOn | None,
    views: ViewConfig,
) -> EvaluatedModel:
    own = tuple(network.config.id2label[number] for number in range(network.config.num_labels))
    head, findings = SINGLE_HEAD, []
    if trained_on is not None:
        head = trained_on.head or next(iter(trained_on.label_map.heads))
        stored = LabelMap({head: trained_on.label_map.class_names(head)})
        findings = map_findings(
            LabelMap({head: own}), stored, other_is="the labels.json of its training"
        )
    return EvaluatedModel(
        name=name,
        network=network.eval(),
        label_map=LabelMap({head: own}),
        trained_on=trained_on,
        views=views,
        findings=tuple(findings),
    )


def _published_views(
    network: VJEPA2ForVideoClassification, processor: VJEPA2VideoProcessor | None
) -> ViewConfig:
    """What `vjepa2 classify` shows: one clip spread over the video, one crop from its middle."""
    config = network.config
    mean, std = IMAGE_MEAN, IMAGE_STD
    if processor is not None:
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)  # type: ignore[assignment]
    return ViewConfig(
        num_frames=config.frames_per_clip,
        crop_size=config.crop_size,
        resize="antialiased",
        mean=mean,
        std=std,
    )
