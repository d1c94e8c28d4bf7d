"""Rollouts of V-JEPA 2-AC that compute every step once.

Attention between steps is causal: what a step has become never changes when later ones follow. So
keys and values of the steps that were read are kept, and each further step costs its own tokens
alone. The published code computes all steps anew for every step it adds.

    past = empty_cache(predictor, tokens, grid=TokenGrid(1 + horizon, h, w))
    next_tokens(predictor, seen, action, state, past=past, keep=True, read_only=True)
    branch = past.for_candidates(64, num_kept=horizon - 1)
    predicted = next_tokens(predictor, tokens, actions, states, past=branch, keep=True)
"""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.models.action_predictor import VJEPA2ActionPredictor, check_conditions
from vjepa2.models.encoder import attention_of
from vjepa2.nn.block import Block
from vjepa2.nn.rope import RotaryTables, conditioned_tables_for
from vjepa2.nn.step_cache import LayerCache
from vjepa2.shapes import TokenGrid


@dataclass
class StepCache:
    """What a predictor has read so far.

    Attributes:
        layers: keys and values of every block.
        rotary: positions of all steps that there will be.
        grid: h and w of a step; t, for how many steps there are positions.
        num_conditions: tokens of a step beside its patches.
        num_steps: steps read so far.
    """

    layers: list[LayerCache]
    rotary: RotaryTables
    grid: TokenGrid
    num_conditions: int
    num_steps: int = 0

    @property
    def tokens_per_step(self) -> int:
        """Conditions and patches."""
        return self.num_conditions + self.grid.tokens_per_step

    def for_candidates(self, num_candidates: int, *, num_kept: int) -> "StepCache":
        """A cache for S continuations of this past, which itself stays as it is.

        Args:
            num_candidates: S; what is here must be of one past.
            num_kept: steps that will be added with `keep`.
        """
        room = num_kept * self.tokens_per_step
        layers = [layer.for_candidates(num_candidates, room=room) for layer in self.layers]
        return StepCache(layers, self.rotary, self.grid, self.num_conditions, self.num_steps)


def empty_cache(
    predictor: VJEPA2ActionPredictor,
    like: Tensor,
    *,
    grid: TokenGrid,
    num_conditions: int = 2,
) -> StepCache:
    """A cache for rollouts of at most `grid.t` steps, with nothing in it.

    Args:
        like: tokens, for their device and element type.
        grid: h and w of a frame; t, the most steps that past and future will have together.
        num_conditions: 2, or 3 with camera poses.
    """
    config = predictor.config
    rotary = conditioned_tables_for(
        like,
        grid,
        num_conditions=num_conditions,
        training_side=max(1, config.crop_size // config.patch_size),
        head_dim=config.pred_head_dim,
    )
    layers = [LayerCache() for _ in predictor.layer]
    return StepCache(layers, rotary, grid, num_conditions)


def next_tokens(
    predictor: VJEPA2ActionPredictor,
    tokens: Float[Tensor, "S N D"],
    actions: Float[Tensor, "S A"],
    states: Float[Tensor, "S K"],
    extrinsics: Float[Tensor, "S 6"] | None = None,
    *,
    past: StepCache,
    keep: bool,
    read_only: bool = False,
) -> Float[Tensor, "S N D"] | None:
    """Read one more frame; predict the features of the one after it.

    Equal to the last step of `VJEPA2ActionPredictor.forward` on all frames so far.

    Args:
        tokens: [S, h*w, D] features of the frame, layer-normed without weights.
        actions: [S, A] action taken at it.
        states: [S, K] state of the robot at it.
        extrinsics: [S, 6] pose of the camera, if `past` was made for 3 conditions.
        past: the frames before; this one is added to it.
        keep: whether further frames follow.
        read_only: only add the frame; the last block then computes keys and values alone.

    Returns:
        [S, h*w, D] not normed; None with `read_only`.

    Raises:
        ShapeError: tokens or conditions are not of one step of `past.grid`.
        DtypeError: conditions are not finite floats.
        ConfigError: `past` has no positions for a further step, or no room for poses.
    """
    step, grid, config = past.num_steps, past.grid, predictor.config
    if step >= grid.t:
        raise ConfigError(
            f"This rollout was prepared for {grid.t} steps and has read them all. Make the cache "
            "with a larger grid.t."
        )
    if (extrinsics is not None) != (past.num_conditions == 3):
        raise ConfigError(
            f"The cache was made for {past.num_conditions} conditions per step; camera poses are "
            "the third. Give them at every step, or at none."
        )
    if tokens.ndim != 3 or tokens.shape[1:] != (grid.tokens_per_step, config.hidden_size):
        raise ShapeError(
            f"tokens must be those of one frame, [S, {grid.tokens_per_step}, "
            f"{config.hidden_size}], got {list(tokens.shape)}."
        )
    rows = [x if x is None else x[:, None] for x in (actions, states, extrinsics)]
    check_conditions(config, *rows, batch=tokens.shape[0], num_steps=1, of=tokens)
    x = predictor.embeddings(tokens, *rows, num_steps=1)
    per_step = past.tokens_per_step
    rotary = past.rotary.part(step * per_step, (step + 1) * per_step)
    last = len(predictor.layer) - 1
    for index, (block, layer) in enumerate(zip(predictor.layer, past.layers, strict=True)):
        silent = 0
        if index == last:  # of its output, only the patches are used, and of the past nothing
            silent = per_step if read_only else past.num_conditions
        x = cast(Block, block).next_step(
            x,
            rotary,
            layer,
            implementation=attention_of(config),
            keep=keep,
            num_silent=silent,
        )
    past.num_steps = step + 1
    if read_only:
        return None
    predicted: Tensor = predictor.proj(predictor.layernorm(x))
    return predicted
