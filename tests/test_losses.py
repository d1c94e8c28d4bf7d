"""The objective against numbers worked out by hand or in closed form."""

import math

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.losses import (
    context_share_at,
    context_weights,
    normalised_targets,
    prediction_error,
    sigmoid_focal_loss,
)


def test_targets_have_mean_0_and_variance_1_on_every_level() -> None:
    tokens = torch.randn(2, 3, 10) * 7 + 4
    got = normalised_targets(tokens, num_levels=2).double().numpy()
    for level in (slice(0, 5), slice(5, 10)):
        values = tokens[..., level].double().numpy()
        centred = values - values.mean(-1, keepdims=True)
        wanted = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(got[..., level], wanted, atol=1e-5)


def test_half_precision_targets_are_normed_in_float32() -> None:
    tokens = torch.randn(1, 2, 64).to(torch.bfloat16)
    got = normalised_targets(tokens)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, normalised_targets(tokens.float()))


def test_levels_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 levels cannot share tokens of width 10"):
        normalised_targets(torch.zeros(1, 2, 10), num_levels=3)


@pytest.mark.parametrize(("exponent", "wanted"), [(1.0, 2.0), (2.0, (1 + 9 + 4 + 0) / 4 / 2)])
def test_error_of_four_numbers(exponent: float, wanted: float) -> None:
    predicted = torch.tensor([[[1.0, -3.0], [2.0, 0.0]]])
    if exponent == 1.0:
        wanted = (1 + 3 + 2 + 0) / 4
    got = prediction_error(predicted, torch.zeros(1, 2, 2), exponent=exponent)
    assert float(got) == pytest.approx(wanted)


def test_weights_count_tokens_without_being_normalised() -> None:
    predicted = torch.tensor([[[1.0, 3.0], [4.0, 4.0]]])
    got = prediction_error(predicted, torch.zeros(1, 2, 2), weights=torch.tensor([[1.0, 0.25]]))
    assert float(got) == pytest.approx((2.0 + 1.0) / 2)


def test_weight_of_a_visible_token_falls_with_the_root_of_its_distance() -> None:
    # `context_distances` is already the root.
    distances = torch.tensor([[1.0, math.sqrt(2.0), math.sqrt(9.0)]])
    assert context_weights(distances).tolist() == [
        pytest.approx([1.0, 1 / math.sqrt(2.0), 1 / 3.0])
    ]


def test_normal_targets_against_small_normal_predictions() -> None:
    """Theory of the first loss: |N(0, 1 + s^2)| has mean sqrt(2/pi) sqrt(1 + s^2)."""
    generator = torch.Generator().manual_seed(0)
    target = normalised_targets(torch.randn(64, 64, 192, generator=generator))
    predicted = torch.randn(64, 64, 192, generator=generator) * 0.02 * math.sqrt(384)
    wanted = math.sqrt(2 / math.pi * (1 + 0.0004 * 384))
    assert float(prediction_error(predicted, target)) == pytest.approx(wanted, abs=0.003)


def test_shapes_and_exponents_are_checked() -> None:
    with pytest.raises(ShapeError, match="differ"):
        prediction_error(torch.zeros(1, 2, 3), torch.zeros(1, 3, 3))
    with pytest.raises(ConfigError, match="1 or more"):
        prediction_error(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), exponent=0.5)


@pytest.mark.parametrize(
    ("step", "wanted"), [(0, 0.0), (14_999, 0.0), (22_500, 0.25), (30_000, 0.5), (134_999, 0.5)]
)
def test_the_context_loss_comes_in_slowly(step: int, wanted: float) -> None:
    """Published bounds: 15,000 and 30,000 of 135,000 updates."""
    got = context_share_at(
        step, num_steps=135_000, weight=0.5, rise=(15_000 / 135_000, 30_000 / 135_000)
    )
    assert got == pytest.approx(wanted, abs=1e-9)
    assert context_share_at(step, num_steps=135_000, weight=0.5, rise=None) == 0.5


def test_focal_loss_is_the_sum_of_numbers_worked_out_by_hand() -> None:
    # sigmoid(0) = 1/2: right 0.25 * (1/2)^2 * log 2, wrong 0.75 * (1/2)^2 * log 2.
    # sigmoid(log 3) = 3/4: right 0.25 * (1/4)^2 * log(4/3), wrong 0.75 * (3/4)^2 * log 4.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    by_hand = torch.tensor(
        [
            [0.25 * 0.25 * math.log(2), 0.75 * 0.5625 * math.log(4)],
            [0.75 * 0.25 * math.log(2), 0.25 * 0.0625 * math.log(4 / 3)],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, reduction="none"), by_hand)
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets), by_hand.sum())
    mean = sigmoid_focal_loss(logits, targets, reduction="mean")
    torch.testing.assert_close(mean, by_hand.mean())


def test_focal_loss_without_focus_and_weights_is_the_binary_cross_entropy() -> None:
    logits, targets = torch.randn(4, 6), (torch.rand(4, 6) > 0.7).float()
    got = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=0, reduction="none")
    wanted = -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log())
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_focal_loss_of_certain_answers_and_half_precision_is_finite() -> None:
    logits = torch.tensor([[200.0, -200.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([[0.0, 1.0]]))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.tensor(0.75 * 200 + 0.25 * 200))
    loss.backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_wrong_arguments_of_the_focal_loss_are_named() -> None:
    with pytest.raises(ShapeError, match="one_hot"):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ConfigError, match="gamma"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2), gamma=-1)
    with pytest.raises(ConfigError, match="reduction"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2), reduction="total")  # type: ignore[arg-type]
