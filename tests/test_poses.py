"""Rotations and poses beside SciPy, on a hundred thousand random cases, and at the awkward ones."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as Scipy
from torch import Tensor

from vjepa2.errors import ConfigError, InputError, ShapeError
from vjepa2.poses import (
    ROTATIONS,
    angle_between,
    convert,
    from_matrix,
    integrate_pose,
    pose_difference,
    to_matrix,
)

COUNT = 100_000


def random_rotations(count: int = COUNT) -> Scipy:
    return Scipy.random(count, random_state=np.random.default_rng(0))


def scipy_as(rotations: Scipy, kind: str) -> Tensor:
    values = {
        "matrix": lambda: rotations.as_matrix().reshape(-1, 9),
        "euler": lambda: rotations.as_euler("xyz"),
        "quaternion": lambda: rotations.as_quat(canonical=True),
        "axis_angle": rotations.as_rotvec,
        "six": lambda: rotations.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),
    }[kind]()
    return torch.from_numpy(np.ascontiguousarray(values))


@pytest.mark.parametrize("kind", ROTATIONS)
def test_matrices_equal_those_of_scipy(kind: str) -> None:
    rotations = random_rotations()
    matrices = torch.from_numpy(rotations.as_matrix())
    assert (to_matrix(scipy_as(rotations, kind), kind) - matrices).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ROTATIONS)
def test_representations_equal_those_of_scipy(kind: str) -> None:
    rotations = random_rotations()
    ours = from_matrix(torch.from_numpy(rotations.as_matrix()), kind)
    assert (ours - scipy_as(rotations, kind)).abs().max() < 1e-6


def states(count: int, *, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        np.concatenate(
            [
                rng.normal(size=(count, 3)),
                # Beyond one turn: a recording need not have wrapped its angles.
                rng.uniform(-3 * math.pi, 3 * math.pi, size=(count, 3)),
                rng.uniform(size=(count, 1)),
            ],
            axis=1,
        )
    )


def test_differences_and_integration_equal_scipy() -> None:
    first, second = states(COUNT, seed=1), states(COUNT, seed=2)
    before, after = (Scipy.from_euler("xyz", state[:, 3:6].numpy()) for state in (first, second))
    action = pose_difference(first, second)
    expected = torch.from_numpy((after * before.inv()).as_euler("xyz"))
    assert (action[:, 3:6] - expected).abs().max() < 1e-6
    assert torch.equal(action[:, :3], second[:, :3] - first[:, :3])
    assert torch.equal(action[:, 6], second[:, 6] - first[:, 6])

    reached = integrate_pose(first, action)
    turned = (Scipy.from_euler("xyz", action[:, 3:6].numpy()) * before).as_matrix()
    assert (to_matrix(reached[:, 3:6], "euler") - torch.from_numpy(turned)).abs().max() < 1e-6
    same = to_matrix(second[:, 3:6], "euler")
    assert (to_matrix(reached[:, 3:6], "euler") - same).abs().max() < 1e-6
    assert (reached[:, [0, 1, 2, 6]] - second[:, [0, 1, 2, 6]]).abs().max() < 1e-6


@pytest.mark.parametrize("sign", [1, -1])
def test_a_locked_gimbal_still_gives_the_same_rotation(sign: int) -> None:
    angles = torch.tensor([[0.4, sign * math.pi / 2, -0.9]], dtype=torch.float64)
    matrix = to_matrix(angles, "euler")
    again = to_matrix(from_matrix(matrix, "euler"), "euler")
    assert (again - matrix).abs().max() < 1e-7


@pytest.mark.parametrize("kind", ROTATIONS)
def test_half_turns_and_no_turn(kind: str) -> None:
    vectors = torch.cat([math.pi * torch.eye(3), -math.pi * torch.eye(3), torch.zeros(1, 3)])
    matrices = to_matrix(vectors.double(), "axis_angle")
    assert (to_matrix(from_matrix(matrices, kind), kind) - matrices).abs().max() < 1e-7


@pytest.mark.parametrize("kind", ["euler", "axis_angle"])
def test_gradients_are_finite_without_a_turn(kind: str) -> None:
    action = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    convert(action, kind, "axis_angle").sum().backward()
    assert action.grad is not None
    assert torch.allclose(action.grad, torch.ones(1, 3, dtype=torch.float64), atol=1e-6)


def test_the_gripper_stays_between_open_and_closed() -> None:
    state, action = torch.zeros(2, 7), torch.zeros(2, 7)
    state[:, 6] = torch.tensor([0.2, 0.8])
    action[:, 6] = torch.tensor([-0.5, 0.5])
    assert integrate_pose(state, action)[:, 6].tolist() == [0.0, 1.0]


def test_angles_between_orientations() -> None:
    rotations = random_rotations(1000)
    turn = Scipy.from_rotvec([0.0, 0.0, 0.3])
    first, second = (torch.from_numpy(r.as_matrix()) for r in (rotations, turn * rotations))
    assert (angle_between(first, second) - 0.3).abs().max() < 1e-6


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="quaternion"):
        to_matrix(torch.zeros(4), "quaternoin")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"\[..., 4\], got \[3\]"):
        to_matrix(torch.zeros(3), "quaternion")
    with pytest.raises(InputError, match="length 1, got lengths from 2"):
        to_matrix(torch.tensor([0.0, 0.0, 0.0, 2.0]), "quaternion")
    with pytest.raises(InputError, match="neither 0 nor parallel"):
        to_matrix(torch.tensor([1.0, 0.0, 0.0, 2.0, 0.0, 0.0]), "six")
    with pytest.raises(ShapeError, match=r"\[..., 7\], got \[6\]"):
        pose_difference(torch.zeros(6), torch.zeros(6))


def test_matrices_that_are_no_rotations_are_refused() -> None:
    turned = to_matrix(torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64), "euler")
    assert torch.equal(to_matrix(turned.flatten(), "matrix"), turned)
    mirrored = turned * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    for wrong in (mirrored, 1.1 * turned, torch.full((3, 3), torch.nan)):
        with pytest.raises(InputError, match="Rotation matrices"):
            to_matrix(wrong.flatten(), "matrix")
