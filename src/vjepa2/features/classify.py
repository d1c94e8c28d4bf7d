"""Which of the labels that a model knows a video shows: `classify("clip.mp4")[0].label`."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    InputError,
    VideoError,
    check_flag,
    check_kind,
    checked_integer,
)
from vjepa2.features.clips import clips_of, source_names
from vjepa2.features.embed import clip_frames
from vjepa2.features.failures import FileFailure
from vjepa2.features.loading import LoadedModel, ModelLike, check_finite, load
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.progress import track
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

    def __str__(self) -> str:
        return f"{self.probability:6.1%}  {self.label}"


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
    classifier = make_classifier(
        model,
        processor=processor,
        top_k=top_k,
        num_frames=num_frames,
        sampling=sampling,
        num_clips=num_clips,
        device=device,
        dtype=dtype,
    )
    return classifier.scores(videos[0])


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A loaded classifier with fixed settings.

    Attributes:
        model: network and processor.
        sampling: frames of a clip.
        num_clips: clips of a video whose probabilities are averaged.
        top_k: labels to give.
    """

    model: LoadedModel
    sampling: ClipSampling
    num_clips: int = 1
    top_k: int = 5

    def scores(self, video: object) -> list[LabelScore]:
        """The most probable labels of one video. See `clips_of` for errors."""
        clips = clips_of(
            video,
            processor=self.model.processor,
            sampling=self.sampling,
            num_clips=self.num_clips,
            device=self.model.device,
        )
        with self.model.inference():
            logits = torch.cat([self.model.network(clip.pixels).logits for clip in clips])
        return top_labels(logits, self.model, top_k=self.top_k)


def make_classifier(
    model: ModelLike | None = None,
    *,
    processor: VJEPA2VideoProcessor | None = None,
    top_k: int = 5,
    num_frames: int | None = None,
    sampling: str | ClipSampling = "uniform",
    num_clips: int = 1,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Classifier:
    """Load a classifier once for many videos; arguments and errors as in `classify`."""
    top_k = checked_integer("top_k", top_k, least=1)
    ready = load_classifier(model, processor=processor, device=device, dtype=dtype)
    frames = clip_frames(ready, num_frames=num_frames, sampling=sampling)
    return Classifier(model=ready, sampling=frames, num_clips=num_clips, top_k=top_k)


@dataclass(frozen=True, kw_only=True)
class ClassifyReport:
    """Labels of many files.

    Attributes:
        model: name of the model.
        results: source and its labels, the best first, in the order given.
        failed: sources that could not be read, and why.
    """

    model: str
    results: tuple[tuple[str, tuple[LabelScore, ...]], ...]
    failed: tuple[FileFailure, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model": self.model,
            "results": [
                {"source": source, "labels": [asdict(score) for score in scores]}
                for source, scores in self.results
            ],
            "failed": [asdict(failure) for failure in self.failed],
        }

    def __str__(self) -> str:
        return "\n".join(
            f"{source}\n" + "\n".join(f"  {score}" for score in scores)
            for source, scores in self.results
        )


def classify_files(
    files: Iterable[str | os.PathLike[str]], *, classifier: Classifier, quiet: bool = False
) -> ClassifyReport:
    """Name what many files show; goes on after a file that cannot be read.

    Args:
        files: paths and URLs; one named twice is classified once.
        classifier: from `make_classifier`.
        quiet: show no progress; a single file shows none anyway.

    Raises:
        ConfigError, InputError: an argument is of a wrong kind.
    """
    check_kind("classifier", classifier, Classifier, words="a Classifier of make_classifier")
    check_flag("quiet", quiet)
    results = []
    failed = []
    sources = source_names(files)
    quiet = quiet or len(sources) == 1
    for source in track(sources, total=len(sources), description="Classify", quiet=quiet):
        try:
            results.append((source, tuple(classifier.scores(source))))
        except (VideoError, InputError) as error:
            failed.append(FileFailure.of(source, error))
    return ClassifyReport(model=classifier.model.name, results=tuple(results), failed=tuple(failed))


def load_classifier(
    model: ModelLike | None,
    *,
    processor: VJEPA2VideoProcessor | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LoadedModel:
    """Load a model that has a trained head.

    Raises:
        ConfigError: it has none (labels would be random), or it predicts a number.
        WeightsError: the model cannot be loaded.
    """
    ready = load(
        model,
        kind=VJEPA2ForVideoClassification,
        processor=processor,
        device=device,
        dtype=dtype,
    )
    if not ready.names_labels:
        raise ConfigError(
            f"{ready.name} has no trained head that scores labels, so it cannot name any. Choose a "
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
        InputError: the scores are not finite.
    """
    config = model.network.config
    scores = logits.float()
    if config.problem_type == "multi_label_classification":
        probabilities = scores.sigmoid().mean(dim=0)
    else:
        probabilities = scores.softmax(dim=-1).mean(dim=0)
    check_finite(probabilities, model)
    best = probabilities.topk(min(top_k, len(probabilities)))
    return [
        LabelScore(label=config.id2label[index], index=index, probability=probability)
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
