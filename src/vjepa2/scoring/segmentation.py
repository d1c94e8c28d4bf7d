"""How well pixels are labelled: mIoU of classes, J and F of masks through a video.

J is the overlap of two masks, F how well their outlines lie on each other (Perazzi et al., CVPR
2016; both as the DAVIS benchmark counts them). Counts of many pictures are added up before mIoU is
taken, so that a class which is rare in one picture does not weigh too much there.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vjepa2.errors import ConfigError, LabelError, ShapeError, checked_integer, checked_number

IGNORED_CLASS = 255
"""Class number of pixels that count for nothing, as label pictures of eight bits have it."""
CONTOUR_TOLERANCE = 0.008
"""How far two outlines may be apart and still match, as a share of the picture's diagonal."""


# -- classes ----------------------------------------------------------------------------------


def pixel_confusion(
    predicted: Int[Tensor, "*pixels"],
    target: Int[Tensor, "*pixels"],
    *,
    num_classes: int,
    ignored: int | None = IGNORED_CLASS,
) -> Int[Tensor, "K K"]:
    """Count pixels by their true class (row) and the class that was said (column).

    Args:
        predicted: class numbers, 0 to `num_classes - 1`.
        target: true ones, or `ignored`.
        num_classes: K.
        ignored: class number of pixels that are left out; None for none.

    Returns:
        int64 counts; add those of several pictures before `intersections_over_unions`.

    Raises:
        ShapeError: the two are not of one shape.
        LabelError: a class number is out of range.
    """
    K = checked_integer("num_classes", num_classes, least=1)
    if predicted.shape != target.shape:
        raise ShapeError(
            f"Predicted classes {list(predicted.shape)} and true ones {list(target.shape)} differ. "
            "Bring the prediction to the size of the labels first."
        )
    said, true = predicted.reshape(-1).long(), target.reshape(-1).long()
    if ignored is not None:
        counted = true != ignored
        said, true = said[counted], true[counted]
    for words, numbers in (("True", true), ("Predicted", said)):
        if not len(numbers):
            continue
        least, most = int(numbers.min()), int(numbers.max())
        if least < 0 or most >= K:
            raise LabelError(
                f"{words} class numbers go from {least} to {most}; allowed are 0 to {K - 1}, and "
                f"{ignored} for pixels without a class."
            )
    return torch.bincount(true * K + said, minlength=K * K).reshape(K, K)


class ClassOverlap(NamedTuple):
    """Overlap of every class.

    Attributes:
        per_class: intersection over union, 0 to 1; NaN for classes that are neither there nor said.
        mean: mIoU, the mean of the classes that are; NaN without any.
        pixel_accuracy: share of the pixels that are right; NaN without any.
    """

    per_class: Float[Tensor, " K"]
    mean: float
    pixel_accuracy: float


def intersections_over_unions(confusion: Int[Tensor, "K K"]) -> ClassOverlap:
    """mIoU from counts of pixels (see `pixel_confusion`)."""
    counts = confusion.double()
    right = counts.diagonal()
    union = counts.sum(dim=0) + counts.sum(dim=1) - right
    per_class = torch.where(union > 0, right / union.clamp(min=1), math.nan)
    return ClassOverlap(
        per_class,
        float(per_class.nanmean()),
        float(right.sum() / counts.sum()),
    )


# -- masks ------------------------------------------------------------------------------------


def region_similarity(
    predicted: Bool[Tensor, "*frames H W"], target: Bool[Tensor, "*frames H W"]
) -> Float[Tensor, "*frames"]:
    """J: intersection over union of two masks; 1 where both are empty.

    Raises:
        ShapeError: the two are not of one shape.
    """
    _check_masks(predicted, target)
    both = (predicted & target).sum(dim=(-2, -1)).double()
    either = (predicted | target).sum(dim=(-2, -1)).double()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def contour_accuracy(
    predicted: Bool[Tensor, "*frames H W"],
    target: Bool[Tensor, "*frames H W"],
    *,
    tolerance: float = CONTOUR_TOLERANCE,
) -> Float[Tensor, "*frames"]:
    """F: harmonic mean of the shares of each outline that lie near the other one.

    Args:
        predicted, target: masks.
        tolerance: how near, as a share of the diagonal, rounded up to whole pixels.

    Returns:
        0 to 1; 1 where neither mask has an outline, 0 where only one has.

    Raises:
        ShapeError: the two are not of one shape.
        ConfigError: `tolerance` is not above 0 and at most 1.
    """
    _check_masks(predicted, target)
    checked_number("tolerance", tolerance, above=0, most=1)
    H, W = predicted.shape[-2:]
    reach = math.ceil(tolerance * math.hypot(H, W))
    said, true = (outline(masks.reshape(-1, H, W)) for masks in (predicted, target))
    near_said, near_true = _within(said, reach), _within(true, reach)
    num_said, num_true = (lines.sum(dim=(-2, -1)).double() for lines in (said, true))
    precision = (said & near_true).sum(dim=(-2, -1)) / num_said.clamp(min=1)
    recall = (true & near_said).sum(dim=(-2, -1)) / num_true.clamp(min=1)
    total = precision + recall
    score = torch.where(total > 0, 2 * precision * recall / total.clamp(min=1e-12), 0.0)
    score = torch.where((num_said == 0) & (num_true == 0), 1.0, score)
    return score.reshape(predicted.shape[:-2])


