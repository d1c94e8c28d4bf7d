"""Which actions a planner may choose, and how it moves among them.

    space = arm_space(max_norm=0.075, l1_ball=True)         # all seven numbers of an arm
    variables = space.project(variables)                    # the nearest allowed ones
    actions = space.actions(variables)                      # as the world model wants them

Planners search *variables* [..., A]. They are the actions themselves, but for the three numbers of
a rotation: there a variable is a rotation vector (axis times angle, in radians), and the action
holds extrinsic xyz angles. Steps between rotations are taken on the manifold (`moved`, `between`),
so that a mean of two rotations is a rotation between them on either side of pi.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError, check_kind, checked_integer, checked_number
from vjepa2.poses import POSE_STATE_SIZE, from_matrix, to_matrix

ARM_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
ARM_POSITION, ARM_ROTATION, ARM_GRIPPER = (0, 1, 2), (3, 4, 5), 6
PUBLISHED_GRIPPER = 0.75
PUBLISHED_DEAD_ZONE = 0.25
BISECTIONS = 40


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """Bounds of actions of A numbers; everything is checked when it is made.

    Attributes:
        low, high: A numbers each. Of rotation axes: of the rotation vector's components.
        names: of the axes, for messages; empty: "axis 0" and so on.
        l1_axes, l1_radius: the sum of the sizes of these axes is at most the radius (the paper
            bounds the three of the position so); no axes: no such bound.
        rotation_axes: the three axes that together are a rotation; empty: none.
        max_angle: most that one action rotates, in radians, 0 .. pi.
        fixed: axis to the one value it has. Wins over low and high. Rotation axes only at 0.
        dead_zone: axis to the size below which a chosen value becomes 0.

    Raises:
        ConfigError: nothing satisfies all of this; the message names the axis and the bound.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    names: tuple[str, ...] = ()
    l1_axes: tuple[int, ...] = ()
    l1_radius: float | None = None
    rotation_axes: tuple[int, ...] = ()
    max_angle: float = math.pi
    fixed: Mapping[int, float] = field(default_factory=dict)
    dead_zone: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ConfigError(
                f"An action space has as many low as high bounds, got {len(self.low)} and "
                f"{len(self.high)}."
            )
        if self.names and len(self.names) != self.size:
            raise ConfigError(f"{len(self.names)} names are given for {self.size} axes.")
        for axis in (*self.l1_axes, *self.rotation_axes, *self.fixed, *self.dead_zone):
            checked_integer("An axis of the action space", axis, least=0, most=self.size - 1)
        for axis, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            checked_number(f"low of {self.name(axis)}", low)
            checked_number(f"high of {self.name(axis)}", high)
            if low > high:
                raise ConfigError(
                    f"No action satisfies the bounds of {self.name(axis)}: low is {low:g}, high "
                    f"{high:g}. Swap them, or fix the axis."
                )
        for axis, value in self.fixed.items():
            checked_number(f"The fixed value of {self.name(axis)}", value)
        for axis, value in self.dead_zone.items():
            if checked_number(f"The dead zone of {self.name(axis)}", value) < 0:
                raise ConfigError(f"The dead zone of {self.name(axis)} must be 0 or more.")
        self._check_rotation()
        self._check_l1()

    def _check_rotation(self) -> None:
        if not self.rotation_axes:
            return
        if len(set(self.rotation_axes)) != 3:
            raise ConfigError(f"A rotation has three axes, got {self.rotation_axes}.")
        checked_number("max_angle", self.max_angle, above=0.0, most=math.pi)
        for axis in self.rotation_axes:
            if self.fixed.get(axis, 0.0) != 0.0:
                raise ConfigError(
                    f"{self.name(axis)} is part of a rotation and can only be fixed at 0, got "
                    f"{self.fixed[axis]:g}."
                )
            if axis not in self.fixed and not self.low[axis] <= 0 <= self.high[axis]:
                raise ConfigError(
                    f"The bounds of {self.name(axis)} must hold 0, got {self.low[axis]:g} to "
                    f"{self.high[axis]:g}: not to rotate must be allowed. Fix the axis otherwise."
                )

    def _check_l1(self) -> None:
        if not self.l1_axes and self.l1_radius is None:
            return
        if not self.l1_axes or self.l1_radius is None:
            raise ConfigError("l1_axes and l1_radius belong together: give both or none.")
        radius = checked_number("l1_radius", self.l1_radius, above=0.0)
        if set(self.l1_axes) & set(self.rotation_axes):
            raise ConfigError("Rotation axes are bounded by max_angle, not by the L1 ball.")
        low, high = self._box(torch.zeros((), dtype=torch.float64))
        least = torch.zeros_like(low).clamp(low, high).abs()[list(self.l1_axes)].sum().item()
        if least > radius:
            raise ConfigError(
                f"No action satisfies both the L1 ball of radius {radius:g} and the bounds or "
                f"fixed values of {', '.join(self.name(axis) for axis in self.l1_axes)}, whose "
                f"sizes add up to {least:g} at least. Enlarge l1_radius, or widen the bounds."
            )

    @property
    def size(self) -> int:
        """A."""
        return len(self.low)

    def name(self, axis: int) -> str:
        """Of an axis, for messages."""
        return self.names[axis] if self.names else f"axis {axis}"

    def _box(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = list(self.low), list(self.high)
        for axis, value in self.fixed.items():
            low[axis] = high[axis] = value
        return like.new_tensor(low), like.new_tensor(high)

    def scale(self, like: Tensor) -> Float[Tensor, " A"]:
        """How far an axis reaches from its middle, 0 where it is fixed; `like` gives the dtype."""
        low, high = self._box(like)
        reach = (high - low) / 2
        if self.l1_axes:
            axes = list(self.l1_axes)
            reach[axes] = reach[axes].clamp(max=float(self.l1_radius or 0.0))
        if self.rotation_axes:
            axes = list(self.rotation_axes)
            reach[axes] = reach[axes].clamp(max=self.max_angle)
        return reach

    def start(self, horizon: int, like: Tensor) -> Float[Tensor, "L A"]:
        """Variables of the smallest allowed actions: where a search without warm start begins."""
        return self.project(like.new_zeros(horizon, self.size))

    # -- variables and actions --------------------------------------------------------------------

    def actions(self, variables: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """Variables as actions; differentiable."""
        if not self._rotates:
            return variables
        return self._with_rotation(
            variables, _euler(to_matrix(self._rotation(variables), "axis_angle"))
        )

    def variables(self, actions: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """Actions as variables.

        Raises:
            ShapeError: the actions are of another size.
        """
        if actions.ndim < 1 or actions.shape[-1] != self.size:
            raise ShapeError(
                f"Actions of this space are [..., {self.size}], got {list(actions.shape)}."
            )
        if not self._rotates:
            return actions
        return self._with_rotation(actions, _vector(to_matrix(self._rotation(actions), "euler")))

    def moved(
        self, variables: Float[Tensor, "*B A"], steps: Float[Tensor, "*B A"]
    ) -> Float[Tensor, "*B A"]:
        """Variables after steps from them; rotations are turned."""
        result = variables + steps
        if not self._rotates:
            return result
        first = to_matrix(self._rotation(variables), "axis_angle")
        turned = to_matrix(self._rotation(steps), "axis_angle") @ first
        return self._with_rotation(result, _vector(turned))

    def between(
        self, variables: Float[Tensor, "*B A"], others: Float[Tensor, "*B A"]
    ) -> Float[Tensor, "*B A"]:
        """Steps that lead from variables to others: the inverse of `moved`."""
        result = others - variables
        if not self._rotates:
            return result
        first = to_matrix(self._rotation(variables), "axis_angle")
        second = to_matrix(self._rotation(others), "axis_angle")
        return self._with_rotation(result, _vector(second @ first.transpose(-1, -2)))

    def project(self, variables: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """The nearest variables that are allowed (of rotations: allowed ones, nearby)."""
        low, high = self._box(variables)
        result = variables.clamp(low, high)
        if self.l1_axes:
            axes = list(self.l1_axes)
            inside = _into_l1_ball(
                variables[..., axes], low[axes], high[axes], float(self.l1_radius or 0.0)
            )
            result = result.clone()
            result[..., axes] = inside
        if self._rotates:
            vector = self._rotation(result)
            angle = vector.norm(dim=-1, keepdim=True)
            shrink = torch.where(angle > self.max_angle, self.max_angle / angle, 1.0)
            result = self._with_rotation(result, vector * shrink)
        return result

    def outside(self, actions: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """How far each number of actions lies from the nearest allowed action."""
        variables = self.variables(actions)
        return (self.project(variables) - variables).abs()

    def without_small(self, actions: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """Values inside the dead zone as 0; fixed axes keep theirs."""
        result = actions.clone()
        for axis, size in self.dead_zone.items():
            if axis not in self.fixed:
                values = result[..., axis]
                result[..., axis] = torch.where(values.abs() < size, 0.0, values)
        return result

    def with_small_enlarged(self, variables: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """Values inside the dead zone at its edge, as far as the bounds allow."""
        result = variables.clone()
        for axis, size in self.dead_zone.items():
            values = result[..., axis]
            edge = torch.where(values < 0, -size, size)
            result[..., axis] = torch.where(values.abs() < size, edge, values)
        return self.project(result)

    @property
    def _rotates(self) -> bool:
        return any(axis not in self.fixed for axis in self.rotation_axes)

    def _rotation(self, values: Tensor) -> Tensor:
        return values[..., list(self.rotation_axes)]

    def _with_rotation(self, values: Tensor, rotation: Tensor) -> Tensor:
        parts = list(values.unbind(-1))
        for axis, part in zip(self.rotation_axes, rotation.unbind(-1), strict=True):
            parts[axis] = part
        return torch.stack(parts, dim=-1)


def _euler(matrix: Tensor) -> Tensor:
    return from_matrix(matrix, "euler")


def _vector(matrix: Tensor) -> Tensor:
    return from_matrix(matrix, "axis_angle")


def _into_l1_ball(values: Tensor, low: Tensor, high: Tensor, radius: float) -> Tensor:
    """The nearest point of box and L1 ball: values pulled to 0 by one amount, then clipped.

    That this is the nearest point follows from the conditions of Karush, Kuhn and Tucker, axis by
    axis; the amount is found by bisection, since the sum falls as it grows.
    """

    def pulled(amount: Tensor) -> Tensor:
        return (values.sign() * (values.abs() - amount).clamp(min=0.0)).clamp(low, high)

    least = values.new_zeros(*values.shape[:-1], 1)
    if bool((pulled(least).abs().sum(-1) <= radius).all()):
        return pulled(least)
    most = values.abs().amax(dim=-1, keepdim=True)
    too_large = pulled(least).abs().sum(-1, keepdim=True) > radius
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        over = pulled(middle).abs().sum(-1, keepdim=True) > radius
        least, most = torch.where(over, middle, least), torch.where(over, most, middle)
    return torch.where(too_large, pulled(most), pulled(torch.zeros_like(least)))


def arm_space(
    *,
    max_norm: float = 0.075,
    l1_ball: bool = True,
    max_angle: float = 0.3,
    gripper: float = PUBLISHED_GRIPPER,
    dead_zone: float = 0.0,
    fixed: Mapping[int, float] | None = None,
) -> ActionSpace:
    """All seven degrees of freedom of an arm: x, y, z in metres, rotation, gripper.

    Args:
        max_norm: most that the position moves, in metres.
        l1_ball: whether that bounds the sum of the three sizes (the paper), or each of them.
        max_angle: most that the hand turns, in radians.
        gripper: largest change of the gripper, which is 0 (open) .. 1 (closed).
        dead_zone: changes of the gripper that are smaller become 0.
        fixed: axis to value.

    Raises:
        ConfigError: see `ActionSpace`.
    """
    reach = (max_norm,) * 3 + (max_angle,) * 3 + (gripper,)
    return ActionSpace(
        low=tuple(-value for value in reach),
        high=reach,
        names=ARM_NAMES,
        l1_axes=ARM_POSITION if l1_ball else (),
        l1_radius=max_norm if l1_ball else None,
        rotation_axes=ARM_ROTATION,
        max_angle=max_angle,
        fixed=dict(fixed or {}),
        dead_zone={ARM_GRIPPER: dead_zone} if dead_zone else {},
    )


def published_space(
    *, max_norm: float = 0.05, l1_ball: bool = False, fixed: Mapping[int, float] | None = None
) -> ActionSpace:
    """What the published code searches: a box for x, y, z, and the gripper; rotations stay 0.

    Args:
        max_norm: most that each of x, y, z moves, in metres (0.05 in the code, 0.075 in the paper
            and the notebook).
        l1_ball: the paper's bound on their sum instead of the code's box.
        fixed: axis to value, beside the rotations.
    """
    rotations = dict.fromkeys(ARM_ROTATION, 0.0)
    return arm_space(
        max_norm=max_norm,
        l1_ball=l1_ball,
        dead_zone=PUBLISHED_DEAD_ZONE,
        fixed={**rotations, **(fixed or {})},
    )


def box_space(
    low: tuple[float, ...], high: tuple[float, ...], *, names: tuple[str, ...] = ()
) -> ActionSpace:
    """Bounds per axis and nothing else: joints, a mobile base."""
    return ActionSpace(low=low, high=high, names=names)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where a robot's state may be.

    Attributes:
        low, high: of K numbers each; infinite where a number is free. Angles are taken as they
            stand in the state, -pi .. pi.
        names: for messages; empty: "state 0" and so on.

    Raises:
        ConfigError: a low bound is above its high bound, or the lengths differ.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kind("low of a workspace", self.low, tuple, words="a tuple of numbers")
        if len(self.low) != len(self.high) or not self.low:
            raise ConfigError(
                f"A workspace has as many low as high bounds, got {len(self.low)} and "
                f"{len(self.high)}."
            )
        if self.names and len(self.names) != len(self.low):
            raise ConfigError(f"{len(self.names)} names are given for {len(self.low)} numbers.")
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low <= high:  # also where one is NaN
                raise ConfigError(
                    f"No state satisfies the workspace: {self.name(index)} must be at least "
                    f"{low:g} and at most {high:g}."
                )

    def name(self, index: int) -> str:
        """Of a number of the state, for messages."""
        return self.names[index] if self.names else f"state {index}"

    def outside(self, states: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
        """How far each number is out of its bounds, 0 inside.

        Raises:
            ShapeError: the states have another size.
        """
        if states.shape[-1] != len(self.low):
            raise ShapeError(
                f"The workspace bounds states of {len(self.low)} numbers, got {list(states.shape)}."
            )
        low, high = states.new_tensor(self.low), states.new_tensor(self.high)
        return (low - states).clamp(min=0) + (states - high).clamp(min=0)

    def complaint(self, state: Float[Tensor, " K"]) -> str:
        """Which bounds a state breaks, in words; empty: none."""
        parts = [
            f"{self.name(index)} is {state[index].item():.4g}, allowed are {self.low[index]:g} to "
            f"{self.high[index]:g}"
            for index in self.outside(state).nonzero().flatten().tolist()
        ]
        return "; ".join(parts)


def arm_workspace(low: tuple[float, float, float], high: tuple[float, float, float]) -> Workspace:
    """Bounds of an arm's position in metres; rotation and gripper are free."""
    free = (math.inf,) * (POSE_STATE_SIZE - 3)
    return Workspace(low=low + tuple(-value for value in free), high=high + free, names=ARM_NAMES)
