"""`ActionWorldModel`: V-JEPA 2-AC as something to plan with (arXiv:2506.09985, sections 3 and 4).

    world = ActionWorldModel(VJEPA2ActionModel.from_pretrained(...))
    goal = world.encode(goal_pixels)[-1]                               # [N, D]
    situation = world.begin(world.encode(pixels), states)              # T frames so far
    costs = world.costs(situation, actions, lambda r: (r.latents[:, -1] - goal).abs().mean((1, 2)))

All candidates share the past, which is read once. A rollout of L actions costs L steps of the
predictor (the published code: 1 + 2 + ... + L), and candidates are tried in chunks that fit into
`memory_bytes`.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, DtypeError, ShapeError, check_kind, checked_integer
from vjepa2.models.action_model import VJEPA2ActionModel, normed
from vjepa2.models.action_rollout import StepCache, empty_cache, next_tokens
from vjepa2.poses import POSE_STATE_SIZE, integrate_pose
from vjepa2.protocols import Objective, Rollout
from vjepa2.shapes import TokenGrid

StateUpdate = Callable[[Float[Tensor, "S K"], Float[Tensor, "S A"]], Float[Tensor, "S K"]]

DEFAULT_MEMORY_BYTES = 2 * 2**30
MAX_STEPS = 256  # past and future together; the published network saw 15, its table has 32
# Arrays of a block's width that are alive at once in a step, beside the hidden layer of its MLP:
# the residual, its norm, queries, keys, values, what was attended, and its projection.
LIVE_ARRAYS = 7
# Allocators hold more than is asked of them (benchmarks/rollout.py: 1.04 of what is counted here).
HELD_SHARE = 1.1


@dataclass(frozen=True)
class Situation:
    """One past that candidates start from.

    Attributes:
        tokens: [1, N, D] features of the last frame.
        state: [1, K] of the robot at it.
        past: the frames before, read by the predictor.
        num_frames: T, with the last one.
    """

    tokens: Float[Tensor, "1 N D"]
    state: Float[Tensor, "1 K"]
    past: StepCache
    num_frames: int


class ActionWorldModel:
    """Rollouts of a `VJEPA2ActionModel`; a `protocols.WorldModel`.

    Args:
        model: in evaluation mode, on the device where planning happens.
        update_state: the state after an action, [S, K] and [S, A] to [S, K]; None for arms whose
            states and actions are the published seven numbers: `poses.integrate_pose`.
        memory_bytes: what keys, values and activations of the candidates that are computed at
            once may take, beside the weights. At least one candidate is always computed.
        dtype: of the matrix products; torch.bfloat16 computes them under autocast. None: that of
            the weights.

    Raises:
        ConfigError: a value makes no sense, or `update_state` is missing for a robot whose states
            or actions are not seven numbers.
    """

    def __init__(
        self,
        model: VJEPA2ActionModel,
        *,
        update_state: StateUpdate | None = None,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_kind("model", model, VJEPA2ActionModel, words="a VJEPA2ActionModel")
        config = model.config
        self.action_size, self.state_size = config.action_size, config.state_size
        if update_state is None:
            if (self.action_size, self.state_size) != (POSE_STATE_SIZE, POSE_STATE_SIZE):
                raise ConfigError(
                    f"This model has actions of {self.action_size} and states of "
                    f"{self.state_size} numbers; what an action does to the state is known only "
                    "for the published seven. Give update_state, for joints that move by their "
                    "actions: lambda state, action: state + action."
                )
            update_state = integrate_pose
        if dtype not in (None, torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise ConfigError(f"dtype must be a floating point type of torch, got {dtype}.")
        self.model, self.update_state = model, update_state
        self.memory_bytes = checked_integer("memory_bytes", memory_bytes, least=1)
        self._autocast = None if dtype in (None, model.dtype) else dtype

    # -- frames and pasts ---------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "T C H W"]) -> Float[Tensor, "T N D"]:
        """Features of every frame on its own, layer-normed.

        Args:
            frames: normalised pixels, as the processor makes them.

        Raises:
            ShapeError, DtypeError: not [T, C, H, W] finite floats.
        """
        if not isinstance(frames, Tensor) or frames.ndim != 4:
            got = list(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
            raise ShapeError(f"frames must be pixels [T, C, H, W], got {got}.")
        with self._computing(frames):
            tokens = self.model.encode_frames(frames[None])
        latents: Tensor = tokens[0].unflatten(0, (len(frames), -1))
        return latents.to(self.model.dtype)

    def begin(
        self,
        latents: Float[Tensor, "T N D"],
        states: Float[Tensor, "T K"],
        actions: Float[Tensor, "T1 A"] | None = None,
        *,
        grid: tuple[int, int] | None = None,
    ) -> Situation:
        """Read a past once, for any number of candidates.

        Args:
            latents: [T, N, D] of `encode`, the last frame included.
            states: [T, K] of the robot at these frames.
            actions: [T - 1, A] taken between them; may be left out for a single frame.
            grid: rows and columns of a frame's tokens; None: a square.

        Raises:
            ShapeError: the lengths do not fit each other.
            DtypeError: not finite floats.
        """
        if not isinstance(latents, Tensor) or latents.ndim != 3 or len(latents) < 1:
            got = list(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
            raise ShapeError(f"latents must be [T, N, D] of encode(), T >= 1, got {got}.")
        T, N, _ = latents.shape
        h, w = _sides(N) if grid is None else grid
        if h * w != N:
            raise ShapeError(f"grid={grid} has {h * w} tokens, latents {N} a frame.")
        if actions is None:
            actions = latents.new_zeros(0, self.action_size)
        if not isinstance(states, Tensor) or states.shape != (T, self.state_size):
            raise ShapeError(
                f"states must be [T={T}, {self.state_size}], one row per frame, got "
                f"{list(states.shape)}."
            )
        if actions.shape != (T - 1, self.action_size):
            raise ShapeError(
                f"actions must be [T - 1 = {T - 1}, {self.action_size}], those between the frames, "
                f"got {list(actions.shape)}."
            )
        if not all(torch.isfinite(part).all() for part in (latents, states, actions)):
            raise DtypeError("latents, states and actions must be finite; these hold NaN or inf.")
        latents, states, actions = (
            part.to(self.model.device, self.model.dtype) for part in (latents, states, actions)
        )
        with torch.no_grad(), self._computing(latents):
            past = empty_cache(self.model.predictor, latents, grid=TokenGrid(MAX_STEPS, h, w))
            for step in range(T - 1):
                rows = slice(step, step + 1)
                next_tokens(
                    self.model.predictor,
                    latents[rows],
                    actions[rows],
                    states[rows],
                    past=past,
                    keep=True,
                    read_only=True,
                )
        return Situation(latents[-1:], states[-1:], past, T)

    # -- candidates ---------------------------------------------------------------------------

    def rollout(self, situation: Situation, actions: Float[Tensor, "S L A"]) -> Rollout:
        """What every candidate leads to; differentiable where gradients are enabled.

        All candidates at once, and all their latents: for many of them see `costs`.

        Args:
            situation: of `begin`.
            actions: [S, L, A], L >= 1.

        Raises:
            ShapeError, DtypeError: actions are not finite floats [S, L, A].
            ConfigError: past and future are longer than `MAX_STEPS`.
        """
        actions = self._checked(situation, actions)
        S, L, _ = actions.shape
        past = situation.past.for_candidates(S, num_kept=L - 1)
        tokens = situation.tokens.expand(S, -1, -1)
        state = situation.state.expand(S, -1)
        latents, states = [], []
        with self._computing(tokens):
            for step in range(L):
                predicted = next_tokens(
                    self.model.predictor,
                    tokens,
                    actions[:, step],
                    state,
                    past=past,
                    keep=step + 1 < L,
                )
                assert predicted is not None
                tokens = normed(predicted).to(self.model.dtype)
                # In double precision: over a horizon angles are wrapped again and again.
                moved = self.update_state(state.double(), actions[:, step].double())
                state = moved.to(self.model.dtype)
                latents.append(tokens)
                states.append(state)
        return Rollout(
            latents=torch.stack(latents, dim=1),
            states=torch.stack(states, dim=1),
            actions=actions,
        )

    def costs(
        self, situation: Situation, actions: Float[Tensor, "S L A"], objective: Objective
    ) -> Float[Tensor, " S"]:
        """The objective of every candidate, in chunks that fit into `memory_bytes`.

        With gradients enabled the chunks are still computed one after the other, but all that the
        backward pass needs stays.

        Raises:
            ShapeError, DtypeError, ConfigError: see `rollout`; or the objective does not give one
                number per candidate.
        """
        actions = self._checked(situation, actions)
        per_chunk = self.candidates_at_once(situation, horizon=actions.shape[1])
        costs = []
        for part in actions.split(per_chunk):
            cost = objective(self.rollout(situation, part))
            if cost.shape != (len(part),):
                raise ShapeError(
                    f"The objective must give one cost per candidate, [{len(part)}], got "
                    f"{list(cost.shape)}. Take the mean over all axes but the first."
                )
            costs.append(cost)
        return torch.cat(costs)

    def bytes_per_candidate(self, situation: Situation, *, horizon: int) -> int:
        """Memory that one more candidate takes: keys and values of all steps, one step at work.

        The last step of a rollout is not kept, so a rollout of one step keeps nothing beside the
        past; the keys and values of past and candidate are joined once per block.
        """
        config, past = self.model.config, situation.past
        width, layers = config.pred_hidden_size, config.pred_num_hidden_layers
        kept = (horizon - 1) * past.tokens_per_step
        if kept or past.num_steps:
            kept += past.num_steps * past.tokens_per_step
        cached = 2 * kept * width * layers
        hidden = int(width * config.pred_mlp_ratio)
        joined = 2 * (kept + past.tokens_per_step) * width
        at_work = past.tokens_per_step * (LIVE_ARRAYS * width + hidden) + joined
        latents = (horizon + 2) * past.grid.tokens_per_step * config.hidden_size
        return (cached + at_work + latents) * self.model.dtype.itemsize

    def candidates_at_once(self, situation: Situation, *, horizon: int) -> int:
        """Candidates that are computed together, at least one."""
        each = HELD_SHARE * self.bytes_per_candidate(situation, horizon=horizon)
        return max(1, int(self.memory_bytes / each))

    def _checked(self, situation: Situation, actions: Tensor) -> Tensor:
        check_kind("situation", situation, Situation, words="what begin() returned")
        if not isinstance(actions, Tensor) or not actions.is_floating_point():
            got = actions.dtype if isinstance(actions, Tensor) else type(actions).__name__
            raise DtypeError(f"actions must be floats [S, L, {self.action_size}], got {got}.")
        if actions.ndim != 3 or 0 in actions.shape or actions.shape[2] != self.action_size:
            raise ShapeError(
                f"actions must be [S, L, {self.action_size}], S and L >= 1, got "
                f"{list(actions.shape)}."
            )
        if not torch.isfinite(actions.detach()).all():
            raise DtypeError("actions hold NaN or infinity.")
        total = situation.past.num_steps + actions.shape[1]
        if total > situation.past.grid.t:
            raise ConfigError(
                f"Past and future are {total} steps, at most {situation.past.grid.t} are possible. "
                "Plan fewer steps ahead, or begin with fewer frames."
            )
        return actions.to(self.model.device, self.model.dtype)

    def _computing(self, tokens: Tensor) -> AbstractContextManager[object]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(tokens.device.type, dtype=self._autocast)


def _sides(num_tokens: int) -> tuple[int, int]:
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise ShapeError(
            f"A frame has {num_tokens} tokens, which is no square: say which rows and columns they "
            "are, begin(..., grid=(h, w))."
        )
    return side, side
