"""What fine-tuning minimises: cross entropy with labels that may be mixed and smoothed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from vjepa2.numbered_random import stream, stream_key, uniform

MIXING = 0x4D49  # tells these numbers from others of the same seed and step
MAX_TRIES = 4096


class Mixed(NamedTuple):
    """Videos and labels of one batch, ready for the loss.

    Attributes:
        pixels: [B, S, T, C, H, W].
        targets: float32 [B, K], the share of every class, adding up to 1.
    """

    pixels: Float[Tensor, "B S T C H W"]
    targets: Float[Tensor, "B K"]


def soft_targets(
    labels: Int[Tensor, " B"], num_classes: int, *, smoothing: float = 0.0
) -> Float[Tensor, "B K"]:
    """The share of every class: all of it on the label, less what is spread evenly.

    Args:
        labels: class numbers.
        num_classes: K.
        smoothing: share that all K classes get alike (arXiv:1512.00567, section 7).
    """
    targets = F.one_hot(labels, num_classes).float()
    return targets * (1.0 - smoothing) + smoothing / num_classes if smoothing else targets


def soft_cross_entropy(
    logits: Float[Tensor, "B K"], targets: Float[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Mean over videos of `-sum targets * log softmax(logits)`, in float32 at least."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)


def mix_shares(
    alpha: float, *, seed: int, step: int, indices: Sequence[int]
) -> Float[Tensor, " P"]:
    """How much every pair keeps of its own: numbers of Beta(alpha, alpha).

    A function of (seed, step, index), by Joehnk's method: of even numbers u, v the first ones with
    x + y <= 1 for x = u^(1/alpha), y = v^(1/alpha) give x / (x + y).

    Args:
        alpha: above 0.
        seed: of the run.
        step: number of the update.
        indices: number of the first video of every pair in the training set.

    Returns:
        float32 [P], 0 to 1.
    """
    key = stream_key(purpose=MIXING, seed=seed, step=step)
    shares = [_beta(alpha, stream(key, np.array([index]))) for index in indices]
    return torch.tensor(shares, dtype=torch.float32)


def mix(
    pixels: Float[Tensor, "B S T C H W"],
    targets: Float[Tensor, "B K"],
    *,
    alpha: float,
    seed: int,
    step: int,
    indices: Sequence[int],
) -> Mixed:
    """Mix neighbours: videos 0 and 1, 2 and 3, ..., each pair with a share of its own.

    The order of an epoch is random, so neighbours are strangers. Both of a pair keep the same
    share of their own, so a pair's labels add up to what they were. A last one without a
    neighbour stays as it is. Neighbours are of one process: with another number of processes other
    videos are mixed, in the same way.

    Args:
        pixels, targets: of one process.
        alpha: of `mix_shares`; 0 mixes nothing.
        seed: of the run.
        step: number of the update.
        indices: numbers of the videos in the training set.
    """
    count = len(pixels) // 2
    if not alpha or not count:
        return Mixed(pixels, targets)
    shares = mix_shares(alpha, seed=seed, step=step, indices=indices[: 2 * count : 2])
    own = torch.cat([shares.repeat_interleave(2), torch.ones(len(pixels) % 2)])
    places = torch.arange(len(pixels))
    partners = torch.where(places < 2 * count, places ^ 1, places)
    return Mixed(_blended(pixels, own, partners), _blended(targets, own, partners))


def _blended(values: Tensor, own: Tensor, partners: Tensor) -> Tensor:
    own = own.to(values.device, values.dtype).view(-1, *[1] * (values.ndim - 1))
    return values * own + values[partners.to(values.device)] * (1 - own)


def _beta(alpha: float, key: UInt64[np.ndarray, "1"]) -> float:
    for attempt in range(MAX_TRIES):
        u, v = uniform(stream(key, np.array([2 * attempt, 2 * attempt + 1]))).tolist()
        x, y = u ** (1 / alpha), v ** (1 / alpha)
        if 0 < x + y <= 1:
            return float(x / (x + y))
    return 0.5  # for alpha <= 4 less likely than a broken machine
