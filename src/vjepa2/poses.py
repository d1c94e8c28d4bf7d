"""Rotations and poses of rigid bodies, in batches, on any device, with gradients.

    matrix       [..., 3, 3]   R, acting on columns
    euler        [..., 3]      radians, extrinsic x, then y, then z: R = Rz Ry Rx (scipy's "xyz")
    quaternion   [..., 4]      x, y, z, w (scipy's order), of unit length, either sign
    axis_angle   [..., 3]      axis times angle in radians, the angle in 0 .. pi
    six          [..., 6]      the first two columns of R one after the other (Zhou et al. 2019)

A pose is position x 3 in metres with an orientation. V-JEPA 2-AC holds it as [x, y, z, euler x 3,
gripper] (arXiv:2506.09985, section 3.1); actions are differences of two such states, of which the
rotation is R_next R^T, taken in the world frame.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import InputError, ShapeError, check_choice

Rotation = Literal["matrix", "euler", "quaternion", "axis_angle", "six"]
ROTATIONS: tuple[str, ...] = get_args(Rotation)
ROTATION_SIZES = {"matrix": 9, "euler": 3, "quaternion": 4, "axis_angle": 3, "six": 6}
POSE_STATE_SIZE = 7
# Beyond this cosine of the middle angle the outer two cannot be told apart (gimbal lock).
LOCKED = 1e-6
UNIT_TOLERANCE = 1e-2


def to_matrix(rotation: Float[Tensor, "*B R"], kind: Rotation) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrices of any representation; matrices come as [..., 9], row by row.

    Raises:
        ConfigError: the representation does not exist.
        ShapeError: the last axis does not hold its numbers.
        InputError: quaternions that are not of unit length (1 percent is allowed and mended),
            matrices that are no rotations (1 percent is allowed), or six numbers from which no
            rotation can be made.
    """
    check_choice("Rotation", kind, ROTATIONS)
    if rotation.ndim < 1 or rotation.shape[-1] != ROTATION_SIZES[kind]:
        raise ShapeError(
            f"Rotations as {kind} are [..., {ROTATION_SIZES[kind]}], got {list(rotation.shape)}."
        )
    if kind == "matrix":
        return _checked_matrix(rotation.unflatten(-1, (3, 3)))
    makers: dict[str, Callable[[Tensor], Tensor]] = {
        "euler": _from_euler,
        "quaternion": _from_quaternion,
        "axis_angle": _from_axis_angle,
        "six": _from_six,
    }
    return makers[kind](rotation)


def from_matrix(matrix: Float[Tensor, "*B 3 3"], kind: Rotation) -> Float[Tensor, "*B R"]:
    """A representation of rotation matrices.

    Angles are in -pi .. pi, the middle one in -pi/2 .. pi/2; where that is +-pi/2 the first is set
    to 0. Quaternions have w >= 0.

    Raises:
        ConfigError: the representation does not exist.
    """
    check_choice("Rotation", kind, ROTATIONS)
    if kind == "matrix":
        return matrix.flatten(-2)
    if kind == "six":
        return matrix[..., :2].transpose(-1, -2).flatten(-2)
    return {
        "euler": _to_euler,
        "quaternion": _to_quaternion,
        "axis_angle": _to_axis_angle,
    }[kind](matrix)


def convert(
    rotation: Float[Tensor, "*B R"], source: Rotation, target: Rotation
) -> Float[Tensor, "*B R2"]:
    """One representation as another."""
    return from_matrix(to_matrix(rotation, source), target)


# -- to matrices ------------------------------------------------------------------------------


