"""Online probes: how much of a small labelled set a plain classifier reads from frozen features.

Both are closed-form or without training, so they take milliseconds and give the same number for
the same features: nearest neighbours by cosine, and a linear map by ridge regression onto one-hot
labels (the strength of the penalty is chosen by leave-one-out error on the training half).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import LabelError, ShapeError
from vjepa2.scoring.ridge import ridge_weights

NUM_NEIGHBOURS = 5


@torch.no_grad()
def pooled_features(tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B 2D"]:
    """Mean and standard deviation of every channel over the tokens of a clip, side by side."""
    values = tokens.float()
    return torch.cat([values.mean(dim=1), values.std(dim=1, unbiased=False)], dim=1)


def probe_numbers(
    features: Float[Tensor, "n F"], labels: Int[Tensor, "n"], *, name: str
) -> dict[str, float]:
    """Accuracy of both probes on every second clip of each class, learned from the others.

    Args:
        features: of labelled clips, as from `pooled_features`; in any order, but always the same.
        labels: class of every clip; any whole numbers.
        name: of the network; the keys begin with it.

    Returns:
        `NAME_knn` and `NAME_linear`, 0..1; `probe_chance`, the share of the commonest class among
        the clips that are asked.

    Raises:
        ShapeError: not one label a clip.
        LabelError: fewer than two classes with two clips each.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ShapeError(
            f"Expected features [n, F] and labels [n], got {list(features.shape)} and "
            f"{list(labels.shape)}."
        )
    # Classes by their rank: what numbers they have costs neither memory nor time.
    _, labels = labels.cpu().unique(return_inverse=True)
    learn, ask = halves(labels)
    values = features.detach().cpu().double()
    known, asked = labels[learn], labels[ask]
    mean, spread = values[learn].mean(dim=0), values[learn].std(dim=0, unbiased=False)
    values = (values - mean) / torch.where(spread > 1e-12, spread, 1.0)
    guesses = {
        "knn": nearest_neighbours(values[learn], known, values[ask]),
        "linear": ridge_classify(values[learn], known, values[ask]),
    }
    numbers = {
        f"{name}_{kind}": float((guess == asked).double().mean()) for kind, guess in guesses.items()
    }
    return numbers | {"probe_chance": float(asked.bincount().max() / len(asked))}


def halves(labels: Int[Tensor, "n"]) -> tuple[Int[Tensor, "l"], Int[Tensor, "a"]]:
    """Positions to learn from and to ask: within every class, every second clip is asked.

    Raises:
        LabelError: fewer than two classes with two clips each.
    """
    classes, counts = labels.unique(return_counts=True)
    if int((counts >= 2).sum()) < 2:
        raise LabelError(
            f"The labelled set has {len(labels)} clips of {len(classes)} classes. An online probe "
            "needs at least two classes with two clips each: half of them are learned from, half "
            "are asked."
        )
    asked = torch.zeros(len(labels), dtype=torch.bool)
    for label in classes:
        asked[(labels == label).nonzero()[1::2]] = True
    return (~asked).nonzero()[:, 0], asked.nonzero()[:, 0]


def nearest_neighbours(
    known: Float[Tensor, "l F"],
    labels: Int[Tensor, "l"],
    asked: Float[Tensor, "a F"],
    *,
    num_neighbours: int = NUM_NEIGHBOURS,
) -> Int[Tensor, "a"]:
    """The class with the largest summed cosine among the nearest neighbours."""
    cosines = F.normalize(asked, dim=1) @ F.normalize(known, dim=1).T
    best, ids = cosines.topk(min(num_neighbours, len(known)), dim=1)
    votes = best.new_zeros(len(asked), int(labels.max()) + 1)
    votes.scatter_add_(1, labels[ids], best + 1.0)  # cosines may be negative, votes may not
    return votes.argmax(dim=1)


def ridge_classify(
    known: Float[Tensor, "l F"], labels: Int[Tensor, "l"], asked: Float[Tensor, "a F"]
) -> Int[Tensor, "a"]:
    """The largest output of a linear map fitted to one-hot labels, see `ridge_weights`."""
    wanted = F.one_hot(labels, int(labels.max()) + 1).to(known.dtype)
    mean = wanted.mean(dim=0)
    solution = ridge_weights(known @ known.T, wanted - mean)
    outputs: Tensor = asked @ known.T @ solution + mean
    return outputs.argmax(dim=1)
