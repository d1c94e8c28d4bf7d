"""Rollouts that keep what they have read, beside the network that reads everything anew."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import randomise, tiny_config
from vjepa2.errors import ConfigError, ShapeError
from vjepa2.models.action_model import VJEPA2ActionModel, normed
from vjepa2.models.action_rollout import StepCache, empty_cache, next_tokens
from vjepa2.shapes import TokenGrid

GRID = TokenGrid(16, 2, 3)


def make(**changes: Any) -> VJEPA2ActionModel:
    config = tiny_config(model_type="vjepa2_ac", **changes)
    return randomise(VJEPA2ActionModel(config).double()).eval()


def inputs(batch: int, steps: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    first = draw(batch, GRID.tokens_per_step, width)
    return first, draw(batch, steps, 7), draw(batch, steps, 7), draw(batch, steps, 6)


def uncached(
    model: VJEPA2ActionModel, first: Tensor, *conditions: Tensor, steps: int
) -> list[Tensor]:
    """As published: for every frame that is added, all frames again."""
    frames = [first]
    for step in range(1, steps + 1):
        grid = TokenGrid(step, GRID.h, GRID.w)
        given = [condition[:, :step] for condition in conditions]
        predicted = model.predict_next(torch.cat(frames, dim=1), *given, grid=grid)
        frames.append(predicted[:, -GRID.tokens_per_step :])
    return frames[1:]


def cached(
    model: VJEPA2ActionModel, first: Tensor, *conditions: Tensor, steps: int, cache: StepCache
) -> list[Tensor]:
    frames, tokens = [], first
    for step in range(steps):
        given = [condition[:, step] for condition in conditions]
        predicted = next_tokens(model.predictor, tokens, *given, past=cache, keep=step + 1 < steps)
        assert predicted is not None
        tokens = normed(predicted)
        frames.append(tokens)
    return frames


@pytest.mark.parametrize("with_poses", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 5, 16])
@torch.no_grad()
def test_every_horizon_equals_the_network_that_reads_everything(
    steps: int, with_poses: bool
) -> None:
    model = make()
    first, *conditions = inputs(3, steps, model.config.hidden_size)
    conditions = conditions[: 3 if with_poses else 2]
    cache = empty_cache(model.predictor, first, grid=GRID, num_conditions=len(conditions))
    ours = cached(model, first, *conditions, steps=steps, cache=cache)
    theirs = uncached(model, first, *conditions, steps=steps)
    for own, other in zip(ours, theirs, strict=True):
        # Rounding of one step is fed to the next; 1e-9 in float64 leaves 1e-5 in float32 far off.
        assert torch.allclose(own, other, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_shared_past_is_read_once() -> None:
    model = make()
    first, actions, states, _ = inputs(1, 6, model.config.hidden_size)
    grid = GRID.tokens_per_step
    past = torch.cat([first, *uncached(model, first, actions, states, steps=2)], dim=1)
    cache = empty_cache(model.predictor, first, grid=GRID)
    for step in range(2):
        seen = past[:, step * grid : (step + 1) * grid]
        nothing = next_tokens(
            model.predictor,
            seen,
            actions[:, step],
            states[:, step],
            past=cache,
            keep=True,
            read_only=True,
        )
        assert nothing is None
    ways = 4
    tried = actions.repeat(ways, 1, 1)
    tried[:, 2:] += torch.randn(ways, 4, 7, dtype=torch.float64)
    lengths = [len(layer) for layer in cache.layers]
    tokens = past[:, 2 * grid :].expand(ways, -1, -1)
    frames = cached(
        model,
        tokens,
        tried[:, 2:],
        states[:, 2:].expand(ways, -1, -1),
        steps=4,
        cache=cache.for_candidates(ways, num_kept=3),
    )
    assert [len(layer) for layer in cache.layers] == lengths  # the past is as it was
    for way in range(ways):
        frames_so_far = past
        for step in range(2, 6):
            predicted = model.predict_next(
                frames_so_far,
                tried[way : way + 1, : step + 1],
                states[:, : step + 1],
                grid=TokenGrid(step + 1, GRID.h, GRID.w),
            )[:, -grid:]
            assert torch.allclose(frames[step - 2][way], predicted[0], rtol=0, atol=1e-9)
            frames_so_far = torch.cat([frames_so_far, predicted], dim=1)


@torch.no_grad()
def test_an_action_leaves_earlier_steps_bit_identical() -> None:
    model = make().float()
    first, actions, states, _ = (x.float() for x in inputs(2, 6, model.config.hidden_size))
    changed = actions.clone()
    changed[:, 3] += 1.0
    runs = []
    for tried in (actions, changed):
        cache = empty_cache(model.predictor, first, grid=GRID)
        runs.append(cached(model, first, tried, states, steps=6, cache=cache))
    same = [torch.equal(a, b) for a, b in zip(*runs, strict=True)]
    assert same == [True, True, True, False, False, False]


def test_gradients_are_those_of_the_network_that_reads_everything() -> None:
    model = make()
    first, actions, states, _ = inputs(2, 3, model.config.hidden_size)
    gradients = []
    for roll in (uncached, cached):
        tried = actions.clone().requires_grad_()
        more = {} if roll is uncached else {"cache": empty_cache(model.predictor, first, grid=GRID)}
        roll(model, first, tried, states, steps=3, **more)[-1].square().sum().backward()
        assert tried.grad is not None
        gradients.append(tried.grad)
    assert gradients[0].abs().min() > 0
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_a_single_step_keeps_nothing() -> None:
    model = make()
    first, actions, states, _ = inputs(2, 1, model.config.hidden_size)
    cache = empty_cache(model.predictor, first, grid=GRID).for_candidates(2, num_kept=0)
    cached(model, first, actions, states, steps=1, cache=cache)
    assert all(len(layer) == 0 and layer._keys is None for layer in cache.layers)


def test_mistakes_are_named() -> None:
    model = make()
    first, actions, states, poses = inputs(2, 2, model.config.hidden_size)
    cache = empty_cache(model.predictor, first, grid=TokenGrid(1, GRID.h, GRID.w))
    given = (actions[:, 0], states[:, 0])
    with pytest.raises(ShapeError, match=r"tokens must be those of one frame, \[S, 6, "):
        next_tokens(model.predictor, first[:, :5], *given, past=cache, keep=True)
    with pytest.raises(ConfigError, match="camera poses"):
        next_tokens(model.predictor, first, *given, poses[:, 0], past=cache, keep=True)
    next_tokens(model.predictor, first, *given, past=cache, keep=True)
    with pytest.raises(ConfigError, match="prepared for 1 steps"):
        next_tokens(model.predictor, first, *given, past=cache, keep=True)
