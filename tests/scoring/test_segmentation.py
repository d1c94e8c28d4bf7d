"""Scores of labelled pixels equal what is counted by hand and by slow loops."""

import math

import pytest
import torch

from vjepa2.errors import ConfigError, LabelError, ShapeError
from vjepa2.scoring.segmentation import (
    contour_accuracy,
    intersections_over_unions,
    outline,
    pixel_confusion,
    region_similarity,
    video_mask_scores,
)


def square(top: int, left: int, side: int, *, size: tuple[int, int] = (20, 24)) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_miou_by_hand() -> None:
    target = torch.tensor([[0, 0, 1], [1, 2, 255]])
    said = torch.tensor([[0, 1, 1], [1, 0, 2]])
    confusion = pixel_confusion(said, target, num_classes=4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    overlap = intersections_over_unions(confusion)
    # 0: 1 of {two true, one more said}; 1: 2 of 3; 2: 0 of 1; 3 is nowhere.
    assert overlap.per_class[:3].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert math.isnan(overlap.per_class[3])
    assert overlap.mean == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert overlap.pixel_accuracy == pytest.approx(3 / 5)


def test_counts_of_pictures_add_up_to_those_of_all_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    said, target = torch.randint(0, 5, (2, 3, 7, 9), generator=generator)
    apart = sum(pixel_confusion(a, b, num_classes=5) for a, b in zip(said, target, strict=True))
    assert torch.equal(torch.as_tensor(apart), pixel_confusion(said, target, num_classes=5))


def test_wrong_labels_are_named() -> None:
    zeros = torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(LabelError, match="True class numbers go from 0 to 7; allowed are 0 to 2"):
        pixel_confusion(zeros, torch.tensor([[0, 7], [0, 0]]), num_classes=3)
    with pytest.raises(LabelError, match="Predicted class numbers go from -1"):
        pixel_confusion(zeros - 1, zeros, num_classes=3)
    with pytest.raises(ShapeError, match="size of the labels"):
        pixel_confusion(zeros, torch.zeros(4, 4, dtype=torch.long), num_classes=3)


def test_region_similarity_by_hand() -> None:
    moved = region_similarity(square(2, 2, 4), square(2, 4, 4))
    assert float(moved) == pytest.approx(8 / 24)
    empty = torch.zeros(20, 24, dtype=torch.bool)
    both = torch.stack([empty, square(0, 0, 3)])
    assert region_similarity(both, torch.stack([empty, empty])).tolist() == [1, 0]


def slow_contour_accuracy(said: torch.Tensor, true: torch.Tensor, reach: int) -> float:
    """All pairs of outline pixels, as the definition says."""
    lines = [
        [
            (y, x)
            for y in range(mask.shape[0])
            for x in range(mask.shape[1])
            if any(
                bool(mask[y, x]) != bool(mask[min(y + dy, len(mask) - 1), min(x + dx, w - 1)])
                for dy, dx in ((0, 1), (1, 0), (1, 1))
            )
        ]
        for mask, w in ((said, said.shape[1]), (true, true.shape[1]))
    ]
    shares = [
        sum(any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in others) for y, x in own)
        / len(own)
        for own, others in (lines, lines[::-1])
    ]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_contour_accuracy_equals_the_definition(reach: int) -> None:
    generator = torch.Generator().manual_seed(reach)
    smooth = torch.nn.functional.avg_pool2d(
        torch.rand(2, 1, 26, 37, generator=generator), 7, stride=1
    )[:, 0]
    said, true = smooth > smooth.median()
    diagonal = math.hypot(*said.shape)
    score = contour_accuracy(said, true, tolerance=(reach - 0.5) / diagonal)
    assert float(score) == pytest.approx(slow_contour_accuracy(said, true, reach))
    assert float(score) < 1 or reach == 5


def test_contours_match_within_the_tolerance_and_not_beyond() -> None:
    # 20 x 24: a diagonal of 31.2, so 0.008 of it is rounded up to one pixel.
    at_its_place, beside, far = square(5, 5, 8), square(5, 6, 8), square(5, 12, 8)
    assert float(contour_accuracy(at_its_place, at_its_place)) == 1
    assert float(contour_accuracy(beside, at_its_place)) == 1
    assert float(contour_accuracy(far, at_its_place)) < 0.5
    empty = torch.zeros_like(far)
    assert float(contour_accuracy(empty, empty)) == 1
    assert float(contour_accuracy(empty, far)) == float(contour_accuracy(far, empty)) == 0


def test_outline_of_a_square() -> None:
    lines = outline(square(1, 1, 2, size=(5, 5))[None])[0]
    # Pixels whose right, lower or lower right neighbour differs: the upper left rim lies outside.
    assert lines.nonzero().tolist() == [
        [0, 0], [0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1], [2, 2]
    ]  # fmt: skip
    assert not outline(torch.ones(1, 4, 4, dtype=torch.bool)).any()


def test_video_scores_leave_out_the_ends() -> None:
    true = torch.zeros(4, 20, 24, dtype=torch.long)
    for t in range(4):
        true[t][square(2, 2 + t, 4)] = 1
        true[t][square(12, 2 + t, 4)] = 3
    said = true.clone()
    said[0] = said[-1] = 0
    said[1][said[1] == 3] = 0  # lost in one of two scored frames
    scores = video_mask_scores(said, true)
    assert scores.objects == (1, 3)
    assert scores.J.tolist() == scores.F.tolist() == [1, 0.5]
    assert (scores.mean_J, scores.mean_F, scores.J_and_F) == (0.75, 0.75, 0.75)
    assert video_mask_scores(said, true, leave_out_ends=False).J.tolist() == [0.5, 0.25]


def test_refusals_of_masks() -> None:
    masks = torch.zeros(3, 8, 8, dtype=torch.long)
    with pytest.raises(LabelError, match="no object"):
        video_mask_scores(masks, masks)
    with pytest.raises(LabelError, match="none to score"):
        video_mask_scores(masks[:2] + 1, masks[:2] + 1)
    with pytest.raises(ConfigError, match="True or False per pixel"):
        region_similarity(masks, masks)
    with pytest.raises(ShapeError):
        contour_accuracy(masks[0] == 0, masks[0, :4] == 0)
    with pytest.raises(ConfigError, match="tolerance"):
        contour_accuracy(masks == 0, masks == 0, tolerance=0)