def _from_euler(angles: Tensor) -> Tensor:
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _checked_matrix(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    found = matrix.detach()
    off = (found @ found.transpose(-1, -2) - torch.eye(3).to(found)).abs()
    if not (off <= UNIT_TOLERANCE).all() or (torch.linalg.det(found.double()) < 0).any():
        raise InputError(
            "Rotation matrices must have orthogonal rows of length 1 and no mirroring; these miss "
            f"it by up to {off.max().item():.3g}. Expected are nine numbers, row by row: look "
            "whether the columns are the right ones."
        )
    return matrix


def _from_quaternion(quaternion: Tensor) -> Tensor:
    length = quaternion.norm(dim=-1, keepdim=True)
    wrong = (length - 1).abs() > UNIT_TOLERANCE
    if wrong.any() or not torch.isfinite(length).all():
        raise InputError(
            f"Quaternions must have length 1, got lengths from {length.min().item():.3g} to "
            f"{length.max().item():.3g}. Expected order: x, y, z, w. Normalise them, or look for "
            "another representation in the recording."
        )
    x, y, z, w = (quaternion / length).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _from_axis_angle(vector: Tensor) -> Tensor:
    """Rodrigues' formula, with series near 0 so that the gradient there is finite."""
    square = vector.square().sum(dim=-1, keepdim=True)[..., None]
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    one = torch.where(small, 1 - square / 6, angle.sin() / angle)
    two = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    cross = _cross_matrix(vector)
    return (
        torch.eye(3, dtype=vector.dtype, device=vector.device)
        + one * cross
        + (two * (cross @ cross))
    )


def _cross_matrix(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _from_six(six: Tensor) -> Tensor:
    first, second = six[..., :3], six[..., 3:]
    length = first.norm(dim=-1, keepdim=True)
    x = first / length
    rest = second - (x * second).sum(dim=-1, keepdim=True) * x
    rest_length = rest.norm(dim=-1, keepdim=True)
    if not bool(((length > 1e-6) & (rest_length > 1e-6)).all()):
        raise InputError(
            "Six numbers of a rotation are two columns that are neither 0 nor parallel; these are."
        )
    y = rest / rest_length
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


# -- from matrices ----------------------------------------------------------------------------


def _to_euler(matrix: Tensor) -> Tensor:
    square = matrix[..., 0, 0].square() + matrix[..., 1, 0].square()
    forward = square.clamp(min=LOCKED**4).sqrt()  # not 0, whose root has no gradient
    locked = forward < LOCKED
    y = torch.atan2(-matrix[..., 2, 0], forward)
    x = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    z = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    # Only the sum or the difference of the outer two is known: all of it is given to z.
    alone = torch.atan2(-matrix[..., 0, 1], matrix[..., 1, 1])
    x = torch.where(locked, torch.zeros_like(x), x)
    return torch.stack([x, y, torch.where(locked, alone, z)], dim=-1)


def _to_quaternion(matrix: Tensor) -> Tensor:
    """Of the four ways to divide, per rotation the one with the largest divisor."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    four = torch.stack([1 + a - e - i, 1 - a + e - i, 1 - a - e + i, 1 + a + e + i], dim=-1)
    ways = torch.stack(
        [
            torch.stack([four[..., 0], b + d, c + g, h - f], dim=-1),
            torch.stack([b + d, four[..., 1], f + h, c - g], dim=-1),
            torch.stack([c + g, f + h, four[..., 2], d - b], dim=-1),
            torch.stack([h - f, c - g, d - b, four[..., 3]], dim=-1),
        ],
        dim=-2,
    )
    best = four.argmax(dim=-1)[..., None, None].expand(*four.shape[:-1], 1, 4)
    chosen = ways.gather(-2, best)[..., 0, :]
    quaternion = chosen / chosen.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def _to_axis_angle(matrix: Tensor) -> Tensor:
    quaternion = _to_quaternion(matrix)
    vector, w = quaternion[..., :3], quaternion[..., 3:]
    square = vector.square().sum(dim=-1, keepdim=True)
    small = square < 1e-12
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    # angle / sin(angle / 2); near 0 that is 2.
    factor = torch.where(small, 2.0 + 0 * w, 2 * torch.atan2(length, w) / length)
    return factor * vector


# -- states of an arm -------------------------------------------------------------------------


def pose_difference(
    state: Float[Tensor, "*B 7"], next_state: Float[Tensor, "*B 7"]
) -> Float[Tensor, "*B 7"]:
    """The action between two states: what V-JEPA 2-AC was trained on.

    Args:
        state, next_state: [x, y, z in metres, extrinsic xyz angles in radians, gripper].

    Returns:
        Differences of position and gripper; R_next R^T as extrinsic xyz angles, world frame.

    Raises:
        ShapeError: not seven numbers.
    """
    _check_states(state, next_state)
    turn = _from_euler(next_state[..., 3:6]) @ _from_euler(state[..., 3:6]).transpose(-1, -2)
    moved = next_state - state
    return torch.cat([moved[..., :3], _to_euler(turn), moved[..., 6:]], dim=-1)


def integrate_pose(
    state: Float[Tensor, "*B 7"], action: Float[Tensor, "*B 7"]
) -> Float[Tensor, "*B 7"]:
    """The state after an action: the inverse of `pose_difference`.

    The gripper is kept in 0 (open) .. 1 (closed), as published.

    Raises:
        ShapeError: not seven numbers.
    """
    _check_states(state, action)
    turned = _from_euler(action[..., 3:6]) @ _from_euler(state[..., 3:6])
    gripper = (state[..., 6:] + action[..., 6:]).clamp(0.0, 1.0)
    return torch.cat([state[..., :3] + action[..., :3], _to_euler(turned), gripper], dim=-1)


def _check_states(*states: Tensor) -> None:
    for state in states:
        if state.ndim < 1 or state.shape[-1] != POSE_STATE_SIZE:
            raise ShapeError(
                "A state or action of an arm is [x, y, z, three angles, gripper], "
                f"[..., 7], got {list(state.shape)}."
            )


def angle_between(
    first: Float[Tensor, "*B 3 3"], second: Float[Tensor, "*B 3 3"]
) -> Float[Tensor, "*B"]:
    """Angle in radians, 0 .. pi, that turns one orientation into the other."""
    vector = _to_axis_angle(second @ first.transpose(-1, -2))
    angle: Tensor = torch.linalg.vector_norm(vector, dim=-1)
    return angle.clamp(max=math.pi)
