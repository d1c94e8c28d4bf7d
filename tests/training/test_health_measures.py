"""Measures of health against closed forms, NumPy and slow loops."""

import math

import numpy as np
import pytest
import torch

from vjepa2.errors import ShapeError
from vjepa2.masking import Masks
from vjepa2.shapes import TokenGrid
from vjepa2.training import health_measures
from vjepa2.training.health_held_out import held_out_numbers
from vjepa2.training.health_measures import (
    data_numbers,
    effective_rank,
    feature_numbers,
    mean_cosine,
    mean_move,
    mean_spread,
    nearest_visible,
    prediction_numbers,
    stall_share,
    token_variance,
    with_hidden_changed,
)

GRID = TokenGrid(2, 3, 4)


@pytest.mark.parametrize("shape", [(50, 7), (7, 50)])
def test_rank_is_that_of_the_formula(shape: tuple[int, int]) -> None:
    features = torch.randn(shape) * torch.rand(shape[1]) + 0.3
    sizes = np.linalg.svd(features.double().numpy(), compute_uv=False)
    shares = sizes / sizes.sum()
    wanted = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(features) == pytest.approx(wanted, rel=1e-6)


def test_rank_of_known_features() -> None:
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.eye(6).repeat(3, 1)) == pytest.approx(6)
    assert effective_rank(torch.ones(9, 4)) == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.zeros(9, 4)) == 0
    assert math.isnan(effective_rank(torch.full((3, 3), float("nan"))))
    assert effective_rank(torch.eye(6, dtype=torch.bfloat16)) == pytest.approx(6)


