"""What a world model learns by: the next frame, and a rollout of k steps (arXiv:2506.09985, 3.2).

    teacher forcing   frames 0 .. T-2 as they were      -> frames 1 .. T-1
    rollout           frame 0, then own predictions     -> frames 1 .. k

Both are mean |difference|^p / p of layer-normed features and are added with equal weights. The
gradient of the rollout flows through the predictions that go back in. States are those recorded.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vjepa2.data.robot_statistics import RobotStatistics
from vjepa2.models.action_model import normed
from vjepa2.models.action_predictor import VJEPA2ActionPredictor
from vjepa2.shapes import TokenGrid


class WorldLosses(NamedTuple):
    """Of some samples.

    Attributes:
        total: scalar, `teacher_forced` and `rollout` added.
        teacher_forced: scalar, mean over samples and steps.
        rollout: scalar, mean over samples and the k steps.
        by_step: [k] mean |difference| of every step of the rollout, without gradient.
    """

    total: Tensor
    teacher_forced: Tensor
    rollout: Tensor
    by_step: Tensor


class WorldStep(nn.Module):
    """A predictor with its loss, as processes share it.

    Args:
        predictor: trained in place.
        exponent: p.
        statistics: states and actions are brought to mean 0 and spread 1 by them; None: taken as
            they are.
    """

    def __init__(
        self,
        predictor: VJEPA2ActionPredictor,
        *,
        exponent: float = 1.0,
        statistics: RobotStatistics | None = None,
    ) -> None:
        super().__init__()
        self.predictor, self.exponent, self.statistics = predictor, exponent, statistics

    def forward(
        self,
        latents: Float[Tensor, "B T N D"],
        actions: Float[Tensor, "B T1 A"],
        states: Float[Tensor, "B T K"],
        *,
        grid: tuple[int, int],
        auto_steps: int,
    ) -> WorldLosses:
        """Losses of some samples.

        Args:
            latents: layer-normed features of T frames.
            actions: between them, T - 1.
            states: at them; the last one is not used.
            grid: rows and columns of a frame's tokens.
            auto_steps: k, 1 .. T - 1.
        """
        if self.statistics is not None:
            actions = self.statistics.actions.normalise(actions)
            states = self.statistics.states.normalise(states)
        targets = latents[:, 1:]
        predicted = self._next(latents[:, :-1], actions, states[:, :-1], grid)
        teacher_forced = self._distance(predicted, targets)
        # The first step of the rollout is that of teacher forcing: nothing lies before frame 0.
        rolled = [predicted[:, 0]]
        for step in range(2, auto_steps + 1):
            seen = torch.stack([latents[:, 0], *rolled], dim=1)
            following = self._next(seen, actions[:, :step], states[:, :step], grid)
            rolled.append(following[:, -1])
        rollout = torch.stack(rolled, dim=1)
        loss = self._distance(rollout, targets[:, :auto_steps])
        with torch.no_grad():
            by_step = (rollout - targets[:, :auto_steps]).abs().float().mean(dim=(0, 2, 3))
        return WorldLosses(teacher_forced + loss, teacher_forced, loss, by_step)

    def _next(
        self, latents: Tensor, actions: Tensor, states: Tensor, grid: tuple[int, int]
    ) -> Float[Tensor, "B T N D"]:
        """The frame after each frame, layer-normed."""
        num_steps = latents.shape[1]
        output = self.predictor(
            latents.flatten(1, 2), actions, states, grid=TokenGrid(num_steps, *grid)
        )
        following: Tensor = normed(output.last_hidden_state).unflatten(1, (num_steps, -1))
        return following

    def _distance(self, predicted: Tensor, targets: Tensor) -> Tensor:
        difference = (predicted - targets).abs().float()
        if self.exponent != 1.0:
            difference = difference.pow(self.exponent) / self.exponent
        return difference.mean()


@torch.no_grad()
def fold_statistics(
    predictor: VJEPA2ActionPredictor, statistics: RobotStatistics, *, inverse: bool = False
) -> None:
    """Let a predictor that learned from normalised numbers take them as they are.

    W (x - mean) / std + b = (W / std) x + (b - W mean / std), in the layers that read actions and
    states; the predictor computes the same as before.

    Args:
        predictor: changed in place; on the CPU.
        statistics: by which its inputs were normalised.
        inverse: the other way round, for a predictor that goes on learning.
    """
    layers = predictor.embeddings.action_embeddings, predictor.embeddings.state_embeddings
    for layer, spread in zip(layers, (statistics.actions, statistics.states), strict=True):
        weight = layer.weight.double()
        zero, one = weight.new_zeros(weight.shape[1]), weight.new_ones(weight.shape[1])
        mean = spread.restore(zero)
        scale = spread.restore(one) - mean
        if inverse:
            scale, mean = 1 / scale, -mean / scale
        folded = weight / scale
        layer.bias.copy_(layer.bias.double() - folded @ mean)
        layer.weight.copy_(folded)
