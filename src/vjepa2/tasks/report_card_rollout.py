"""How far predictions are off, by horizon, and whether they depend on the action.

Errors are mean absolute differences of layer-normed features, as in training (arXiv:2506.09985,
section 3.1). A model is worth something where it is below two baselines: nothing changes, and
everything changes as it does on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.models.action_model import normed
from vjepa2.models.world_model import ActionWorldModel
from vjepa2.protocols import Rollout
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.report_card_data import Recordings, Transitions, spread


@dataclass(frozen=True)
class RolloutErrors:
    """Mean absolute errors after 1 .. L actions.

    Attributes:
        model, copy, motion: of the model, of the last frame, and of the mean change.
        states: of the predicted state's positions (metres, or radians of joints).
        num_rollouts: that were averaged.
    """

    model: tuple[float, ...]
    copy: tuple[float, ...]
    motion: tuple[float, ...]
    states: tuple[float, ...]
    num_rollouts: int

    @property
    def skill(self) -> tuple[float, ...]:
        """1 - error / error of the better baseline: 1 is perfect, 0 is no better."""
        return tuple(
            1 - model / max(min(copy, motion), 1e-12)
            for model, copy, motion in zip(self.model, self.copy, self.motion, strict=True)
        )


@dataclass(frozen=True)
class ActionGap:
    """Errors with the action that was taken, and with others of the data set.

    Attributes:
        true, shuffled: mean errors one step ahead.
        accuracy: share of pairs in which the true action has the smaller error; 0.5 is chance.
        sensitivity: how far predictions for the two actions are apart, over the mean change from
            one moment to the next; 0: actions are ignored.
        num_pairs: that were compared.
    """

    true: float
    shuffled: float
    accuracy: float
    sensitivity: float
    num_pairs: int

    @property
    def gap(self) -> float:
        """By how much the error grows with wrong actions, as a share."""
        return self.shuffled / max(self.true, 1e-12) - 1


@torch.no_grad()
def predict_each(
    world: ActionWorldModel,
    latents: Float[Tensor, "B N D"],
    states: Float[Tensor, "B K"],
    actions: Float[Tensor, "B L A"],
) -> Rollout:
    """One rollout from each of B moments, which have no past in common."""
    first = world.begin(latents[:1], states[:1])
    size = world.candidates_at_once(first, horizon=actions.shape[1])
    parts = []
    for start in range(0, len(latents), size):
        rows = slice(start, start + size)
        each = replace(first, tokens=latents[rows], state=states[rows])
        parts.append(world.rollout(each, actions[rows]))
    return Rollout(
        latents=torch.cat([part.latents for part in parts]),
        states=torch.cat([part.states for part in parts]),
        actions=torch.cat([part.actions for part in parts]),
    )


def step_errors(world: ActionWorldModel, steps: Transitions) -> Float[Tensor, " B"]:
    """Error of the prediction of each transition."""
    predicted = predict_each(world, steps.before, steps.states, steps.actions[:, None]).latents[
        :, 0
    ]
    return distance(predicted, steps.after)


def distance(first: Float[Tensor, "B N D"], second: Float[Tensor, "B N D"]) -> Float[Tensor, " B"]:
    """Mean absolute difference of each pair: the energy."""
    away: Tensor = (first.float() - second.float()).abs().mean(dim=(1, 2))
    return away


def rollout_errors(
    world: ActionWorldModel, data: Recordings, config: ReportCardConfig
) -> RolloutErrors:
    """Rollouts from recorded moments with the recorded actions, against what followed."""
    horizon = min(config.horizon, max(len(item) for item in data.items) - 1)
    places = [
        (owner, at) for owner, item in enumerate(data.items) for at in range(len(item) - horizon)
    ]
    places = [places[at] for at in spread(len(places), config.rollouts)]
    picked = [(data.items[owner], at) for owner, at in places]
    first = torch.stack([item.latents[at] for item, at in picked])
    states = torch.stack([item.states[at] for item, at in picked])
    actions = torch.stack([item.actions[at : at + horizon] for item, at in picked])
    future = torch.stack([item.latents[at + 1 : at + 1 + horizon] for item, at in picked])
    moved = torch.stack([item.states[at + 1 : at + 1 + horizon] for item, at in picked])
    rollout = predict_each(world, first, states, actions)
    owners = [owner for owner, _ in places]
    model, copy, motion, place = [], [], [], []
    lengths = list(data.lengths)
    for step in range(horizon):
        after = future[:, step]
        model.append(distance(rollout.latents[:, step], after).mean().item())
        copy.append(distance(first, after).mean().item())
        motion.append(_mean_motion(first, after, owners))
        off = (rollout.states[:, step] - moved[:, step])[:, lengths].float()
        place.append(off.norm(dim=1).mean().item() if lengths else 0.0)
    return RolloutErrors(tuple(model), tuple(copy), tuple(motion), tuple(place), len(picked))


def _mean_motion(first: Tensor, after: Tensor, owners: Sequence[int]) -> float:
    """Error of adding the mean change of the other episodes; of all, where there is but one."""
    owner = torch.tensor(owners)
    errors = []
    for number in sorted(set(owners)):
        own = owner == number
        others = ~own if bool((~own).any()) else own
        change = (after[others] - first[others]).mean(dim=0)
        errors.append(distance(normed(first[own] + change), after[own]))
    return torch.cat(errors).mean().item()


def action_gap(world: ActionWorldModel, data: Recordings, config: ReportCardConfig) -> ActionGap:
    """Errors with true and with other actions.

    Every transition is predicted `config.shuffles` times with the action of another one.
    """
    steps = data.transitions(4 * config.suspects)
    generator = torch.Generator().manual_seed(config.seed)

    def predicted(actions: Tensor) -> Tensor:
        rollout = predict_each(world, steps.before, steps.states, actions[:, None])
        return rollout.latents[:, 0]

    usual = predicted(steps.actions)
    true = distance(usual, steps.after)
    errors, apart = [], []
    for _ in range(config.shuffles):
        # Never its own: a cyclic shift along a random order.
        order = torch.randperm(len(steps), generator=generator)
        others = torch.empty_like(order)
        others[order] = order.roll(1)
        other = predicted(steps.actions[others])
        errors.append(distance(other, steps.after))
        apart.append(distance(other, usual).mean())
    shuffled = torch.stack(errors)
    better = (true < shuffled).float() + 0.5 * (true == shuffled).float()
    change = distance(steps.before, steps.after).mean().clamp(min=1e-4)
    return ActionGap(
        true=true.mean().item(),
        shuffled=shuffled.mean().item(),
        accuracy=better.mean().item(),
        sensitivity=(torch.stack(apart).mean() / change).item(),
        num_pairs=shuffled.numel(),
    )
