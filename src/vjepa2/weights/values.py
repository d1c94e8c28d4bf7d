"""Look at the values of a checkpoint: NaN, infinity, and matrices of zeros.

Original files come over slow links and through copies that break off; a hole in such a file reads
as zeros. One sum per tensor tells all of it: it is not finite when any value is not, and zero only
when it is worth a closer look. So the check takes about as long as reading the file.

Only whole tensors of zeros are noticed, not a hole inside one. The checksums in a zip are not
compared: that takes half as long again (0.56 s for 1.2 GB on one core), PyTorch can be told not to
write them (`torch.serialization.set_crc32_options`), and safetensors files have none. What was
downloaded here is verified by its recorded SHA-256 (`weights/download.py`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vjepa2.errors import CheckpointFormatError
from vjepa2.weights.pages import FilePages

# Values of one step: bounds the memory of a closer look.
_STEP = 1 << 22
# What may be zero in a good file: fresh biases, untrained mask tokens and modality vectors.
_MAY_BE_ZERO = (".bias", "mask_tokens", ".modality.video", ".modality.image")


def check_values(
    tensors: Mapping[str, Tensor],
    *,
    names: Mapping[str, str],
    where: str,
    pages: FilePages | None = None,
) -> None:
    """Refuse NaN, infinity and weights that are zero throughout.

    Args:
        tensors: floating tensors by our names.
        names: our name to the one in the file, for the message; names that are missing agree.
        where: the file, for the message.
        pages: given back after a tensor was read.

    Raises:
        CheckpointFormatError: with the first such tensor.
    """
    for name, tensor in tensors.items():
        problem = _problem(tensor, may_be_zero=name.endswith(_MAY_BE_ZERO))
        if pages is not None:
            pages.give_back(tensor)
        if problem:
            raise CheckpointFormatError(
                f"{names.get(name, name)!r} in {where} {problem}. The file is damaged or was "
                "written by a failed run: copy or download it again, or use an earlier one."
            )


def _problem(tensor: Tensor, *, may_be_zero: bool) -> str:
    steps = tensor.detach().reshape(-1).split(_STEP) if tensor.is_contiguous() else (tensor,)
    # In the tensor's own type: asking for float32 makes bfloat16 thirty times slower. What may
    # overflow or cancel that way is looked at again.
    sums = [step.sum() for step in steps]
    total = torch.stack(sums)
    if not bool(torch.isfinite(total).all()) and not _all_finite(steps):
        return "holds NaN or infinity"
    if not may_be_zero and not bool(total.any()) and not any(bool(step.any()) for step in steps):
        return "is zero throughout, as in a hole of an interrupted copy"
    return ""


def _all_finite(steps: tuple[Tensor, ...]) -> bool:
    """The sum of large finite values may overflow: look at each."""
    return all(bool(torch.isfinite(step).all()) for step in steps)
