"""Small networks whose parameters are named as those of the real ones."""

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
