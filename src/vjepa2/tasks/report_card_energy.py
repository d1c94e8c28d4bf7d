"""The energy of actions around the true one, and the axes in which a model moves.

From a recorded moment, actions are tried one step ahead; the energy of each is the mean absolute
difference between predicted features and those of a goal that was really reached (arXiv:2506.09985,
section 4). The action of least energy is what the model would do; a good model has it near the
true one. Over many moments, the rotation between the two shows a model whose axes are turned
against the robot's, as they are where the camera stands elsewhere (the same, appendix B.4).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.quasirandom import SobolEngine

from vjepa2.models.world_model import Situation
from vjepa2.protocols import Rollout
from vjepa2.tasks.report_card_config import ReportCardConfig
from vjepa2.tasks.report_card_data import Recordings, spread
from vjepa2.tasks.world_folder import LoadedWorld

ROUNDS = 4  # of the search; each looks into half the width of the one before
REACH = 1.25  # of the box that is searched, over the largest usual movement
USUAL = 0.95
CURVE_POINTS = 9
MAP_POINTS = 5
LEAST_FITTED = 6
MIRRORED = 0.3


@dataclass(frozen=True, eq=False)
class Landscapes:
    """What the model would do, beside what was done.

    Attributes:
        ways: numbers of an action that were searched.
        measured: of these, the lengths.
        reach: [W] half the width of the box that was searched, around no movement.
        near_true, near_chosen: [S, W] the movement to the next moment, and that of least energy.
        far_true, far_chosen: [S, W] the same for a goal some moments later; the true one is cut
            to the box, in its direction.
        offsets: [P] movements added to the true action, as shares of the reach, for the curves.
        curves: [A, P] energy over that at the true action, minus 1; nan of what never moves.
    """

    ways: tuple[int, ...]
    measured: tuple[int, ...]
    reach: Float[Tensor, " W"]
    near_true: Float[Tensor, "S W"]
    near_chosen: Float[Tensor, "S W"]
    far_true: Float[Tensor, "S W"]
    far_chosen: Float[Tensor, "S W"]
    offsets: Float[Tensor, " P"]
    curves: Float[Tensor, "A P"]

    @property
    def offset(self) -> float:
        """Mean distance of the chosen movement from the true one: metres, or radians of joints."""
        return self._mean(self.near_chosen - self.near_true)

    @property
    def size(self) -> float:
        """Mean length of the true movement."""
        return self._mean(self.near_true)

    @property
    def far_offset(self) -> float:
        """As `offset`, for far goals."""
        return self._mean(self.far_chosen - self.far_true)

    @property
    def far_size(self) -> float:
        """As `size`, for far goals."""
        return self._mean(self.far_true)

    def _mean(self, movements: Float[Tensor, "S W"]) -> float:
        columns = [self.ways.index(number) for number in self.measured]
        return float(movements[:, columns].norm(dim=1).mean())


@dataclass(frozen=True)
class AxisCalibration:
    """Model axes against robot axes.

    The model's movement p for a true movement a is about `matrix` a + constant; `rotation` is the
    rotation or reflection nearest to it.

    Attributes:
        ways: numbers of an action that are turned.
        matrix: least squares, row by row.
        rotation: orthogonal, row by row.
        degrees: the angle of the rotation; 180 less for a reflection, whose rotation it is.
        reflected: whether it turns a right hand into a left one.
        explained: share of the model's movements that the matrix explains, R2.
        num_pairs: movements that were compared.
    """

    ways: tuple[int, ...]
    matrix: tuple[tuple[float, ...], ...]
    rotation: tuple[tuple[float, ...], ...]
    degrees: float
    reflected: bool
    explained: float
    num_pairs: int

    def robot_action(self, action: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """What the robot has to do, for an action that a planner chose with the model."""
        return self._turned(action, inverse=True)

    def model_action(self, action: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """How the model sees an action of the robot: the inverse of `robot_action`."""
        return self._turned(action, inverse=False)

    def _turned(self, action: Tensor, *, inverse: bool) -> Tensor:
        rotation = action.new_tensor(self.rotation)
        # Rows are turned: a row times R is R^T applied to it, the inverse.
        turned = action[..., list(self.ways)] @ (rotation if inverse else rotation.T)
        result = action.clone()
        result[..., list(self.ways)] = turned
        return result


def landscapes(
    loaded: LoadedWorld, data: Recordings, config: ReportCardConfig
) -> Landscapes | None:
    """Search the energy from some moments; None where nothing moves."""
    if not data.lengths:
        return None
    reach = reach_of(data)
    ways = list(data.ways)
    places = [(item, at) for item in data.items for at in range(len(item) - config.far)] or [
        (item, 0) for item in data.items
    ]
    # The energy says most where the robot moved: the stiller half of the moments is left out.
    size = torch.stack([(item.actions[at][ways].cpu() / reach).norm() for item, at in places])
    busy = [place for place, one in zip(places, size, strict=True) if one >= size.median()]
    found: dict[str, list[Tensor]] = {name: [] for name in ("nt", "nc", "ft", "fc")}
    curves = []
    for item, at in [busy[number] for number in spread(len(busy), config.starts)]:
        situation = loaded.world.begin(item.latents[at : at + 1], item.states[at : at + 1])
        true = item.actions[at]
        later = min(at + config.far, len(item) - 1)
        far = data.spec.actions(item.states[[at, later]].double())[0].to(true)
        scale = (far[ways].cpu().abs() / reach).max().clamp(min=1.0)
        near_goal, far_goal = item.latents[at + 1], item.latents[later]
        found["nt"].append(true[ways].cpu())
        found["nc"].append(_least(loaded, situation, near_goal, true, reach, ways, config))
        found["ft"].append(far[ways].cpu() / scale)
        found["fc"].append(_least(loaded, situation, far_goal, far / scale, reach, ways, config))
        curves.append(_curves(loaded, situation, near_goal, true, data, reach))
    stacked = {name: torch.stack(values).float() for name, values in found.items()}
    return Landscapes(
        data.ways,
        data.lengths,
        reach,
        stacked["nt"],
        stacked["nc"],
        stacked["ft"],
        stacked["fc"],
        torch.linspace(-1, 1, CURVE_POINTS),
        torch.stack(curves).mean(dim=0),
    )


def reach_of(data: Recordings) -> Float[Tensor, " W"]:
    """Half the width of the box to search, beyond the usual movements; a cube of lengths."""
    usual = data.actions[:, list(data.ways)].float().cpu().abs().quantile(USUAL, dim=0)
    lengths = [data.ways.index(number) for number in data.lengths]
    usual[lengths] = usual[lengths].max()
    return REACH * usual.clamp(min=1e-6)


def energy_to(goal: Float[Tensor, "N D"], rollout: Rollout) -> Float[Tensor, " S"]:
    """Energy of each candidate's last frame."""
    energy: Tensor = (rollout.latents[:, -1] - goal).abs().float().mean(dim=(1, 2))
    return energy


