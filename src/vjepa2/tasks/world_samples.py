"""The samples of a run that learns a world model: T frames in a row of one recording."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.draws import Draws, Permutation, Purpose
from vjepa2.errors import ConfigError
from vjepa2.tasks.world_latents import FrameNumbers, LatentTable
from vjepa2.tasks.world_model_config import WorldModelTraining
from vjepa2.tasks.world_recordings import Recordings


class WorldBatch(NamedTuple):
    """Of B samples, on the device.

    Attributes:
        latents: float32, of T frames; several cameras seen at once are joined along N.
        actions: between them.
        states: at them.
    """

    latents: Float[Tensor, "B T N D"]
    actions: Float[Tensor, "B T1 A"]
    states: Float[Tensor, "B T K"]


class WorldSamples:
    """Every stretch of T frames of the recordings of one part, in any order that is asked for.

    Args:
        config: of the run.
        recordings: of both parts.
        table: features of their frames.
        held_out: which part.

    Raises:
        ConfigError: no stretch is long enough and readable.
    """

    def __init__(
        self,
        config: WorldModelTraining,
        recordings: Recordings,
        table: LatentTable,
        *,
        held_out: bool,
    ) -> None:
        self.config, self.table = config, table
        data = config.data
        self.length = data.num_frames
        self.all_views = data.multi_camera == "tokens" and len(recordings.cameras) > 1
        self.num_views = len(recordings.cameras)
        numbers = FrameNumbers(recordings)
        windows: list[tuple[int, int, int]] = []
        states, actions, base = [], [], 0
        for index, item in enumerate(recordings.items):
            if item.held_out != held_out:
                continue
            length, first = len(item), numbers.first(index, 0)
            if table.usable(range(first, first + length * self.num_views)):
                windows += [
                    (base + start, first + start, length)
                    for start in range(length - self.length + 1)
                ]
            states.append(item.states)
            # One row per frame, so that frames and actions are found by the same number.
            actions.append(
                torch.cat([item.actions, item.actions.new_zeros(1, len(item.states[0]))])
            )
            base += length
        if not windows:
            part = "measure on" if held_out else "learn from"
            raise ConfigError(
                f"No episode to {part} has {self.length} frames (data.num_frames) that can be read."
            )
        self._windows = torch.tensor(windows)
        self._states, self._actions = torch.cat(states), torch.cat(actions)
        self._order: tuple[int, Permutation] | None = None

    def __len__(self) -> int:
        return len(self._windows)

    def learned(self, step: int, rows: range) -> WorldBatch:
        """Samples of update `step`, drawn without putting back until all were seen.

        Args:
            step: 0-based.
            rows: which of the batch; a process takes its share.
        """
        size, seed = self.config.batch_size, self.config.seed
        chosen, views = [], []
        for row in rows:
            epoch, place = divmod(step * size + row, len(self))
            if self._order is None or self._order[0] != epoch:
                draws = Draws(seed, Purpose.EPOCH, step=epoch)
                self._order = epoch, Permutation(len(self), draws)
            chosen.append(self._order[1][place])
            if self.num_views > 1 and not self.all_views:
                draws = Draws(seed, Purpose.MOMENT, step=step, position=row)
                views.append(draws.below(self.num_views))
        return self._batch(torch.tensor(chosen), torch.tensor(views or [0] * len(chosen)))

    def fixed(self, count: int) -> "FixedSamples":
        """At most `count` samples, evenly spread, always the same."""
        return FixedSamples(self, min(count, len(self)))

    def spread(self, places: Int[Tensor, " B"]) -> WorldBatch:
        """Samples by number; cameras take turns."""
        views = torch.zeros_like(places) if self.all_views else places % self.num_views
        return self._batch(places, views)

    def _batch(self, chosen: Int[Tensor, " B"], views: Int[Tensor, " B"]) -> WorldBatch:
        row, frame, length = self._windows[chosen].unbind(1)
        steps = torch.arange(self.length)
        at = row[:, None] + steps
        seen = range(self.num_views) if self.all_views else range(1)
        parts = []
        for view in seen:
            number = frame + (views + view) * length
            items = (number[:, None] + steps).flatten()
            parts.append(self.table.rows(items).unflatten(0, (len(chosen), self.length)))
        device = self.table.device
        return WorldBatch(
            latents=torch.cat(parts, dim=2) if len(parts) > 1 else parts[0],
            actions=self._actions[at[:, :-1]].to(device),
            states=self._states[at].to(device),
        )


class FixedSamples:
    """Some samples that stay the same, in portions."""

    def __init__(self, samples: WorldSamples, count: int) -> None:
        self.samples = samples
        self.places = torch.linspace(0, len(samples) - 1, count).round().long()

    def portions(
        self, size: int, *, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[WorldBatch, Float[Tensor, "B T1 A"]]]:
        """Samples, and the actions of others: of the one before each, which is far away.

        Args:
            size: samples of a portion at most.
            rank, world_size: every process gets some of the portions, perhaps none.
        """
        rolled = self.places.roll(1)
        parts = list(zip(self.places.split(size), rolled.split(size), strict=True))
        for own, other in parts[rank::world_size]:
            yield self.samples.spread(own), self.samples.spread(other).actions
