"""The action-conditioned predictor of V-JEPA 2-AC (arXiv:2506.09985, section 3.1).

It reads the frames of an episode, each encoded on its own, with the action taken and the state of
the robot at every one of them, and predicts the features of the frame that follows each:

    step 0: [action, state, patches]  step 1: [action, state, patches]  ...

A step is one frame. Within a step every token sees every token, and all tokens of earlier steps;
nothing sees a later step. So the prediction for step i depends on frames, actions and states up to
i alone, and all steps of an episode are predicted in one forward pass.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from vjepa2.errors import DtypeError, InputError, ShapeError, check_kind
from vjepa2.models.checks import check_device, check_switch, may_read_values
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import attention_of, make_blocks
from vjepa2.models.outputs import HiddenLevels, PredictorOutput, levels_to_keep
from vjepa2.nn.block import run_blocks
from vjepa2.nn.rope import conditioned_tables_for
from vjepa2.shapes import TokenGrid


def check_conditions(
    config: VJEPA2Config,
    actions: Any,
    states: Any,
    extrinsics: Any,
    *,
    batch: int,
    num_steps: int,
    of: Tensor,
) -> None:
    """Refuse anything but finite floats [B, t, width], one row per frame.

    NaN and infinity are looked for on CPU only: on an accelerator the look would stall it.

    Args:
        of: the frames or tokens that they belong to.

    Raises:
        ShapeError: another number of samples, steps or channels.
        DtypeError: not a tensor, not floating point, NaN or infinity.
    """
    expected = (
        ("actions", actions, "action_size", config.action_size),
        ("states", states, "state_size", config.state_size),
        ("extrinsics", extrinsics, "extrinsics_size", config.extrinsics_size),
    )
    for name, given, field, width in expected:
        if given is None and name == "extrinsics":
            continue
        if not isinstance(given, Tensor) or not given.is_floating_point():
            got = str(given.dtype) if isinstance(given, Tensor) else type(given).__name__
            raise DtypeError(
                f"{name} must be a floating point tensor [B, t, {width}], got {got}. "
                f"Make one with torch.as_tensor({name}, dtype=torch.float32)."
            )
        if given.layout is not torch.strided:
            raise DtypeError(f"{name} must be a dense tensor, got one stored as {given.layout}.")
        if tuple(given.shape) != (batch, num_steps, width):
            raise ShapeError(
                f"{name} must be [B={batch}, t={num_steps}, {field}={width}], got "
                f"{list(given.shape)}: one row per frame, the last frame included (its prediction "
                "is the frame after it)."
            )
        check_device(name, given, of)
        looked_at = given.device.type == "cpu" and may_read_values(given)
        if looked_at and not torch.isfinite(given.detach()).all():
            raise DtypeError(
                f"{name} holds NaN or infinity. Look at the recording it was made from."
            )


class VJEPA2ActionPredictorEmbeddings(nn.Module):
    """Maps patch tokens, actions, states and camera poses to the predictor's width."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        width = config.pred_hidden_size
        self.predictor_embeddings = nn.Linear(config.hidden_size, width)
        self.action_embeddings = nn.Linear(config.action_size, width)
        self.state_embeddings = nn.Linear(config.state_size, width)
        # Part of the published file although the released model was trained without them.
        self.extrinsics_embeddings = nn.Linear(config.extrinsics_size, width)

    def forward(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None,
        *,
        num_steps: int,
    ) -> Tensor:
        """Join [B, t*h*w, D] and t rows of conditions to [B, t * (conditions + h*w), P]."""
        patches = self.predictor_embeddings(tokens)
        conditions = [
            self.action_embeddings(actions.to(patches)),
            self.state_embeddings(states.to(patches)),
        ]
        if extrinsics is not None:
            conditions.append(self.extrinsics_embeddings(extrinsics.to(patches)))
        steps = [condition[:, :, None] for condition in conditions]
        steps.append(patches.unflatten(1, (num_steps, -1)))
        return torch.cat(steps, dim=2).flatten(1, 2)


