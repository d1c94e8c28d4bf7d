"""The moving average against the formula, one number at a time."""

import pytest
import torch
from torch import nn

from vjepa2.ema import MovingAverage, frozen_copy
from vjepa2.errors import ConfigError, InputError


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99925, 1.0])
def test_every_parameter_follows_the_formula(momentum: float) -> None:
    teacher, student = network(0), network(1)
    before = {name: value.clone() for name, value in teacher.named_parameters()}
    MovingAverage(teacher, student).update(momentum)
    for name, value in teacher.named_parameters():
        wanted = momentum * before[name] + (1 - momentum) * student.get_parameter(name)
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7)


def test_a_teacher_starts_equal_frozen_and_apart() -> None:
    student = network(0).train()
    teacher = frozen_copy(student)
    assert not teacher.training
    assert not any(value.requires_grad for value in teacher.parameters())
    with torch.no_grad():
        next(student.parameters()).add_(1.0)
    assert not torch.equal(next(teacher.parameters()), next(student.parameters()))


def test_distance_is_relative_to_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vjepa2.ema.DISTANCE_PORTION", 2)  # five tensors: three portions
    teacher, student = network(0), network(1)
    mine = torch.cat([value.detach().flatten() for value in teacher.parameters()])
    other = torch.cat([value.detach().flatten() for value in student.parameters()])
    wanted = float((other - mine).norm() / mine.norm())
    assert MovingAverage(teacher, student).distance() == pytest.approx(wanted, rel=1e-5)
    assert MovingAverage(teacher, teacher).distance() == 0.0


def test_different_networks_are_refused() -> None:
    with pytest.raises(InputError, match=r"first difference: 0\.weight"):
        MovingAverage(network(0), nn.Sequential(nn.Linear(4, 5)))


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_a_momentum_outside_0_to_1_is_refused(momentum: float) -> None:
    with pytest.raises(ConfigError, match="0 to 1"):
        MovingAverage(network(0), network(1)).update(momentum)
