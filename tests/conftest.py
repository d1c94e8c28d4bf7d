"""What all tests share. Nothing of vjepa2 is imported here: the shape checker hooks its import."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Every test draws the same numbers, alone or in company."""
    torch.manual_seed(0)
