"""What pretraining minimises: pure functions of predicted and of target tokens.

    V-JEPA 2     mean |z - LN(h)|                              arXiv:2506.09985, equation 1
    V-JEPA 2.1   the same over four levels, and at the visible  arXiv:2603.14482, section 3
                 tokens too, weighted by their distance

z is what the predictor says, h what the target network says of the whole clip. LN has no weights,
stands on top of the network's own final norm, and keeps the target from shrinking to nothing. The
prediction itself is never normalised. Everything is computed in float32 at least, also under
autocast.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError, check_choice

TARGET_NORM_EPS = 1e-5


def normalised_targets(
    tokens: Float[Tensor, "B N LD"], *, num_levels: int = 1
) -> Float[Tensor, "B N LD"]:
    """Layer-norm every token of the target network, every level on its own.

    Args:
        tokens: [B, N, num_levels * D], levels side by side; V-JEPA 2 has one.
        num_levels: levels in the last axis.

    Returns:
        float32 (float64 for float64): mean 0 and variance 1 over each level's D numbers.

    Raises:
        ShapeError: the width is no multiple of `num_levels`.
    """
    width = tokens.shape[-1]
    if width % num_levels:
        raise ShapeError(f"{num_levels} levels cannot share tokens of width {width}.")
    split = _precise(tokens).unflatten(-1, (num_levels, width // num_levels))
    return F.layer_norm(split, split.shape[-1:], eps=TARGET_NORM_EPS).flatten(-2)


def prediction_error(
    predicted: Float[Tensor, "B M D"],
    target: Float[Tensor, "B M D"],
    *,
    exponent: float = 1.0,
    weights: Float[Tensor, "B M"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of `|predicted - target|^p / p` over samples, tokens and channels.

    Args:
        predicted: the predictor's tokens, of any floating type.
        target: `normalised_targets` at the same ids; no gradient should flow into it.
        exponent: p, 1 in every published recipe (L1).
        weights: one factor per token, as the context loss has; not normalised, so a mean weight
            below 1 makes the loss smaller, as published.

    Raises:
        ShapeError: the two are not of one shape.
        ConfigError: `exponent` is below 1.
    """
    if predicted.shape != target.shape:
        raise ShapeError(
            f"Predicted tokens {list(predicted.shape)} and targets {list(target.shape)} differ. "
            "The targets belong to the same ids, in the same order."
        )
    if exponent < 1:
        raise ConfigError(f"The exponent of the loss must be 1 or more, got {exponent}.")
    error = (_precise(predicted) - _precise(target)).abs()
    if exponent != 1:
        error = error**exponent / exponent
    per_token = error.mean(dim=-1)
    if weights is not None:
        per_token = per_token * weights
    return per_token.mean()


def context_weights(distances: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Weight of every visible token in the context loss: one over `masking.context_distances`.

    Visible tokens beside hidden ones weigh 1, others less: 1 / sqrt(distance).
    """
    return distances.reciprocal()


def context_share_at(
    step: int, *, num_steps: int, weight: float, rise: tuple[float, float] | None
) -> float:
    """lambda of V-JEPA 2.1: how much the context loss counts at one step.

    Args:
        step: number of the update, from 0.
        num_steps: of the whole run.
        weight: its final value.
        rise: shares of the run at which it leaves 0 and at which it arrives, linearly between
            (published: updates 15,000 to 30,000 of 135,000); None: constant from the start.
    """
    if rise is None:
        return weight
    first, last = (share * num_steps for share in rise)
    if step >= last:
        return weight
    return weight * max(0.0, (step - first) / (last - first))


def sigmoid_focal_loss(
    logits: Float[Tensor, "*shape"],
    targets: Float[Tensor, "*shape"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Literal["sum", "mean", "none"] = "sum",
) -> Tensor:
    """Focal loss of independent classes (arXiv:1708.02002), as for action anticipation.

    With p = sigmoid(logit), and p' = p where the target is 1 and 1 - p where it is 0, every entry
    counts `weight * (1 - p')^gamma * -log p'`: entries that are right already count little.

    Args:
        logits: scores of classes, of any floating type.
        targets: 0 or 1 in the same shape, or anything between.
        alpha: weight where the target is 1; 1 - alpha is that where it is 0. Negative: no weights.
        gamma: 0 or more.
        reduction: "sum" over everything is the published one, so a larger batch has a larger loss.

    Returns:
        float32 (float64 for float64): a scalar, or the shape of `logits` with "none".

    Raises:
        ShapeError: the two are not of one shape.
        ConfigError: `gamma` is negative, `alpha` above 1, or there is no such reduction.
    """
    if logits.shape != targets.shape:
        raise ShapeError(
            f"Scores {list(logits.shape)} and targets {list(targets.shape)} differ. Class numbers "
            "become targets by torch.nn.functional.one_hot(numbers, num_classes)."
        )
    if gamma < 0 or alpha > 1:
        raise ConfigError(f"gamma must be 0 or more and alpha at most 1, got {gamma} and {alpha}.")
    check_choice("reduction", reduction, ("sum", "mean", "none"))
    scores = _precise(logits)
    wanted = targets.to(scores.dtype)
    error = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    p = scores.sigmoid()
    missing = p + wanted - 2 * p * wanted  # 1 - p'
    loss = error * missing**gamma
    if alpha >= 0:
        loss = loss * (alpha * wanted + (1 - alpha) * (1 - wanted))
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.mean()


def _precise(tokens: Tensor) -> Tensor:
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))
