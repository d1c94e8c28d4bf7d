"""Attention: one function that attends, and the modules that project to queries, keys, values.

Parameter names are those of the Hugging Face port: `query/key/value/proj` in the encoder and the
predictor, `q_proj/k_proj/v_proj/out_proj` in the pooler.
"""

from importlib.util import find_spec
from typing import Literal, NamedTuple, cast, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vjepa2.nn.rope import RotaryTables, apply_rotary
from vjepa2.nn.step_cache import LayerCache
from vjepa2.packing import Segments

AttentionImplementation = Literal["sdpa", "eager"]
ATTENTION_IMPLEMENTATIONS: tuple[str, ...] = get_args(AttentionImplementation)

# The fused kernel for joined samples: PyTorch 2.10 has one, for heads of so many channels.
HAS_VARLEN_KERNEL = find_spec("torch.nn.attention.varlen") is not None
MAX_VARLEN_HEAD = 256


class Attended(NamedTuple):
    """What attention gives back; `weights` [B, G, N, N'] only where they were asked for."""

    values: Float[Tensor, "B N D"]
    weights: Float[Tensor, "B G N N2"] | None


def attend(
    query: Float[Tensor, "B N G Dh"],
    key: Float[Tensor, "B N2 G Dh"],
    value: Float[Tensor, "B N2 G Dh"],
    *,
    implementation: AttentionImplementation,
    dropout: float = 0.0,
    need_weights: bool = False,
    causal_steps: int | None = None,
    segments: Segments | None = None,
) -> Attended:
    """Scaled dot-product attention, every query to every key, scale `Dh ** -0.5`.

    Args:
        implementation: "sdpa" calls PyTorch's fused kernel; "eager" writes the softmax out, in
            float32 at least, and is what `need_weights` uses in either case: the fused kernels
            keep no weights.
        dropout: probability of dropping an attention weight; 0 outside training.
        need_weights: also return the weights.
        causal_steps: number of equal time steps that the N tokens of queries and keys lie in, one
            after the other. A query then sees the keys of its own step and of those before it.
        segments: samples that the N tokens of queries and keys are joined from (B = 1); each
            attends to itself only. Without weights and steps.
    """
    if segments is not None:
        return _attend_by_sample(
            query, key, value, segments, implementation=implementation, dropout=dropout
        )
    if causal_steps is not None and causal_steps > 1:
        return _attend_by_step(
            query,
            key,
            value,
            num_steps=causal_steps,
            implementation=implementation,
            dropout=dropout,
            need_weights=need_weights,
        )
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if implementation == "sdpa" and not need_weights:
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return Attended(out.transpose(1, 2).flatten(2), None)
    # The N x Dh queries are scaled, not the N x N scores: less to write, and no float16 overflow.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    at_least_float32 = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=at_least_float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout)
    out = (weights @ value).transpose(1, 2).flatten(2)
    return Attended(out, weights if need_weights else None)


def _attend_by_step(
    query: Float[Tensor, "B N G Dh"],
    key: Float[Tensor, "B N G Dh"],
    value: Float[Tensor, "B N G Dh"],
    *,
    num_steps: int,
    implementation: AttentionImplementation,
    dropout: float,
    need_weights: bool,
) -> Attended:
    """The queries of one step after the other, each to the keys up to the end of its step.

    Exact without a mask: the N x N scores that a mask would throw away are never computed, and no
    N x N mask is kept.
    """
    num_tokens = query.shape[1]
    size = num_tokens // num_steps
    values, weights = [], []
    for step in range(num_steps):
        seen = (step + 1) * size
        part = attend(
            query[:, step * size : seen],
            key[:, :seen],
            value[:, :seen],
            implementation=implementation,
            dropout=dropout,
            need_weights=need_weights,
        )
        values.append(part.values)
        if part.weights is not None:
            weights.append(F.pad(part.weights, (0, num_tokens - seen)))
    return Attended(torch.cat(values, dim=1), torch.cat(weights, dim=2) if weights else None)