def outline(masks: Bool[Tensor, "n H W"]) -> Bool[Tensor, "n H W"]:
    """Pixels whose right, lower or lower right neighbour is on the other side of a mask's edge."""
    grown = F.pad(masks[:, None].to(torch.uint8), (0, 1, 0, 1), mode="replicate")[:, 0]
    here = grown[:, :-1, :-1]
    lines = (here != grown[:, :-1, 1:]) | (here != grown[:, 1:, :-1])
    lines |= here != grown[:, 1:, 1:]
    return lines


class MaskScores(NamedTuple):
    """Scores of the objects of one video.

    Attributes:
        objects: their numbers in the masks.
        J, F: mean over the scored frames, per object.
    """

    objects: tuple[int, ...]
    J: Float[Tensor, " n"]
    F: Float[Tensor, " n"]

    @property
    def mean_J(self) -> float:
        """Mean of J over objects."""
        return float(self.J.mean())

    @property
    def mean_F(self) -> float:
        """Mean of F over objects."""
        return float(self.F.mean())

    @property
    def J_and_F(self) -> float:
        """Mean of both, the number that is compared."""
        return (self.mean_J + self.mean_F) / 2


def video_mask_scores(
    predicted: Int[Tensor, "T H W"],
    target: Int[Tensor, "T H W"],
    *,
    leave_out_ends: bool = True,
) -> MaskScores:
    """J and F of every object that is in the first frame of a video.

    Args:
        predicted, target: number of the object that each pixel belongs to, 0 for none.
        leave_out_ends: do not score the first frame, which was given, and the last, as DAVIS 2017
            does; False scores all.

    Raises:
        ShapeError: the two are not of one shape.
        LabelError: the first frame has no object, or no frame is left to score.
    """
    if predicted.dim() != 3 or predicted.shape != target.shape:
        raise ShapeError(
            f"Masks of a video are [T, H, W]; got {list(predicted.shape)} for the prediction and "
            f"{list(target.shape)} for the truth."
        )
    objects = tuple(int(number) for number in target[0].unique() if number != 0)
    if not objects:
        raise LabelError("The first frame has no object: every pixel is 0.")
    scored = slice(1, -1) if leave_out_ends else slice(None)
    if not len(target[scored]):
        raise LabelError(
            f"{len(target)} frames leave none to score without the first and the last. Give more, "
            "or leave_out_ends=False."
        )
    pairs = [(predicted[scored] == number, target[scored] == number) for number in objects]
    return MaskScores(
        objects,
        torch.stack([region_similarity(said, true).mean() for said, true in pairs]),
        torch.stack([contour_accuracy(said, true).mean() for said, true in pairs]),
    )


def _within(lines: Bool[Tensor, "n H W"], reach: int) -> Bool[Tensor, "n H W"]:
    """Pixels that have one of `lines` within a disc of radius `reach`."""
    side = torch.arange(-reach, reach + 1, device=lines.device)
    near = lines.clone()
    H, W = lines.shape[-2:]
    # Row by row of the disc: the widest run of each row is a one-dimensional maximum.
    for dy in side.tolist():
        half = math.isqrt(reach * reach - dy * dy)
        if abs(dy) >= H:
            continue
        pooled = F.max_pool2d(
            lines[:, None].float(), (1, 2 * half + 1), stride=1, padding=(0, half)
        )[:, 0].bool()
        rows = slice(max(0, dy), H + min(0, dy))
        from_rows = slice(max(0, -dy), H + min(0, -dy))
        near[:, rows, :W] |= pooled[:, from_rows]
    return near


def _check_masks(predicted: Tensor, target: Tensor) -> None:
    if predicted.shape != target.shape or predicted.dim() < 2:
        raise ShapeError(
            f"Masks must be [..., H, W] of one shape, got {list(predicted.shape)} and "
            f"{list(target.shape)}."
        )
    if predicted.dtype != torch.bool or target.dtype != torch.bool:
        raise ConfigError(
            f"Masks must be True or False per pixel, got {predicted.dtype} and {target.dtype}. "
            "Compare object numbers first: ids == 1."
        )