def test_rank_does_not_depend_on_scale_or_rotation() -> None:
    features = torch.randn(40, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    assert effective_rank(1e-6 * features @ rotation) == pytest.approx(effective_rank(features))


def test_rank_wants_a_matrix() -> None:
    with pytest.raises(ShapeError, match=r"\[n, D\]"):
        effective_rank(torch.zeros(2, 3, 4))


def test_cosine_is_the_mean_over_pairs() -> None:
    vectors = torch.randn(6, 5)
    pairs = [
        float(torch.cosine_similarity(vectors[i], vectors[j], dim=0))
        for i in range(6)
        for j in range(i)
    ]
    assert mean_cosine(vectors) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert mean_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert mean_cosine(torch.zeros(4, 3)) == 1
    assert mean_cosine(torch.randn(1, 3)) == 1


def test_variance_between_clips_is_separate_from_that_between_places() -> None:
    by_place = torch.randn(1, 5, 3).expand(4, -1, -1)
    assert token_variance(by_place) == (
        pytest.approx(by_place[0].var(dim=0, unbiased=False).mean()),
        pytest.approx(0, abs=1e-12),
    )
    by_clip = torch.randn(4, 1, 3).expand(-1, 5, -1)
    assert token_variance(by_clip)[1] == pytest.approx(1)
    assert token_variance(torch.ones(2, 3, 4)) == (0, 0)


def test_feature_numbers_of_many_tokens_use_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randn(2, 100, 5)
    numbers = feature_numbers(tokens, name="teacher")
    assert numbers["teacher_token_rank"] == effective_rank(tokens.flatten(0, 1))
    assert numbers["teacher_pooled_rank"] == effective_rank(tokens.mean(dim=1))
    assert numbers["teacher_cosine"] == mean_cosine(tokens.mean(dim=1))
    monkeypatch.setattr(health_measures, "MAX_TOKENS", 8)
    thinned = feature_numbers(tokens, name="teacher")
    places = [0, 33, 66, 99]
    assert thinned["teacher_token_rank"] == effective_rank(tokens[:, places].flatten(0, 1))
    assert thinned["teacher_pooled_rank"] == numbers["teacher_pooled_rank"]


def slow_nearest(context: list[int], target: int) -> list[int]:
    """All visible tokens at the smallest distance above 0."""

    def place(token: int) -> tuple[int, int, int]:
        return token // 12, token % 12 // 4, token % 4

    distances = {
        token: math.dist(place(token), place(target)) for token in context if token != target
    }
    return [token for token, value in distances.items() if value == min(distances.values())]


@pytest.mark.parametrize("portion", [5, 8192])
def test_nearest_visible_token(portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_measures, "MAX_TOKENS", portion)
    order = torch.stack([torch.randperm(24) for _ in range(3)])
    context, target = order[:, :7].sort().values, order[:, 7:]
    nearest = nearest_visible(context, target, GRID)
    for row in range(3):
        for column in range(17):
            allowed = slow_nearest(context[row].tolist(), int(target[row, column]))
            assert int(nearest[row, column]) in allowed


def test_skill_against_both_trivial_predictors() -> None:
    targets = torch.randn(2, 24, 6)
    order = torch.stack([torch.randperm(24) for _ in range(2)])
    mask = Masks(order[:, :9], order[:, 9:20])
    hidden = torch.stack([targets[row, mask.target_ids[row]] for row in range(2)])
    guess = hidden + 0.1
    numbers = prediction_numbers([guess], targets, [mask], GRID)
    assert numbers["held_out_loss"] == pytest.approx(0.1, rel=1e-5)
    mean = hidden.reshape(-1, 6).mean(dim=0)
    assert numbers["copy_mean_loss"] == pytest.approx(float((hidden - mean).abs().mean()))
    near = nearest_visible(mask.context_ids, mask.target_ids, GRID)
    copied = torch.stack([targets[row, near[row]] for row in range(2)])
    assert numbers["copy_nearest_loss"] == pytest.approx(float((hidden - copied).abs().mean()))
    better = min(numbers["copy_mean_loss"], numbers["copy_nearest_loss"])
    assert numbers["skill"] == pytest.approx(1 - 0.1 / better, rel=1e-5)
    assert numbers["visible_targets"] == 0
    assert numbers["context_share"] == pytest.approx(9 / 24)


def test_losses_are_means_over_masks() -> None:
    targets = torch.randn(2, 24, 6)
    masks = [
        Masks(torch.arange(4).expand(2, -1), torch.arange(4, last).expand(2, -1))
        for last in (10, 20)
    ]
    guesses = [torch.zeros(2, mask.target_ids.shape[1], 6) for mask in masks]
    alone = [
        prediction_numbers([guess], targets, [mask], GRID)
        for guess, mask in zip(guesses, masks, strict=True)
    ]
    both = prediction_numbers(guesses, targets, masks, GRID)
    for name in ("held_out_loss", "copy_mean_loss", "copy_nearest_loss"):
        assert both[name] == pytest.approx((alone[0][name] + alone[1][name]) / 2)


def test_visible_targets_are_counted_and_do_not_help_the_trivial_predictor() -> None:
    targets = torch.randn(2, 24, 6)
    everything = torch.arange(24).expand(2, -1)
    mask = Masks(everything, torch.arange(6, 12).expand(2, -1))
    numbers = prediction_numbers([targets[:, 6:12]], targets, [mask], GRID)
    assert numbers["visible_targets"] == 1
    assert numbers["copy_nearest_loss"] > 0.1
    half = Masks(torch.arange(9).expand(2, -1), torch.arange(6, 12).expand(2, -1))
    assert prediction_numbers([targets[:, 6:12]], targets, [half], GRID)[
        "visible_targets"
    ] == pytest.approx(0.5)


@pytest.mark.parametrize("num_frames", [1, 4, 5])
def test_only_hidden_pixels_are_changed(num_frames: int) -> None:
    # Patches of 3 pixels and 2 frames; a border of 1 and 2 pixels, and perhaps a lone last frame.
    grid = TokenGrid(max(1, num_frames // 2), 3, 4)
    pixels = torch.rand(2, num_frames, 3, 10, 14) + 2
    ids = torch.tensor([[0, 5], [grid.num_tokens - 1, 2]])
    changed = with_hidden_changed(pixels, ids, grid, patch_size=3, tubelet_size=2)
    for row in range(2):
        for frame in range(num_frames):
            for y in range(10):
                for x in range(14):
                    inside = y < 9 and x < 12 and frame // 2 < grid.t
                    token = frame // 2 * 12 + y // 3 * 4 + x // 3
                    hidden = inside and token in ids[row].tolist()
                    wanted = 1 - pixels if hidden else pixels
                    assert torch.equal(changed[row, frame, :, y, x], wanted[row, frame, :, y, x]), (
                        row,
                        frame,
                        y,
                        x,
                    )


@pytest.mark.parametrize("portion", [3, 8192])
def test_predictions_move_and_spread(portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_measures, "MAX_TOKENS", portion)
    parts = [torch.randn(2, 5, 3), torch.randn(2, 7, 3)]
    assert mean_move(parts, [part.clone() for part in parts]) == 0
    assert mean_move(parts, [part + 0.5 for part in parts]) == pytest.approx(0.5, rel=1e-6)
    flat = torch.cat([part.flatten(0, 1) for part in parts])
    spread = float((flat - flat.mean(dim=0)).abs().mean())
    assert mean_spread(parts) == pytest.approx(spread, rel=1e-6)
    other = torch.tensor([1.0, 2.0, 3.0])
    assert mean_spread(parts, other) == pytest.approx(float((flat - other).abs().mean()), rel=1e-6)


def test_held_out_numbers_see_a_student_that_looks_at_hidden_pixels() -> None:
    pixels = torch.randn(3, 4, 3, 9, 12)
    everything = torch.arange(24)
    masks = [Masks(everything[:10].expand(3, -1), everything[10:].expand(3, -1))]

    def tokens(clips: torch.Tensor) -> torch.Tensor:
        """Every patch and tubelet flattened: [B, 24, 54]."""
        split = clips.reshape(-1, 2, 2, 3, 3, 3, 4, 3)
        return split.permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(-1, 24, 54)

    def measured(sees: list[int], portion: int | None = None) -> dict[str, float]:
        def predict(clips: torch.Tensor, mask: Masks) -> torch.Tensor:
            return tokens(clips)[:, sees].mean(dim=1, keepdim=True).expand(-1, 14, -1)

        return held_out_numbers(
            pixels,
            masks,
            encode_student=tokens,
            encode_teacher=lambda clips: 2 * tokens(clips),
            make_targets=tokens,
            predict=predict,
            grid=GRID,
            patch_size=3,
            tubelet_size=2,
            portion=portion,
        )

    honest, leaking = measured(list(range(10))), measured(list(range(11)))
    assert honest["leak"] == 0 and leaking["leak"] > 0.05
    assert honest["teacher_token_rank"] == pytest.approx(honest["student_token_rank"])
    assert honest["teacher_variance"] == pytest.approx(4 * honest["student_variance"])
    assert honest["skill"] < 0.5 and honest["pixel_change"] > 0.5
    for sees, whole in ((10, honest), (11, leaking)):
        for portion in (1, 2):
            assert measured(list(range(sees)), portion) == pytest.approx(whole, abs=1e-6)


def test_data_numbers_tell_constant_data() -> None:
    clip = torch.randn(1, 4, 3, 8, 8)
    same = data_numbers(clip.expand(5, -1, -1, -1, -1))
    assert same["pixel_change"] < 1e-6 and same["pixel_contrast"] > 0.5
    flat = data_numbers(torch.randn(5, 4, 3, 1, 1).expand(-1, -1, -1, 8, 8))
    assert flat["pixel_contrast"] < 1e-6 and flat["pixel_motion"] > 0.5
    still = data_numbers(torch.randn(5, 1, 3, 8, 8))
    assert still["pixel_motion"] == 0
    frozen = data_numbers(torch.randn(5, 1, 3, 8, 8).expand(-1, 4, -1, -1, -1))
    assert frozen["pixel_motion"] == 0 and frozen["pixel_change"] > 0.5


def test_stall_share() -> None:
    assert stall_share(0.5, 2.0) == 0.25
    assert stall_share(3.0, 2.0) == 1
    assert stall_share(0.0, 0.0) == 0
