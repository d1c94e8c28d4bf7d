"""AdamW as published: which parameters decay, how deep layers learn slower, and gradient norms.

    decayed       weights: no "bias" in the name and more than one axis; mask tokens and modality
                  vectors are among them, as in the published code
    not decayed   biases and everything of one axis (norms)

Sources: published training code of V-JEPA 2; layer-wise rates: arXiv:2106.08254, appendix.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vjepa2.errors import ConfigError
from vjepa2.norms import is_sharded, total_norm
from vjepa2.strict_config import StrictConfig

# Parts that wrappers put into the names of parameters (compilation, DDP, recomputation).
WRAPPER_PARTS = ("_orig_mod", "_checkpoint_wrapped_module", "module")
LAYER = re.compile(r"(?:^|\.)layer\.(\d+)\.")


Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(StrictConfig):
    """Settings of AdamW that stay the same during a run; rates are those of the schedule.

    Attributes:
        betas: decay of the two running means, each from 0 to below 1.
        eps: added to the root of the second.
        clip_norm: longest gradient, over all parameters; None: any (published).
        layer_decay: of the encoder, for continued pretraining: a block's learning rate is this
            much lower than that of the next block. 1: all learn alike.
    """

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    clip_norm: float | None = Field(None, gt=0)
    layer_decay: float = Field(1.0, gt=0, le=1)


def build_optimizer(
    config: OptimConfig,
    modules: Mapping[str, nn.Module],
    *,
    lr: float,
    weight_decay: float,
    layered: Collection[str] = ("encoder",),
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of several modules.

    Args:
        config: of the optimizer.
        modules: by a name that starts the names of its groups, such as "encoder".
        lr: of the first step, see `set_rates`.
        weight_decay: of the first step.
        layered: names of the modules that `config.layer_decay` applies to.

    Raises:
        ConfigError: nothing is trainable.
    """
    groups: list[dict[str, Any]] = []
    for name, module in modules.items():
        decay = config.layer_decay if name in layered else 1.0
        groups += parameter_groups(module, name=name, layer_decay=decay)
    if not groups:
        raise ConfigError(
            f"No parameter of {', '.join(modules) or 'no module'} is trainable: every one has "
            "requires_grad=False. Unfreeze some, or add adapters."
        )
    optimizer = torch.optim.AdamW(
        groups, lr=lr, betas=config.betas, eps=config.eps, **_implementation(groups)
    )
    set_rates(optimizer, lr=lr, weight_decay=weight_decay)
    return optimizer


def parameter_groups(
    module: nn.Module, *, name: str, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """The trainable parameters of a module, by decay and by learning rate.

    Args:
        module: frozen parameters are left out.
        name: start of the groups' names.
        layer_decay: factor of the learning rate from a block to the one before; the embeddings
            count as the block before the first, all else as the block after the last.

    Returns:
        Groups in the order of the parameters: `params`, `name`, `lr_scale` (factor of the
        learning rate) and `decay_scale` (1 where weight decay applies, 0 elsewhere).
    """
    named = [(canonical_name(key), value) for key, value in module.named_parameters()]
    depths = _depths([key for key, _ in named])
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for (key, parameter), depth in zip(named, depths, strict=True):
        if not parameter.requires_grad:
            continue
        decays = "bias" not in key and parameter.ndim != 1
        place = depth if layer_decay != 1.0 else 0
        if (place, decays) not in groups:
            words = [name, *([f"depth{depth}"] if layer_decay != 1.0 else [])]
            groups[place, decays] = {
                "params": [],
                "name": ".".join([*words, "decayed" if decays else "not_decayed"]),
                "lr_scale": layer_decay ** (max(depths) - depth),
                "decay_scale": 1.0 if decays else 0.0,
            }
        groups[place, decays]["params"].append(parameter)
    return list(groups.values())


def canonical_name(name: str) -> str:
    """A parameter's name without what wrappers add to it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPER_PARTS)


def _depths(names: list[str]) -> list[int]:
    """0 for embeddings, i + 1 for block i, one more than the last block for all else."""
    found = [LAYER.search(name) for name in names]
    last = max((int(match[1]) for match in found if match), default=-1)
    return [
        int(match[1]) + 1 if match else 0 if "embed" in name or "modality" in name else last + 2
        for name, match in zip(names, found, strict=True)
    ]


def _implementation(groups: list[dict[str, Any]]) -> dict[str, bool]:
    """The quickest form of AdamW that the parameters' device has."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return {"fused": True} if devices <= {"cpu", "cuda"} else {"foreach": True}


def set_rates(optimizer: torch.optim.Optimizer, *, lr: float, weight_decay: float) -> None:
    """Set the rates of the next step, scaled as each group of `parameter_groups` says."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay * group["decay_scale"]


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Shorten the gradient to `max_norm` and return how long it was.

    Args:
        parameters: those without a gradient are passed over. They may be spread over processes
            (`DTensor`); then all processes must call this.
        max_norm: longest allowed; None: only measure.

    Returns:
        scalar, the Euclidean norm over all parameters before shortening, on their device; NaN or
        infinity where a gradient is.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = total_norm(gradients)
    if max_norm is not None:
        local = [cast(Any, grad).to_local() if is_sharded(grad) else grad for grad in gradients]
        torch._foreach_mul_(local, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
