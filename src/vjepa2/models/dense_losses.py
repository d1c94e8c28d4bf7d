"""What linear dense heads minimise: classes of pixels, and distances up to a common factor.

The loss of distances is the scale-invariant one of Eigen et al. (NeurIPS 2014), in the form that
linear probes are trained with since DINOv2 (arXiv:2304.07193): with g = ln(predicted) - ln(true),

    sqrt(var g + 0.15 (mean g)^2)  +  0.5 * mean |differences of g between near pixels|

the second part at four spacings (MegaDepth, Li and Snavely, CVPR 2018).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vjepa2.errors import LabelError, ShapeError

LOG_OFFSET = 1e-3  # metres, keeps logarithms of small distances in bounds
MEAN_SHARE = 0.15
GRADIENT_WEIGHT = 0.5
SPACINGS = (1, 2, 4, 6)


def pixel_loss(
    scores: Float[Tensor, "K H W"], target: Int[Tensor, "H W"], *, ignored: int
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the pixels of one picture that have a class; 0 without any.

    Args:
        scores: before softmax, one map per class, at the size of the labels.
        target: class numbers, `ignored` where there is none.
        ignored: class number of pixels without a class.

    Raises:
        ShapeError: sizes differ.
    """
    if scores.shape[1:] != target.shape:
        raise ShapeError(f"Scores {list(scores.shape)} and classes {list(target.shape)} differ.")
    total = F.cross_entropy(
        scores[None].float(), target[None].long(), ignore_index=ignored, reduction="sum"
    )
    return total / (target != ignored).sum().clamp(min=1)


def distance_loss(
    predicted: Float[Tensor, "H W"],
    target: Float[Tensor, "H W"],
    *,
    valid: Bool[Tensor, "H W"] | None = None,
    only_mean: bool = False,
    gradient_weight: float = GRADIENT_WEIGHT,
) -> Float[Tensor, ""]:
    """Loss of the distances of one picture, see the module's text.

    Args:
        predicted: above 0.
        target: true distances; not above 0 where unknown.
        valid: where the truth is known; None for where it is above 0.
        only_mean: leave the variance out, as in the first 100 updates of the published probes.
        gradient_weight: of the second part.

    Raises:
        ShapeError: sizes differ.
        LabelError: fewer than two pixels have a true distance.
    """
    valid = target > 0 if valid is None else valid
    if not predicted.shape == target.shape == valid.shape:
        raise ShapeError(
            f"Distances {list(predicted.shape)}, true ones {list(target.shape)} and valid pixels "
            f"{list(valid.shape)} must be of one shape."
        )
    if int(valid.sum()) < 2:
        raise LabelError("Fewer than two pixels have a true distance: leave the picture out.")
    # Unknown pixels get a true distance of 1, so that no logarithm is infinite; none is counted.
    true = torch.where(valid, target, 1.0)
    g = torch.log(predicted.float() + LOG_OFFSET) - torch.log(true.float() + LOG_OFFSET)
    known = g[valid]
    squared = MEAN_SHARE * known.mean().square()
    if not only_mean:
        squared = squared + known.var()
    # The root has no slope at 0.
    loss = squared.clamp(min=1e-12).sqrt()
    return loss + gradient_weight * _differences(g, valid) if gradient_weight else loss


def _differences(g: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> Float[Tensor, ""]:
    """Mean absolute difference of pixels two apart, summed over spacings."""
    total = g.new_zeros(())
    for spacing in SPACINGS:
        thin, known = g[::spacing, ::spacing], valid[::spacing, ::spacing]
        count = known.sum().clamp(min=1)
        for axis in (0, 1):
            length = thin.shape[axis] - 2
            if length < 1:
                continue
            step = thin.narrow(axis, 2, length) - thin.narrow(axis, 0, length)
            both = known.narrow(axis, 2, length) & known.narrow(axis, 0, length)
            total = total + (step.abs() * both).sum() / count
    return total
