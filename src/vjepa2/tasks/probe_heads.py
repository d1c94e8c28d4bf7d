"""Many attentive probes at once: one computation for all learning rates and weight decays.

Every parameter has an axis of heads in front, [K, ...]; K probes read the same tokens and never see
each other. The numbers are those of `VJEPA2AttentiveProbe` (arXiv:2506.09985, section 4), computed
in another order, which is exact and cheaper:

* Norms without their weights are the same for all heads, so that the first one is computed once;
  the weights of a norm are multiplied into the matrix that follows.
* One learned query per head scores a token by a single vector, `W_k^T q`, and the mean of tokens
  under attention passes through `W_v` once. Keys and values of all N tokens are never made: the
  cross attention costs N D G instead of 2 N D^2 multiplications (G attention heads).
* The bias of keys adds the same to all scores of a query, which a softmax does not see. It is left
  out, its gradient is 0.

Axes: K heads (probes), B batch, N tokens, D width, G attention heads, L classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa2.errors import ConfigError, ShapeError, checked_integer
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.nn.activations import ACTIVATIONS
from vjepa2.nn.init import init_weights
from vjepa2.weights.skeleton import Skeleton

CROSS = "pooler.cross_attention_layer"
SELF = "pooler.self_attention_layers"


class ProbeHeads(nn.Module):
    """K attentive probes of one shape with their parameters side by side.

    Args:
        config: of the probes: encoder width, pooler, classes.
        num_heads: K.
        seed: of the initial weights. All heads begin alike, so that they differ by how they learn
            and by nothing else, and a head's result does not depend on which others there are.

    Raises:
        ConfigError: `config` has several queries (`head_sizes`), or dropout in the pooler.
    """

    def __init__(self, config: VJEPA2Config, num_heads: int, *, seed: int) -> None:
        super().__init__()
        checked_integer("The number of heads", num_heads, least=1)
        if config.head_sizes is not None:
            raise ConfigError("ProbeHeads have one query each; head_sizes must be None.")
        if config.attention_dropout:
            raise ConfigError(
                f"ProbeHeads have no dropout; attention_dropout={config.attention_dropout}. Set 0."
            )
        self.config = config
        self.num_heads = num_heads
        self.activation = ACTIVATIONS[config.hidden_act]()
        generator = torch.Generator().manual_seed(seed)
        with Skeleton():
            probe = VJEPA2AttentiveProbe(config)
        probe.to_empty(device="cpu")
        init_weights(probe, std=float(config.initializer_range), generator=generator)
        self.load_probes([probe])

    def load_probes(self, probes: Sequence[VJEPA2AttentiveProbe]) -> None:
        """Take the weights of one probe for all heads, or of K probes.

        Raises:
            ShapeError: neither 1 nor K probes.
        """
        if len(probes) not in (1, self.num_heads):
            raise ShapeError(
                f"Give 1 probe or {self.num_heads}, one for each head; got {len(probes)}."
            )
        states = [probe.state_dict() for probe in probes]
        for name in states[0]:
            values = torch.stack([state[name] for state in states]).float()
            whole = values.expand(self.num_heads, *values.shape[1:]).clone()
            self.register_parameter(_registered(name), nn.Parameter(whole))

    def stacked(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names as in `VJEPA2AttentiveProbe`, and parameters [K, ...]."""
        for name, parameter in self.named_parameters():
            yield name.replace("/", "."), parameter

    def probe(self, index: int) -> VJEPA2AttentiveProbe:
        """Head `index` as a probe of its own, with a copy of its weights."""
        checked_integer("index", index, least=0, most=self.num_heads - 1)
        with Skeleton():
            probe = VJEPA2AttentiveProbe(self.config)
        state = {name: values[index].detach().clone() for name, values in self.stacked()}
        probe.load_state_dict(state, assign=True)
        return probe.requires_grad_(True).eval()

    def forward(
        self, tokens: Float[Tensor, "B N D"], *, recompute: bool = False
    ) -> Float[Tensor, "K B L"]:
        """Scores of every head.

        Args:
            tokens: of the encoder, those of all segments and levels joined; float32.
            recompute: keep no activations inside self-attention blocks for the backward pass.

        Raises:
            ShapeError: the tokens are not [B, N, D].
        """
        config = self.config
        if tokens.ndim != 3 or tokens.shape[2] != config.hidden_size:
            raise ShapeError(
                f"tokens must be [B, N, D={config.hidden_size}], got {list(tokens.shape)}; this is "
                "a probe for another encoder width."
            )
        batch = tokens.shape[0]
        x = tokens[None]  # [1, B, N, D]: the same for all heads until the first block
        for number in range(config.num_pooler_layers):
            if recompute and torch.is_grad_enabled():
                x = checkpoint(self._self_block, x, number, use_reentrant=False)
            else:
                x = self._self_block(x, number)
        pooled = self._cross_block(x, batch)
        return _linear(pooled, self._at("classifier.weight"), self._at("classifier.bias"))

    def _at(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, _registered(name)))

    def _normed(self, x: Tensor) -> Tensor:
        """A norm without its weights; those go into the next matrix, see `_folded`."""
        return F.layer_norm(x, (self.config.hidden_size,), eps=float(self.config.pooler_eps))

    def _folded(self, matrix: str, norm: str) -> tuple[Tensor, Tensor]:
        """Matrix [K, O, D] and bias [K, O] of a linear layer that reads a norm with weights."""
        weight = self._at(f"{matrix}.weight")
        bias = self._at(f"{matrix}.bias") + torch.einsum(
            "kod,kd->ko", weight, self._at(f"{norm}.bias")
        )
        return weight * self._at(f"{norm}.weight")[:, None], bias

    def _self_block(self, x: Float[Tensor, "K1 B N D"], number: int) -> Float[Tensor, "K B N D"]:
        """Self-attention block; K1 is 1 where all heads still read the same."""
        own = f"{SELF}.{number}"
        batch, num_tokens, width = x.shape[1:]
        groups = self.config.pooler_heads
        normed = self._normed(x).flatten(1, 2)

        def projected(name: str) -> Tensor:
            weight, bias = self._folded(f"{own}.self_attn.{name}_proj", f"{own}.layer_norm1")
            out = _linear(normed, weight, None if name == "k" else bias)
            return out.view(self.num_heads * batch, num_tokens, groups, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(projected("q"), projected("k"), projected("v"))
        mixed = mixed.transpose(1, 2).reshape(self.num_heads, batch * num_tokens, width)
        out = f"{own}.self_attn.out_proj"
        mixed = _linear(mixed, self._at(f"{out}.weight"), self._at(f"{out}.bias"))
        x = x + mixed.view(self.num_heads, batch, num_tokens, width)
        weight, bias = self._folded(f"{own}.mlp.fc1", f"{own}.layer_norm2")
        wide = _linear(self._normed(x).flatten(1, 2), weight, bias)
        return x + self._narrowed(wide, own).view_as(x)

    def _narrowed(self, wide: Float[Tensor, "K M W"], own: str) -> Float[Tensor, "K M D"]:
        """The second half of a block's MLP."""
        fc2 = f"{own}.mlp.fc2"
        return _linear(self.activation(wide), self._at(f"{fc2}.weight"), self._at(f"{fc2}.bias"))

    def _cross_block(self, x: Float[Tensor, "K1 B N D"], batch: int) -> Float[Tensor, "K B D"]:
        """The learned query of every head gathers the tokens."""
        groups, width = self.config.pooler_heads, self.config.hidden_size
        split = (groups, width // groups)
        query = self._at("pooler.query_tokens")[:, 0]  # [K, 1, D]
        attn = f"{CROSS}.cross_attn"
        q = _linear(query, self._at(f"{attn}.q_proj.weight"), self._at(f"{attn}.q_proj.bias"))
        weight = self._at(f"{attn}.k_proj.weight").unflatten(1, split)  # [K, G, Dh, D]
        norm = self._at(f"{CROSS}.layer_norm1.weight")[:, None]
        # [K, G, D]: what a normed token is multiplied with to get its score.
        scorer = torch.einsum("kgh,kghd->kgd", q[:, 0].unflatten(1, split), weight) * norm
        scorer = scorer * split[1] ** -0.5
        normed = self._normed(x)
        if x.shape[0] == 1:  # shared tokens: all heads in one product
            every = scorer.flatten(0, 1).expand(batch, -1, -1)  # [B, KG, D]
            # A row of this product does not depend on how many rows there are: a head's numbers
            # are the same to the last bit, alone or with others.
            shares = torch.bmm(every, normed[0].transpose(1, 2)).softmax(dim=-1)
            gathered = torch.bmm(shares, normed[0])
            gathered = gathered.unflatten(1, (self.num_heads, groups)).transpose(0, 1)
        else:
            shares = (scorer[:, None] @ normed.transpose(2, 3)).softmax(dim=-1)  # [K, B, G, N]
            gathered = shares @ normed
        # The shares add up to 1, so the weights of the norm act on the mean as on every token.
        gathered = gathered * norm[:, None] + self._at(f"{CROSS}.layer_norm1.bias")[:, None, None]
        values = self._at(f"{attn}.v_proj.weight").unflatten(1, split)
        pooled = torch.einsum("kbgd,kghd->kbgh", gathered, values).flatten(2)
        pooled = pooled + self._at(f"{attn}.v_proj.bias")[:, None]
        pooled = query.expand(-1, batch, -1) + pooled
        # Few vectors: the norm's weights act on them, not on the larger matrix.
        scale, shift = (self._at(f"{CROSS}.layer_norm2.{part}") for part in ("weight", "bias"))
        normed = torch.addcmul(shift[:, None], self._normed(pooled), scale[:, None])
        fc1 = f"{CROSS}.mlp.fc1"
        wide = _linear(normed, self._at(f"{fc1}.weight"), self._at(f"{fc1}.bias"))
        return pooled + self._narrowed(wide, CROSS)


def _registered(name: str) -> str:
    """A name that a module takes for a parameter: dots would mean submodules."""
    return name.replace(".", "/")


class _Linear(torch.autograd.Function):
    """x [K, M, D], weight [K, O, D], bias [K, O] or None to [K, M, O].

    Its own backward pass, because that of `torch.bmm` makes the gradient of a transposed matrix in
    an order that is not the matrix's own, and copies it: a third of the time for small batches.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "K M O"]:
        if torch.is_autocast_enabled(x.device.type):
            # The backward pass runs without autocast: it gets what was multiplied here.
            narrow = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(narrow), weight.to(narrow)
            bias = None if bias is None else bias.to(narrow)
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        of_weight = torch.bmm(gradient.transpose(1, 2), x)
        return of_x, of_weight, gradient.sum(dim=1) if ctx.has_bias else None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "K M O"]:
    """The linear layer of every head; x [K or 1, M, D] decides the element type."""
    x = x.expand(weight.shape[0], -1, -1)
    bias = None if bias is None else bias.to(x.dtype)
    return cast(Tensor, cast(Any, _Linear).apply(x, weight.to(x.dtype), bias))


def head_losses(logits: Float[Tensor, "K B L"], labels: Int[Tensor, " B"]) -> Float[Tensor, " K"]:
    """Cross entropy of every head, the mean over the batch, in float32 at least."""
    num_heads, batch, _ = logits.shape
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = labels.expand(num_heads, batch).flatten()
    losses = F.cross_entropy(exact.flatten(0, 1), targets, reduction="none")
    return losses.view(num_heads, batch).mean(dim=1)


class HeadsAdamW(torch.optim.Optimizer):
    """AdamW over the heads of `ProbeHeads`, each with its own learning rate and weight decay.

    One fused kernel per head runs over all its parameters where they lie in the stacked tensors;
    the numbers are those of `torch.optim.AdamW`. A parameter without a gradient counts as one
    whose gradient is 0: it decays.

    Args:
        heads: to be trained.
        decay: "all" parameters, as the published probes were trained, or "weights": matrices
            only, neither biases nor norms nor the query.
        betas, eps: of AdamW.
    """

    def __init__(
        self,
        heads: ProbeHeads,
        *,
        decay: str = "all",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        named = list(heads.stacked())
        super().__init__(
            [parameter for _, parameter in named], {"betas": betas, "eps": eps, "fused": True}
        )
        self._decays = [decay == "all" or is_matrix(name, value) for name, value in named]
        count = heads.num_heads
        self.lrs: list[float] = [0.0] * count
        self.weight_decays: list[float] = [0.0] * count

    def set_rates(self, lrs: Sequence[float], weight_decays: Sequence[float]) -> None:
        """Learning rate and weight decay of every head in the next step."""
        if len(lrs) != len(self.lrs) or len(weight_decays) != len(self.lrs):
            raise ShapeError(
                f"Give {len(self.lrs)} rates, one for each head; got {len(lrs)} learning rates "
                f"and {len(weight_decays)} weight decays."
            )
        self.lrs, self.weight_decays = list(lrs), list(weight_decays)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all heads once."""
        (group,) = self.param_groups
        for parameter in group["params"]:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        torch._foreach_add_([self.state[parameter]["step"] for parameter in group["params"]], 1)
        for decays in sorted(set(self._decays)):
            chosen = [
                parameter
                for parameter, own in zip(group["params"], self._decays, strict=True)
                if own is decays
            ]
            # [kind][parameter][head]: views of where the numbers lie.
            views = [
                [parameter.unbind() for parameter in chosen],
                [_gradient(parameter).unbind() for parameter in chosen],
                *(
                    [self.state[parameter][kind].unbind() for parameter in chosen]
                    for kind in ("exp_avg", "exp_avg_sq")
                ),
            ]
            counts = [self.state[parameter]["step"] for parameter in chosen]
            for index, (lr, decay) in enumerate(zip(self.lrs, self.weight_decays, strict=True)):
                own_views = [[parts[index] for parts in kind] for kind in views]
                torch._fused_adamw_(
                    own_views[0],
                    own_views[1],
                    own_views[2],
                    own_views[3],
                    [],
                    counts,
                    lr=lr,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=decay if decays else 0.0,
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=False,
                )


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def is_matrix(name: str, stacked: Tensor) -> bool:
    """Whether a parameter [K, ...] is a matrix of a linear layer."""
    return stacked.ndim == 3 and name.endswith(".weight")


def grid_of(lrs: Sequence[float], weight_decays: Sequence[float]) -> list[tuple[float, float]]:
    """Learning rate and weight decay of every head: all pairs, learning rates outermost."""
    return [(lr, weight_decay) for lr in lrs for weight_decay in weight_decays]


def state_of(heads: ProbeHeads) -> Mapping[str, Tensor]:
    """Detached parameters [K, ...] by the names of `VJEPA2AttentiveProbe`."""
    return {name: values.detach() for name, values in heads.stacked()}
