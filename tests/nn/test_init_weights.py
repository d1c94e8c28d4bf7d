"""Fresh weights: the table of `vjepa2.nn.init`, kind by kind."""

import math

import pytest
import torch
from torch import Tensor, nn

from tiny_models import tiny_config
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.nn.init import init_weights

STD = 0.05


def classifier(**changes: object) -> VJEPA2ForVideoClassification:
    """Wide enough that a standard deviation can be measured."""
    return VJEPA2ForVideoClassification(
        tiny_config(
            hidden_size=96,
            pred_hidden_size=64,
            num_hidden_layers=3,
            num_pooler_layers=2,
            initializer_range=STD,
            **changes,
        )
    )


@pytest.fixture(scope="module")
def model() -> VJEPA2ForVideoClassification:
    torch.manual_seed(0)
    return classifier()


def assert_normal(values: Tensor, std: float) -> None:
    """Mean 0 and the standard deviation within five standard errors."""
    count = values.numel()
    assert abs(values.mean().item()) < 5 * std / math.sqrt(count)
    assert abs(values.std().item() / std - 1) < 5 / math.sqrt(2 * count)


def expected_scales(model: VJEPA2ForVideoClassification) -> dict[str, float]:
    """Divisor of the standard deviation by parameter name, from the published rule."""
    scales = {}
    for stack, depth in (("vjepa2.encoder", 3), ("vjepa2.predictor", 2)):
        for i in range(depth):
            scales[f"{stack}.layer.{i}.attention.proj.weight"] = math.sqrt(2 * (i + 1))
            scales[f"{stack}.layer.{i}.mlp.fc2.weight"] = math.sqrt(2 * (i + 1))
    for i in range(2):
        layer = f"pooler.self_attention_layers.{i}"
        scales[f"{layer}.self_attn.out_proj.weight"] = math.sqrt(2 * (i + 1))
        scales[f"{layer}.mlp.fc2.weight"] = math.sqrt(2 * (i + 1))
    scales["pooler.cross_attention_layer.mlp.fc2.weight"] = math.sqrt(2 * 2)
    assert scales.keys() <= dict(model.named_parameters()).keys()
    return scales


def test_every_matrix(model: VJEPA2ForVideoClassification) -> None:
    scales = expected_scales(model)
    matrices = [
        (f"{name}.weight", part.weight)
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear | nn.Conv3d)
    ]
    assert len(matrices) == 1 + 5 * 6 + 2 + 2 * 6 + 5 + 1
    for name, weight in matrices:
        assert_normal(weight, STD / scales.get(name, 1.0))


def test_biases_norms_and_tokens(model: VJEPA2ForVideoClassification) -> None:
    for name, part in model.named_modules():
        if isinstance(part, nn.LayerNorm):
            assert (part.weight == 1).all(), name
        if isinstance(part, nn.LayerNorm | nn.Linear | nn.Conv3d):
            assert (part.bias == 0).all(), name
    assert (model.vjepa2.predictor.embeddings.mask_tokens == 0).all()
    assert_normal(model.pooler.query_tokens, STD)


def test_mask_tokens_may_be_random() -> None:
    model = classifier(pred_zero_init_mask_tokens=False, pred_num_mask_tokens=10)
    assert_normal(model.vjepa2.predictor.embeddings.mask_tokens, STD)


def test_a_generator_decides_all_values(model: VJEPA2ForVideoClassification) -> None:
    def values(seed: int) -> Tensor:
        init_weights(model, std=STD, generator=torch.Generator().manual_seed(seed))
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    state = torch.get_rng_state()
    first = values(1)
    assert torch.equal(first, values(1))
    assert not torch.equal(first, values(2))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator was not touched


def test_nothing_happens_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = classifier()
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_pooler_without_self_attention() -> None:
    model = VJEPA2ForVideoClassification(tiny_config(num_pooler_layers=0, hidden_size=96))
    assert_normal(model.pooler.cross_attention_layer.mlp.fc2.weight, 0.02 / math.sqrt(2))


def test_a_seed_keeps_its_weights_in_the_order_of_computing() -> None:
    """Though parameters stand in another one: the recipe of the shipped model gives a seed."""
    pooler = VJEPA2ForVideoClassification(tiny_config(num_pooler_layers=2)).pooler
    init_weights(pooler, std=STD, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    parameters = dict(pooler.named_parameters())
    names = ["query_tokens"]
    for layer, attention, matrices in (
        ("self_attention_layers.0", "self_attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        ("self_attention_layers.1", "self_attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        ("cross_attention_layer", "cross_attn", ("q_proj", "k_proj", "v_proj")),
    ):
        names += [f"{layer}.{attention}.{matrix}.weight" for matrix in matrices]
        names += [f"{layer}.mlp.fc1.weight", f"{layer}.mlp.fc2.weight"]
    for name in names:
        got = parameters[name].detach()
        drawn = torch.empty(got.shape).normal_(0.0, STD, generator=generator)
        # Up to a positive factor, that of the depth.
        torch.testing.assert_close(got / got.norm(), drawn / drawn.norm(), msg=name)
