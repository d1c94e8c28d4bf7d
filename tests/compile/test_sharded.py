"""FSDP2 around the models, one process on the CPU: hooks, dtypes and outputs survive."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from tiny_models import clip, random_ids, randomise, relative_error, tiny_config
from vjepa2.models.outputs import VJEPA2WithMaskedInputModelOutput
from vjepa2.models.vjepa2 import VJEPA2Model

pytestmark = [
    pytest.mark.compile,
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.usefixtures("one_process")
def test_fully_shard(half: bool) -> None:
    model = randomise(VJEPA2Model(tiny_config())).train()
    x = clip(model.config)
    masks = {"context_mask": [random_ids(32, 9)], "target_mask": [random_ids(32, 5, seed=3)]}
    with torch.no_grad():
        wanted = model(x, **masks)
    mesh = init_device_mesh("cpu", (1,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if half else MixedPrecisionPolicy()
    for part in (
        *model.encoder.layer,
        model.encoder,
        *model.predictor.layer,
        model.predictor,
        model,
    ):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    out = model(x, **masks)
    assert type(out) is VJEPA2WithMaskedInputModelOutput
    predicted = out.predictor_output.last_hidden_state
    assert predicted.dtype == (torch.bfloat16 if half else torch.float32)
    tolerance = 0.05 if half else 1e-6
    assert relative_error(predicted, wanted.predictor_output.last_hidden_state) < tolerance
    (predicted - out.predictor_output.target_hidden_state.detach()).float().abs().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer.step()
