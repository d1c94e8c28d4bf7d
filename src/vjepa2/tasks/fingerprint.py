"""Two short marks of a checkpoint: of its values, and of what the network makes of a fixed clip.

The first changes with every bit and is the same for equal tensors in any layout (Meta's, Hugging
Face's, ours). The second is rounded to two digits, so that it survives another processor or thread
count; weights, positions, number of heads and family change it, a change below the rounding (eps of
a norm) does not.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.outputs import ModelOutput
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe

SEED = 2506_09985
DIGITS = 16
# Four frames of 5 x 4 patches: not square, so that rows and columns cannot be mixed up.
_FRAMES, _ROWS, _COLUMNS = 4, 5, 4
_STEP_BYTES = 1 << 24


def weights_mark(tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits of all names, shapes, types and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype} ".encode())
        flat = tensor.contiguous().view(-1).view(torch.uint8)
        for piece in flat.split(_STEP_BYTES):
            digest.update(piece.numpy().data)
    return digest.hexdigest()[:DIGITS]


def features_mark(model: PretrainedModel) -> str:
    """Sixteen hexadecimal digits of the outputs for a seeded clip, rounded to two digits."""
    digest = hashlib.sha256()
    for output in seeded_outputs(model):
        spread = output.std().clamp_min(torch.finfo(torch.float32).tiny)
        # Averages over tokens: single values would sit on a rounding edge somewhere.
        rounded = (output / spread).flatten(0, -2).mean(0).mul(100).round().to(torch.int32)
        digest.update(rounded.numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


@torch.no_grad()
def seeded_outputs(model: PretrainedModel) -> list[Tensor]:
    """Float32 outputs [..., D] of a network in evaluation mode for a seeded input on its device.

    Every part takes part: both mask tokens that are in use, and still images where the network has
    an embedding of their own.
    """
    config = model.config
    generator = torch.Generator().manual_seed(SEED)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(model.device, model.dtype)

    height, width = _ROWS * config.patch_size, _COLUMNS * config.patch_size
    pixels = random(1, _FRAMES, config.in_chans, height, width)
    found: list[ModelOutput]
    if isinstance(model, VJEPA2AttentiveProbe):
        tokens = random(1, 2 * _ROWS * _COLUMNS, config.hidden_size)
        found = [model(tokens, return_dict=True)]
    elif isinstance(model, VJEPA2ActionModel):
        actions = random(1, _FRAMES, config.action_size)
        states = random(1, _FRAMES, config.state_size)
        found = [model(pixels, actions, states, return_dict=True)]
    else:
        base = model.vjepa2 if isinstance(model, VJEPA2ForVideoClassification) else model
        found = [base(pixels, mask_index=index, return_dict=True) for index in (0, 1)]
        if config.model_type == "vjepa2_1":
            found.append(base(pixels[:, :1], return_dict=True))
        if base is not model:
            found.append(model(pixels, return_dict=True))
    return [output.float().cpu() for one in found for output in _tensors(one)]


def _tensors(output: ModelOutput | Mapping[str, Tensor]) -> list[Tensor]:
    """All tensors of an output, those of nested outputs too."""
    found: list[Tensor] = []
    for value in output.values():
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            found.extend(_tensors(value))
    return found
