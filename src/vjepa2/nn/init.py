"""All initialisation of new weights, in one table (published code; V-JEPA 2, appendix).

    parameter                                        initial value
    ------------------------------------------------ ---------------------------------------
    weight of every Linear and Conv3d                normal, std = initializer_range
    bias of every Linear, Conv3d, LayerNorm          0
    weight of every LayerNorm                        1
    output matrices of residual block i (0-based):   divided by sqrt(2 (i + 1))
      attention `proj`/`out_proj`, MLP `fc2`
    query tokens of the pooler                       normal, std = initializer_range
    cross attention's MLP `fc2` of the pooler        divided by sqrt(2 * number of self blocks)
    mask tokens of the predictor                     0, or normal (zero_init_mask_tokens False)
    modality vectors (V-JEPA 2.1)                    normal, std = 1e-6

The published "truncated" normal cuts at an absolute 2.0, 100 standard deviations: a plain normal.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from vjepa2.nn.block import Block
from vjepa2.nn.modality import ModalityEmbedding
from vjepa2.nn.pooler import AttentivePooler, PoolerSelfAttentionLayer

MODALITY_STD = 1e-6

# Children of pooler and pooler attention whose numbers are drawn after those of the others.
DRAWN_AFTER = {"cross_attention_layer": 1, "k_proj": 1, "v_proj": 2, "out_proj": 3}


class MaskTokens(nn.Module):
    """Base of modules that own learned mask tokens, so that they are initialised here."""

    mask_tokens: nn.Parameter
    zero_init_mask_tokens: bool


@torch.no_grad()
def init_weights(
    module: nn.Module, *, std: float, generator: torch.Generator | None = None
) -> None:
    """Initialise every parameter below `module` in place, as the table says.

    Args:
        module: a whole model or a part of one; parameters on the meta device are left alone.
        std: `VJEPA2Config.initializer_range`.
        generator: source of randomness; default: PyTorch's global one.
    """
    for part in _in_drawing_order(module):
        if isinstance(part, nn.Linear | nn.Conv3d):
            _normal(part.weight, std, generator)
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.LayerNorm):
            part.weight.fill_(1.0)
            part.bias.zero_()
        elif isinstance(part, AttentivePooler):
            _normal(part.query_tokens, std, generator)
        elif isinstance(part, ModalityEmbedding):
            _normal(part.video, MODALITY_STD, generator)
            _normal(part.image, MODALITY_STD, generator)
        elif isinstance(part, MaskTokens):
            if part.zero_init_mask_tokens:
                part.mask_tokens.zero_()
            else:
                _normal(part.mask_tokens, std, generator)
    # Second pass: the matrices exist only now.
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            _rescale_residual_branches(part)
        elif isinstance(part, AttentivePooler):
            depth = max(1, len(part.self_attention_layers))
            part.cross_attention_layer.mlp.fc2.weight.div_(math.sqrt(2 * depth))


def _in_drawing_order(module: nn.Module) -> Iterator[nn.Module]:
    """All modules, in the order in which a signal passes them: queries, keys and values first.

    Parameters of the pooler stand in another order, that of the port. Were numbers drawn in that
    one, a seed would no longer give the weights that recipes say it gives.
    """
    yield module
    children = module.named_children()
    for _, child in sorted(children, key=lambda named: DRAWN_AFTER.get(named[0], 0)):
        yield from _in_drawing_order(child)


def _rescale_residual_branches(blocks: Iterable[nn.Module]) -> None:
    for index, block in enumerate(blocks):
        scale = math.sqrt(2 * (index + 1))
        if isinstance(block, Block):
            block.attention.proj.weight.div_(scale)
            block.mlp.fc2.weight.div_(scale)
        elif isinstance(block, PoolerSelfAttentionLayer):
            block.self_attn.out_proj.weight.div_(scale)
            block.mlp.fc2.weight.div_(scale)


def _normal(tensor: Tensor, std: float, generator: torch.Generator | None) -> None:
    if not tensor.is_meta:
        tensor.normal_(0.0, std, generator=generator)
