"""How good dense heads are on labelled pictures, beside what needs no picture at all.

Several heads are scored on the same features. The baseline knows the training labels only: the
commonest class, or the mean distance, at every pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import LabelError
from vjepa2.models.dense import DenseHead, DenseHeadConfig
from vjepa2.progress import track
from vjepa2.scoring.depth import DepthErrors, depth_errors, mean_errors
from vjepa2.scoring.segmentation import ClassOverlap, intersections_over_unions, pixel_confusion
from vjepa2.tasks.dense_features import DenseFeatures
from vjepa2.tasks.dense_sets import DenseSet


@dataclass(frozen=True)
class LabelSurvey:
    """What the labels of a set are.

    Attributes:
        pixels_per_class: of segmentation; None for depth.
        mean_distance: metres, over all pixels with a known one; None for segmentation.
    """

    pixels_per_class: Int[Tensor, " K"] | None
    mean_distance: float | None

    def facts(self) -> dict[str, Any]:
        """As JSON values; they also tell one set of labels from another."""
        if self.pixels_per_class is None:
            return {"mean_distance": self.mean_distance}
        return {"pixels_per_class": self.pixels_per_class.tolist()}


def survey(data: DenseSet, config: DenseHeadConfig, *, what: str, quiet: bool) -> LabelSurvey:
    """Look at all labels before anything is computed.

    Raises:
        LabelError: a class number is out of range, fewer than two classes occur, distances are not
            finite, beyond the head's range, or unknown everywhere in a picture.
    """
    counts = torch.zeros(max(1, len(config.class_names)), dtype=torch.int64)
    total, known = 0.0, 0
    for index in track(
        range(len(data)), total=len(data), description=f"{what} labels", quiet=quiet
    ):
        item = data[index]
        if config.task == "segmentation":
            counts += _class_counts(item.target, config, name=item.name)
            continue
        valid = item.target > 0
        distances = item.target[valid]
        if not bool(item.target.isfinite().all()) or len(distances) < 2:
            raise LabelError(
                f"{item.name}: distances must be finite, and above 0 in two pixels at least."
            )
        if float(distances.max()) > config.greatest_distance:
            raise LabelError(
                f"{item.name} has a distance of {float(distances.max()):g} m; the head goes up to "
                f"greatest_distance={config.greatest_distance:g}. Raise it, or set such pixels to "
                "0 (unknown)."
            )
        total, known = total + float(distances.double().sum()), known + len(distances)
    if config.task == "depth":
        return LabelSurvey(None, total / known)
    if int((counts > 0).sum()) < 2:
        raise LabelError(
            f"The {what} labels hold fewer than two classes: pixels per class are "
            f"{dict(zip(config.class_names, counts.tolist(), strict=True))}."
        )
    return LabelSurvey(counts, None)


def _class_counts(target: Tensor, config: DenseHeadConfig, *, name: str) -> Int[Tensor, " K"]:
    K, numbers = len(config.class_names), target[target != config.ignored_class]
    if len(numbers) and not (int(numbers.min()) >= 0 and int(numbers.max()) < K):
        raise LabelError(
            f"{name} has class numbers from {int(numbers.min())} to {int(numbers.max())}; allowed "
            f"are 0 to {K - 1} and {config.ignored_class} for pixels without a class."
        )
    return torch.bincount(numbers.flatten(), minlength=K)


class _Tally:
    """Scores of one predictor over the pictures of a set."""

    def __init__(self, config: DenseHeadConfig) -> None:
        self.config = config
        K = max(1, len(config.class_names))
        self.confusion = torch.zeros(K, K, dtype=torch.int64)
        self.errors: list[DepthErrors] = []

    def add(self, said: Tensor, target: Tensor) -> None:
        """Count one picture."""
        if self.config.task == "depth":
            self.errors.append(depth_errors(said.cpu().float(), target))
            return
        self.confusion += pixel_confusion(
            said.cpu(),
            target,
            num_classes=len(self.config.class_names),
            ignored=self.config.ignored_class,
        )

    def scores(self) -> dict[str, Any]:
        """As JSON values; shares 0 to 1, distances in metres."""
        if self.config.task == "depth":
            return mean_errors(self.errors)._asdict()
        overlap: ClassOverlap = intersections_over_unions(self.confusion)
        return {
            "mean_iou": overlap.mean,
            "pixel_accuracy": overlap.pixel_accuracy,
            "iou": {
                name: None if value != value else value
                for name, value in zip(
                    self.config.class_names, overlap.per_class.tolist(), strict=True
                )
            },
        }


@torch.no_grad()
def evaluate_heads(
    heads: Sequence[DenseHead], features: DenseFeatures, *, short_side: int, quiet: bool = False
) -> list[dict[str, Any]]:
    """Score heads on all pictures of a set, whole, at the size of their labels.

    Args:
        heads: in evaluation mode, all with one configuration but for their weights.
        features: of the set.
        short_side: of the pictures as the encoder sees them.
        quiet: no progress.

    Returns:
        Per head "mean_iou", "pixel_accuracy" and "iou" per class (None where a class is neither
        there nor said), or the fields of `DepthErrors`.
    """
    tallies = [_Tally(head.config) for head in heads]
    count = len(features.data)
    for index in track(
        range(count), total=count, description=f"pictures at {short_side} px", quiet=quiet
    ):
        map_, target = features.get(index, short_side=short_side)
        for head, tally in zip(heads, tallies, strict=True):
            on_device = map_.to(head.linear.weight.device)
            size = (target.shape[0], target.shape[1])
            tally.add(head.predict(on_device, size=size), target)
    return [tally.scores() for tally in tallies]


def baseline_scores(
    data: DenseSet, config: DenseHeadConfig, seen: LabelSurvey
) -> tuple[str, dict[str, Any]]:
    """What is said, and how good it is, without looking at pictures."""
    tally = _Tally(config)
    if seen.pixels_per_class is not None:
        commonest = int(seen.pixels_per_class.argmax())
        words, value = f"everything {config.class_names[commonest]!r}", float(commonest)
    else:
        assert seen.mean_distance is not None
        words, value = f"everything {seen.mean_distance:.3g} m away", seen.mean_distance
    for index in range(len(data)):
        target = data[index].target
        said: Float[Tensor, "H W"] = torch.full(target.shape, value)
        tally.add(said.long() if config.task == "segmentation" else said, target)
    return words, tally.scores()


def better(task: str, first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether the first scores are better than the second: mIoU, or RMSE."""
    if task == "segmentation":
        return bool(first["mean_iou"] > second["mean_iou"])
    return bool(first["rmse"] < second["rmse"])
