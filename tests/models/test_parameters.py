"""Names, shapes and counts of the parameters are those of the published models."""

import pytest
import torch
from torch import nn

import vjepa2
from tiny_models import TINY, model_names, tiny_config
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_names_of_the_parameters_are_the_published_ones(qkv_bias: bool) -> None:
    model = VJEPA2Model(tiny_config(num_hidden_layers=3, qkv_bias=qkv_bias))
    wanted = model_names(encoder_depth=3, predictor_depth=2, qkv_bias=qkv_bias)
    assert set(model.state_dict()) == wanted == {name for name, _ in model.named_parameters()}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["encoder.embeddings.patch_embeddings.proj.weight"] == (32, 3, 2, 8, 8)
    assert shapes["predictor.embeddings.mask_tokens"] == (3, 1, 1, 24)
    assert shapes["predictor.embeddings.predictor_embeddings.weight"] == (24, 32)
    assert shapes["predictor.proj.weight"] == (32, 24)
    assert shapes["encoder.layer.0.mlp.fc1.weight"] == (64, 32)


SIZES = {
    # width, blocks, heads, ratio; then the published counts of encoder and predictor, and tensors
    "vitl": ((1024, 24, 16, 4.0), 303_885_312, 22_086_016, (292 + 4 * 24, 160 + 4 * 12)),
    "vith": ((1280, 32, 16, 4.0), 631_648_000, 22_282_880, (388 + 4 * 32, 160 + 4 * 12)),
    "vitg": ((1408, 40, 22, 48 / 11), 1_012_173_952, 22_381_312, (484 + 4 * 40, 160 + 4 * 12)),
}


@pytest.mark.parametrize("name", list(SIZES))
def test_parameter_counts_of_the_released_models(name: str) -> None:
    """Tensors: one fused matrix and bias of the original are three of each here, four more."""
    (width, depth, heads, ratio), in_encoder, in_predictor, tensors = SIZES[name]
    config = VJEPA2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=ratio,
    )
    with torch.device("meta"):
        model = VJEPA2Model(config)
    assert count(model.encoder) == in_encoder
    # The original keeps its mask tokens as 10 parameters, here they are one.
    assert count(model.predictor) == in_predictor
    assert len(list(model.encoder.parameters())) == tensors[0]
    assert len(list(model.predictor.parameters())) == tensors[1] - 9
    assert model.num_parameters() == in_encoder + in_predictor


SIZES_2_1 = {
    # width, blocks, heads, ratio, predictor depth, levels, teacher's width; counts; tensors
    "vitb": ((768, 12, 12, 4.0, 12, 1, 1664), 86_833_152, 22_874_752, (158, 162)),
    "vitl": ((1024, 24, 16, 4.0, 12, 1, 1664), 304_680_960, 22_973_056, (302, 162)),
    "vitl from scratch": ((1024, 24, 16, 4.0, 24, 4, None), 304_680_960, 50_334_592, (302, 308)),
    "vitg": ((1408, 40, 22, 48 / 11, 24, 4, None), 1_013_267_968, 55_400_704, (494, 308)),
    "vitG": ((1664, 48, 26, 64 / 13, 24, 4, None), 1_845_216_768, 59_433_472, (590, 308)),
}


@pytest.mark.parametrize("name", list(SIZES_2_1))
def test_parameter_counts_of_v_jepa_2_1(name: str) -> None:
    (width, depth, heads, ratio, pred_depth, levels, teacher), *counts, tensors = SIZES_2_1[name]
    config = VJEPA2Config(
        model_type="vjepa2_1",
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=ratio,
        pred_num_hidden_layers=pred_depth,
        pred_num_levels=levels,
        pred_output_size=teacher,
        pred_num_mask_tokens=8,
    )
    with torch.device("meta"):
        model = VJEPA2Model(config)
    assert [count(model.encoder), count(model.predictor)] == counts
    assert len(list(model.encoder.parameters())) == tensors[0] + 4 * depth
    # The original keeps its mask tokens as 8 parameters, here they are one.
    assert len(list(model.predictor.parameters())) == tensors[1] + 4 * pred_depth - 7


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parity
@pytest.mark.parametrize("name", ["VJEPA2Model", "VJEPA2ForVideoClassification"])
def test_parameters_are_in_the_order_of_the_port(name: str) -> None:
    """Optimizers store their state by the place of a parameter."""
    import transformers

    sizes = {**TINY, "num_pooler_layers": 2}
    reference = getattr(transformers, name)(transformers.VJEPA2Config(**sizes))
    model = getattr(vjepa2, name)(VJEPA2Config(**sizes))
    wanted = [(name, tuple(value.shape)) for name, value in reference.named_parameters()]
    assert [(name, tuple(value.shape)) for name, value in model.named_parameters()] == wanted
    assert list(model.state_dict()) == list(reference.state_dict())


def test_the_order_in_the_pooler() -> None:
    """Without the port, the places that differ from the order of computing."""
    model = vjepa2.VJEPA2ForVideoClassification(tiny_config())
    names = [name for name, _ in model.named_parameters() if name.startswith("pooler.")]
    layers = [".".join(name.split(".")[1:-2]) for name in names if name.endswith("proj.weight")]
    assert (
        layers
        == ["cross_attention_layer.cross_attn"] * 3 + ["self_attention_layers.0.self_attn"] * 4
    )
    matrices = [name.split(".")[-2] for name in names if name.endswith("proj.weight")]
    assert matrices == ["k_proj", "v_proj", "q_proj"] * 2 + ["out_proj"]
