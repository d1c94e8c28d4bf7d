"""A small network with the names of the real one, and folders that hold its weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn


class Layer(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, hidden), "fc2": nn.Linear(hidden, dim)})


class Stack(nn.Module):
    def __init__(self, dim: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(dim, hidden) for _ in range(depth))
        self.layernorm = nn.LayerNorm(dim)


class Base(nn.Module):
    """Names as in a base model: encoder.layer.0.mlp.fc1.weight ..."""

    def __init__(self, dim: int = 4, depth: int = 2, hidden: int = 8) -> None:
        super().__init__()
        self.encoder = Stack(dim, depth, hidden)
        self.predictor = Stack(dim, 1, hidden)


class Classifier(nn.Module):
    """Names as in a classifier: vjepa2.encoder...., pooler.query, classifier.weight."""

    def __init__(self, dim: int = 4, depth: int = 2, labels: int = 3) -> None:
        super().__init__()
        self.vjepa2 = Base(dim, depth)
        self.pooler = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, labels)


def values_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


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
