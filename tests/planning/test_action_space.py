"""Bounds, the L1 ball, fixed axes, rotations on the manifold, workspaces, impossible wishes."""

import math
from typing import Any

import pytest
import torch
from closed_form import generator, onto_l1_ball

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.planning.action_space import (
    ActionSpace,
    Workspace,
    arm_space,
    arm_workspace,
    box_space,
    published_space,
)
from vjepa2.poses import angle_between, to_matrix


def test_the_nearest_point_of_the_l1_ball_is_that_of_the_sorting_algorithm() -> None:
    space = ActionSpace(low=(-9.0,) * 5, high=(9.0,) * 5, l1_axes=(0, 1, 2, 4), l1_radius=0.7)
    points = torch.randn(300, 5, generator=generator(), dtype=torch.float64)
    points[:40] *= 0.05  # some are inside
    expected = points.clone()
    for row in expected:
        row[[0, 1, 2, 4]] = onto_l1_ball(row[[0, 1, 2, 4]].clone(), 0.7)
    assert torch.allclose(space.project(points), expected, atol=1e-9)


def test_box_and_ball_together_against_a_grid() -> None:
    space = ActionSpace(low=(-0.05, -0.02), high=(0.05, 0.05), l1_axes=(0, 1), l1_radius=0.075)
    axis = torch.linspace(-0.05, 0.05, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    allowed = grid[(grid.abs().sum(1) <= 0.075 + 1e-12) & (grid[:, 1] >= -0.02)]
    points = 0.1 * torch.randn(20, 2, generator=generator(1), dtype=torch.float64)
    for point in points:
        nearest = (allowed - point).norm(dim=1).min()
        found = space.project(point)
        assert (found - point).norm().item() == pytest.approx(nearest.item(), abs=1e-4)
        assert found.abs().sum() <= 0.075 + 1e-9


def test_fixed_axes_have_their_value_whatever_the_bounds() -> None:
    space = published_space(fixed={0: 0.2})
    values = space.project(torch.randn(50, 2, 7, generator=generator()))
    assert bool((values[..., 0] == torch.tensor(0.2)).all())
    assert bool((values[..., 3:6] == 0).all())
    assert values[..., 1:3].abs().max() <= 0.05 + 1e-7
    assert values[..., 6].abs().max() <= 0.75
    assert bool((space.start(2, values)[:, 0] == torch.tensor(0.2)).all())


def test_rotations_move_on_the_manifold() -> None:
    space = arm_space(max_angle=math.pi)
    draw = torch.randn(200, 2, 7, generator=generator(), dtype=torch.float64)
    first, second = space.project(draw[:, 0]), space.project(draw[:, 1])
    steps = space.between(first, second)
    again = space.moved(first, steps)

    def rotation(values: torch.Tensor) -> torch.Tensor:
        return to_matrix(values[:, 3:6], "axis_angle")

    assert angle_between(rotation(again), rotation(second)).max() < 1e-6
    assert torch.allclose(again[:, [0, 1, 2, 6]], second[:, [0, 1, 2, 6]])
    # Two turns just before and after pi are near each other.
    nearly = torch.zeros(2, 7, dtype=torch.float64)
    nearly[0, 3], nearly[1, 3] = math.pi - 0.1, -(math.pi - 0.1)
    assert space.between(nearly[:1], nearly[1:])[0, 3].item() == pytest.approx(0.2)
    # As an action the rotation is in Euler angles, and comes back.
    actions = space.actions(first)
    assert angle_between(rotation(space.variables(actions)), rotation(first)).max() < 1e-6


def test_a_turn_is_at_most_max_angle() -> None:
    space = arm_space(max_angle=0.3)
    values = space.project(torch.randn(500, 7, generator=generator()))
    assert values[:, 3:6].norm(dim=1).max() <= 0.3 + 1e-6
    assert values[:, :3].abs().sum(dim=1).max() <= 0.075 + 1e-6
    assert space.outside(space.actions(values)).max() < 1e-5


def test_small_values_become_zero_but_fixed_ones_stay() -> None:
    space = arm_space(dead_zone=0.25)
    actions = torch.zeros(3, 7)
    actions[:, 6] = torch.tensor([0.2, -0.24, -0.3])
    assert space.without_small(actions)[:, 6].tolist() == pytest.approx([0, 0, -0.3])
    space = arm_space(dead_zone=0.25, fixed={6: 0.1})
    assert space.without_small(space.project(actions))[:, 6].tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"low": (0.1, 0.0), "high": (0.0, 1.0)}, "bounds of height: low is 0.1, high 0"),
        ({"l1_axes": (0,), "l1_radius": 0.1, "fixed": {0: 0.5}}, "L1 ball of radius 0.1.*height"),
        ({"l1_axes": (0,)}, "l1_axes and l1_radius belong together"),
        ({"fixed": {2: 1.0}}, "An axis of the action space must be 1 or less"),
        ({"fixed": {0: math.nan}}, "fixed value of height must be a finite"),
        ({"rotation_axes": (0, 1)}, "A rotation has three axes"),
        ({"dead_zone": {1: -1.0}}, "dead zone of grip must be 0 or more"),
        ({"high": (1.0,)}, "as many low as high"),
        ({"low": (math.nan, 0.0)}, "low of height must be a finite number"),
    ],
)
def test_impossible_constraints_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"low": (-1.0, -1.0), "high": (1.0, 1.0), "names": ("height", "grip")}
    with pytest.raises(ConfigError, match=words):
        ActionSpace(**(good | values))


def test_rotations_must_be_able_to_rest() -> None:
    with pytest.raises(ConfigError, match="roll is part of a rotation and can only be fixed at 0"):
        arm_space(fixed={3: 0.1})
    with pytest.raises(ConfigError, match="bounds of axis 1 must hold 0"):
        ActionSpace(low=(-1.0, 0.1, -1.0), high=(1.0,) * 3, rotation_axes=(0, 1, 2))


def test_workspaces_name_what_is_left() -> None:
    space = arm_workspace((0.2, -0.4, 0.0), (0.8, 0.4, 0.6))
    state = torch.tensor([0.9, 0.0, -0.1, 3.0, 0.0, 0.0, 1.0])
    assert space.outside(state).tolist() == pytest.approx([0.1, 0, 0.1, 0, 0, 0, 0])
    assert space.complaint(state) == (
        "x is 0.9, allowed are 0.2 to 0.8; z is -0.1, allowed are 0 to 0.6"
    )
    with pytest.raises(ConfigError, match="x must be at least 1 and at most 0"):
        arm_workspace((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="state 0 must be at least nan"):
        Workspace(low=(math.nan,), high=(1.0,))
    with pytest.raises(ShapeError, match="states of 7 numbers"):
        space.outside(torch.zeros(3))


def test_actions_of_another_size_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[..., 2\], got \[3\]"):
        box_space((-1.0, -1.0), (1.0, 1.0)).variables(torch.zeros(3))
