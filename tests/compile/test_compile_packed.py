"""Packed ids in one graph, forward and backward.

Run without the shape checker (it wraps every function): `pytest tests/compile`.
"""

import pytest
import torch
from torch import Tensor, nn

from tiny_models import clip, randomise, relative_error, tiny_config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.packing import PackedIds

pytestmark = [
    pytest.mark.compile,
    # torch's own, while it traces
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


def gradients(model: nn.Module, tokens: Tensor) -> list[Tensor]:
    tokens.square().sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def test_the_encoder_is_one_graph() -> None:
    torch.compiler.reset()
    encoder = randomise(VJEPA2Encoder(tiny_config(num_hidden_layers=1)))
    x = clip(encoder.config, batch=3)
    ids = PackedIds(torch.tensor([0, 5, 31, 7, 2, 9]), (3, 1, 2))
    wanted = encoder(x, ids).last_hidden_state
    got = torch.compile(encoder, fullgraph=True)(x, ids).last_hidden_state
    assert relative_error(got, wanted) <= 1e-5
    for one, other in zip(gradients(encoder, got), gradients(encoder, wanted), strict=True):
        assert relative_error(one, other) <= 1e-4
    torch.compiler.reset()
