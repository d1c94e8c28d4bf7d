"""The action-conditioned model as something to plan with: rollouts, chunks, pasts, mistakes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import randomise, tiny_config
from vjepa2.errors import ConfigError, DtypeError, ShapeError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.world_model import ActionWorldModel
from vjepa2.poses import integrate_pose
from vjepa2.protocols import Rollout, WorldModel
from vjepa2.shapes import TokenGrid

TOKENS = 4


def make(**changes: Any) -> VJEPA2ActionModel:
    config = tiny_config(model_type="vjepa2_ac", **changes)
    return randomise(VJEPA2ActionModel(config).double()).eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(
    model: VJEPA2ActionModel, latents: Tensor, states: Tensor, past: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """One candidate at a time, everything anew for every step that is added."""
    frames, poses = [], []
    for candidate in actions:
        seen, known, taken = latents.flatten(0, 1)[None], states[None], past[None]
        for action in candidate:
            taken = torch.cat([taken, action[None, None]], dim=1)
            grid = TokenGrid(known.shape[1], 2, 2)
            predicted = model.predict_next(seen, taken, known, grid=grid)[:, -TOKENS:]
            seen = torch.cat([seen, predicted], dim=1)
            known = torch.cat([known, integrate_pose(known[:, -1:], action[None, None])], dim=1)
        frames.append(seen[0, len(latents) * TOKENS :].unflatten(0, (-1, TOKENS)))
        poses.append(known[0, len(states) :])
    return torch.stack(frames), torch.stack(poses)


def a_past(model: VJEPA2ActionModel, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    width = model.config.hidden_size
    return draw(frames, TOKENS, width, seed=1), draw(frames, 7, seed=2), draw(frames - 1, 7, seed=3)


@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_rollouts_equal_the_published_algorithm(frames: int) -> None:
    model = make()
    world: WorldModel = ActionWorldModel(model)
    latents, states, past = a_past(model, frames)
    actions = draw(3, 4, 7, seed=4)
    rollout = world.rollout(world.begin(latents, states, past), actions)
    expected, poses = published(model, latents, states, past, actions)
    assert torch.allclose(rollout.latents, expected, rtol=0, atol=1e-9)
    assert torch.allclose(rollout.states, poses, rtol=0, atol=1e-9)


@torch.no_grad()
def test_chunks_change_nothing_but_how_much_is_computed_at_once() -> None:
    model = make()
    latents, states, _ = a_past(model, 1)
    actions = draw(7, 3, 7, seed=4)
    sizes: list[int] = []

    def objective(rollout: Rollout) -> Tensor:
        sizes.append(len(rollout.latents))
        return rollout.latents[:, -1].abs().mean(dim=(1, 2)) + rollout.states[:, -1, 0]

    whole = ActionWorldModel(model)
    costs = whole.costs(whole.begin(latents, states), actions, objective)
    assert sizes == [7]
    room = whole.bytes_per_candidate(whole.begin(latents, states), horizon=3)
    tight = ActionWorldModel(model, memory_bytes=int(3.5 * room))
    sizes.clear()
    again = tight.costs(tight.begin(latents, states), actions, objective)
    assert sizes == [3, 3, 1]
    assert torch.allclose(costs, again, rtol=0, atol=1e-12)
    least = ActionWorldModel(model, memory_bytes=1)
    assert least.candidates_at_once(least.begin(latents, states), horizon=3) == 1


@torch.no_grad()
def test_a_candidates_memory_covers_what_its_cache_takes() -> None:
    model = make()
    world = ActionWorldModel(model)
    latents, states, past = a_past(model, 3)
    situation = world.begin(latents, states, past)
    branch = situation.past.for_candidates(2, num_kept=4)
    held = sum(2 * layer._keys[0].nbytes for layer in branch.layers if layer._keys is not None)
    stated = world.bytes_per_candidate(situation, horizon=5)
    assert held < stated < 4 * held
    # One step after one frame keeps nothing.
    start = world.begin(latents[:1], states[:1])
    config = model.config
    nothing_kept = world.bytes_per_candidate(start, horizon=1)
    one_layer = 2 * (2 + TOKENS) * config.pred_hidden_size * 8
    more = world.bytes_per_candidate(start, horizon=2) - nothing_kept
    assert more >= config.pred_num_hidden_layers * one_layer


def test_gradients_reach_the_actions() -> None:
    model = make()
    world = ActionWorldModel(model, memory_bytes=1)
    latents, states, past = a_past(model, 2)
    situation = world.begin(latents, states, past)
    actions = draw(2, 2, 7, seed=4).requires_grad_()
    goal = draw(TOKENS, model.config.hidden_size, seed=9)

    def objective(rollout: Rollout) -> Tensor:
        return (rollout.latents[:, -1] - goal).square().mean(dim=(1, 2))

    world.costs(situation, actions, objective).sum().backward()
    assert actions.grad is not None
    step = 1e-6
    for place in [(0, 0, 1), (1, 1, 4)]:
        moved = []
        for sign in (1, -1):
            changed = actions.detach().clone()
            changed[place] += sign * step
            with torch.no_grad():
                moved.append(world.costs(situation, changed, objective).sum())
        slope = (moved[0] - moved[1]) / (2 * step)
        assert math.isclose(actions.grad[place].item(), slope.item(), rel_tol=1e-4, abs_tol=1e-8)


@torch.no_grad()
def test_frames_are_encoded_as_the_model_does() -> None:
    model = make()
    frames = draw(2, 3, 32, 48)
    latents = ActionWorldModel(model).encode(frames)
    expected = model.encode_frames(frames[None])[0]
    assert torch.equal(latents.flatten(0, 1), expected)


@torch.no_grad()
def test_other_robots_bring_their_own_rule() -> None:
    model = make(action_size=2, state_size=2)
    with pytest.raises(ConfigError, match=r"actions of 2 .* Give update_state"):
        ActionWorldModel(model)
    world = ActionWorldModel(model, update_state=lambda state, action: state + action)
    situation = world.begin(draw(1, TOKENS, model.config.hidden_size), draw(1, 2))
    actions = draw(3, 4, 2)
    expected = situation.state + actions.cumsum(dim=1)
    assert torch.allclose(world.rollout(situation, actions).states, expected)


@torch.no_grad()
def test_bfloat16_is_close() -> None:
    model = make().float()
    latents, states, _ = (part.float() for part in a_past(model, 1))
    actions = draw(2, 2, 7, seed=4).float()
    rolled = [
        world.rollout(world.begin(latents, states), actions).latents
        for world in (ActionWorldModel(model), ActionWorldModel(model, dtype=torch.bfloat16))
    ]
    assert rolled[1].dtype == torch.float32
    error = (rolled[0] - rolled[1]).norm() / rolled[0].norm()
    assert 0 < error < 0.05


def test_mistakes_are_named() -> None:
    model = make()
    world = ActionWorldModel(model)
    latents, states, past = a_past(model, 2)
    situation = world.begin(latents, states, past)
    with pytest.raises(ShapeError, match=r"frames must be pixels \[T, C, H, W\]"):
        world.encode(draw(3, 32, 32))
    with pytest.raises(ShapeError, match=r"actions must be \[T - 1 = 1, 7\]"):
        world.begin(latents, states)
    with pytest.raises(ShapeError, match="is no square"):
        world.begin(draw(1, 6, model.config.hidden_size), states[:1])
    with pytest.raises(DtypeError, match="must be finite"):
        world.begin(latents, states * math.nan, past)
    with pytest.raises(ShapeError, match=r"actions must be \[S, L, 7\]"):
        world.rollout(situation, draw(2, 7))
    with pytest.raises(DtypeError, match="actions hold NaN"):
        world.rollout(situation, draw(1, 1, 7) * math.inf)
    with pytest.raises(ConfigError, match="Plan fewer steps ahead"):
        world.rollout(situation, draw(1, 256, 7))
    with pytest.raises(ShapeError, match="one cost per candidate"):
        world.costs(situation, draw(2, 1, 7), lambda rollout: rollout.latents.mean())