@torch.no_grad()
def _energies(
    loaded: LoadedWorld, situation: Situation, goal: Tensor, actions: Float[Tensor, "S A"]
) -> Float[Tensor, " S"]:
    costs = loaded.world.costs(
        situation, actions[:, None], lambda rollout: energy_to(goal, rollout)
    )
    return costs.cpu()


def _least(
    loaded: LoadedWorld,
    situation: Situation,
    goal: Tensor,
    true: Float[Tensor, " A"],
    reach: Float[Tensor, " W"],
    ways: list[int],
    config: ReportCardConfig,
) -> Float[Tensor, " W"]:
    """The movement of least energy; what is not searched is as in the true action."""
    even = 2 * SobolEngine(len(ways), scramble=True, seed=config.seed).draw(config.candidates) - 1
    best, least = torch.zeros(len(ways)), float("inf")
    for number in range(ROUNDS):
        width = 0.5**number
        tried = (even if number == 0 else best + width * even[: len(even) // 2]).clamp(-1, 1)
        actions = true.expand(len(tried), -1).clone()
        actions[:, ways] = (tried * reach).to(true)
        energies = _energies(loaded, situation, goal, actions)
        at = int(energies.argmin())
        if float(energies[at]) < least:
            best, least = tried[at], float(energies[at])
    return best * reach


def _curves(
    loaded: LoadedWorld,
    situation: Situation,
    goal: Tensor,
    true: Float[Tensor, " A"],
    data: Recordings,
    reach: Float[Tensor, " W"],
) -> Float[Tensor, "A P"]:
    """Energy along every number of the action that moves, relative to the true action."""
    shares = torch.linspace(-1, 1, CURVE_POINTS)
    width = data.actions.float().cpu().abs().quantile(USUAL, dim=0) * REACH
    width[list(data.ways)] = reach
    tried = [true]
    for number in data.moving:
        for share in shares:
            action = true.clone()
            action[number] += share * width[number]
            tried.append(action)
    energies = _energies(loaded, situation, goal, torch.stack(tried))
    curves = torch.full((len(true), CURVE_POINTS), float("nan"))
    relative = energies[1:] / energies[0].clamp(min=1e-12) - 1
    curves[list(data.moving)] = relative.unflatten(0, (-1, CURVE_POINTS))
    return curves


@dataclass(frozen=True, eq=False)
class EnergyExample:
    """One landscape to look at: movements along x and z from one frame to the next.

    Attributes:
        frames: uint8 [2, 3, H, W] the start and the goal.
        energies: [P, P] over x and z.
        axis: [P] the movements, in metres.
        true, best: [3] movements: the one that was taken, and of the map the one of least energy.
    """

    frames: UInt8[Tensor, "2 3 H W"]
    energies: Float[Tensor, "P P"]
    axis: tuple[float, ...]
    true: tuple[float, ...]
    best: tuple[float, ...]


def energy_example(
    loaded: LoadedWorld, data: Recordings, found: Landscapes
) -> EnergyExample | None:
    """The landscape of the largest movement of the first recording; None unless x and z move."""
    if data.spec.kind != "arm_pose" or not {0, 2} <= set(found.ways):
        return None
    item = data.items[0]
    at = int(item.actions[:, :3].norm(dim=1).argmax())
    situation = loaded.world.begin(item.latents[at : at + 1], item.states[at : at + 1])
    true = item.actions[at]
    axis = torch.linspace(-1, 1, MAP_POINTS) * found.reach.max()
    pairs = torch.cartesian_prod(axis, axis)
    actions = true.expand(len(pairs), -1).clone()
    actions[:, [0, 2]] = pairs.to(true)
    energies = _energies(loaded, situation, item.latents[at + 1], actions)
    best = actions[int(energies.argmin())]
    return EnergyExample(
        item.episode.frames(data.cameras[0], [at, at + 1]),
        energies.unflatten(0, (MAP_POINTS,) * 2),
        tuple(axis.tolist()),
        tuple(true[:3].tolist()),
        tuple(best[:3].tolist()),
    )


def calibrate(found: Landscapes) -> AxisCalibration | None:
    """The rotation between the movements a model chooses and the true ones.

    Only movements to the next moment count: for far goals the choice says less.

    Returns:
        None where there are too few moments, or fewer than two axes.
    """
    columns = [found.ways.index(number) for number in found.measured]
    true = found.near_true[:, columns].double()
    chosen = found.near_chosen[:, columns].double()
    if len(columns) < 2 or len(true) < LEAST_FITTED:
        return None
    # A preference for one direction, whatever the goal, is no rotation.
    true, chosen = true - true.mean(dim=0), chosen - chosen.mean(dim=0)
    matrix = torch.linalg.lstsq(true, chosen).solution.T
    left, sizes, right = torch.linalg.svd(chosen.T @ true)
    # Mirrored only beyond doubt: along an axis that hardly counts, noise decides the sign.
    if torch.linalg.det(left @ right) < 0 and sizes[-1] < MIRRORED * sizes[0]:
        left[:, -1] *= -1
    rotation = left @ right
    reflected = bool(torch.linalg.det(rotation) < 0)
    size = len(columns)
    proper = -rotation if reflected and size % 2 else rotation
    trace = proper.diagonal().sum().item()
    cosine = (trace - 1) / 2 if size == 3 else trace / size
    residual = (chosen - true @ matrix.T).square().sum()
    return AxisCalibration(
        found.measured,
        tuple(tuple(row) for row in matrix.tolist()),
        tuple(tuple(row) for row in rotation.tolist()),
        float(torch.rad2deg(torch.arccos(torch.tensor(cosine).clamp(-1, 1)))),
        reflected,
        float(1 - residual / chosen.square().sum().clamp(min=1e-12)),
        len(true),
    )
