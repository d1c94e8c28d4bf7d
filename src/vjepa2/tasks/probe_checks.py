"""Features that nothing can be learned from are refused, and the file is named."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.labelled import LabelledSet
from vjepa2.errors import InputError


def check_finite(
    tokens: Float[Tensor, "B V M D"], labelled: LabelledSet, items: Sequence[int]
) -> None:
    """Refuse features of which nothing can be learned.

    Raises:
        InputError: NaN or infinity; the file is named.
    """
    sums = tokens.flatten(1).sum(dim=1, dtype=torch.float64)
    bad = [items[row] for row in (~sums.isfinite()).nonzero().flatten().tolist()]
    if bad:
        raise InputError(
            f"The encoder gives NaN or infinity for {labelled.items[bad[0]].path}"
            f"{f' and {len(bad) - 1} more of its batch' if len(bad) > 1 else ''}. If that file is "
            "damaged, take it out of the list; if it happens with others too, the weights are, or "
            "dtype is too narrow: use dtype=float32."
        )


def check_fits(
    tokens: Float[Tensor, "B V M D"],
    kept: Float[Tensor, "B V M D"],
    labelled: LabelledSet,
    items: Sequence[int],
) -> None:
    """Refuse features that are finite, but not in the type in which they are to be kept.

    Args:
        tokens: as encoded.
        kept: the same in the cache's type.
        labelled: the set.
        items: numbers of the files.

    Raises:
        InputError: the largest is named, with its file and what the type holds.
    """
    finite = kept.flatten(1).isfinite().all(dim=1)
    if bool(finite.all()):
        return
    row = int((~finite).nonzero()[0])
    dtype = str(kept.dtype).removeprefix("torch.")
    raise InputError(
        f"A feature of {labelled.items[items[row]].path} is {float(tokens[row].abs().max()):g}, "
        f"and cache.dtype={dtype} ends at {torch.finfo(kept.dtype).max:g}. Set "
        "cache.dtype=bfloat16, which takes the same room, or float32."
    )