class VJEPA2ActionPredictor(nn.Module):
    """Predict the features of the next frame from frames, actions and states so far.

    Works with any number of frames and any grid. Rows and columns are placed as in the published
    code, on the grid of training with `config.crop_size // config.patch_size` patches a side:
    on a grid of h rows, row r stands at r * side / h, and columns likewise. At the training size
    that is r itself. (V-JEPA 2.1 maps its corners onto each other instead, see `nn/rope.py`; the
    encoder of V-JEPA 2 maps nothing.)
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = VJEPA2ActionPredictorEmbeddings(config)
        self.layer = make_blocks(
            config,
            dim=config.pred_hidden_size,
            num_heads=config.pred_num_attention_heads,
            depth=config.pred_num_hidden_layers,
            mlp_ratio=config.pred_mlp_ratio,
        )
        self.layernorm = nn.LayerNorm(config.pred_hidden_size, eps=float(config.layer_norm_eps))
        self.proj = nn.Linear(config.pred_hidden_size, config.hidden_size)

    def forward(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None = None,
        *,
        grid: TokenGrid,
        output_hidden_states: HiddenLevels = False,
        output_attentions: bool = False,
    ) -> PredictorOutput:
        """Predict the features of frame i + 1 for every frame i.

        Args:
            tokens: [B, t*h*w, D] features of t frames, each encoded on its own and layer-normed
                without weights (`VJEPA2ActionModel.encode_frames`).
            actions: [B, t, A] action taken at each frame. Published: metres x 3, radians x 3
                (extrinsic xyz), gripper; differences between two frames.
            states: [B, t, A'] state of the robot at each frame. Published: position in metres x 3,
                orientation in radians x 3 (extrinsic xyz), gripper 0 (open) to 1.
            extrinsics: [B, t, 6] pose of the camera at each frame; one more token per step when
                given. The published model was trained without.
            grid: token grid of the frames, `t` their number.
            output_hidden_states: as for the encoder; levels hold [B, t * (2 + h*w), P], step by
                step action, state (, extrinsics), patches.
            output_attentions: return attention weights; those to later steps are 0.

        Returns:
            `last_hidden_state` [B, t*h*w, D]: at the patches of frame i what those of frame i + 1
            should be, not normed; the features themselves, not a difference.

        Raises:
            ShapeError: tokens are not those of `grid` or not D wide; conditions are not one row
                per frame of the configured width.
            DtypeError: conditions are not finite floating point tensors.
            InputError: a level in `output_hidden_states` does not exist, or an argument is of
                another type.
        """
        check_switch("output_attentions", output_attentions)
        self._check_tokens(tokens, grid)
        check_device("tokens", tokens, self.layernorm.weight)
        check_conditions(
            self.config,
            actions,
            states,
            extrinsics,
            batch=tokens.shape[0],
            num_steps=grid.t,
            of=tokens,
        )
        levels = levels_to_keep(output_hidden_states, num_levels=len(self.layer) + 1)
        num_conditions = 2 if extrinsics is None else 3
        joined = self.embeddings(tokens, actions, states, extrinsics, num_steps=grid.t)
        rotary = conditioned_tables_for(
            joined,
            grid,
            num_conditions=num_conditions,
            training_side=max(1, self.config.crop_size // self.config.patch_size),
            head_dim=self.config.pred_head_dim,
        )
        stack = run_blocks(
            self.layer,
            joined,
            rotary,
            implementation=attention_of(self.config),
            recompute=self.gradient_checkpointing and self.training,
            keep_levels=levels,
            keep_weights=bool(output_attentions),
            causal_steps=grid.t,
        )
        patches = stack.tokens.unflatten(1, (grid.t, -1))[:, :, num_conditions:].flatten(1, 2)
        return PredictorOutput(
            last_hidden_state=cast(Tensor, self.proj(self.layernorm(patches))),
            hidden_states=tuple(stack.levels) if levels else None,
            attentions=tuple(stack.weights) if output_attentions else None,
        )

    def _check_tokens(self, tokens: Any, grid: Any) -> None:
        check_kind("grid", grid, TokenGrid, words="a TokenGrid, model.grid(...)", error=InputError)
        if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
            got = str(tokens.dtype) if isinstance(tokens, Tensor) else type(tokens).__name__
            raise DtypeError(f"tokens must be floating point features [B, t*h*w, D], got {got}.")
        if tokens.layout is not torch.strided:
            raise DtypeError(f"tokens must be a dense tensor, got one stored as {tokens.layout}.")
        width = self.config.hidden_size
        if tokens.ndim != 3 or tokens.shape[1] != grid.num_tokens or tokens.shape[2] != width:
            raise ShapeError(
                f"tokens must be [B, t*h*w, D] = [B, {grid.num_tokens}, {width}] for a grid of "
                f"{grid.t}x{grid.h}x{grid.w}, got {list(tokens.shape)}. Take them from "
                "model.encode_frames(pixels), and grid=model.grid(pixels)."
            )
