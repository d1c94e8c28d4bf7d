"""Online probes against slow versions of themselves, and on features with a known answer."""

import pytest
import torch

from vjepa2.errors import LabelError, ShapeError
from vjepa2.scoring.ridge import PENALTIES
from vjepa2.training.health_probe import (
    halves,
    nearest_neighbours,
    pooled_features,
    probe_numbers,
    ridge_classify,
)


def test_pooled_features_are_mean_and_deviation() -> None:
    tokens = torch.randn(3, 10, 4)
    pooled = pooled_features(tokens)
    assert torch.allclose(pooled[:, :4], tokens.mean(dim=1))
    assert torch.allclose(pooled[:, 4:], tokens.std(dim=1, unbiased=False))


def test_every_second_clip_of_a_class_is_asked() -> None:
    learn, ask = halves(torch.tensor([2, 0, 2, 2, 0, 1]))
    assert ask.tolist() == [2, 4]
    assert learn.tolist() == [0, 1, 3, 5]


def test_neighbours_vote_with_their_cosines() -> None:
    known, asked = torch.randn(12, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    labels = torch.arange(12) % 3
    guesses = nearest_neighbours(known, labels, asked, num_neighbours=4)
    for row, guess in zip(asked, guesses, strict=True):
        cosines = [float(torch.cosine_similarity(row, other, dim=0)) for other in known]
        best = sorted(range(12), key=lambda position: -cosines[position])[:4]
        votes = [
            sum(cosines[position] + 1 for position in best if position % 3 == label)
            for label in range(3)
        ]
        assert int(guess) == votes.index(max(votes))


@pytest.mark.parametrize("num_features", [4, 60])
def test_ridge_takes_the_penalty_with_the_best_leave_one_out_error(num_features: int) -> None:
    labels = torch.arange(30) % 3
    known = torch.randn(30, num_features, dtype=torch.float64)
    known[:, :3] += torch.nn.functional.one_hot(labels, 3)
    known = known - known.mean(dim=0)
    asked = torch.randn(20, num_features, dtype=torch.float64)
    wanted = torch.nn.functional.one_hot(labels, 3).double()
    centred = wanted - wanted.mean(dim=0)
    scale = float((known @ known.T).diagonal().mean())  # the mean eigenvalue

    def fitted(rows: list[int], penalty: float) -> torch.Tensor:
        part = known[rows]
        ridge = part.T @ part + penalty * scale * torch.eye(num_features, dtype=torch.float64)
        return torch.linalg.solve(ridge, part.T @ centred[rows])

    def error(penalty: float) -> float:
        total = 0.0
        for left_out in range(30):
            others = [row for row in range(30) if row != left_out]
            guess = known[left_out] @ fitted(others, penalty)
            total += float((guess - centred[left_out]).square().sum())
        return total

    best = min(PENALTIES, key=error)
    outputs = asked @ fitted(list(range(30)), best) + wanted.mean(dim=0)
    assert torch.equal(ridge_classify(known, labels, asked), outputs.argmax(dim=1))


def test_separate_classes_are_read_and_noise_is_not() -> None:
    labels = torch.arange(80) % 4
    clear = torch.randn(80, 16) + 6 * torch.nn.functional.one_hot(labels, 16)
    numbers = probe_numbers(clear, labels, name="teacher")
    assert numbers["teacher_knn"] > 0.95 and numbers["teacher_linear"] > 0.95
    assert numbers["probe_chance"] == 0.25
    noise = probe_numbers(torch.randn(400, 16), torch.arange(400) % 4, name="student")
    assert abs(noise["student_knn"] - 0.25) < 0.12 and abs(noise["student_linear"] - 0.25) < 0.12


def test_scale_of_a_feature_does_not_matter_and_constant_ones_do_no_harm() -> None:
    labels = torch.arange(40) % 2
    features = torch.randn(40, 6) + 2 * torch.nn.functional.one_hot(labels, 6)
    other = torch.cat([features * torch.tensor([1e4, 1, 1e-3, 1, 1, 1]), torch.ones(40, 2)], dim=1)
    assert probe_numbers(features, labels, name="x") == probe_numbers(other, labels, name="x")


def test_any_whole_numbers_are_labels() -> None:
    labels = torch.arange(40) % 2
    features = torch.randn(40, 6) + 2 * torch.nn.functional.one_hot(labels, 6)
    strange = torch.tensor([-1, 10**12])[labels]
    assert probe_numbers(features, strange, name="x") == probe_numbers(features, labels, name="x")


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(LabelError, match="3 clips of 2 classes.*two clips each"):
        probe_numbers(torch.randn(3, 4), torch.tensor([0, 0, 1]), name="x")
    with pytest.raises(ShapeError, match=r"\[3, 4\].*\[2\]"):
        probe_numbers(torch.randn(3, 4), torch.tensor([0, 1]), name="x")
