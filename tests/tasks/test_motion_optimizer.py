"""Orthogonalised momentum: what it does to singular values, and PyTorch's own beside it."""

import math

import pytest
import torch

from vjepa2.tasks.motion_optimizer import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(12, 12), (8, 24), (24, 8)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    inside = U.T @ result @ Vh.T  # the result in the matrix' own directions
    assert torch.allclose(inside, inside.diagonal().diag(), atol=1e-9)
    clear = S / matrix.norm() > 0.02  # five iterations lift these; smaller ones rise less
    assert clear.sum() >= 7
    assert bool(((inside.diagonal()[clear] > 0.6) & (inside.diagonal()[clear] < 1.2)).all())


def test_one_step_by_hand() -> None:
    """A matrix of one row: its only singular value follows the scalar polynomial."""
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    weight.grad = torch.tensor([[3.0, 4.0]])
    Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.2).step()
    value = 1.0
    for _ in range(5):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    kept = 1 - 0.1 * 0.2
    expected = [2.0 * kept - 0.1 * value * 0.6, -1.0 * kept - 0.1 * value * 0.8]
    assert weight[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has its own from 2.9 on")
def test_several_steps_stay_near_those_of_pytorch() -> None:
    """PyTorch computes in bfloat16 (three digits), so steps agree to a few hundredths."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(16, 4, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    pairs = (
        (ours, Muon([ours], **options)),
        (theirs, torch.optim.Muon([theirs], adjust_lr_fn="original", **options)),
    )
    for _ in range(3):
        gradient = torch.randn(16, 4, generator=generator)
        for weight, optimizer in pairs:
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.05 * math.sqrt(4)
    assert (ours - theirs).norm() < 0.05 * moved
