"""Many probes at once are the same probes, trained as each alone would be."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vjepa2 import VJEPA2AttentiveProbe, VJEPA2Config
from vjepa2.errors import ConfigError, ShapeError
from vjepa2.tasks.probe_heads import HeadsAdamW, ProbeHeads, grid_of, head_losses, is_matrix

META = Path(__file__).parent.parent / "fixtures" / "meta"
LRS, DECAYS = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8)
GRID = grid_of(LRS, DECAYS)


def network(depth: int, **fields: object) -> VJEPA2Config:
    return VJEPA2Config(
        **{
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_pooler_layers": depth - 1,
            "num_labels": 5,
            "initializer_range": 0.1,
            "pooler_layer_norm_eps": 1e-5,
            **fields,
        }
    )


def clips(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(24, 12, 32, generator=generator, dtype=torch.float64)
    return tokens.to(dtype), torch.randint(5, (24,), generator=generator)


def trained(
    config: VJEPA2Config, grid: list[tuple[float, float]], *, steps: int, dtype: torch.dtype
) -> tuple[ProbeHeads, Tensor]:
    """Heads after some updates, and their losses [steps, K]."""
    tokens, labels = clips(dtype)
    heads = ProbeHeads(config, len(grid), seed=3).to(dtype)
    optimizer = HeadsAdamW(heads)
    losses = []
    for step in range(steps):
        rows = slice(8 * (step % 3), 8 * (step % 3) + 8)
        optimizer.set_rates([lr for lr, _ in grid], [decay for _, decay in grid])
        loss = head_losses(heads(tokens[rows]), labels[rows])
        loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return heads, torch.stack(losses)


@pytest.mark.parametrize(("depth", "which"), [(1, range(20)), (2, range(0, 20, 3)), (4, (0, 19))])
def test_twenty_heads_at_once_are_twenty_separate_runs(depth: int, which: Sequence[int]) -> None:
    config = network(depth)
    together, losses = trained(config, GRID, steps=6, dtype=torch.float32)
    tokens, _ = clips()
    for index in which:
        alone, alone_losses = trained(config, [GRID[index]], steps=6, dtype=torch.float32)
        assert torch.allclose(losses[:, index], alone_losses[:, 0], atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(together(tokens)[index], alone(tokens)[0], atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_numbers_are_those_of_the_ordinary_probe_and_optimizer(depth: int) -> None:
    """In float64, so that what differs is the mathematics and not the rounding."""
    config = network(depth)
    grid = [(3e-3, 0.4), (1e-4, 0.0)]
    heads, losses = trained(config, grid, steps=10, dtype=torch.float64)
    tokens, labels = clips(torch.float64)
    for index, (lr, decay) in enumerate(grid):
        probe = ProbeHeads(config, 1, seed=3).probe(0).double().train()
        optimizer = torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=decay)
        for step in range(10):
            rows = slice(8 * (step % 3), 8 * (step % 3) + 8)
            loss = probe(tokens[rows], labels=labels[rows]).loss
            assert torch.allclose(loss.double(), losses[step, index].double(), atol=2e-6)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            assert torch.allclose(probe(tokens).logits, heads(tokens)[index], atol=1e-8)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_gradients_are_those_of_the_ordinary_probe(depth: int) -> None:
    config = network(depth)
    heads = ProbeHeads(config, 3, seed=0).double()
    with torch.no_grad():  # norms and biases away from 1 and 0
        for _, values in heads.stacked():
            values += 0.1 * torch.randn_like(values)
    tokens, labels = clips(torch.float64)
    probe = heads.probe(1)
    logits = heads(tokens, recompute=True)
    torch.nn.functional.cross_entropy(logits[1], labels).backward()
    torch.nn.functional.cross_entropy(probe(tokens).logits, labels).backward()
    ordinary = dict(probe.named_parameters())
    for name, values in heads.stacked():
        expected = ordinary[name].grad
        assert expected is not None
        found = torch.zeros_like(expected) if values.grad is None else values.grad[1]
        assert torch.allclose(found, expected, atol=1e-10), name
        if values.grad is not None:
            assert not values.grad[0].any()


def test_heads_become_ordinary_probes_and_come_back() -> None:
    config = network(2)
    probes = [VJEPA2AttentiveProbe(config) for _ in range(3)]
    heads = ProbeHeads(config, 3, seed=0)
    heads.load_probes(probes)
    for index, probe in enumerate(probes):
        own = heads.probe(index).state_dict()
        assert own.keys() == probe.state_dict().keys()
        assert all(torch.equal(own[name], value) for name, value in probe.state_dict().items())
    with pytest.raises(ShapeError, match="Give 1 probe or 3"):
        heads.load_probes(probes[:2])


def test_all_heads_begin_alike_and_the_seed_decides() -> None:
    config = network(1)
    first, second, third = (ProbeHeads(config, n, seed=s) for n, s in ((4, 0), (1, 0), (1, 1)))
    weight = "pooler.cross_attention_layer.mlp.fc1.weight"
    values = [dict(heads.stacked())[weight] for heads in (first, second, third)]
    assert torch.equal(values[0], values[1].expand_as(values[0]))
    assert not torch.equal(values[1], values[2])


@pytest.mark.parametrize("decay", ["all", "weights"])
def test_decay_reaches_what_the_option_names(decay: str) -> None:
    heads = ProbeHeads(network(2), 2, seed=0)
    with torch.no_grad():
        for _, values in heads.stacked():
            values.fill_(1.0)
    optimizer = HeadsAdamW(heads, decay=decay)
    optimizer.set_rates([0.1, 0.1], [0.0, 0.5])
    optimizer.step()  # without gradients only decay acts
    for name, values in heads.stacked():
        decays = decay == "all" or is_matrix(name, values)
        assert torch.allclose(values[0], torch.ones_like(values[0]))
        assert torch.allclose(values[1], torch.full_like(values[1], 0.95 if decays else 1.0))


def test_what_heads_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="head_sizes"):
        ProbeHeads(network(1, head_sizes={"verb": 3}), 1, seed=0)
    with pytest.raises(ConfigError, match="dropout"):
        ProbeHeads(network(1, attention_dropout=0.1), 1, seed=0)
    with pytest.raises(ShapeError, match="another encoder width"):
        ProbeHeads(network(1), 1, seed=0)(torch.zeros(2, 3, 48))


def test_reference_arrays() -> None:
    """Weights and logits of a small probe, computed with Meta's reference code."""
    path = META / "attentive_classifier.pt"
    probe = VJEPA2AttentiveProbe.from_pretrained(
        path, num_attention_heads=8, num_pooler_attention_heads=4
    )
    arrays = load_file(META / "attentive_classifier_io.safetensors")
    heads = ProbeHeads(probe.config, 2, seed=0)
    heads.load_probes([probe])
    with torch.no_grad():
        found = heads(arrays["tokens"])
    for logits in found:
        torch.testing.assert_close(logits, arrays["logits"], atol=1e-4, rtol=0)
