"""Which of the labels that a model knows a video shows: `classify("clip.mp4")[0].label`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, InputError
from vjepa2.features.clips import clips_of
from vjepa2.features.embed import clip_frames
from vjepa2.features.loading import LoadedModel, ModelLike, load
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.video.inputs import split_videos
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.sampling import ClipSampling


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label and how sure the model is.

    Attributes:
        label: name of the class, from the model's `config.id2label`.
        index: number of the class.
        probability: 0..1. The probabilities of all classes add up to 1, unless the model was
            trained to give several labels at once ("multi_label_classification").
    """

    label: str
    index: int
    probability: float


def classify(
    video: object,
    *,
    model: ModelLike | None = None,
    processor: VJEPA2VideoProcessor | None = None,
    top_k: int = 5,
    num_frames: int | None = None,
    sampling: str | ClipSampling = "uniform",
    num_clips: int = 1,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> list[LabelScore]:
    """Name what a video shows.

    Args:
        video: one video: a path, URL, bytes, an open reader, `Frames`, an array, a tensor or a
            list of frames.
        model: hub name or folder of a classifier, or a loaded `VJEPA2ForVideoClassification`;
            default: `motion-tiny`, the small classifier of motions shipped inside the package.
        top_k: labels to return, above 0; all of them where the model has fewer.
        num_clips: clips whose probabilities are averaged, one from each stretch of the video.
        processor, num_frames, sampling, device, dtype: as in `vjepa2.embed`.

    Returns:
        The most probable labels, the best first.

    Raises:
        VideoError: the video cannot be read.
        WeightsError: the model cannot be loaded.
        ConfigError: an option is wrong, or the model has no trained classification head.
        InputError: `video` is no video, or several.
    """
    videos = split_videos(video)
    if len(videos) != 1:
        raise InputError(
            f"classify takes one video, got {len(videos)}. Load the model once and call it for "
            "each: [classify(video, model=model) for video in videos]."
        )
    ready = load_classifier(model, processor=processor, device=device, dtype=dtype)
    frames = clip_frames(ready, num_frames=num_frames, sampling=sampling)
    clips = clips_of(
        videos[0],
        processor=ready.processor,
        sampling=frames,
        num_clips=num_clips,
        device=ready.device,
    )
    with ready.inference():
        logits = torch.cat([ready.network(clip.pixels).logits for clip in clips])
    return top_labels(logits, ready, top_k=top_k)


def load_classifier(
    model: ModelLike | None,
    *,
    processor: VJEPA2VideoProcessor | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LoadedModel:
    """Load a model that has a trained head.

    Raises:
        ConfigError: it has none; its labels would be random.
        WeightsError: the model cannot be loaded.
    """
    ready = load(
        model,
        kind=VJEPA2ForVideoClassification,
        processor=processor,
        device=device,
        dtype=dtype,
    )
    network = ready.network
    # A network that the caller loaded may have been trained since: its report is history.
    report = network.load_report if network is not model else None
    if isinstance(network, VJEPA2Model) or (report is not None and report.fresh):
        raise ConfigError(
            f"{ready.name} has no trained classification head, so it cannot name labels. Choose a "
            "classifier, such as facebook/vjepa2-vitl-fpc16-256-ssv2, or use embed for features."
        )
    return ready


def top_labels(logits: Float[Tensor, "B L"], model: LoadedModel, *, top_k: int) -> list[LabelScore]:
    """The most probable labels of the clips `logits` belongs to, averaged over clips.

    Args:
        logits: scores of B clips for all labels.
        model: whose `id2label` and `problem_type` say what the scores mean.
        top_k: labels to return, above 0.

    Raises:
        ConfigError: `top_k` is below 1, or the model predicts numbers instead of labels.
    """
    config = model.network.config
    if top_k < 1:
        raise ConfigError(f"top_k must be 1 or more, got {top_k}.")
    if config.problem_type == "regression" or config.num_labels == 1:
        raise ConfigError(
            f"{model.name} predicts a number, not labels. Call the model itself for its logits."
        )
    scores = logits.float()
    if config.problem_type == "multi_label_classification":
        probabilities = scores.sigmoid().mean(dim=0)
    else:
        probabilities = scores.softmax(dim=-1).mean(dim=0)
    best = probabilities.topk(min(top_k, len(probabilities)))
    return [
        LabelScore(label=config.id2label[index], index=index, probability=probability)
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
