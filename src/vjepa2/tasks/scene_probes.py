"""Attentive probes on frozen tokens, alike for every contender, and intervals for what they reach.

Every contender turns clips into tokens once. Tokens are standardised per channel, get the same
fixed code of their place (an attentive probe has no positions of its own, and pixels bring none),
and the same `VJEPA2AttentiveProbe` learns the answers with the same optimiser, order and number of
updates.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.nn.init import init_weights
from vjepa2.shapes import TokenGrid
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.motion_clips import normalised

PORTION = 64  # clips that are encoded or scored at a time
WAVES = 3  # of the code of a place, per axis
CODE_SEED = 0

Tokenise = Callable[[UInt8[Tensor, "B T 3 H W"]], Float[Tensor, "B N D"]]


class ProbeConfig(StrictConfig):
    """How a probe learns; the same for all contenders.

    Attributes:
        num_self_blocks: self-attention blocks before the cross attention. With none, what the
            answer needs from several tokens at once has to be in the tokens.
        epochs: passes over the labelled clips.
        batch_size: clips of an update.
        lr: peak learning rate of AdamW, reached after `warmup_steps`, falling along half a cosine.
        weight_decay: of AdamW.
        warmup_steps: updates.
    """

    num_self_blocks: int = Field(1, ge=0)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(30, ge=1)


# -- clips to tokens --------------------------------------------------------------------------


@torch.no_grad()
def encoder_tokens(
    encoder: VJEPA2Encoder, frames: UInt8[Tensor, "B T 3 H W"]
) -> Float[Tensor, "B N D"]:
    """All tokens of the encoder's last level."""
    parts = frames.split(PORTION)
    return torch.cat([encoder(normalised(part)).last_hidden_state for part in parts])


class PixelTokens:
    """Patches of pixels as tokens, on their `width` strongest principal components.

    Args:
        frames: clips that the components are found on.
        patch_size, tubelet_size: of a token.
        width: numbers per token; fewer where a token has fewer.
    """

    def __init__(
        self, frames: UInt8[Tensor, "B T 3 H W"], *, patch_size: int, tubelet_size: int, width: int
    ) -> None:
        self.patch_size, self.tubelet_size = patch_size, tubelet_size
        tokens = self._patches(frames).flatten(0, 1)
        self.mean = tokens.mean(dim=0)
        covariance = (tokens - self.mean).T @ (tokens - self.mean)
        # Eigenvalues come in ascending order.
        self.components = torch.linalg.eigh(covariance).eigenvectors[:, -width:]

    def __call__(self, frames: UInt8[Tensor, "B T 3 H W"]) -> Float[Tensor, "B N D"]:
        """Tokens in the order of the encoder's."""
        parts = [(self._patches(part) - self.mean) for part in frames.split(PORTION)]
        return torch.cat([part @ self.components for part in parts])

    def _patches(self, frames: Tensor) -> Float[Tensor, "B N P"]:
        side, length = self.patch_size, self.tubelet_size
        cut = normalised(frames).unfold(1, length, length)
        cut = cut.unfold(3, side, side).unfold(4, side, side)  # [B, t, C, h, w, length, P, P]
        batch, t, _, h, w = cut.shape[:5]
        return cut.permute(0, 1, 3, 4, 2, 5, 6, 7).reshape(batch, t * h * w, -1)


class Standardised(NamedTuple):
    """Mean and deviation of every channel, measured on the labelled training clips."""

    mean: Float[Tensor, " D"]
    deviation: Float[Tensor, " D"]

    @classmethod
    def of(cls, tokens: Float[Tensor, "B N D"]) -> "Standardised":
        """Measure tokens."""
        return cls(tokens.mean(dim=(0, 1)), tokens.std(dim=(0, 1)).clamp(min=1e-6))

    def __call__(
        self, tokens: Float[Tensor, "B N D"], places: Float[Tensor, "N D"]
    ) -> Float[Tensor, "B N D"]:
        """Tokens of mean 0 and deviation 1, with the code of their places added."""
        return (tokens - self.mean) / self.deviation + places


def place_code(grid: TokenGrid, *, width: int) -> Float[Tensor, "N D"]:
    """A fixed code of every token's time, row and column, of deviation about 1.

    Cosines of three wavelengths per axis, spread over all channels by a fixed random matrix.
    """
    axes = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    waves = [
        torch.cos(math.pi * number * (axis.flatten() + 0.5) / side)
        for axis, side in zip(axes, grid, strict=True)
        for number in range(1, WAVES + 1)
    ]
    generator = torch.Generator().manual_seed(CODE_SEED)
    spread = torch.randn(len(waves), width, generator=generator) / WAVES
    return torch.stack(waves, dim=1) @ spread


# -- probes -----------------------------------------------------------------------------------


def probe_network(
    config: ProbeConfig, *, width: int, num_heads: int, num_answers: int
) -> VJEPA2Config:
    """Configuration of the probe for tokens of a width."""
    return VJEPA2Config(
        hidden_size=width,
        num_attention_heads=num_heads,
        num_pooler_layers=config.num_self_blocks,
        num_labels=num_answers,
        initializer_range=1 / math.sqrt(width),
    )


def train_probe(
    network: VJEPA2Config,
    tokens: Float[Tensor, "B N D"],
    labels: Int[Tensor, " B"],
    *,
    config: ProbeConfig,
    seed: int,
) -> VJEPA2AttentiveProbe:
    """Train a probe on standardised tokens; `seed` fixes weights and order."""
    generator = torch.Generator().manual_seed(seed)
    probe = VJEPA2AttentiveProbe(network)
    init_weights(probe, std=network.initializer_range, generator=generator)
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    num_steps = config.epochs * math.ceil(len(labels) / config.batch_size)
    step = 0
    for _ in range(config.epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(config.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * rate_at(step, config=config, num_steps=num_steps)
            loss = probe(tokens[rows], labels=labels[rows]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return probe.eval()


def rate_at(step: int, *, config: ProbeConfig, num_steps: int) -> float:
    """Learning rate of an update as a share of the peak."""
    rise = min(1.0, (step + 1) / config.warmup_steps)
    return rise * 0.5 * (1 + math.cos(math.pi * step / num_steps))


@torch.no_grad()
def answered_rightly(
    probe: VJEPA2AttentiveProbe, tokens: Float[Tensor, "B N D"], labels: Int[Tensor, " B"]
) -> Bool[Tensor, " B"]:
    """Which clips the probe answers rightly."""
    logits = torch.cat([probe(part).logits for part in tokens.split(PORTION)])
    right: Tensor = logits.argmax(dim=1) == labels
    return right


# -- intervals --------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float


def bootstrap(values: Float[Tensor, "seeds n"], *, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean of all values; seeds and clips are both drawn anew, with replacement.

    For the difference of two contenders on the same clips and seeds, give the difference.
    """
    generator = torch.Generator().manual_seed(seed)
    num_seeds, count = values.shape
    means = []
    for _ in range(draws):
        seeds = torch.randint(num_seeds, (num_seeds,), generator=generator)
        clips = torch.randint(count, (count,), generator=generator)
        means.append(values[seeds].mean(dim=0)[clips].mean())
    low, high = torch.stack(means).quantile(torch.tensor([0.025, 0.975])).tolist()
    return Interval(float(values.mean()), low, high)
