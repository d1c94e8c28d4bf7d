"""Range, mean and spread of states and actions over a data set: for tables and normalisation."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.trajectories import Episode
from vjepa2.errors import EpisodeError, ShapeError
from vjepa2.strict_config import StrictConfig

LEAST_SPREAD = 1e-6  # numbers that never change are not blown up


class Spread(StrictConfig):
    """Of each of K numbers; `count` rows."""

    count: int
    least: tuple[float, ...]
    most: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, rows: Float[Tensor, "T K"]) -> "Spread":
        """Of the rows of a table, T >= 1."""
        values = rows.double()
        return cls(
            count=len(values),
            least=tuple(values.amin(dim=0).tolist()),
            most=tuple(values.amax(dim=0).tolist()),
            mean=tuple(values.mean(dim=0).tolist()),
            std=tuple(values.std(dim=0, correction=0).tolist()),
        )

    def normalise(self, values: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
        """Mean 0 and spread 1; numbers that never changed keep their scale."""
        mean, scale = self._of(values)
        return (values - mean) / scale

    def restore(self, values: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
        """The inverse of `normalise`."""
        mean, scale = self._of(values)
        return values * scale + mean

    def _of(self, values: Tensor) -> tuple[Tensor, Tensor]:
        if values.shape[-1] != len(self.mean):
            raise ShapeError(f"Expected [..., {len(self.mean)}], got {list(values.shape)}.")
        std = [spread if spread > LEAST_SPREAD else 1.0 for spread in self.std]
        return values.new_tensor(self.mean), values.new_tensor(std)


class RobotStatistics(StrictConfig):
    """Of the states and the actions of a data set, in the units of a world model."""

    states: Spread
    actions: Spread


def robot_statistics(episodes: Iterable[Episode], spec: RobotSpec) -> RobotStatistics:
    """Statistics of a data set; the published model is trained on numbers as they are.

    Raises:
        EpisodeError: there is no action: no episode, or none of two states.
    """
    states, actions = [], []
    for episode in episodes:
        states.append(spec.states(episode.states))
        actions.append(spec.episode_actions(episode))
    if not sum(len(rows) for rows in actions):
        raise EpisodeError("No episode has two states: there are no actions to measure.")
    return RobotStatistics(
        states=Spread.of(torch.cat(states)), actions=Spread.of(torch.cat(actions))
    )
