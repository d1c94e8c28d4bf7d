"""Mixed and smoothed labels against numbers worked out by hand."""

import math

import pytest
import torch

from vjepa2.tasks.finetune_loss import mix, mix_shares, soft_cross_entropy, soft_targets


def test_loss_of_a_mixed_pair_by_hand() -> None:
    """Two videos of classes 0 and 2, 3/4 and 1/4: numbers from a pocket calculator."""
    targets = torch.tensor([[0.75, 0.0, 0.25], [0.25, 0.0, 0.75]])
    logits = torch.tensor([[math.log(2), 0.0, math.log(5)], [0.0, 0.0, math.log(2)]])
    # softmax: 2/8, 1/8, 5/8 and 1/4, 1/4, 2/4
    first = 0.75 * math.log(8 / 2) + 0.25 * math.log(8 / 5)
    second = 0.25 * math.log(4) + 0.75 * math.log(2)
    assert float(soft_cross_entropy(logits, targets)) == pytest.approx((first + second) / 2)
    assert (first + second) / 2 == pytest.approx(1.011828, abs=1e-6)


def test_mixing_blends_pixels_and_labels_of_neighbours_alike() -> None:
    pixels = torch.arange(5.0).view(5, 1, 1, 1, 1, 1).expand(5, 1, 2, 3, 4, 4)
    targets = soft_targets(torch.tensor([0, 1, 2, 0, 1]), 3)
    mixed = mix(pixels, targets, alpha=0.5, seed=1, step=2, indices=[7, 3, 9, 0, 4])
    shares = mix_shares(0.5, seed=1, step=2, indices=[7, 9]).tolist()
    one, two = shares
    assert 0 < one < 1 and one != two
    wanted = [
        one * 0 + (1 - one) * 1,
        one * 1 + (1 - one) * 0,
        two * 2 + (1 - two) * 3,
        two * 3 + (1 - two) * 2,
        4.0,
    ]
    assert mixed.pixels[:, 0, 0, 0, 0, 0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert mixed.pixels.flatten(1).std(dim=1).abs().max() < 1e-6
    assert mixed.targets.tolist() == [
        pytest.approx(row, abs=1e-6)
        for row in (
            [one, 1 - one, 0],
            [1 - one, one, 0],
            [1 - two, 0, two],
            [two, 0, 1 - two],
            [0, 1, 0],
        )
    ]


def test_no_mixing_gives_back_what_came() -> None:
    pixels, targets = torch.randn(3, 1, 2, 3, 4, 4), soft_targets(torch.tensor([0, 1, 1]), 2)
    mixed = mix(pixels, targets, alpha=0.0, seed=0, step=0, indices=[0, 1, 2])
    assert mixed.pixels is pixels and mixed.targets is targets
    alone = mix(pixels[:1], targets[:1], alpha=1.0, seed=0, step=0, indices=[0])
    assert torch.equal(alone.pixels, pixels[:1])


def test_smoothing_is_that_of_pytorch() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 2])
    for smoothing in (0.0, 0.1, 0.4):
        own = soft_cross_entropy(logits, soft_targets(labels, 4, smoothing=smoothing))
        wanted = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    """Mean 1/2, variance 1 / (4 (2 alpha + 1)); a function of seed, step and video."""
    shares = mix_shares(alpha, seed=5, step=0, indices=range(1500)).double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)
    assert torch.equal(
        mix_shares(alpha, seed=5, step=0, indices=[17, 1499]), shares[[17, 1499]].float()
    )
    for seed, step in ((6, 0), (5, 1)):
        other = mix_shares(alpha, seed=seed, step=step, indices=range(50)).double()
        assert not torch.isclose(other, shares[:50]).any()


def test_the_loss_is_float32_under_autocast() -> None:
    logits = torch.randn(3, 4)
    targets = soft_targets(torch.tensor([0, 1, 2]), 4)
    assert soft_cross_entropy(logits.bfloat16(), targets).dtype == torch.float32
