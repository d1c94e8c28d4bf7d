"""Do the frames show what was logged? Read from latents by linear maps, without the predictor.

Inverse dynamics: the action from the latents before and after it, by ridge regression, on episodes
that the map was not fitted to. What cannot be read from them no world model can predict.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vjepa2.scoring.ridge import ridge_weights
from vjepa2.tasks.report_card_data import Recordings, encoded_again
from vjepa2.tasks.world_folder import LoadedWorld

FOLDS = 4
LAGS = range(-4, 5)
STRETCHES = (0.25, 1 / 3, 0.5, 2.0, 3.0, 4.0)
SHIFTS = (0.01, 0.02, 0.04, 0.08)  # of the width
SHIFTED_FRAMES = 24
LEAST_PAIRS = 24


@dataclass(frozen=True)
class InverseDynamics:
    """R2 of actions from latents, on episodes left out: 1 is perfect, 0 is the mean.

    Attributes:
        r2: per number of an action; None where it does not move.
        lags: mean R2 of the ways, were the frames late by so many moments.
        stretches: the same, did the frames run faster than the log by such a factor.
        num_pairs: pairs of frames.
    """

    r2: tuple[float | None, ...]
    lags: dict[int, float]
    stretches: dict[float, float]
    num_pairs: int

    @property
    def best_lag(self) -> int:
        """The lag at which frames show most of what was logged."""
        return max(self.lags, key=lambda lag: (round(self.lags[lag], 3), -abs(lag)))


@dataclass(frozen=True)
class CameraShift:
    """How much a moved camera changes latents, beside the action.

    Attributes:
        shifts: of all pixels sideways, as shares of the width.
        change: mean absolute change of the latents of each.
        action: the same of one action.
    """

    shifts: tuple[float, ...]
    change: tuple[float, ...]
    action: float

    @property
    def ratios(self) -> tuple[float, ...]:
        """Change by each shift over that of one action."""
        return tuple(change / max(self.action, 1e-12) for change in self.change)


def inverse_dynamics(data: Recordings) -> InverseDynamics:
    """Recover actions from pairs of frames, also at other lags and rates."""
    moving, ways = data.moving, list(data.ways)
    products = _products(data)
    pairs = _pairs(data, lag=0, stretch=1.0)
    r2: list[float | None] = [None] * data.spec.action_size
    if len(pairs.actions) >= LEAST_PAIRS and moving:
        found = held_out_r2(_kernel(products, pairs), pairs.actions[:, list(moving)], pairs.owners)
        for number, value in zip(moving, found.tolist(), strict=True):
            r2[number] = value

    def score(lag: int, stretch: float) -> float:
        pairs = _pairs(data, lag=lag, stretch=stretch)
        if len(pairs.actions) < LEAST_PAIRS:
            return 0.0
        found = held_out_r2(_kernel(products, pairs), pairs.actions[:, ways], pairs.owners)
        return found.clamp(min=-1.0).mean().item()

    return InverseDynamics(
        tuple(r2),
        {lag: score(lag, 1.0) for lag in LAGS} if ways else {},
        {value: score(0, value) for value in STRETCHES} if ways else {},
        len(pairs.actions),
    )


def moments(length: int, *, lag: int, stretch: float) -> list[tuple[int, int]]:
    """Pairs (frame, moment of the log) that would belong together.

    Args:
        length: of both.
        lag: moments by which the frames are late.
        stretch: frames run this many times faster than the log: 2, where each frame is two moments
            of the log after the one before.
    """
    if stretch >= 1:
        found = [(frame, round(frame * stretch) - lag) for frame in range(length)]
    else:
        jump = round(1 / stretch)
        found = [(moment * jump, moment - lag) for moment in range(length)]
    return [(frame, at) for frame, at in found if 0 <= at < length and frame < length]


class _Pairs(NamedTuple):
    """Numbers of frames among all, what was done between them, and whose they are."""

    before: Int[Tensor, " M"]
    after: Int[Tensor, " M"]
    actions: Float[Tensor, "M A"]
    owners: Int[Tensor, " M"]


def _pairs(data: Recordings, *, lag: int, stretch: float) -> _Pairs:
    before, after, owners = [], [], []
    actions = [torch.zeros(0, data.spec.action_size, dtype=torch.float64)]
    first = 0
    for owner, item in enumerate(data.items):
        together = moments(len(item), lag=lag, stretch=stretch)
        logged = [at for _, at in together]
        before += [first + frame for frame, _ in together[:-1]]
        after += [first + frame for frame, _ in together[1:]]
        owners += [owner] * (len(together) - 1)
        first += len(item)
        if len(together) > 1 and stretch == 1.0:
            actions.append(item.actions[logged[:-1]].double().cpu())
        elif len(together) > 1:
            actions.append(data.spec.actions(item.states[logged].double().cpu()))
    index = [torch.tensor(numbers, dtype=torch.long) for numbers in (before, after, owners)]
    return _Pairs(index[0], index[1], torch.cat(actions), index[2])


def _products(data: Recordings) -> Float[Tensor, "F F"]:
    """Of the latents of all frames with each other, their mean removed."""
    latents = torch.cat([item.latents.flatten(1) for item in data.items]).float()
    latents = latents - latents.mean(dim=0)
    return (latents @ latents.T).double().cpu()


def _kernel(products: Float[Tensor, "F F"], pairs: _Pairs) -> Float[Tensor, "M M"]:
    """Products of the changes, and of the latents before them, each on the same scale."""
    before, after = pairs.before, pairs.after
    same = products[before][:, before]
    crossed = products[after][:, before]
    change = products[after][:, after] - crossed - crossed.T + same
    total: Tensor = torch.zeros_like(same)
    for part in (change, same):
        rows = part.mean(dim=0, keepdim=True)
        part = part - rows - rows.T + part.mean()
        total += part / part.diagonal().mean().clamp(min=1e-12)
    return total


def held_out_r2(
    kernel: Float[Tensor, "M M"], wanted: Float[Tensor, "M A"], owners: Int[Tensor, " M"]
) -> Float[Tensor, " A"]:
    """R2 of a linear map of what the kernel is made of.

    Folds are of whole episodes, or of four stretches of a single one. The penalty is the one with
    the smallest leave-one-out error in the fitted part.
    """
    fold = _folds(owners)
    residual = torch.zeros_like(wanted)
    for number in fold.unique().tolist():
        asked = fold == number
        known = ~asked
        mean = wanted[known].mean(dim=0)
        weights = ridge_weights(kernel[known][:, known], wanted[known] - mean)
        residual[asked] = wanted[asked] - mean - kernel[asked][:, known] @ weights
    power = (wanted - wanted.mean(dim=0)).square().sum(dim=0).clamp(min=1e-12)
    found: Tensor = 1 - residual.square().sum(dim=0) / power
    return found


def _folds(owners: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
    _, numbers = owners.unique(return_inverse=True)
    folds: Tensor = numbers % FOLDS
    if int(numbers.max()) == 0:
        folds = torch.arange(len(owners)) * FOLDS // len(owners)
    return folds


def camera_shift(loaded: LoadedWorld, data: Recordings) -> CameraShift:
    """Move the pictures sideways, edges repeated, and compare latents with those of an action."""
    width = data.items[0].episode.frames(data.cameras[0], [0]).shape[3]
    shifts: list[float] = []
    change = []
    action = 0.0
    for share in SHIFTS:
        pixels = max(1, round(share * width))
        if shifts and pixels / width <= shifts[-1]:
            continue

        def moved(frames: UInt8[Tensor, "T 3 H W"], by: int = pixels) -> UInt8[Tensor, "T 3 H W"]:
            wide = F.pad(frames.float(), (by, 0, 0, 0), mode="replicate")
            return wide[..., : frames.shape[3]].to(torch.uint8)

        after, plain = encoded_again(loaded, data, moved, most=SHIFTED_FRAMES)
        shifts.append(pixels / width)
        change.append((after.before - plain.before).float().abs().mean().item())
        action = (plain.after - plain.before).float().abs().mean().item()
    return CameraShift(tuple(shifts), tuple(change), action)