def _attend_by_sample(
    query: Float[Tensor, "1 N G Dh"],
    key: Float[Tensor, "1 N G Dh"],
    value: Float[Tensor, "1 N G Dh"],
    segments: Segments,
    *,
    implementation: AttentionImplementation,
    dropout: float,
) -> Attended:
    """Every sample of joined tokens to itself, without padding and without a mask."""
    lengths = segments.lengths
    if implementation == "sdpa" and dropout == 0.0 and _fits_varlen_kernel(query):
        # Here, for the import takes a tenth of a second that others need not wait.
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = segments.offsets, segments.longest
        out = varlen_attn(query[0], key[0], value[0], bounds, bounds, longest, longest)
        return Attended(cast(Tensor, out).flatten(1)[None], None)
    if len(set(lengths)) == 1:
        parts = [tuple(x.unflatten(1, (-1, lengths[0]))[0] for x in (query, key, value))]
    else:
        parts = list(zip(*(x.split(lengths, dim=1) for x in (query, key, value)), strict=True))
    values = [
        attend(*part, implementation=implementation, dropout=dropout).values.flatten(0, 1)
        for part in parts
    ]
    return Attended(torch.cat(values)[None], None)


def _fits_varlen_kernel(query: Float[Tensor, "1 N G Dh"]) -> bool:
    """Whether PyTorch's fused kernel for samples of different lengths takes these tensors."""
    return (
        HAS_VARLEN_KERNEL
        and query.device.type == "cuda"
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= MAX_VARLEN_HEAD
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


class RotaryAttention(nn.Module):
    """Self-attention with rotary positions; the attention of encoder and predictor."""

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim, bias=qkv_bias)
        self.key = nn.Linear(dim, dim, bias=qkv_bias)
        self.value = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        rotary: RotaryTables,
        *,
        implementation: AttentionImplementation,
        need_weights: bool = False,
        causal_steps: int | None = None,
        segments: Segments | None = None,
    ) -> Attended:
        """Attend among all N tokens, or see `attend`; `rotary` holds their positions."""
        heads = (self.num_heads, -1)
        query = apply_rotary(self.query(x).unflatten(-1, heads), rotary)
        key = apply_rotary(self.key(x).unflatten(-1, heads), rotary)
        value = self.value(x).unflatten(-1, heads)
        attended = attend(
            query,
            key,
            value,
            implementation=implementation,
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
            causal_steps=causal_steps,
            segments=segments,
        )
        return Attended(self.proj(attended.values), attended.weights)

    def next_step(
        self,
        x: Float[Tensor, "S N D"],
        rotary: RotaryTables,
        cache: LayerCache,
        *,
        implementation: AttentionImplementation,
        keep: bool,
        num_silent: int,
    ) -> Float[Tensor, "S N2 D"]:
        """Let the tokens of the next step attend to themselves and to the steps in the cache.

        Args:
            x: tokens of the step, normed; `rotary` holds their positions.
            keep: see `LayerCache.extend`.
            num_silent: first tokens of the step that are attended to and attend to nothing,
                because nobody reads what would become of them.
        """
        heads = (self.num_heads, -1)
        key = apply_rotary(self.key(x).unflatten(-1, heads), rotary)
        key, value = cache.extend(key, self.value(x).unflatten(-1, heads), keep=keep)
        if num_silent == x.shape[1]:
            return x[:, num_silent:]
        positions = rotary.part(num_silent, x.shape[1])
        query = apply_rotary(self.query(x[:, num_silent:]).unflatten(-1, heads), positions)
        attended = attend(query, key, value, implementation=implementation)
        return cast(Tensor, self.proj(attended.values))


class PoolerSelfAttention(nn.Module):
    """Self-attention without positions (V-JEPA 2's attentive probe, appendix).

    The order of the matrices is the port's: optimizers know parameters by their place.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B N D"], *, implementation: AttentionImplementation
    ) -> Float[Tensor, "B N D"]:
        """Attend among all N tokens."""
        heads = (self.num_heads, -1)
        attended = attend(
            self.q_proj(x).unflatten(-1, heads),
            self.k_proj(x).unflatten(-1, heads),
            self.v_proj(x).unflatten(-1, heads),
            implementation=implementation,
            dropout=self.dropout if self.training else 0.0,
        )
        return cast(Tensor, self.out_proj(attended.values))


class PoolerCrossAttention(nn.Module):
    """Learned queries attend to tokens. Has no output projection, as the published probe."""

    def __init__(self, dim: int, num_heads: int, *, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        tokens: Float[Tensor, "B N D"],
        *,
        implementation: AttentionImplementation,
    ) -> Float[Tensor, "B Q D"]:
        """Every query attends to all N tokens."""
        heads = (self.num_heads, -1)
        return attend(
            self.q_proj(queries).unflatten(-1, heads),
            self.k_proj(tokens).unflatten(-1, heads),
            self.v_proj(tokens).unflatten(-1, heads),
            implementation=implementation,
            dropout=self.dropout if self.training else 0.0,
        ).values
