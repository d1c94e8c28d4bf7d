"""One norm over many tensors, against all their numbers in a row."""

import pytest
import torch

from vjepa2.norms import is_sharded, total_norm


def test_the_norm_is_that_of_all_numbers_in_a_row() -> None:
    tensors = [torch.randn(3, 5), torch.randn(()), torch.randn(7).to(torch.bfloat16)]
    row = torch.cat([tensor.flatten().double() for tensor in tensors])
    got = total_norm(iter(tensors))
    assert got.dtype == torch.float32 and got.shape == ()
    # bfloat16 keeps eight bits of the norm of its own tensor.
    assert float(got) == pytest.approx(float(row.square().sum().sqrt()), rel=1e-3)
    assert not is_sharded(tensors[0])


def test_no_gradient_is_kept() -> None:
    assert not total_norm([torch.ones(2, requires_grad=True)]).requires_grad
