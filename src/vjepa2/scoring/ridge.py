"""Ridge regression solved among the samples, its penalty chosen by leave-one-out."""

import torch
from jaxtyping import Float
from torch import Tensor

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # times the mean eigenvalue of the kernel


def ridge_weights(
    kernel: Float[Tensor, "m m"], wanted: Float[Tensor, "m A"]
) -> Float[Tensor, "m A"]:
    """Weights of the samples: predictions are products with the samples times these.

    The penalty is the one of `PENALTIES` with the smallest squared leave-one-out error, in closed
    form: residual / (1 - h), h the sample's own weight in its fit. Many features cost little.

    Args:
        kernel: products of all samples with each other.
        wanted: their targets, the mean removed.
    """
    sizes, vectors = torch.linalg.eigh(kernel)
    sizes = sizes.clamp_min(0)
    scale = float(sizes.mean().clamp_min(1e-12))
    turned: Tensor = vectors.T @ wanted
    best, solution = float("inf"), turned
    for penalty in PENALTIES:
        inverse = 1 / (sizes + penalty * scale)
        weights = vectors @ (inverse[:, None] * turned)
        own = (vectors.square() * inverse).sum(dim=1, keepdim=True)
        error = float((weights / own).square().sum())  # residual / (1 - h) = weight / own
        if error < best:
            best, solution = error, weights
    return solution
