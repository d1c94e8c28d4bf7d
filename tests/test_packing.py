"""Samples joined without padding: where each lies."""

import torch

from vjepa2.packing import PackedIds, per_token, segments_of


def test_segments() -> None:
    got = segments_of((3, 1, 4), device=torch.device("cpu"))
    assert got.lengths == (3, 1, 4) and got.longest == 4
    assert got.offsets.tolist() == [0, 3, 4, 8] and got.offsets.dtype == torch.int32


def test_ids_in_joined_clips() -> None:
    packed = PackedIds(torch.tensor([2, 0, 1, 4, 4]), (2, 1, 2))
    assert packed.in_joined_clips(10).tolist() == [2, 0, 11, 24, 24]


def test_one_number_per_token() -> None:
    got = per_token([7, 8, 9], (2, 1, 3), device=torch.device("cpu"))
    assert got.tolist() == [7, 7, 8, 9, 9, 9]
