"""Parameter groups, rates per group, and norms of gradients."""

import math

import pytest
import torch
from torch import nn

from vjepa2.errors import ConfigError
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.predictor import VJEPA2Predictor
from vjepa2.training.optim import (
    OptimConfig,
    build_optimizer,
    canonical_name,
    clip_gradients,
    parameter_groups,
    set_rates,
    total_norm,
)


def networks() -> dict[str, nn.Module]:
    config = VJEPA2Config(
        model_type="vjepa2_1",
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        pred_hidden_size=24,
        pred_num_hidden_layers=2,
        pred_num_attention_heads=2,
        hierarchical_layers=[0, 2],
    )
    return {"encoder": VJEPA2Encoder(config), "predictor": VJEPA2Predictor(config)}


def grouped(optimizer: torch.optim.Optimizer, modules: dict[str, nn.Module]) -> dict[str, str]:
    """Group of every parameter, by full name."""
    group_of = {id(p): g["name"] for g in optimizer.param_groups for p in g["params"]}
    return {
        f"{name}.{key}": group_of[id(parameter)]
        for name, module in modules.items()
        for key, parameter in module.named_parameters()
        if id(parameter) in group_of
    }


def test_four_groups_as_published() -> None:
    modules = networks()
    optimizer = build_optimizer(OptimConfig(), modules, lr=1e-3, weight_decay=0.04)
    groups = grouped(optimizer, modules)
    assert set(groups.values()) == {
        "encoder.decayed",
        "encoder.not_decayed",
        "predictor.decayed",
        "predictor.not_decayed",
    }
    for name, group in groups.items():
        parameter = modules[name.split(".")[0]].get_parameter(name.split(".", 1)[1])
        free = name.endswith("bias") or parameter.ndim == 1
        assert group.endswith(".not_decayed") == free, name
    # Learned vectors of several axes are decayed, as the published code does.
    vectors = [name for name in groups if "mask_tokens" in name or "modality" in name]
    assert len(vectors) >= 4
    assert all(groups[name].endswith(".decayed") for name in vectors)
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.04, 0.0}
    assert len(groups) == sum(len(list(m.parameters())) for m in modules.values())


def test_rates_are_set_per_group() -> None:
    modules = networks()
    config = OptimConfig(layer_decay=0.5)
    optimizer = build_optimizer(config, modules, lr=1.0, weight_decay=0.1)
    set_rates(optimizer, lr=0.8, weight_decay=0.3)
    groups = grouped(optimizer, modules)
    rate_of = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    seen = {name: rate_of[group] for name, group in groups.items()}
    # 3 blocks: what follows them learns at the full rate, the last block at half of it ...
    for key, scale in (("layer.2.", 1 / 2), ("layer.1.", 1 / 4), ("layer.0.", 1 / 8)):
        rates = {rate for name, (rate, _) in seen.items() if name.startswith(f"encoder.{key}")}
        assert rates == {0.8 * scale}
    embeddings = {rate for name, (rate, _) in seen.items() if name.startswith("encoder.embed")}
    assert embeddings == {0.8 / 16}
    assert {
        rate for name, (rate, _) in seen.items() if "norm" in name and "layer." not in name
    } == {0.8}
    assert {rate for name, (rate, _) in seen.items() if name.startswith("predictor.")} == {0.8}
    assert {decay for _, decay in seen.values()} == {0.3, 0.0}


def test_frozen_parameters_are_left_out() -> None:
    modules = networks()
    modules["encoder"].requires_grad_(False)
    last = modules["encoder"].get_parameter("layer.2.mlp.fc1.weight").requires_grad_(True)
    optimizer = build_optimizer(OptimConfig(), modules, lr=1.0, weight_decay=0.1)
    (group,) = [g for g in optimizer.param_groups if g["name"].startswith("encoder")]
    assert group["params"] == [last]
    for module in modules.values():
        module.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"No parameter of encoder, predictor is trainable"):
        build_optimizer(OptimConfig(), modules, lr=1.0, weight_decay=0.1)


def test_a_step_is_adamw() -> None:
    """One update of a weight and a bias, computed by hand."""
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.bias.fill_(3.0)
    config = OptimConfig(betas=(0.9, 0.99), eps=1e-8)
    optimizer = build_optimizer(config, {"m": module}, lr=1.0, weight_decay=1.0)
    set_rates(optimizer, lr=0.1, weight_decay=0.5)
    module.weight.grad, module.bias.grad = torch.tensor([[4.0]]), torch.tensor([-5.0])
    optimizer.step()
    # The first step of Adam has the length lr, in the direction of the sign.
    assert module.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)
    assert module.bias.item() == pytest.approx(3.0 + 0.1)


def test_clipping_returns_the_norm_before_it() -> None:
    parameters = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1)),
        nn.Parameter(torch.zeros(3)),
    ]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradients(parameters, None).item() == 5.0
    assert parameters[1].grad.item() == 4.0
    assert clip_gradients(parameters, 10.0).item() == 5.0
    assert parameters[1].grad.item() == 4.0
    assert clip_gradients(parameters, 1.0).item() == 5.0
    assert clip_gradients(parameters, None).item() == pytest.approx(1.0, abs=1e-6)
    assert clip_gradients([parameters[2]], 1.0).item() == 0.0
    parameters[0].grad[0] = math.nan
    assert math.isnan(clip_gradients(parameters, None).item())


def test_norm_is_taken_in_float32() -> None:
    halves = [torch.full((1000,), 200.0, dtype=torch.float16)]  # squares overflow half precision
    assert total_norm(halves).item() == pytest.approx(200 * math.sqrt(1000), rel=1e-3)


def test_wrappers_leave_names_alone() -> None:
    assert canonical_name("module._orig_mod.layer.0.module.weight") == "layer.0.weight"
    assert canonical_name("patch_module.weight") == "patch_module.weight"


def test_groups_know_their_decay() -> None:
    groups = parameter_groups(nn.Linear(2, 2), name="head")
    assert [(g["name"], g["decay_scale"]) for g in groups] == [
        ("head.decayed", 1.0),
        ("head.not_decayed", 0.0),
    ]
