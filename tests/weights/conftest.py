"""Small networks, and folders that hold their weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_networks import Base, Classifier
from torch import Tensor


@pytest.fixture
def base() -> Base:
    torch.manual_seed(1)
    return Base()


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(2)
    return Classifier()


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[dict[str, Tensor]], Path]:
    """Write tensors as `model.safetensors` and return the folder."""

    def write(tensors: dict[str, Tensor]) -> Path:
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path

    return write
