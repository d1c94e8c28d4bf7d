"""How far predicted distances are from true ones: RMSE, relative error, shares within a ratio.

The measures of Eigen et al. (NeurIPS 2014), each taken over the valid pixels of one picture; a
data set's number is the mean over its pictures.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vjepa2.errors import LabelError, ShapeError

DELTA_RATIO = 1.25
# A predicted distance of zero or less has no logarithm and no ratio.
LEAST_DEPTH = 1e-3


class DepthErrors(NamedTuple):
    """Errors of one picture.

    Attributes:
        rmse: root of the mean squared error, in the unit of the distances.
        abs_rel: mean of |error| / true distance.
        log10: mean of |log10(predicted) - log10(true)|.
        delta_1, delta_2, delta_3: share of the pixels whose ratio to the truth, the larger over the
            smaller, is below 1.25, 1.25^2 and 1.25^3.
    """

    rmse: float
    abs_rel: float
    log10: float
    delta_1: float
    delta_2: float
    delta_3: float


def depth_errors(
    predicted: Float[Tensor, "H W"],
    target: Float[Tensor, "H W"],
    *,
    valid: Bool[Tensor, "H W"] | None = None,
) -> DepthErrors:
    """Errors over the valid pixels of one picture.

    Args:
        predicted: distances; values below 0.001 count as 0.001 in ratios and logarithms.
        target: true ones, above 0 where valid.
        valid: where the truth is known; None for where it is above 0.

    Raises:
        ShapeError: the shapes differ.
        LabelError: no pixel is valid, or a valid one has a distance that is not above 0.
    """
    valid = target > 0 if valid is None else valid
    if not predicted.shape == target.shape == valid.shape:
        raise ShapeError(
            f"Distances {list(predicted.shape)}, true ones {list(target.shape)} and valid pixels "
            f"{list(valid.shape)} must be of one shape."
        )
    said, true = predicted[valid].double(), target[valid].double()
    if not len(true):
        raise LabelError("No pixel has a true distance: leave the picture out.")
    if not bool((true > 0).all() & true.isfinite().all()):
        raise LabelError("True distances of valid pixels must be finite and above 0.")
    above_zero = said.clamp(min=LEAST_DEPTH)
    ratio = torch.maximum(above_zero / true, true / above_zero)
    return DepthErrors(
        rmse=float((said - true).square().mean().sqrt()),
        abs_rel=float(((said - true).abs() / true).mean()),
        log10=float((above_zero.log10() - true.log10()).abs().mean()),
        delta_1=float((ratio < DELTA_RATIO).double().mean()),
        delta_2=float((ratio < DELTA_RATIO**2).double().mean()),
        delta_3=float((ratio < DELTA_RATIO**3).double().mean()),
    )


def mean_errors(errors: list[DepthErrors]) -> DepthErrors:
    """Mean of the errors of several pictures.

    Raises:
        LabelError: there are none.
    """
    if not errors:
        raise LabelError("There are no pictures to take the mean of.")
    columns = zip(*errors, strict=True)
    return DepthErrors(*(sum(column) / len(errors) for column in columns))
