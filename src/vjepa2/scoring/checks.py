"""Checks that every measure makes of its arguments."""

import torch
from torch import Tensor

from vjepa2.errors import DtypeError, LabelError, ShapeError


def checked_scores(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as float64 [N, K] and labels as int64 [N], on the CPU.

    Raises:
        ShapeError: other ranks, another number of labels than of rows, no rows or no classes.
        DtypeError: scores hold NaN or infinity, or labels are no whole numbers.
        LabelError: a label is no class number.
    """
    if scores.ndim != 2 or labels.ndim != 1 or len(scores) != len(labels):
        raise ShapeError(
            "Expected scores [N, K] and labels [N] with the same N, got "
            f"{list(scores.shape)} and {list(labels.shape)}."
        )
    values = checked_finite("Scores", scores)
    return values, checked_labels(labels, num_classes=scores.shape[1])


def checked_finite(what: str, values: Tensor) -> Tensor:
    """Values as float64 on the CPU; there is at least one, and all are finite."""
    if values.numel() == 0:
        raise ShapeError(f"{what} are empty, {list(values.shape)}: there is nothing to measure.")
    precise = values.detach().cpu().double()
    bad = ~torch.isfinite(precise)
    if bool(bad.any()):
        rows = int(bad.flatten(1).any(dim=1).sum()) if bad.ndim > 1 else int(bad.sum())
        raise DtypeError(
            f"{what} hold NaN or infinity in {rows} of {len(values)} rows. Find out what made "
            "them: a mean that leaves them out would be another measure."
        )
    return precise


def checked_labels(labels: Tensor, *, num_classes: int) -> Tensor:
    """Labels as int64 on the CPU, all of them 0..num_classes - 1."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DtypeError(f"Labels must be whole numbers, got {labels.dtype}.")
    numbers = labels.detach().cpu().long()
    if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= num_classes):
        raise LabelError(
            f"Labels must be 0..{num_classes - 1} for scores of {num_classes} classes, got "
            f"{int(numbers.min())}..{int(numbers.max())}."
        )
    return numbers
