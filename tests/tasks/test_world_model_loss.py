"""Losses and gradients of a world model equal those written out step by step."""

import pytest
import torch

from vjepa2 import VJEPA2ActionModel, VJEPA2Config
from vjepa2.data.robot_statistics import RobotStatistics, Spread
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.world_model_loss import WorldStep, fold_statistics

ROWS, COLUMNS = 2, 3
TOKENS = ROWS * COLUMNS


@pytest.fixture(scope="module")
def model() -> VJEPA2ActionModel:
    torch.manual_seed(0)
    config = VJEPA2Config(
        model_type="vjepa2_ac",
        crop_size=16,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        pred_hidden_size=24,
        pred_num_hidden_layers=2,
        pred_num_attention_heads=2,
        initializer_range=0.2,
        action_size=3,
        state_size=2,
    )
    return VJEPA2ActionModel(config).double().train()


def samples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    latents = torch.nn.functional.layer_norm(numbers(2, 5, TOKENS, 24), (24,))
    return latents, numbers(2, 4, 3), numbers(2, 5, 2)


def written_out(
    model: VJEPA2ActionModel, auto_steps: int
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """The published training step: the whole past is read again for every step of the rollout."""
    latents, actions, states = samples()

    def read(frames: torch.Tensor, count: int) -> torch.Tensor:
        return model.predict_next(
            frames, actions[:, :count], states[:, :count], grid=TokenGrid(count, ROWS, COLUMNS)
        )

    flat, targets = latents.flatten(1, 2), latents.flatten(1, 2)[:, TOKENS:]
    forced = read(flat[:, :-TOKENS], 4)
    rolled = torch.cat([flat[:, :TOKENS], forced[:, :TOKENS]], dim=1)
    for count in range(2, auto_steps + 1):
        rolled = torch.cat([rolled, read(rolled, count)[:, -TOKENS:]], dim=1)
    rolled = rolled[:, TOKENS:]
    wanted = targets[:, : rolled.shape[1]]
    steps = [
        float((rolled - wanted).detach()[:, k * TOKENS : (k + 1) * TOKENS].abs().mean())
        for k in range(auto_steps)
    ]
    return (forced - targets).abs().mean(), (rolled - wanted).abs().mean(), steps


def gradients(model: VJEPA2ActionModel) -> dict[str, torch.Tensor]:
    named = model.predictor.named_parameters()
    return {name: value.grad.clone() for name, value in named if value.grad is not None}


@pytest.mark.parametrize("auto_steps", [1, 2, 4])
def test_losses_and_gradients(model: VJEPA2ActionModel, auto_steps: int) -> None:
    model.zero_grad()
    forced, rolled, steps = written_out(model, auto_steps)
    (forced + rolled).backward()
    wanted = {
        n: p.grad.clone() for n, p in model.predictor.named_parameters() if p.grad is not None
    }
    model.zero_grad()
    losses = WorldStep(model.predictor)(*samples(), grid=(ROWS, COLUMNS), auto_steps=auto_steps)
    losses.total.backward()
    # The loss itself is a mean in single precision.
    assert losses.teacher_forced.item() == pytest.approx(forced.item(), rel=1e-6)
    assert losses.rollout.item() == pytest.approx(rolled.item(), rel=1e-6)
    assert losses.by_step.tolist() == pytest.approx(steps, rel=1e-6)
    got = gradients(model)
    assert got.keys() == wanted.keys() and len(wanted) > 10
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-9)


def test_the_gradient_flows_through_predictions(model: VJEPA2ActionModel) -> None:
    """Without it the gradient of the same losses is another one."""
    step = WorldStep(model.predictor)
    latents, actions, states = samples()
    model.zero_grad()
    step(latents, actions, states, grid=(ROWS, COLUMNS), auto_steps=2).rollout.backward()
    whole = gradients(model)["proj.weight"]
    model.zero_grad()
    with torch.no_grad():
        first = step._next(latents[:, :1], actions[:, :1], states[:, :1], (ROWS, COLUMNS))
    seen = torch.cat([latents[:, :1], first], dim=1)
    last = step._next(seen, actions[:, :2], states[:, :2], (ROWS, COLUMNS))[:, -1]
    (last - latents[:, 2]).abs().mean().backward()
    cut = gradients(model)["proj.weight"]
    assert (whole - cut / 2).abs().max() > 1e-3 * whole.abs().max()


def test_the_exponent(model: VJEPA2ActionModel) -> None:
    step = WorldStep(model.predictor, exponent=2.0)
    latents, actions, states = samples()
    with torch.no_grad():
        losses = step(latents, actions, states, grid=(ROWS, COLUMNS), auto_steps=1)
        ahead = step._next(latents[:, :-1], actions, states[:, :-1], (ROWS, COLUMNS))
    wanted = float((ahead - latents[:, 1:]).square().mean()) / 2
    assert losses.teacher_forced.item() == pytest.approx(wanted, rel=1e-6)


def test_statistics_are_folded_into_the_weights(model: VJEPA2ActionModel) -> None:
    latents, actions, states = samples()
    statistics = RobotStatistics(
        states=Spread.of(0.1 * states[0] + 3.0), actions=Spread.of(0.01 * actions[0])
    )
    raw_actions, raw_states = 0.01 * actions, 0.1 * states + 3.0
    before = {name: value.clone() for name, value in model.predictor.state_dict().items()}
    with torch.no_grad():
        options = {"grid": (ROWS, COLUMNS), "auto_steps": 3}
        normalised = WorldStep(model.predictor, statistics=statistics)(
            latents, raw_actions, raw_states, **options
        )
        fold_statistics(model.predictor, statistics)
        folded = WorldStep(model.predictor)(latents, raw_actions, raw_states, **options)
        assert folded.by_step.tolist() == pytest.approx(normalised.by_step.tolist(), rel=1e-9)
        fold_statistics(model.predictor, statistics, inverse=True)
    for name, value in model.predictor.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-9, atol=1e-9)
